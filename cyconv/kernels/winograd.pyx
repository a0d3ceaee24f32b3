# Convolution with 3x3 kernels and stride 1 by Winograd's minimal filtering, F(4x4, 3x3): a tile of
# 4x4 outputs takes 36 multiplications instead of 144.
#
#   U = G w Gt      of each kernel, once per call                    (pack_weights)
#   V = Bt x B      of each 6x6 tile of the input and each channel   (transform_input)
#   M = U V         summed over channels: 36 matrix products         (the micro-kernel of tile.pxd)
#   Y = At M A      4x4 outputs of each channel                      (transform_output)
#
# Lanes are images, so each transform is plain sums of vectors. A job takes a few tiles of one row
# for up to 2 VLEN images, and for each block of output channels goes from V to Y, so that M stays
# in the cache. The gradient by the input is the same with each kernel turned by 180 degrees.
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cython.parallel cimport prange, threadid

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes
from cyconv.kernels.points cimport POINTS, transform_input
from cyconv.kernels.simd cimport (
    MR_MAX, VLEN, inlined, load, real, store, store_first, vreal,
)
from cyconv.kernels.tile cimport tile_of

cdef enum:
    CACHED = 524288      # bytes of V in a job


cdef struct Problem:
    Planes x, out
    const real* u        # (blocks, POINTS, 1 + C, mr); the first row of each is zeros
    const real* bias     # (F,) or NULL
    Py_ssize_t mr, blocks
    Py_ssize_t top, left # padding
    Py_ssize_t tile_rows, tile_cols
    Py_ssize_t chunk     # tiles in a job
    Py_ssize_t chunks    # jobs along a row of tiles
    Py_ssize_t lanes     # of a block of images, a multiple of VLEN


# ------------------------------------------------------------------ transforms


cdef inline inlined output_1d(
    const real* m, Py_ssize_t step, vreal* y, const int ystep
) noexcept nogil:
    # y = At m: 6 points, `step` numbers apart, to 4 vectors
    cdef vreal m1 = load(m + step)
    cdef vreal m2 = load(m + 2 * step)
    cdef vreal m3 = load(m + 3 * step)
    cdef vreal m4 = load(m + 4 * step)
    cdef vreal p = m1 + m2
    cdef vreal q = m1 - m2
    cdef vreal r = m3 + m4
    cdef vreal s = m3 - m4
    y[0] = load(m) + p + r
    y[ystep] = q + s * 2
    y[2 * ystep] = p + r * 4
    y[3 * ystep] = q + s * 8 + load(m + 5 * step)


cdef void transform_output(
    const Problem* p, const real* m, Py_ssize_t mstride, real bias, Py_ssize_t ty, Py_ssize_t tx,
    Py_ssize_t count, real* plane,
) noexcept nogil:
    # one channel's 4x4 outputs, as far as they lie in the image, for `count` <= VLEN images
    cdef vreal t[24]  # t[column, output row]
    cdef vreal line[4]
    cdef Py_ssize_t i, j
    cdef Py_ssize_t rows = min(p.out.h - ty * 4, <Py_ssize_t>4)
    cdef Py_ssize_t cols = min(p.out.w - tx * 4, <Py_ssize_t>4)
    cdef real* dst = plane + (ty * 4 * p.out.w + tx * 4) * p.out.n
    for j in range(6):
        output_1d(m + j * mstride, 6 * mstride, t + j * 4, 1)
    for i in range(rows):
        output_1d(<real*>(t + i), 4 * VLEN, line, 1)
        for j in range(cols):
            if count == VLEN:
                store(dst + (i * p.out.w + j) * p.out.n, line[j] + bias)
            else:
                store_first(dst + (i * p.out.w + j) * p.out.n, line[j] + bias, count)


# ------------------------------------------------------------------ jobs


