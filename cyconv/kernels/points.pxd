# Winograd's tiles: what winograd.pyx and the files of the gradients share.
#
# The method multiplies polynomials by their values at some points. Six of them, 0, 1, -1, 2, -2 and
# infinity, are enough for a sum of 3 products at 4 places, or of 4 at 3: 3x3 kernels, and tiles of 4x4
# outputs. Seven, 1, -1, 2, -2, 1/2, -1/2 and infinity, are for a sum of 5 products at 3 places, or of 3
# at 5: 5x5 kernels, and tiles of 3x3 outputs; or of 4 at 4. Tiles are transformed along both axes:
#   G   values at the points, scaled   (evaluate_1d: weights, or output gradients)
#   A   the same, not scaled           (evaluate_1d: weights, where the output gradients are scaled)
#   Bt  the input's tile               (input_1d)
#   B   back to the input's tile       (spread_1d: input gradients)
#   At  back from values at the points (interpolate_1d: outputs, or weight gradients)
# Kernels of 3x3 with stride 2 (STRIDED) read every second row with taps 0 and 2, and the rows between
# with tap 1. The former is a sum of 2 products at 4 places, for which five points are enough, 0, 1, -1, 2
# and infinity; the latter takes 4 products, at "points" 5 to 8, all with the same weights. The gradient
# by the input (WIDENED) has the same sums, where the two kinds of rows are written.
#
# Larger kernels with stride 2 are four kernels of half their size with stride 1, `apart` 2: one for each
# of the four images that take every second row and column of the input. A tap that one of them lacks is
# zero. So 5x5 kernels are four of 3x3, and 7x7 ones four of 4x4.
#
# The scale of a point is one over the product of its distances from the others; where it is negative
# for -2, say, and not for 2, the input's values have the other sign instead.

from cyconv.kernels.simd cimport inlined, load, real, vreal

cdef enum:
    # methods, besides 3, 4 and 5: kernels of so many rows and columns, with stride 1
    STRIDED = 6  # 3x3 kernels with stride 2, and ...
    WIDENED = 7  # ... their gradient by the input, where the padding is odd
    MOST = 81    # points of a tile
    ALONG = 9    # of them, along an axis
    SIDE = 8     # of a tile that is written, at most


cdef inline int taps_of(const int method) noexcept nogil:
    # along an axis of the kernels
    return 3 if method > 5 else method


cdef inline int side_of(const int method) noexcept nogil:
    # of the tiles that are written
    return 3 if method == 5 else 8 if method == WIDENED else 4


cdef inline int step_of(const int method) noexcept nogil:
    # from what a tile reads to what the next one reads, ...
    return 3 if method == 5 else 8 if method == STRIDED else 4


cdef inline int reads_along(const int method) noexcept nogil:
    # ... and how much that is, along an axis
    if method == WIDENED:
        return 5
    return 9 if method == STRIDED else side_of(method) + method - 1


cdef inline int points_along(const int method) noexcept nogil:
    # of a tile, along an axis
    return 9 if method == STRIDED or method == WIDENED else reads_along(method)


cdef inline int weights_along(const int method) noexcept nogil:
    # points at which weights differ, along an axis; the last ones are of all points from there on
    return 6 if method == STRIDED or method == WIDENED else points_along(method)


cdef inline Py_ssize_t points_of(const int method) noexcept nogil:
    return points_along(method) * points_along(method)


cdef inline int check_tiles(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t stride,
) except -1:
    # sizes for which no product leaves 64 bits
    if not ((kernel == 3 or kernel == 5 or (kernel == 7 and stride == 2)) and 1 <= stride <= 2):
        raise ValueError(f"kernel: winograd does not take {kernel}x{kernel} kernels, stride {stride}")
    if min(n, c, f, oh, ow) < 1 or max(c, f) >= 2**24 or max(n, oh, ow) >= 2**40 \
            or <double>n * (oh + 16) * (ow + 16) >= 2.0**50:
        raise ValueError("kernel: winograd got a size out of range")
    return 0


cdef inline inlined evaluate_pair(
    const int count, const real* g, Py_ssize_t step, const real point, const real scale, vreal* t,
    const int tstep,
) noexcept nogil:
    # the values at a point and at minus the point
    cdef vreal even = load(g)
    cdef vreal odd = load(g + step) * point
    cdef real power = point
    cdef int k
    for k in range(2, count):
        power = power * point
        if k % 2 == 0:
            even = even + load(g + k * step) * power
        else:
            odd = odd + load(g + k * step) * power
    t[0] = (even + odd) * scale
    t[tstep] = (even - odd) * scale


