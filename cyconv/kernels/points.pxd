# Winograd's tiles: what winograd.pyx, spread.pxd and winograd_weight_grad.pyx share.
#
# The method multiplies polynomials by their values at some points. Six of them, 0, 1, -1, 2, -2 and
# infinity, are enough for a sum of 3 products at 4 places, or of 4 at 3: 3x3 kernels, and tiles of 4x4
# outputs. Seven, 1, -1, 2, -2, 1/2, -1/2 and infinity, are for a sum of 5 products at 3 places, or of 3
# at 5: 5x5 kernels, and tiles of 3x3 outputs. Tiles are transformed along both axes:
#   G   values at the points, scaled   (evaluate_1d: weights, or output gradients)
#   A   the same, not scaled           (evaluate_1d: weights, where the output gradients are scaled)
#   Bt  the input's tile               (input_1d)
#   B   back to the input's tile       (spread_1d: input gradients)
#   At  back from values at the points (interpolate_1d: outputs, or weight gradients)
# The scale of a point is one over the product of its distances from the others; where it is negative
# for -2, say, and not for 2, the input's values have the other sign instead.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport (
    VLEN, broadcast, inlined, load, load_first, prefetch, real, rectified, store, store_first, vreal,
)

cdef enum:
    MOST = 49  # points of a tile
    ALONG = 7  # of them, along an axis


cdef inline int side_of(const int kernel) noexcept nogil:
    # of the outputs' tiles
    return 4 if kernel == 3 else 3


cdef inline int points_along(const int kernel) noexcept nogil:
    # of a tile, along an axis: as many as its inputs
    return side_of(kernel) + kernel - 1


cdef inline Py_ssize_t points_of(const int kernel) noexcept nogil:
    return points_along(kernel) * points_along(kernel)


cdef inline vreal load_some(const real* p, Py_ssize_t count) noexcept nogil:
    return load(p) if count == VLEN else load_first(p, count)


cdef inline void store_some(real* p, vreal v, Py_ssize_t count) noexcept nogil:
    if count == VLEN:
        store(p, v)
    else:
        store_first(p, v, count)


cdef inline int check_tiles(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t most,
) except -1:
    # sizes for which no product leaves 64 bits: fewer than `most` images, rows and columns
    if kernel != 3 and kernel != 5:
        raise ValueError(f"kernel: winograd takes 3x3 and 5x5 kernels, got {kernel}")
    if min(n, c, f, oh, ow) < 1 or max(c, f) >= 2**24 or max(n, oh, ow) >= most:
        raise ValueError("kernel: winograd got a size out of range")
    return 0


cdef inline void fetch(
    const Planes* a, const real* plane, Py_ssize_t top, Py_ssize_t left, Py_ssize_t rows,
    Py_ssize_t cols, Py_ssize_t images,
) noexcept nogil:
    # ask for so many images of these pixels: they lie too far apart for the processor to foresee them
    cdef Py_ssize_t i, j, image
    for i in range(top, top + rows):
        for j in range(left, left + cols):
            image = 0
            while image < images:
                prefetch(plane + (i * a.w + j) * a.n + image)
                image = image + 64 // <Py_ssize_t>sizeof(real)  # of a cache line


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
    const int kernel, const int count, const real* g, Py_ssize_t step, vreal* t, const int tstep,
    const bint scaled,
) noexcept nogil:
    # t = G g, or A g if not scaled: `count` vectors, `step` numbers apart, to the points
    if kernel == 3:
        t[0] = load(g) * <real>(0.25 if scaled else 1)
        evaluate_pair(count, g, step, 1, <real>(-1.0 / 6 if scaled else 1), t + tstep, tstep)
        evaluate_pair(count, g, step, 2, <real>(1.0 / 24 if scaled else 1), t + 3 * tstep, tstep)
        t[5 * tstep] = load(g + (count - 1) * step)
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


cdef inline inlined interpolate_1d(
    const int kernel, const int count, const real* m, Py_ssize_t step, vreal* y, const int ystep
) noexcept nogil:
    # y = At m: the points, `step` numbers apart, to `count` vectors
    cdef const real* last = m + (points_along(kernel) - 1) * step
    if kernel == 3:
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


cdef inline inlined input_1d(
    const int kernel, const real* d, Py_ssize_t step, vreal* t, const int tstep
) noexcept nogil:
    # t = Bt d: as many vectors as points, `step` numbers apart, to the points
    cdef vreal a, b, c, e
    if kernel == 3:
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
    const int kernel, const real* m, Py_ssize_t step, vreal* d, const int dstep
) noexcept nogil:
    # d = B m: the points, `step` numbers apart, to as many vectors
    cdef vreal first = load(m)
    cdef vreal last = load(m + (points_along(kernel) - 1) * step)
    cdef vreal even, odd, even2, odd2, even3, odd3
    if kernel == 3:
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


cdef inline void load_line(
    const real* src, Py_ssize_t step, Py_ssize_t first, Py_ssize_t end, Py_ssize_t rows,
    Py_ssize_t count, vreal* line,
) noexcept nogil:
    # the rows from `first` to `end`, `step` numbers apart, and zeros in the others
    cdef Py_ssize_t i
    for i in range(first):
        line[i] = broadcast(0)
    for i in range(first, end):
        line[i] = load_some(src + i * step, count)
    for i in range(end, rows):
        line[i] = broadcast(0)