cdef void run_job(const Problem* p, Py_ssize_t job, real* scratch) noexcept nogil:
    # scratch: v (chunk, POINTS, C, lanes), m (POINTS, mr, lanes), offsets
    cdef Py_ssize_t channels = p.x.c
    cdef Py_ssize_t chunk = job % p.chunks
    cdef Py_ssize_t ty = job // p.chunks % p.tile_rows
    cdef Py_ssize_t image = job // p.chunks // p.tile_rows * p.lanes
    cdef Py_ssize_t lanes = min(p.lanes, p.out.n - image)
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef Py_ssize_t first = chunk * p.chunk
    cdef Py_ssize_t last = min(first + p.chunk, p.tile_cols)
    cdef Py_ssize_t vsize = POINTS * channels * width
    cdef real* v = scratch + (64 - <size_t>scratch % 64) % 64 // sizeof(real)
    cdef real* m = v + p.chunk * POINTS * channels * p.lanes
    cdef Py_ssize_t* xoff = <Py_ssize_t*>(m + POINTS * p.mr * p.lanes)
    cdef Py_ssize_t* woff = xoff + channels
    cdef Py_ssize_t c, tx, lane, block, point, f, count
    cdef const real* u
    cdef real bias
    for c in range(channels):
        xoff[c] = c * width
        woff[c] = c * p.mr
        for tx in range(first, last):
            lane = 0
            while lane < lanes:
                transform_input(&p.x, p.x.data + c * p.x.stride + image + lane,
                                ty * 4 - p.top, tx * 4 - p.left,
                                min(<Py_ssize_t>VLEN, lanes - lane),
                                v + (tx - first) * vsize + c * width + lane, channels * width)
                lane = lane + VLEN
    for block in range(p.blocks):
        count = min(p.mr, p.out.c - block * p.mr)
        for tx in range(first, last):
            for point in range(POINTS):
                u = p.u + (block * POINTS + point) * (1 + channels) * p.mr
                if width == VLEN:
                    tile_of(1, False, p.mr, 1, channels, v + (tx - first) * vsize + point * channels * width,
                            0, xoff, u, 0, woff, m + point * p.mr * width, width, p.mr, width)
                else:
                    tile_of(2, False, p.mr, 1, channels, v + (tx - first) * vsize + point * channels * width,
                            0, xoff, u, 0, woff, m + point * p.mr * width, width, p.mr, width)
            for f in range(count):
                bias = p.bias[block * p.mr + f] if p.bias != NULL else 0
                lane = 0
                while lane < lanes:
                    transform_output(
                        p, m + f * width + lane, p.mr * width, bias, ty, tx,
                        min(<Py_ssize_t>VLEN, lanes - lane),
                        p.out.data + (block * p.mr + f) * p.out.stride + image + lane)
                    lane = lane + VLEN


cdef Problem problem_of(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow
) except *:
    cdef Problem p
    if min(n, c, f, oh, ow) < 1 or max(c, f) >= 2**24 or max(n, oh, ow) >= 2**40:
        raise ValueError("kernel: winograd got a size out of range")
    p.blocks = (f + MR_MAX - 1) // MR_MAX
    p.mr = (f + p.blocks - 1) // p.blocks
    p.lanes = VLEN if n <= VLEN else 2 * VLEN
    p.tile_rows, p.tile_cols = (oh + 3) // 4, (ow + 3) // 4
    # a few tiles share each block of U while their V is in the cache; no more than leaves work for
    # all threads
    p.chunk = CACHED // (POINTS * c * p.lanes * <Py_ssize_t>sizeof(real))
    p.chunk = max(<Py_ssize_t>1, min(p.chunk, p.tile_cols))
    p.chunks = (p.tile_cols + p.chunk - 1) // p.chunk
    return p


def scratch_size(Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow):
    """Numbers of scratch per thread for x (n, c, ., .) and out (n, f, oh, ow)."""
    cdef Problem p = problem_of(n, c, f, oh, ow)
    return POINTS * p.lanes * (p.chunk * c + p.mr) + (2 * c * sizeof(Py_ssize_t) + 64) // sizeof(real)


def packed_size(Py_ssize_t c, Py_ssize_t f):
    """How many numbers ``pack_weights`` fills."""
    cdef Problem p = problem_of(1, c, f, 1, 1)
    return p.blocks * POINTS * (1 + c) * p.mr


