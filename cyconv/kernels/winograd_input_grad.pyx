# Gradient of a convolution of stride 1 by its input, by Winograd's minimal filtering read backwards:
# every step of the forward pass transposed, in the opposite order.
#
#   U = A w At      of each kernel, once per call                       (winograd_weights.pyx)
#   D = G d Gt      of each tile of the output's gradient and channel   (transform_grad)
#   M = U D         summed over channels: a product for each point      (the micro-kernel of tile.pxd)
#   S += B M Bt     tiles, which overlap                                (add_tile)
#   dx              a row of S that no further tile reaches             (write_row)
#
# There are as many tiles as the forward pass has. The other way, a correlation with the turned
# kernel (winograd.pyx), takes tiles of dx: they do not overlap, but without padding they are more.
#
# Lanes are images. A job takes all tiles of up to 2 VLEN images, as what overlaps is added up in
# order; where these are fewer jobs than threads, blocks of channels are shared out, too. S is a job's
# own: in dx, threads would add to the images of the same pixels, beside each other, and take them away
# from each other's caches again and again. It has as many rows as a tile, used in turn.
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cyconv.kernels.panel cimport clear, from_cache_line
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, extent, numbers, planes
from cyconv.kernels.points cimport ALONG, MOST, check_tiles, points_along, points_of, side_of, spread_1d
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport MR_MAX, VLEN, broadcast, inlined, load, real, store, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport (
    LINE, fetch_row, first_row, odd_lines, own_scratch, packed_tiles, parts_of, rows_in,
)
from cyconv.kernels.transforms cimport fetch, store_some, transform_grads


cdef struct Spread:
    Planes d, dx
    const real* u        # of each block (points, 1 + F, its channels); the first row of each is zeros
    Py_ssize_t mr, blocks # of channels: at most so many in each
    Py_ssize_t parts     # jobs that share the blocks
    Py_ssize_t kernel, side  # of the kernels and of the outputs' tiles
    Py_ssize_t points    # of a tile, ...
    Py_ssize_t along     # ... and along an axis, as many as it has rows in S
    Py_ssize_t cols      # of S
    Py_ssize_t top, left # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t lanes     # of a block of images, a multiple of VLEN


# ------------------------------------------------------------------ transforms


cdef inline Py_ssize_t size_of_sums(const Spread* p, Py_ssize_t width) noexcept nogil:
    # numbers of S for one channel
    return odd_lines(p.along * p.cols * width)


cdef inline inlined add_tile(
    const int kernel, const real* m, Py_ssize_t mstride, real* sums, Py_ssize_t row, Py_ssize_t rowsize,
    Py_ssize_t width,
) noexcept nogil:
    # S += B M Bt of a tile whose first row is number `row` of S, for VLEN images
    cdef vreal t[MOST]  # t[column of points, row]
    cdef vreal line[ALONG]
    cdef Py_ssize_t i, j
    cdef int along = points_along(kernel)
    cdef real* dst
    for j in range(along):
        spread_1d(kernel, m + j * mstride, along * mstride, t + j * along, 1)
    for i in range(along):
        dst = sums + row * rowsize
        spread_1d(kernel, <real*>(t + i), along * VLEN, line, 1)
        for j in range(along):
            store(dst + j * width, load(dst + j * width) + line[j])
        row = row + 1 if row + 1 < along else 0


cdef inline void add_tile_of(
    const Spread* p, const real* m, Py_ssize_t mstride, real* sums, Py_ssize_t ty, Py_ssize_t width
) noexcept nogil:
    # the side of the kernels becomes a constant
    if p.kernel == 3: add_tile(3, m, mstride, sums, ty * p.side % p.along, p.cols * width, width)
    else: add_tile(5, m, mstride, sums, ty * p.side % p.along, p.cols * width, width)


