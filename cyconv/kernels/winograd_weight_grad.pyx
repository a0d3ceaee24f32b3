# Gradient of a convolution of stride 1 by its weights, by Winograd's minimal filtering: F(3x3, 4x4)
# for 3x3 kernels, where a tile of 4x4 output gradients takes 36 multiplications instead of 144, and
# F(5x5, 3x3) for 5x5 kernels, where a tile of 3x3 takes 49 instead of 225.
#
#   V = Bt x B      of each tile of the input and each channel        (transform_input)
#   D = G d Gt      of each tile of the output's gradient             (transform_grad)
#   M = Dt V        summed over tiles and images, for each point      (the micro-kernel of tile.pxd)
#   dw = At M A     the weights of each pair of channels              (transform_weights)
#
# The sum runs over tiles and images, and the lanes of the products are input channels: V, which the
# transform computes with images as lanes, is transposed on its way to its panels, while D stays as it is.
# Tiles are taken in chunks, so that the panels stay in the cache; M is added up from chunk to chunk. Unless
# M is large, threads share the tiles, each with panels and an M of its own. Else they share the work on one
# chunk after the other: each has output channels of its own, their D and their M, if there are enough of
# them, and otherwise points, and all hand each other V, which takes long where their caches are far apart.
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cyconv.kernels.panel cimport from_cache_line
from cyconv.kernels.planes cimport Planes, check_threads, numbers, planes
from cyconv.kernels.points cimport check_tiles, points_along, points_of, side_of
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport MR_MAX, VLEN, load, real, store, transpose, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport (
    LINE, fetch_row, first_row, odd_lines, own_scratch, parts_of, rows_in, rows_tile,
)
from cyconv.kernels.transforms cimport fetch, transform_grads, transform_inputs, transform_weights

cdef enum:
    # Bytes of M up to which the steps are cut into slices, and bytes of the panels of a chunk
    SMALL_M = 327680
    SMALL_PANELS = 655360
    MEDIUM_M = 2490368              # more would take too long to add up at the end
    MEDIUM_PANELS = 3145728
    LARGE_PANELS = 6291456          # of all threads
    # Slices, where M is small: so many if each has so many steps that clearing and adding up M is little
    # beside them, or else fewer, of so many steps that it is a tenth: 2, 4 or 8 threads share them evenly
    MANY = 16
    MANY_STEPS = 16
    FEW = 8
    FEW_STEPS = 8
    TWO = 2                         # or where it is medium: more threads share one after the other
    WIDTH = 2 * VLEN                # channels of input in a panel, as in fully connected layers
    LEAST_BLOCKS = 4                # of output channels in a part, so that parts are about equal
    AHEAD = 2                       # channels between what is fetched and what is transformed
    STAGE = VLEN * VLEN + VLEN      # numbers of a point's square, which begin in different cache sets


cdef struct Problem:
    Planes x, d               # the input and the output's gradient
    Py_ssize_t kernel, side   # of the kernels and of the gradients' tiles
    Py_ssize_t points         # of a tile
    Py_ssize_t top, left      # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t total          # steps: a step is one tile of VLEN images
    Py_ssize_t slices         # of them, each with an M of its own
    Py_ssize_t steps          # in a chunk
    Py_ssize_t blocks         # panels that hold all channels of the input, ...
    Py_ssize_t lanes          # ... in so many lanes: the last one may be of one vector
    Py_ssize_t fblocks        # of output channels, which share them about evenly
    real* v                   # (points, blocks, steps * VLEN, width of the block)
    real* g                   # (F, steps * VLEN) of each point: channels ggap numbers apart, points gstep
    Py_ssize_t ggap, gstep
    real* m                   # sums (slices, F, points, lanes), or (slices, points, F, lanes) if slices > 1
    Py_ssize_t mrow, mstep    # numbers between output channels there, and between points
    real* dw                  # (F, C, kernel, kernel)


cdef inline Py_ssize_t width_of(const Problem* p, Py_ssize_t block) noexcept nogil:
    return min(<Py_ssize_t>WIDTH, p.lanes - block * WIDTH)


# ------------------------------------------------------------------ panels


cdef struct Place:
    Py_ssize_t top, left, image, images  # a tile of an image's pixels, of so many images from one on