def correlate(
    object x, object u, object bias, object out, object scratch, Py_ssize_t top, Py_ssize_t left,
    int threads,
):
    """Fill ``out`` (N, F, OH, OW) from x (N, C, H, W), batch-last, and u from ``pack_weights``.

    bias: 1-d (F,) or None; scratch: 1-d of ``threads * scratch_size(...)``; output (i, j) reads
    inputs (i - top ... i - top + 2, j - left ... j - left + 2), zeros outside.
    """
    check_threads(threads)
    cdef Planes a = planes(x, False)
    cdef Planes o = planes(out, True)
    cdef Problem p = problem_of(o.n, a.c, o.c, o.h, o.w)
    cdef Py_ssize_t job, per_thread = scratch_size(o.n, a.c, o.c, o.h, o.w)
    if a.n != o.n or not -2**31 < top < 2**31 or not -2**31 < left < 2**31:
        raise ValueError("kernel: winograd got sizes that do not fit")
    p.x, p.out, p.top, p.left = a, o, top, left
    p.u = numbers(u, packed_size(a.c, o.c), False)
    p.bias = NULL if bias is None else numbers(bias, o.c, False)
    cdef real* base = numbers(scratch, threads * per_thread, True)
    check_apart(base, threads * per_thread, o)
    cdef Py_ssize_t jobs = (o.n + p.lanes - 1) // p.lanes * p.tile_rows * p.chunks
    with nogil:
        for job in prange(jobs, num_threads=threads, schedule="dynamic"):
            run_job(&p, job, base + threadid() * per_thread)


# ------------------------------------------------------------------ weights


cdef void weights_1d(
    const real* g, Py_ssize_t step, real* u, Py_ssize_t ustep
) noexcept nogil:
    # u = G g: 3 numbers to 6 points, for MR lanes each
    cdef Py_ssize_t i
    cdef real even, odd
    for i in range(16):
        even = (g[i] + g[2 * step + i]) * <real>(-1.0 / 6)
        odd = g[step + i] * <real>(-1.0 / 6)
        u[i] = g[i] * <real>0.25
        u[ustep + i] = even + odd
        u[2 * ustep + i] = even - odd
        even = g[i] * <real>(1.0 / 24) + g[2 * step + i] * <real>(1.0 / 6)
        odd = g[step + i] * <real>(1.0 / 12)
        u[3 * ustep + i] = even + odd
        u[4 * ustep + i] = even - odd
        u[5 * ustep + i] = g[2 * step + i]


cdef void pack_block(
    const real* w, real* u, Py_ssize_t first, Py_ssize_t count, Py_ssize_t mr, Py_ssize_t channels,
    Py_ssize_t fstride, Py_ssize_t cstride, bint turned,
) noexcept nogil:
    cdef real g[9 * 16]
    cdef real t[18 * 16]
    cdef real r[POINTS * 16]
    cdef Py_ssize_t c, i, k, point
    for k in range(9 * 16):
        g[k] = 0
    for point in range(POINTS):
        for i in range(mr):
            u[point * (1 + channels) * mr + i] = 0
    for c in range(channels):
        for k in range(9):
            for i in range(count):
                g[k * 16 + i] = w[(first + i) * fstride + c * cstride + (8 - k if turned else k)]
        for k in range(3):  # columns: t (6, 3)
            weights_1d(g + k * 16, 3 * 16, t + k * 16, 3 * 16)
        for k in range(6):  # rows: r (6, 6)
            weights_1d(t + k * 3 * 16, 16, r + k * 6 * 16, 16)
        for point in range(POINTS):
            for i in range(mr):
                u[(point * (1 + channels) + 1 + c) * mr + i] = r[point * 16 + i]


def pack_weights(object w, object u, Py_ssize_t rows, Py_ssize_t cols, bint swapped, int threads):
    """Transform weights: u from w, 1-d as (rows, cols, 3, 3), or (cols, rows, 3, 3) if ``swapped``.

    ``swapped`` is for the gradient by the input: each kernel is turned by 180 degrees too.
    """
    check_threads(threads)
    cdef Problem p = problem_of(1, cols, rows, 1, 1)
    cdef const real* src = numbers(w, rows * cols * 9, False)
    cdef real* dst = numbers(u, packed_size(cols, rows), True)
    cdef Py_ssize_t fstride = 9 if swapped else cols * 9
    cdef Py_ssize_t cstride = rows * 9 if swapped else 9
    cdef Py_ssize_t block
    with nogil:
        for block in prange(p.blocks, num_threads=threads, schedule="static"):
            pack_block(src, dst + block * POINTS * (1 + cols) * p.mr, block * p.mr,
                       min(p.mr, rows - block * p.mr), p.mr, cols, fstride, cstride, swapped)