cdef inline void write_row(
    const Spread* p, real* dst, Py_ssize_t lanes, Py_ssize_t ahead, const real* sums, Py_ssize_t width
) noexcept nogil:
    # a row of dx, of so many images: one of S, or zeros if that is NULL and where no tile reaches. What is
    # written next lies so many numbers ahead
    cdef Py_ssize_t col, lane
    cdef vreal v
    for col in range(p.left, p.left + p.dx.w):
        fetch_row(dst + ahead, lanes)
        lane = 0
        while lane < lanes:
            v = broadcast(0)
            if sums != NULL and 0 <= col < p.cols:
                v = load(sums + col * width + lane)
            store_some(dst + lane, v, min(<Py_ssize_t>VLEN, lanes - lane))
            lane = lane + VLEN
        dst = dst + p.dx.n


# ------------------------------------------------------------------ jobs


cdef struct Spreading:
    Task task
    Spread p
    Py_ssize_t jobs
    real* scratch


cdef void spread_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # own scratch: d (points, F, lanes), m (points, mr, lanes), S (channels, rows of a tile, columns, lanes)
    cdef const Spread* p = &(<const Spreading*>task).p
    cdef Py_ssize_t image = job // p.parts * p.lanes
    cdef Py_ssize_t begin = job % p.parts * p.blocks // p.parts
    cdef Py_ssize_t end = (job % p.parts + 1) * p.blocks // p.parts
    cdef Py_ssize_t first = first_row(begin, p.dx.c, p.blocks), last = first_row(end, p.dx.c, p.blocks)
    cdef Py_ssize_t lanes = min(p.lanes, p.d.n - image), width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef real* d = from_cache_line((<const Spreading*>task).scratch + thread * thread_size(p))
    cdef real* m = d + p.points * odd_lines(p.d.c * p.lanes)
    cdef real* sums = m + p.points * p.mr * p.lanes
    cdef Py_ssize_t ty, tx, block, row, rows = p.side
    clear(sums, (last - first) * size_of_sums(p, width))
    for row in range(p.dx.h):
        if not 0 <= row + p.top < (p.tile_rows - 1) * p.side + p.along:
            write_rows(p, row, image, lanes, width, first, last, NULL)
    for ty in range(p.tile_rows):
        for tx in range(p.tile_cols):
            transform_channels(p, ty, tx, image, lanes, d)
            for block in range(begin, end):
                add_block(p, ty, tx, width, block, first, d, m, sums)
        if ty == p.tile_rows - 1:
            rows = p.along
        for row in range(ty * p.side - p.top, ty * p.side + rows - p.top):
            write_rows(p, row, image, lanes, width, first, last, sums)


cdef void write_rows(
    const Spread* p, Py_ssize_t row, Py_ssize_t image, Py_ssize_t lanes, Py_ssize_t width,
    Py_ssize_t first, Py_ssize_t last, real* sums,
) noexcept nogil:
    # a row of dx, if there is one, for the channels from `first` to `last`; S is ready for the next one
    cdef Py_ssize_t f, ahead = p.dx.w * p.dx.n if row + 1 < p.dx.h else 0
    cdef real* dst = p.dx.data + row * p.dx.w * p.dx.n + image
    if sums != NULL:
        sums = sums + (row + p.top) % p.along * p.cols * width
    for f in range(first, last):
        if 0 <= row < p.dx.h:
            write_row(p, dst + f * p.dx.stride, lanes, ahead, sums, width)
        if sums != NULL:
            clear(sums, p.cols * width)
            sums = sums + size_of_sums(p, width)


cdef void transform_channels(
    const Spread* p, Py_ssize_t ty, Py_ssize_t tx, Py_ssize_t image, Py_ssize_t lanes, real* d
) noexcept nogil:
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef Py_ssize_t dstep = odd_lines(p.d.c * width)
    cdef Py_ssize_t c, lane
    cdef const real* plane
    for c in range(p.d.c):
        plane = p.d.data + c * p.d.stride + image
        fetch(&p.d, plane + p.d.stride, ty * p.side, tx * p.side, p.side, p.side, lanes)
        lane = 0
        while lane < lanes:
            transform_grads(p.kernel, &p.d, plane + lane, ty * p.side, tx * p.side,
                            min(<Py_ssize_t>VLEN, lanes - lane), d + c * width + lane, dstep)
            lane = lane + VLEN


