# Gradient of a convolution of stride 1 by its weights, by Winograd's minimal filtering: F(3x3, 4x4)
# for 3x3 kernels, where a tile of 4x4 output gradients takes 36 multiplications instead of 144, and
# F(5x5, 3x3) for 5x5 kernels, where a tile of 3x3 takes 49 instead of 225.
#
#   V = Bt x B      of each tile of the input and each channel        (transform_input)
#   D = G d Gt      of each tile of the output's gradient             (transform_grad)
#   M = Dt V        summed over tiles and images, for each point      (the micro-kernel of tile.pxd)
#   dw = At M A     the weights of each pair of channels              (transform_weights)
#
# The sum runs over tiles and images. With few channels it takes lanes of images and adds these up at the
# end (rows.pxd). With more, the lanes of the products are channels: what the transforms compute with
# images as lanes is transposed on its way to the panels of V and D. Tiles are taken in chunks, so that
# the panels stay in the cache; M is added up from chunk to chunk. Where M is small, threads share the
# tiles, each with panels and an M of its own in its own cache. Else they share the work on one chunk
# after the other.
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cython.parallel cimport prange, threadid

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes
from cyconv.kernels.points cimport check_tiles, points_along, points_of, side_of
from cyconv.kernels.rows cimport Rows, along_lanes, place_rows, row_sums, rows_of, rows_scratch
from cyconv.kernels.simd cimport MR_MAX, VLEN, load, real, store, store_first, transpose, vreal
from cyconv.kernels.tile cimport first_row, packed_tiles, rows_in
from cyconv.kernels.transforms cimport fetch, transform_grads, transform_inputs, transform_weights

cdef enum:
    CACHED = 8388608                # bytes of panels in a chunk of all threads, ...
    OWN = 655360                    # ... and of one that has its own, besides so much of M at most
    SLICE = 16                      # steps: clearing and adding up M is little beside them, ...
    FEW = 8                         # ... but a few threads are to share the slices evenly, ...
    MANY = 16                       # ... and more than so many need too much memory
    AHEAD = 2                       # channels between what is fetched and what is transformed
    LINE = 64 // sizeof(real)       # images in a line of the cache
    STAGE = VLEN * VLEN + VLEN      # numbers of a point's square, which begin in different cache sets


cdef struct Side:
    # the input or the output's gradient, and the panels of its transformed tiles
    Planes a
    bint is_input             # whose channels are the lanes of the products
    Py_ssize_t width, blocks  # channels in a panel, and how many panels hold them all
    real* panels              # (points, blocks, steps * VLEN, width); the last block may be narrower


cdef inline Py_ssize_t width_of(const Side* side, Py_ssize_t block) noexcept nogil:
    # the lanes of a block's products: one vector of the two, if that holds what is left for the last
    cdef Py_ssize_t left = side.a.c - block * side.width
    return VLEN if side.is_input and left <= VLEN else side.width


cdef struct Problem:
    Side x, d
    Py_ssize_t kernel, side   # of the kernels and of the gradients' tiles
    Py_ssize_t points         # of a tile
    Py_ssize_t top, left      # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t total          # steps: a step is one tile of VLEN images
    Py_ssize_t slices         # of them, each with an M of its own
    Py_ssize_t steps          # in a chunk
    real* m                   # (slices, points, d.blocks * d.width, x.blocks * x.width)
    real* dw                  # (F, C, kernel, kernel)


# ------------------------------------------------------------------ panels


cdef void fill_panels(
    const Problem* p, const Side* side, Py_ssize_t step, Py_ssize_t place,
    Py_ssize_t block, real* stage,
) noexcept nogil:
    # one block of channels of one step, the chunk's number `place`; stage: (points, STAGE)
    cdef Py_ssize_t parts = (side.a.n + VLEN - 1) // VLEN  # of the batch
    cdef Py_ssize_t image = step % parts * VLEN
    cdef Py_ssize_t tx = step // parts % p.tile_cols
    cdef Py_ssize_t ty = step // parts // p.tile_cols
    cdef Py_ssize_t images = min(<Py_ssize_t>VLEN, side.a.n - image)
    cdef Py_ssize_t width = width_of(side, block)
    cdef Py_ssize_t rows = p.steps * VLEN
    cdef Py_ssize_t piece, count, c, n, point
    cdef const real* plane
    cdef real* dst
    cdef vreal square[VLEN]
    cdef Py_ssize_t top = ty * p.side - p.top if side.is_input else ty * p.side
    cdef Py_ssize_t left = tx * p.side - p.left if side.is_input else tx * p.side
    cdef Py_ssize_t size = points_along(p.kernel) if side.is_input else p.side
    piece = 0
    while piece < width:
        count = min(<Py_ssize_t>VLEN, width - piece)
        # what lies in the lanes of channels that do not exist goes into products that nobody reads
        for c in range(min(count, side.a.c - block * side.width - piece)):
            plane = side.a.data + (block * side.width + piece + c) * side.a.stride + image
            if image % LINE == 0:  # of the images beside these, too
                fetch(&side.a, plane + AHEAD * side.a.stride, top, left, size, size,
                      min(side.a.n - image, <Py_ssize_t>LINE))
            if side.is_input:
                transform_inputs(
                    p.kernel, &side.a, plane, top, left, images, stage + c * VLEN, STAGE)
            else:
                transform_grads(
                    p.kernel, &side.a, plane, top, left, images, stage + c * VLEN, STAGE)
        for point in range(p.points):
            for c in range(VLEN):
                square[c] = load(stage + point * STAGE + c * VLEN)
            transpose(square)  # square[channel] of images -> square[image] of channels
            dst = side.panels + (point * side.blocks + block) * rows * side.width
            dst = dst + place * VLEN * width + piece
            for n in range(VLEN):
                # a whole vector may reach into the next rows of this step, which come later
                if count == VLEN or (width <= VLEN and n * width + VLEN <= VLEN * width):
                    store(dst + n * width, square[n])
                else:
                    store_first(dst + n * width, square[n], count)
        piece = piece + VLEN


