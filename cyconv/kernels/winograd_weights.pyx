# The weights of Winograd's method, U = G w Gt, laid out for winograd.pyx, tile_lanes.pxd and
# winograd_input_grad.pyx; see tiling.pxd.

from cyconv.kernels.pack cimport pack_rows
from cyconv.kernels.planes cimport check_threads, numbers
from cyconv.kernels.points cimport (
    ALONG, MOST, STRIDED, WIDENED, evaluate_1d, taps_of, weights_along,
)
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport VLEN, inlined, prefetch, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport first_row, rows_in
from cyconv.kernels.tiling cimport Problem, problem_of, weights_of
from cyconv.kernels.transforms cimport store_some

cdef enum:
    LANES = 16           # no less than MR_MAX, and whole vectors
    FAR = 2097152        # bytes of U that lie outside of a core's own cache
    AHEAD = 8            # channels between where such memory is asked for and where it is written


def packed_size(Py_ssize_t c, Py_ssize_t f, Py_ssize_t kernel, Py_ssize_t stride):
    """How many numbers ``pack_weights`` fills."""
    cdef Problem p = problem_of(1, c, f, 1, 1, kernel, stride, False, False)
    return weights_of(&p)


cdef inline inlined pick_part(
    const int kernel, const int side, const real* taps, Py_ssize_t top, Py_ssize_t left, real* part
) noexcept nogil:
    # every second row and column, (kernel, kernel) of (side, side), and zeros behind them
    cdef Py_ssize_t k, i, row, col
    for k in range(kernel * kernel):
        row, col = top + k // kernel * 2, left + k % kernel * 2
        for i in range(LANES):
            part[k * LANES + i] = taps[(row * side + col) * LANES + i] if row < side and col < side else 0


cdef inline inlined transform_weights(
    const int method, const int side, const real* w, real* u, Py_ssize_t first, Py_ssize_t count,
    Py_ssize_t channels, Py_ssize_t fstride, Py_ssize_t cstride, bint turned, bint scaled, bint far,
) noexcept nogil:
    # u = G w Gt, or A w At if not scaled, for `count` output channels, which are the lanes here; far:
    # u is not in the cache, and its points are more streams than the processor foresees
    cdef real taps[49 * LANES]
    cdef real part[25 * LANES]
    cdef vreal t[ALONG * 5]
    cdef vreal r[MOST]
    cdef Py_ssize_t c, i, k, point, lane
    cdef int kernel = taps_of(method), along = weights_along(method), points = along * along
    cdef int apart = 1 if side == kernel else 2, parts = apart * apart
    cdef const real* g = taps
    cdef Py_ssize_t step = LANES
    if apart == 2:
        g = part
    if turned:
        g, step = g + (kernel * kernel - 1) * LANES, -LANES
    for point in range(points):
        for i in range(count):
            u[point * (1 + channels) * count + i] = 0
    for c in range(channels):
        for point in range(points if far else 0):
            prefetch(u + (point * (1 + channels) + 1 + c + AHEAD) * count)
        if c % parts == 0:
            pack_rows(w + first * fstride + c // parts * cstride, fstride, count, side * side, taps, LANES)
        if apart == 2:
            pick_part(kernel, side, taps, c % parts // apart, c % apart, part)
        lane = 0
        while lane < count:
            for k in range(kernel):  # columns: t (along, kernel)
                evaluate_1d(method, kernel, g + k * step + lane, kernel * step, t + k, kernel, scaled)
            for k in range(along):  # rows: r (along, along)
                evaluate_1d(
                    method, kernel, <real*>(t + k * kernel), VLEN, r + k * along, 1, scaled)
            for point in range(points):
                # a whole vector may reach into the rows of the channels that come next
                store_some(u + (point * (1 + channels) + 1 + c) * count + lane, r[point],
                           VLEN if (channels - c) * count >= lane + VLEN else count - lane)
            lane = lane + VLEN


cdef struct Packing:
    Task task
    Problem p
    const real* w
    real* u
    Py_ssize_t rows, cols, kernel
    bint swapped, spread


cdef void pack_block(const void* task, Py_ssize_t block, int thread) noexcept nogil:
    cdef const Packing* call = <const Packing*>task
    cdef const Problem* p = &call.p
    cdef const real* w = call.w
    cdef Py_ssize_t kernel = call.kernel
    cdef bint turned = call.swapped and not call.spread, scaled = not call.spread
    cdef Py_ssize_t fs = kernel * kernel * (1 if call.swapped else call.cols)
    cdef Py_ssize_t cs = kernel * kernel * (call.rows if call.swapped else 1)
    cdef Py_ssize_t first = first_row(block, call.rows, p.blocks)
    cdef Py_ssize_t n = rows_in(block, call.rows, p.blocks), c = p.channels
    cdef bint far = <double>call.rows * c * p.matrices * sizeof(real) > FAR
    cdef real* u = call.u + first * p.matrices * (1 + c)
    if p.method == STRIDED or p.method == WIDENED:
        transform_weights(STRIDED, 3, w, u, first, n, c, fs, cs, turned, True, far)
    elif kernel == 3: transform_weights(3, 3, w, u, first, n, c, fs, cs, turned, scaled, far)
    elif p.apart == 1: transform_weights(5, 5, w, u, first, n, c, fs, cs, turned, scaled, far)
    elif kernel == 5: transform_weights(3, 5, w, u, first, n, c, fs, cs, False, True, far)
    else: transform_weights(4, 7, w, u, first, n, c, fs, cs, False, True, far)


cdef void run_packing(const void* task, int threads) noexcept nogil:
    share(pack_block, task, (<const Packing*>task).p.blocks, threads)


def pack_weights(
    object w, object u, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t kernel, Py_ssize_t stride,
    bint swapped, bint spread, int threads, bint later=False,
):
    """Transform weights: u from w, 1-d as (rows, cols, kernel, kernel), kernel 3, 5 or 7.

    ``swapped`` is for the gradient by the input: w is (cols, rows, kernel, kernel) then, and each
    kernel is turned by 180 degrees; or not, if ``spread``, which is for
    winograd_input_grad.pyx.
    """
    check_threads(threads)
    cdef Packing call
    call.p = problem_of(1, cols, rows, 1, 1, kernel, stride, swapped, False)
    call.w = numbers(w, rows * cols * kernel * kernel, False)
    call.u = numbers(u, weights_of(&call.p), True)
    call.rows, call.cols, call.kernel = rows, cols, kernel
    call.swapped, call.spread = swapped, spread
    call.task.run, call.task.threads = run_packing, threads
    return finish(&call.task, sizeof(call), later)