cdef inline inlined evaluate_1d(
    const int method, const int count, const real* g, Py_ssize_t step, vreal* t, const int tstep,
    const bint scaled,
) noexcept nogil:
    # t = G g, or A g if not scaled: `count` vectors, `step` numbers apart, to the points
    if method == 3:
        t[0] = load(g) * <real>(0.25 if scaled else 1)
        evaluate_pair(count, g, step, 1, <real>(-1.0 / 6 if scaled else 1), t + tstep, tstep)
        evaluate_pair(count, g, step, 2, <real>(1.0 / 24 if scaled else 1), t + 3 * tstep, tstep)
        t[5 * tstep] = load(g + (count - 1) * step)
    elif method == STRIDED or method == WIDENED:  # weights, scaled
        t[0] = load(g) * <real>0.5
        t[tstep] = (load(g) + load(g + 2 * step)) * <real>-0.5
        t[2 * tstep] = (load(g + 2 * step) - load(g)) * <real>(1.0 / 6)
        t[3 * tstep] = (load(g) + load(g + 2 * step) * 2) * <real>(1.0 / 6)
        t[4 * tstep] = load(g + 2 * step)
        t[5 * tstep] = load(g + step)
    else:
        evaluate_pair(count, g, step, 1, <real>(-2.0 / 9 if scaled else 1), t, tstep)
        evaluate_pair(count, g, step, 2, <real>(1.0 / 45 if scaled else 1), t + 2 * tstep, tstep)
        evaluate_pair(
            count, g, step, <real>0.5, <real>(16.0 / 45 if scaled else 1), t + 4 * tstep, tstep)
        t[6 * tstep] = load(g + (count - 1) * step)


cdef inline inlined interpolate_pair(
    const int count, const real* m, Py_ssize_t step, const real point, const bint first, vreal* y,
    const int ystep,
) noexcept nogil:
    # y = what the values at a point and at minus the point give; or, if not first, y +=
    cdef vreal even = load(m) + load(m + step)
    cdef vreal odd = load(m) - load(m + step)
    cdef vreal term
    cdef real power = 1
    cdef int k
    for k in range(count):
        term = (even if k % 2 == 0 else odd) * power
        y[k * ystep] = term if first else y[k * ystep] + term
        power = power * point


cdef inline inlined interpolate_four(
    const real* m, Py_ssize_t step, vreal* y, const int ystep
) noexcept nogil:
    # y = four vectors from the five points 0, 1, -1, 2 and infinity
    cdef vreal even = load(m + step) + load(m + 2 * step)
    cdef vreal odd = load(m + step) - load(m + 2 * step)
    cdef vreal two = load(m + 3 * step)
    y[0] = load(m) + even + two
    y[ystep] = odd + two * 2
    y[2 * ystep] = even + two * 4
    y[3 * ystep] = odd + two * 8 + load(m + 4 * step)


cdef inline inlined interpolate_1d(
    const int method, const int count, const real* m, Py_ssize_t step, vreal* y, const int ystep
) noexcept nogil:
    # y = At m: the points, `step` numbers apart, to `count` vectors
    cdef const real* last = m + (points_along(method) - 1) * step
    cdef int i
    if method == STRIDED:
        interpolate_four(m, step, y, ystep)
        for i in range(4):
            y[i * ystep] = y[i * ystep] + load(m + (5 + i) * step)
        return
    if method == WIDENED:
        interpolate_four(m, step, y + ystep, 2 * ystep)
        for i in range(4):
            y[2 * i * ystep] = load(m + (5 + i) * step)
        return
    if method == 3:
        interpolate_pair(count, m + step, step, 1, True, y, ystep)
        interpolate_pair(count, m + 3 * step, step, 2, False, y, ystep)
        y[0] = y[0] + load(m)
    else:
        interpolate_pair(count, m, step, 1, True, y, ystep)
        interpolate_pair(count, m + 2 * step, step, 2, False, y, ystep)
        interpolate_pair(count, m + 4 * step, step, <real>0.5, False, y, ystep)
    y[(count - 1) * ystep] = y[(count - 1) * ystep] + load(last)


cdef inline inlined input_pair(
    const real* d, Py_ssize_t step, const real point, const real a, const real b, vreal* t,
    const int tstep,
) noexcept nogil:
    # of seven points: x^4 - a x^2 + b is 0 at the others but infinity
    cdef vreal even = (load(d + 4 * step) - load(d + 2 * step) * a + load(d) * b) * point
    cdef vreal odd = load(d + 5 * step) - load(d + 3 * step) * a + load(d + step) * b
    t[0] = even + odd
    t[tstep] = even - odd