cdef void fill_job(
    const Problem* p, Py_ssize_t first, Py_ssize_t job, real* stage
) noexcept nogil:
    # a job is one block of channels of either side, for one step of the chunk that begins at `first`
    cdef Py_ssize_t blocks = p.x.blocks + p.d.blocks
    cdef Py_ssize_t block = job % blocks
    cdef Py_ssize_t place = job // blocks
    if block < p.x.blocks:
        fill_panels(p, &p.x, first + place, place, block, stage)
    else:
        fill_panels(p, &p.d, first + place, place, block - p.x.blocks, stage)


# ------------------------------------------------------------------ products


cdef void product_job(
    const Problem* p, Py_ssize_t steps, bint add, Py_ssize_t job
) noexcept nogil:
    # a job is one point and one panel of output channels, for a chunk of so many steps
    cdef Py_ssize_t point = job // p.d.blocks
    cdef Py_ssize_t width = p.x.width
    cdef Py_ssize_t mr = p.d.width
    cdef Py_ssize_t outstride = p.x.blocks * width
    cdef Py_ssize_t block, i
    cdef const real* d = p.d.panels + job * p.steps * VLEN * mr
    cdef const real* x
    cdef real* m = p.m + job * mr * outstride
    if not add:
        for i in range(mr * outstride):
            m[i] = 0
    for block in range(p.x.blocks):
        x = p.x.panels + (point * p.x.blocks + block) * p.steps * VLEN * width
        packed_tiles(True, mr, steps * VLEN, x, d, mr, m + block * width, outstride,
                     width_of(&p.x, block), False, 1)


cdef void slice_job(const Problem* p, Py_ssize_t slice, int threads, real* stages) noexcept nogil:
    # M of one slice of the steps
    cdef Py_ssize_t begin = first_row(slice, p.total, p.slices), first = begin
    cdef Py_ssize_t end = begin + rows_in(slice, p.total, p.slices)
    cdef Py_ssize_t steps, job
    while first < end:
        steps = min(p.steps, end - first)
        for job in prange(steps * (p.x.blocks + p.d.blocks), num_threads=threads, schedule="static"):
            fill_job(p, first, job, stages + threadid() * p.points * STAGE)
        for job in prange(p.points * p.d.blocks, num_threads=threads, schedule="dynamic"):
            product_job(p, steps, first > begin, job)
        first = first + steps


cdef void own_slice_job(const Problem* p, Py_ssize_t slice, int thread) noexcept nogil:
    # by one thread, in its own panels
    cdef Problem own = p[0]
    own.m = p.m + slice * products_of(p)
    own.x.panels = p.x.panels + thread * thread_size(p)
    own.d.panels = own.x.panels + panels_of(p, &p.x)
    slice_job(&own, slice, 1, own.d.panels + panels_of(p, &p.d))


cdef void weights_job(const Problem* p, Py_ssize_t f) noexcept nogil:
    cdef Py_ssize_t width = p.x.blocks * p.x.width
    cdef Py_ssize_t slice, point, c
    cdef real* m
    for slice in range(1, p.slices):
        for point in range(p.points):
            m = p.m + (point * p.d.blocks * p.d.width + f) * width
            for c in range(width):
                m[c] = m[c] + m[slice * products_of(p) + c]
    transform_weights(p.kernel, p.m + f * width, p.d.blocks * p.d.width * width, p.x.a.c,
                      p.dw + f * p.x.a.c * p.kernel * p.kernel)


# ------------------------------------------------------------------ the work, cut into jobs