cdef inline Place place_of(const Problem* p, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    # of a step, of n images
    cdef Place t
    cdef Py_ssize_t parts = parts_of(n, VLEN)  # of the batch
    t.image = step % parts * VLEN
    t.images = min(<Py_ssize_t>VLEN, n - t.image)
    t.left = step // parts % p.tile_cols * p.side
    t.top = step // parts // p.tile_cols * p.side
    return t


cdef void fill_input(
    const Problem* p, Py_ssize_t step, Py_ssize_t place, Py_ssize_t block, real* stage
) noexcept nogil:
    # V of one block of input channels of one step, the chunk's number `place`; stage: (points, STAGE)
    cdef Place t = place_of(p, p.x.n, step)
    cdef Py_ssize_t top = t.top - p.top, left = t.left - p.left
    cdef Py_ssize_t piece, c, n, point
    cdef Py_ssize_t width = width_of(p, block)
    cdef Py_ssize_t size = points_along(p.kernel)
    cdef const real* plane
    cdef real* dst
    cdef vreal square[VLEN]
    piece = 0
    while piece < width:
        # what lies in the lanes of channels that do not exist goes into products that nobody reads
        for c in range(min(<Py_ssize_t>VLEN, p.x.c - block * WIDTH - piece)):
            plane = p.x.data + (block * WIDTH + piece + c) * p.x.stride + t.image
            if t.image % LINE == 0:  # of the images beside these, too
                fetch(&p.x, plane + AHEAD * p.x.stride, top, left, size, size,
                      min(p.x.n - t.image, <Py_ssize_t>LINE))
            transform_inputs(p.kernel, &p.x, plane, top, left, t.images, stage + c * VLEN, STAGE)
        for point in range(p.points):
            for c in range(VLEN):
                square[c] = load(stage + point * STAGE + c * VLEN)
            transpose(square)  # square[channel] of images -> square[image] of channels
            dst = p.v + (point * p.lanes + block * WIDTH) * p.steps * VLEN
            dst = dst + place * VLEN * width + piece
            for n in range(VLEN):
                store(dst + n * width, square[n])
        piece = piece + VLEN


cdef void fill_grads(
    const Problem* p, Py_ssize_t first, Py_ssize_t steps, Py_ssize_t block
) noexcept nogil:
    # D of one block of output channels of the chunk's steps, from the step `first` on: of as many images
    # that lie beside each other as there are
    cdef Place t
    cdef Py_ssize_t f, place, row = first_row(block, p.d.c, p.fblocks)
    cdef const real* plane
    for f in range(row, row + rows_in(block, p.d.c, p.fblocks)):
        for place in range(steps):
            t = place_of(p, p.d.n, first + place)
            plane = p.d.data + f * p.d.stride + t.image
            if t.image % LINE == 0:
                fetch(&p.d, plane + AHEAD * p.d.stride, t.top, t.left, p.side, p.side,
                      min(p.d.n - t.image, <Py_ssize_t>LINE))
            transform_grads(p.kernel, &p.d, plane, t.top, t.left, t.images,
                            p.g + f * p.ggap + place * VLEN, p.gstep)


cdef struct Chunk:
    Problem p
    Py_ssize_t first, steps  # the first step, and how many
    bint add                 # whether M has those before
    int threads              # that share it
    Py_ssize_t parts         # of the blocks of output channels: threads have a part, and some of the points
    real* stages             # of the threads


cdef void input_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a job is one thread's share of the steps: several threads share them, but not a line of images
    cdef const Chunk* chunk = <const Chunk*>task
    cdef const Problem* p = &chunk.p
    cdef Py_ssize_t lines = parts_of(chunk.steps * VLEN, LINE), block, place
    cdef Py_ssize_t begin = first_row(job, lines, chunk.threads) * LINE // VLEN
    cdef Py_ssize_t end = first_row(job + 1, lines, chunk.threads) * LINE // VLEN
    for block in range(p.blocks):
        for place in range(begin, min(end, chunk.steps)):
            fill_input(p, chunk.first + place, place, block, chunk.stages + thread * stage_size(p))


cdef void grads_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a job is one block of output channels
    cdef const Chunk* chunk = <const Chunk*>task
    fill_grads(&chunk.p, chunk.first, chunk.steps, job)


# ------------------------------------------------------------------ products


cdef inline Py_ssize_t first_block(const Chunk* chunk, Py_ssize_t part) noexcept nogil:
    # of a part of the blocks of output channels; a thread is to read what it filled itself
    return parts_of(part * chunk.p.fblocks, chunk.parts)


cdef void product_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a job is one point and one part of the blocks of output channels
    cdef const Chunk* chunk = <const Chunk*>task
    cdef Py_ssize_t part = job // chunk.p.points, block
    for block in range(first_block(chunk, part), first_block(chunk, part + 1)):
        multiply(chunk, job % chunk.p.points, block)


cdef inline void multiply(const Chunk* chunk, Py_ssize_t point, Py_ssize_t fblock) noexcept nogil:
    cdef const Problem* p = &chunk.p
    cdef Py_ssize_t f = first_row(fblock, p.d.c, p.fblocks)
    cdef Py_ssize_t mr = rows_in(fblock, p.d.c, p.fblocks)
    cdef Py_ssize_t block
    cdef const real* x
    cdef const real* g = p.g + point * p.gstep + f * p.ggap
    cdef real* m = p.m + f * p.mrow + point * p.mstep
    fetch_row(g + mr * p.ggap, mr * p.ggap)  # of the next block
    for block in range(p.blocks):
        x = p.v + (point * p.lanes + block * WIDTH) * p.steps * VLEN
        rows_tile(chunk.add, mr, chunk.steps * VLEN, x, g, p.ggap,
                  m + block * WIDTH, p.mrow, width_of(p, block))


cdef void run_slice(const Problem* all, Py_ssize_t slice, int thread, int threads) noexcept nogil:
    # M of one slice of the steps, by `threads` threads in the panels of `thread`
    cdef Chunk chunk
    cdef Problem* p = &chunk.p
    cdef Py_ssize_t begin = first_row(slice, all.total, all.slices)
    cdef Py_ssize_t end = begin + rows_in(slice, all.total, all.slices)
    chunk.p, chunk.first, chunk.threads = all[0], begin, threads
    chunk.parts = max(<Py_ssize_t>1, min(<Py_ssize_t>threads, p.fblocks // LEAST_BLOCKS))
    p.m = all.m + slice * products_of(all)
    p.v = all.v + thread * thread_size(all)
    p.g = p.v + panels_of(all)
    chunk.stages = p.g + p.points * p.gstep
    while chunk.first < end:
        chunk.steps, chunk.add = min(p.steps, end - chunk.first), chunk.first > begin
        share(input_job, &chunk, threads, threads)
        share(grads_job, &chunk, p.fblocks, threads)
        share(product_job, &chunk, chunk.parts * p.points, threads)
        chunk.first = chunk.first + chunk.steps


cdef struct Gradient:
    Task task
    Problem p
    bint own_panels  # as the scratch was made for, however many threads there are later


cdef void own_slice_job(const void* task, Py_ssize_t slice, int thread) noexcept nogil:
    run_slice(&(<const Gradient*>task).p, slice, thread, 1)


cdef void weights_job(const void* task, Py_ssize_t f, int thread) noexcept nogil:
    cdef const Problem* p = &(<const Gradient*>task).p
    cdef real* m = p.m + f * p.mrow
    cdef real* other
    cdef Py_ssize_t slice, point, c
    for slice in range(1, p.slices):
        other = m + slice * products_of(p)
        for point in range(p.points):
            for c in range(p.x.c):
                m[point * p.mstep + c] = m[point * p.mstep + c] + other[point * p.mstep + c]
    transform_weights(p.kernel, m, p.mstep, p.x.c, p.dw + f * p.x.c * p.kernel * p.kernel)


# ------------------------------------------------------------------ the work, cut into jobs


cdef Problem problem_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel
) except *:
    cdef Problem p
    cdef Py_ssize_t per_step, size, bytes_of_m
    check_tiles(n, c, f, oh, ow, kernel, 1)
    p.x.c, p.d.c = c, f
    p.blocks = parts_of(c, WIDTH)
    p.lanes = parts_of(c, VLEN) * VLEN
    p.fblocks = parts_of(f, MR_MAX)
    p.kernel, p.side, p.points = kernel, side_of(kernel), points_of(kernel)
    p.tile_rows, p.tile_cols = parts_of(oh, p.side), parts_of(ow, p.side)
    p.total = parts_of(n, VLEN) * p.tile_rows * p.tile_cols
    per_step = p.points * VLEN * (p.lanes + f)
    bytes_of_m = products_of(&p) * <Py_ssize_t>sizeof(real)
    p.slices, size = 1, LARGE_PANELS
    if bytes_of_m <= SMALL_M:
        p.slices = min(p.total, max(<Py_ssize_t>TWO, min(<Py_ssize_t>FEW, p.total // FEW_STEPS)))
        if p.total >= MANY * MANY_STEPS:
            p.slices = MANY
        size = SMALL_PANELS
    elif bytes_of_m <= MEDIUM_M:
        p.slices, size = min(p.total, <Py_ssize_t>TWO), MEDIUM_PANELS
    # M is read and written once in each chunk: the panels are to be larger, if need be
    size = max(size, bytes_of_m) // <Py_ssize_t>sizeof(real)
    p.mrow, p.mstep = p.points * p.lanes, p.lanes
    if p.slices > 1:  # a job's rows are to lie near each other, in the nearest cache
        p.mrow, p.mstep = p.lanes, f * p.lanes
    p.steps = max(<Py_ssize_t>1, min(size // per_step, p.total))
    p.ggap = odd_lines(p.steps * VLEN)
    p.gstep = odd_lines(f * p.ggap)
    return p


cdef Py_ssize_t products_of(const Problem* p) noexcept nogil:
    # the numbers of M
    return p.points * p.d.c * p.lanes


cdef Py_ssize_t panels_of(const Problem* p) noexcept nogil:
    # the numbers of V
    return p.points * p.steps * VLEN * p.lanes


cdef Py_ssize_t stage_size(const Problem* p) noexcept nogil:
    # numbers of scratch of a thread that shares its panels with others
    return own_scratch(p.points * STAGE)


cdef Py_ssize_t thread_size(const Problem* p) noexcept nogil:
    # numbers of scratch of a thread that has its own panels
    return own_scratch(panels_of(p) + p.points * p.gstep) + stage_size(p)


cdef bint has_own_panels(const Problem* p, int threads) noexcept nogil:
    # whether each thread has panels, rather than all of them the same
    return p.slices > TWO or threads <= p.slices


cdef Py_ssize_t size_of(const Problem* p, int threads) noexcept nogil:
    # numbers of scratch of all threads
    cdef Py_ssize_t panels = thread_size(p) + (threads - 1) * stage_size(p)
    if has_own_panels(p, threads):
        panels = threads * thread_size(p)
    return p.slices * products_of(p) + LINE + panels


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    int threads,
):
    """Numbers of scratch, of all threads, for x (n, c, ., .) and dout (n, f, oh, ow)."""
    check_threads(threads)
    cdef Problem p = problem_of(n, c, f, oh, ow, kernel)
    return size_of(&p, threads)


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Gradient* call = <const Gradient*>task
    cdef const Problem* p = &call.p
    cdef Py_ssize_t job
    if call.own_panels:
        share(own_slice_job, task, p.slices, threads)
    else:
        for job in range(p.slices):
            run_slice(p, job, 0, threads)
    share(weights_job, task, p.d.c, threads)


def weight_grad(
    object x, object dout, object dw, object scratch, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t kernel, int threads, bint later=False,
):
    """Fill dw, 1-d as (F, C, kernel, kernel), kernel 3 or 5, from x and dout, batch-last (N, C, H, W).

    scratch: 1-d of ``scratch_size(...)``; dout (i, j) was computed from inputs
    from (i - top, j - left) on, ``kernel`` rows and columns, zeros outside.
    """
    cdef Planes a = planes(x, False)
    cdef Planes d = planes(dout, False)
    check_threads(threads)
    cdef Problem p = problem_of(d.n, a.c, d.c, d.h, d.w, kernel)
    cdef Gradient call
    cdef Py_ssize_t size
    if a.n != d.n or min(a.h, a.w) < 1 or not -2**31 < top < 2**31 or not -2**31 < left < 2**31:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    p.x, p.d, p.top, p.left = a, d, top, left
    p.dw = numbers(dw, d.c * a.c * kernel * kernel, True)
    size = size_of(&p, threads)
    p.m = numbers(scratch, size, True)
    p.v = from_cache_line(p.m + p.slices * products_of(&p))
    call.p, call.own_panels = p, has_own_panels(&p, threads)
    call.task.run, call.task.threads = run, threads
    return finish(&call.task, sizeof(call), later)