cdef inline inlined transform_input(
    const int kernel, const Planes* x, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = Bt d B of the tile d of one channel that begins at (top, left), zeros
    # outside the image, for `count` <= VLEN images
    cdef vreal t[MOST]  # t[column, point]
    cdef vreal line[ALONG]
    cdef Py_ssize_t i, j, iw
    cdef Py_ssize_t rowstep = x.w * x.n
    cdef int along = points_along(kernel)
    cdef Py_ssize_t first = max(<Py_ssize_t>0, -top)  # row of the tile that the image has, ...
    cdef Py_ssize_t end = min(<Py_ssize_t>along, x.h - top)  # ... and the one behind its last
    cdef bint whole = count == VLEN and first == 0 and end == along
    for j in range(along):
        iw = left + j
        if not 0 <= iw < x.w or first >= end:
            for i in range(along):
                t[j * along + i] = broadcast(0)
        elif whole:
            input_1d(kernel, plane + top * rowstep + iw * x.n, rowstep, t + j * along, 1)
        else:
            load_line(plane + top * rowstep + iw * x.n, rowstep, first, end, along, count, line)
            input_1d(kernel, <real*>line, VLEN, t + j * along, 1)
    input_lines(kernel, t, v, vstride)


cdef inline inlined input_lines(
    const int kernel, const vreal* t, real* v, Py_ssize_t vstride
) noexcept nogil:
    # v[point * vstride] from t[column, point], what the columns of a tile of the input gave
    cdef vreal line[ALONG]
    cdef int i, j, along = points_along(kernel)
    for i in range(along):
        input_1d(kernel, <real*>(t + i), along * VLEN, line, 1)
        for j in range(along):
            store(v + (i * along + j) * vstride, line[j])


cdef inline inlined output_columns(
    const int kernel, const real* m, Py_ssize_t mstride, vreal* t
) noexcept nogil:
    # t[column, output row] of At M of the tile m[point * mstride]
    cdef int j, side = side_of(kernel), along = points_along(kernel)
    for j in range(along):
        interpolate_1d(kernel, side, m + j * mstride, along * mstride, t + j * side, 1)


cdef inline inlined output_line(
    const int kernel, const vreal* t, Py_ssize_t i, real bias, bint relu, vreal* line
) noexcept nogil:
    # row i of a tile of the outputs, from its columns
    cdef int j, side = side_of(kernel)
    interpolate_1d(kernel, side, <real*>(t + i), side * VLEN, line, 1)
    for j in range(side):
        line[j] = line[j] + bias
        if relu:
            line[j] = rectified(line[j])


cdef inline inlined transform_grad(
    const int kernel, const Planes* d, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = G d Gt of the tile d of outputs' gradients that begins at (top, left), zeros
    # outside the image, for `count` <= VLEN images
    cdef vreal t[ALONG * 4]  # t[column, point]
    cdef vreal line[ALONG]
    cdef Py_ssize_t i, j
    cdef Py_ssize_t rowstep = d.w * d.n
    cdef const real* first = plane + top * rowstep + left * d.n
    cdef int side = side_of(kernel), along = points_along(kernel)
    cdef bint whole = count == VLEN and top + side <= d.h and left + side <= d.w
    for j in range(side):
        if whole:
            evaluate_1d(kernel, side, first + j * d.n, rowstep, t + j * along, 1, True)
            continue
        load_line(first + j * d.n, rowstep, 0, min(<Py_ssize_t>side, d.h - top) if left + j < d.w else 0,
                  side, count, line)
        evaluate_1d(kernel, side, <real*>line, VLEN, t + j * along, 1, True)
    for i in range(along):
        evaluate_1d(kernel, side, <real*>(t + i), along * VLEN, line, 1, True)
        for j in range(along):
            store(v + (i * along + j) * vstride, line[j])


cdef inline inlined transform_weight(
    const int kernel, const real* m, Py_ssize_t step, Py_ssize_t channels, real* dw
) noexcept nogil:
    # dw (channels, kernel, kernel) = At M A for VLEN input channels at a time; m: one number for each of
    # them, in whole vectors, and so for each point, `step` numbers apart
    cdef vreal t[ALONG * 5]  # t[column, row of weights]
    cdef vreal line[25]
    cdef const real* lanes = <const real*>line
    cdef Py_ssize_t c, i, k, lane, taps = kernel * kernel
    cdef int along = points_along(kernel)
    c = 0
    while c < channels:
        for i in range(along):
            interpolate_1d(kernel, kernel, m + i * step + c, along * step, t + i * kernel, 1)
        for i in range(kernel):
            interpolate_1d(kernel, kernel, <real*>(t + i), kernel * VLEN, line + i * kernel, 1)
        for lane in range(min(<Py_ssize_t>VLEN, channels - c)):
            for k in range(taps):
                dw[(c + lane) * taps + k] = lanes[k * VLEN + lane]
        c = c + VLEN


# The side of the kernels becomes a constant.


cdef inline void transform_weights(
    Py_ssize_t kernel, const real* m, Py_ssize_t step, Py_ssize_t channels, real* dw
) noexcept nogil:
    if kernel == 3: transform_weight(3, m, step, channels, dw)
    else: transform_weight(5, m, step, channels, dw)


cdef inline void transform_inputs(
    Py_ssize_t kernel, const Planes* x, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    if kernel == 3: transform_input(3, x, plane, top, left, count, v, vstride)
    else: transform_input(5, x, plane, top, left, count, v, vstride)


cdef inline void transform_grads(
    Py_ssize_t kernel, const Planes* d, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    if kernel == 3: transform_grad(3, d, plane, top, left, count, v, vstride)
    else: transform_grad(5, d, plane, top, left, count, v, vstride)