cdef Problem problem_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel
) except *:
    cdef Problem p
    cdef Py_ssize_t per_step, size
    check_tiles(n, c, f, oh, ow, kernel, 1, 2**20)
    p.x.is_input, p.d.is_input = True, False
    p.x.width = VLEN if c <= VLEN else 2 * VLEN
    p.x.blocks = (c + p.x.width - 1) // p.x.width
    p.d.blocks = (f + MR_MAX - 1) // MR_MAX
    p.d.width = (f + p.d.blocks - 1) // p.d.blocks
    p.kernel, p.side, p.points = kernel, side_of(kernel), points_of(kernel)
    p.tile_rows, p.tile_cols = (oh + p.side - 1) // p.side, (ow + p.side - 1) // p.side
    p.total = (n + VLEN - 1) // VLEN * p.tile_rows * p.tile_cols
    per_step = p.points * VLEN * (p.x.blocks * p.x.width + p.d.blocks * p.d.width)
    # M is read and written once in each chunk: the panels are to be larger, if need be
    p.slices, size = 1, max(<Py_ssize_t>CACHED // <Py_ssize_t>sizeof(real), products_of(&p))
    if products_of(&p) * <Py_ssize_t>sizeof(real) <= OWN:
        p.slices = min(p.total, max(<Py_ssize_t>FEW, min(p.total // SLICE, <Py_ssize_t>MANY)))
        size = OWN // <Py_ssize_t>sizeof(real)
    p.steps = max(<Py_ssize_t>1, min(size // per_step, p.total))
    return p


cdef Py_ssize_t products_of(const Problem* p) noexcept nogil:
    # the numbers of M
    return p.points * p.d.blocks * p.d.width * p.x.blocks * p.x.width


cdef Py_ssize_t panels_of(const Problem* p, const Side* side) noexcept nogil:
    # the numbers of one side's panels
    return p.points * p.steps * VLEN * side.blocks * side.width


cdef Py_ssize_t thread_size(const Problem* p) noexcept nogil:
    # numbers of scratch of a thread that has its own panels
    return panels_of(p, &p.x) + panels_of(p, &p.d) + p.points * STAGE


cdef Py_ssize_t size_of(const Problem* p, int threads) noexcept nogil:
    # numbers of scratch of all threads
    cdef Py_ssize_t each = p.points * STAGE if p.slices == 1 else thread_size(p)
    cdef Py_ssize_t shared = panels_of(p, &p.x) + panels_of(p, &p.d) if p.slices == 1 else 0
    return p.slices * products_of(p) + shared + threads * each


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    int threads,
):
    """Numbers of scratch, of all threads, for x (n, c, ., .) and dout (n, f, oh, ow)."""
    check_threads(threads)
    cdef Rows r
    cdef Problem p = problem_of(n, c, f, oh, ow, kernel)
    if along_lanes(c, f, p.total):
        r = rows_of(n, c, f, oh, ow, kernel)
        return rows_scratch(&r, threads)
    return size_of(&p, threads)


def weight_grad(
    object x, object dout, object dw, object scratch, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t kernel, int threads,
):
    """Fill dw, 1-d as (F, C, kernel, kernel), kernel 3 or 5, from x and dout, batch-last (N, C, H, W).

    scratch: 1-d of ``scratch_size(...)``; dout (i, j) was computed from inputs
    from (i - top, j - left) on, ``kernel`` rows and columns, zeros outside.
    """
    cdef Planes a = planes(x, False)
    cdef Planes d = planes(dout, False)
    check_threads(threads)
    cdef Problem p = problem_of(d.n, a.c, d.c, d.h, d.w, kernel)
    cdef Rows r
    cdef real* base
    cdef Py_ssize_t job, size
    if a.n != d.n or min(a.h, a.w) < 1 or not -2**31 < top < 2**31 or not -2**31 < left < 2**31:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    p.x.a, p.d.a, p.top, p.left = a, d, top, left
    p.dw = numbers(dw, d.c * a.c * kernel * kernel, True)
    if along_lanes(a.c, d.c, p.total):
        r = rows_of(d.n, a.c, d.c, d.h, d.w, kernel)
        size = rows_scratch(&r, threads)
        base = numbers(scratch, size, True)
        check_apart(base, size, p.dw, d.c * a.c * kernel * kernel)
        place_rows(&r, a, d, top, left, p.dw, base)
        with nogil:
            row_sums(&r, threads)
        return
    size = size_of(&p, threads)
    p.m = numbers(scratch, size, True)
    p.x.panels = p.m + p.slices * products_of(&p)
    p.d.panels = p.x.panels + panels_of(&p, &p.x)
    with nogil:
        if p.slices == 1:
            slice_job(&p, 0, threads, p.d.panels + panels_of(&p, &p.d))
        else:
            for job in prange(p.slices, num_threads=threads, schedule="dynamic"):
                own_slice_job(&p, job, threadid())
        for job in prange(d.c, num_threads=threads, schedule="static"):
            weights_job(&p, job)