cdef void add_block(
    const Spread* p, Py_ssize_t ty, Py_ssize_t tx, Py_ssize_t width, Py_ssize_t block, Py_ssize_t first,
    const real* d, real* m, real* sums,
) noexcept nogil:
    # what a tile gives one block of channels; S is of those from `first` on
    cdef Py_ssize_t start = first_row(block, p.dx.c, p.blocks)
    cdef Py_ssize_t count = rows_in(block, p.dx.c, p.blocks)
    cdef Py_ssize_t f, lane
    cdef const real* u = p.u + start * p.points * (1 + p.d.c)
    packed_tiles(False, count, p.d.c, d, u, count, m, width, width, False, p.points)
    sums = sums + (start - first) * size_of_sums(p, width) + tx * p.side * width
    for f in range(count):
        lane = 0
        while lane < width:
            add_tile_of(p, m + f * width + lane, count * width, sums + lane, ty, width)
            lane = lane + VLEN
        sums = sums + size_of_sums(p, width)


cdef Spread spread_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t threads,
) except *:
    cdef Spread p
    cdef Py_ssize_t batches
    check_tiles(n, c, f, oh, ow, kernel, 1)
    check_threads(threads)
    p.d.c = f
    p.blocks = parts_of(c, MR_MAX)
    p.mr = parts_of(c, p.blocks)
    p.lanes = VLEN if n <= VLEN else 2 * VLEN
    p.kernel, p.side, p.points = kernel, side_of(kernel), points_of(kernel)
    p.tile_rows, p.tile_cols = parts_of(oh, p.side), parts_of(ow, p.side)
    p.along = points_along(kernel)
    p.cols = (p.tile_cols - 1) * p.side + p.along
    batches = parts_of(n, p.lanes)
    p.parts = min(p.blocks, parts_of(threads, batches))
    return p


# ------------------------------------------------------------------ the calls


cdef Py_ssize_t thread_size(const Spread* p) noexcept nogil:
    # numbers of scratch
    cdef Py_ssize_t sums = parts_of(p.blocks, p.parts) * p.mr * size_of_sums(p, p.lanes)
    return own_scratch(p.points * (odd_lines(p.d.c * p.lanes) + p.mr * p.lanes) + sums + LINE)


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    int threads,
):
    """Numbers of scratch for dout (n, f, oh, ow), dx (n, c, ., .), 3x3 or 5x5 kernels."""
    cdef Spread p = spread_of(n, c, f, oh, ow, kernel, threads)
    return threads * thread_size(&p)


cdef void run(const void* task, int threads) noexcept nogil:
    share(spread_job, task, (<const Spreading*>task).jobs, threads)


def input_grad(
    object dout, object u, object dx, object scratch, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t kernel, int threads, bint later=False,
):
    """Fill dx (N, C, H, W) from dout (N, F, OH, OW), batch-last, and u.

    u: from winograd_weights.pyx's ``pack_weights`` with ``spread``; scratch: 1-d of
    ``scratch_size(...)``; output (i, j) read inputs from (i - top, j - left) on, ``kernel`` (3 or 5)
    rows and columns.
    """
    cdef Spreading call
    cdef Planes d = planes(dout, False)
    cdef Planes x = planes(dx, True)
    cdef Spread p = spread_of(d.n, x.c, d.c, d.h, d.w, kernel, threads)
    cdef Py_ssize_t size
    if d.n != x.n or not -2**31 < top < 2**31 or not -2**31 < left < 2**31:
        raise ValueError("kernel: winograd got sizes that do not fit")
    p.d, p.dx, p.top, p.left = d, x, top, left
    p.u = numbers(u, p.points * (1 + d.c) * x.c, False)
    size = threads * thread_size(&p)
    call.scratch = numbers(scratch, size, True)
    check_apart(call.scratch, size, x.data, extent(x))
    call.p, call.jobs = p, parts_of(d.n, p.lanes) * p.parts
    call.task.run, call.task.threads = run, threads
    return finish(&call.task, sizeof(call), later)