cdef inline inlined input_five(
    const real* d, Py_ssize_t step, vreal* t, const int tstep
) noexcept nogil:
    # five vectors to the points 0, 1, -1, 2 and infinity
    cdef vreal a = load(d + 3 * step) - load(d + step)
    cdef vreal b = load(d + 2 * step)
    t[0] = (load(d) - b) * 2 + a
    t[tstep] = load(d + 3 * step) - b - load(d + step) * 2
    t[2 * tstep] = load(d + 3 * step) - b * 3 + load(d + step) * 2
    t[3 * tstep] = a
    t[4 * tstep] = load(d + 4 * step) - b - a * 2


cdef inline inlined input_1d(
    const int method, const real* d, Py_ssize_t step, vreal* t, const int tstep
) noexcept nogil:
    # t = Bt d: what a tile reads, `step` numbers apart, to the points
    cdef vreal a, b, c, e
    cdef int i
    if method == STRIDED:
        input_five(d, 2 * step, t, tstep)
        for i in range(4):
            t[(5 + i) * tstep] = load(d + (2 * i + 1) * step)
        return
    if method == WIDENED:
        input_five(d, step, t, tstep)
        for i in range(4):
            t[(5 + i) * tstep] = load(d + i * step)
        return
    if method == 3:
        a = load(d + 4 * step) - load(d + 2 * step) * 4
        b = load(d + 3 * step) - load(d + step) * 4
        c = load(d + 4 * step) - load(d + 2 * step)
        e = (load(d + 3 * step) - load(d + step)) * 2
        t[0] = load(d) * 4 - load(d + 2 * step) * 5 + load(d + 4 * step)
        t[tstep] = a + b
        t[2 * tstep] = a - b
        t[3 * tstep] = c + e
        t[4 * tstep] = c - e
        t[5 * tstep] = load(d + step) * 4 - load(d + 3 * step) * 5 + load(d + 5 * step)
    else:
        input_pair(d, step, 1, <real>4.25, 1, t, tstep)
        input_pair(d, step, 2, <real>1.25, <real>0.25, t + 2 * tstep, tstep)
        input_pair(d, step, <real>0.5, 5, 4, t + 4 * tstep, tstep)
        a = load(d + 2 * step) - load(d + 4 * step)
        t[6 * tstep] = load(d + 6 * step) - load(d) + a * <real>5.25


cdef inline inlined spread_1d(
    const int method, const real* m, Py_ssize_t step, vreal* d, const int dstep
) noexcept nogil:
    # d = B m: the points, `step` numbers apart, to as many vectors
    cdef vreal first = load(m)
    cdef vreal last = load(m + (points_along(method) - 1) * step)
    cdef vreal even, odd, even2, odd2, even3, odd3
    if method == 3:
        even = load(m + step) + load(m + 2 * step)
        odd = load(m + step) - load(m + 2 * step)
        even2 = load(m + 3 * step) + load(m + 4 * step)
        odd2 = (load(m + 3 * step) - load(m + 4 * step)) * 2
        d[0] = first * 4
        d[dstep] = (last - odd) * 4 - odd2
        d[2 * dstep] = -(first * 5 + even * 4 + even2)
        d[3 * dstep] = (odd + odd2) - last * 5
        d[4 * dstep] = first + even + even2
        d[5 * dstep] = last
    else:
        even = first + load(m + step)
        odd = first - load(m + step)
        even2 = (load(m + 2 * step) + load(m + 3 * step)) * 2
        odd2 = load(m + 2 * step) - load(m + 3 * step)
        even3 = (load(m + 4 * step) + load(m + 5 * step)) * <real>0.5
        odd3 = load(m + 4 * step) - load(m + 5 * step)
        d[0] = even + even2 * <real>0.25 + even3 * 4 - last
        d[dstep] = odd + odd2 * <real>0.25 + odd3 * 4
        d[2 * dstep] = last * <real>5.25 - even * <real>4.25 - even2 * <real>1.25 - even3 * 5
        d[3 * dstep] = -(odd * <real>4.25 + odd2 * <real>1.25 + odd3 * 5)
        d[4 * dstep] = even + even2 + even3 - last * <real>5.25
        d[5 * dstep] = odd + odd2 + odd3
        d[6 * dstep] = last
