# Gradient of a convolution of stride 1 by its input, by Winograd's minimal filtering read backwards:
# every step of the forward pass transposed, in the opposite order.
#
#   U = A w At      of each kernel, once per call                       (winograd_weights.pyx)
#   D = G d Gt      of each tile of the output's gradient and channel   (transform_grad)
#   M = U D         summed over channels: a product for each point      (the micro-kernel of tile.pxd)
#   dx += B M Bt    tiles, which overlap                                (add_tile)
#
# There are as many tiles as the forward pass has. The other way, a correlation with the turned
# kernel (winograd.pyx), takes tiles of dx: they do not overlap, but without padding they are more.
#
# Lanes are images. A job takes all tiles of up to 2 VLEN images, as what overlaps is added up in
# order; where these are fewer jobs than threads, blocks of channels are shared out, too.
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cyconv.kernels.panel cimport from_cache_line
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, extent, numbers, planes
from cyconv.kernels.points cimport ALONG, MOST, check_tiles, points_along, points_of, side_of, spread_1d
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport MR_MAX, VLEN, inlined, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport (
    LINE, first_row, odd_lines, own_scratch, packed_tiles, parts_of, rows_in,
)
from cyconv.kernels.transforms cimport fetch, load_some, store_some, transform_grads


cdef struct Spread:
    Planes d, dx
    const real* u        # of each block (points, 1 + F, its channels); the first row of each is zeros
    Py_ssize_t mr, blocks # of channels: at most so many in each
    Py_ssize_t parts     # jobs that share the blocks
    Py_ssize_t kernel, side  # of the kernels and of the outputs' tiles
    Py_ssize_t points    # of a tile
    Py_ssize_t top, left # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t lanes     # of a block of images, a multiple of VLEN


# ------------------------------------------------------------------ transforms


cdef inline inlined add_tile(
    const int kernel, const Planes* dx, real* plane, Py_ssize_t top, Py_ssize_t left, Py_ssize_t count,
    const real* m, Py_ssize_t mstride,
) noexcept nogil:
    # dx += B M Bt of one channel's tile that begins at (top, left), as far as it lies in the image,
    # for `count` <= VLEN images
    cdef vreal t[MOST]  # t[column of points, row]
    cdef vreal line[ALONG]
    cdef Py_ssize_t i, j
    cdef int along = points_along(kernel)
    cdef real* dst
    for j in range(along):
        spread_1d(kernel, m + j * mstride, along * mstride, t + j * along, 1)
    for i in range(along):
        if not 0 <= top + i < dx.h:
            continue
        spread_1d(kernel, <real*>(t + i), along * VLEN, line, 1)
        for j in range(along):
            if 0 <= left + j < dx.w:
                dst = plane + ((top + i) * dx.w + left + j) * dx.n
                store_some(dst, load_some(dst, count) + line[j], count)


cdef inline void add_tile_of(
    const Spread* p, real* plane, Py_ssize_t ty, Py_ssize_t tx, Py_ssize_t count, const real* m,
    Py_ssize_t mstride,
) noexcept nogil:
    # the side of the kernels becomes a constant
    cdef Py_ssize_t top = ty * p.side - p.top, left = tx * p.side - p.left
    if p.kernel == 3: add_tile(3, &p.dx, plane, top, left, count, m, mstride)
    else: add_tile(5, &p.dx, plane, top, left, count, m, mstride)


# ------------------------------------------------------------------ jobs


cdef inline real* plane_of(const Spread* p, Py_ssize_t channel, Py_ssize_t image) noexcept nogil:
    return p.dx.data + channel * p.dx.stride + image


cdef inline void clear(
    const Spread* p, Py_ssize_t channel, Py_ssize_t image, Py_ssize_t lanes
) noexcept nogil:
    cdef real* plane = plane_of(p, channel, image)
    cdef Py_ssize_t pixel, i
    for pixel in range(p.dx.h * p.dx.w):
        for i in range(lanes):
            plane[pixel * p.dx.n + i] = 0


cdef struct Spreading:
    Task task
    Spread p
    Py_ssize_t jobs
    real* scratch


cdef void spread_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # own scratch: d (points, F, lanes), m (points, mr, lanes)
    cdef const Spread* p = &(<const Spreading*>task).p
    cdef Py_ssize_t image = job // p.parts * p.lanes
    cdef Py_ssize_t begin = job % p.parts * p.blocks // p.parts
    cdef Py_ssize_t end = (job % p.parts + 1) * p.blocks // p.parts
    cdef Py_ssize_t lanes = min(p.lanes, p.d.n - image)
    cdef real* d = from_cache_line((<const Spreading*>task).scratch + thread * thread_size(p))
    cdef real* m = d + p.points * odd_lines(p.d.c * p.lanes)
    cdef Py_ssize_t ty, tx, block, channel
    for channel in range(first_row(begin, p.dx.c, p.blocks), first_row(end, p.dx.c, p.blocks)):
        clear(p, channel, image, lanes)
    for ty in range(p.tile_rows):
        for tx in range(p.tile_cols):
            transform_channels(p, ty, tx, image, lanes, d)
            for block in range(begin, end):
                add_block(p, ty, tx, image, lanes, block, d, m)


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
    const Spread* p, Py_ssize_t ty, Py_ssize_t tx, Py_ssize_t image, Py_ssize_t lanes,
    Py_ssize_t block, const real* d, real* m,
) noexcept nogil:
    # what a tile gives one block of channels
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef Py_ssize_t start = first_row(block, p.dx.c, p.blocks)
    cdef Py_ssize_t count = rows_in(block, p.dx.c, p.blocks)
    cdef Py_ssize_t f, lane
    cdef const real* u = p.u + start * p.points * (1 + p.d.c)
    packed_tiles(False, count, p.d.c, d, u, count, m, width, width, False, p.points)
    for f in range(count):
        lane = 0
        while lane < lanes:
            add_tile_of(p, plane_of(p, start + f, image + lane), ty, tx,
                        min(<Py_ssize_t>VLEN, lanes - lane), m + f * width + lane, count * width)
            lane = lane + VLEN


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
    batches = parts_of(n, p.lanes)
    p.parts = min(p.blocks, parts_of(threads, batches))
    return p


# ------------------------------------------------------------------ the calls


cdef Py_ssize_t thread_size(const Spread* p) noexcept nogil:
    # numbers of scratch
    return own_scratch(p.points * (odd_lines(p.d.c * p.lanes) + p.mr * p.lanes) + LINE)


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel
):
    """Numbers of scratch per thread for dout (n, f, oh, ow), dx (n, c, ., .), 3x3 or 5x5 kernels."""
    cdef Spread p = spread_of(n, c, f, oh, ow, kernel, 1)
    return thread_size(&p)


cdef void run(const void* task, int threads) noexcept nogil:
    share(spread_job, task, (<const Spreading*>task).jobs, threads)


def input_grad(
    object dout, object u, object dx, object scratch, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t kernel, int threads, bint later=False,
):
    """Fill dx (N, C, H, W) from dout (N, F, OH, OW), batch-last, and u.

    u: from winograd_weights.pyx's ``pack_weights`` with ``spread``; scratch: 1-d of ``threads *
    scratch_size(...)``; output (i, j) read inputs from (i - top, j - left) on, ``kernel`` (3 or 5)
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
