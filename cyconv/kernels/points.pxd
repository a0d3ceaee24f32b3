# Winograd's tiles of 6x6 points: what winograd.pyx and winograd_weight_grad.pyx share.
#
# The method multiplies polynomials by their values at 6 points: 0, 1, -1, 2, -2 and infinity, which
# are enough for a sum of 3 products at 4 places, of 5 at 2, of 4 at 3 and of 2 at 5. Tiles are
# transformed along both axes:
#   G   values at the points, scaled   (evaluate_1d: weights, or output gradients)
#   A   the same, not scaled           (evaluate_1d: weights, where the output gradients are scaled)
#   Bt  the input's tile               (input_1d)
#   B   back to the input's tile       (spread_1d: input gradients)
#   At  back from values at the points (interpolate_1d: outputs, or weight gradients)

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport (
    VLEN, broadcast, inlined, load, load_first, prefetch, real, store, store_first, vreal,
)

cdef enum:
    POINTS = 36  # of a tile


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


cdef inline inlined evaluate_1d(
    const int count, const real* g, Py_ssize_t step, vreal* t, const int tstep, const bint scaled
) noexcept nogil:
    # t = G g, or A g if not scaled: `count` vectors, `step` numbers apart, to 6 points
    cdef vreal even = load(g)
    cdef vreal odd = load(g + step)
    cdef vreal even2 = even  # the same at the points 2 and -2
    cdef vreal odd2 = odd * 2
    cdef int k
    for k in range(2, count):
        if k % 2 == 0:
            even = even + load(g + k * step)
            even2 = even2 + load(g + k * step) * <real>(1 << k)
        else:
            odd = odd + load(g + k * step)
            odd2 = odd2 + load(g + k * step) * <real>(1 << k)
    t[0] = load(g) * <real>(0.25 if scaled else 1)
    t[tstep] = (even + odd) * <real>(-1.0 / 6 if scaled else 1)
    t[2 * tstep] = (even - odd) * <real>(-1.0 / 6 if scaled else 1)
    t[3 * tstep] = (even2 + odd2) * <real>(1.0 / 24 if scaled else 1)
    t[4 * tstep] = (even2 - odd2) * <real>(1.0 / 24 if scaled else 1)
    t[5 * tstep] = load(g + (count - 1) * step)


cdef inline inlined interpolate_1d(
    const int count, const real* m, Py_ssize_t step, vreal* y, const int ystep
) noexcept nogil:
    # y = At m: 6 points, `step` numbers apart, to `count` vectors
    cdef vreal even = load(m + step) + load(m + 2 * step)
    cdef vreal odd = load(m + step) - load(m + 2 * step)
    cdef vreal even2 = load(m + 3 * step) + load(m + 4 * step)
    cdef vreal odd2 = load(m + 3 * step) - load(m + 4 * step)
    cdef int k
    y[0] = load(m) + even + even2
    for k in range(1, count):
        if k % 2 == 0:
            y[k * ystep] = even + even2 * <real>(1 << k)
        else:
            y[k * ystep] = odd + odd2 * <real>(1 << k)
    y[(count - 1) * ystep] = y[(count - 1) * ystep] + load(m + 5 * step)


cdef inline inlined input_1d(
    const real* d, Py_ssize_t step, vreal* t, const int tstep
) noexcept nogil:
    # t = Bt d: 6 vectors, `step` numbers apart, to 6 points
    cdef vreal d0 = load(d)
    cdef vreal d1 = load(d + step)
    cdef vreal d2 = load(d + 2 * step)
    cdef vreal d3 = load(d + 3 * step)
    cdef vreal d4 = load(d + 4 * step)
    cdef vreal d5 = load(d + 5 * step)
    cdef vreal a = d4 - d2 * 4
    cdef vreal b = d3 - d1 * 4
    cdef vreal c = d4 - d2
    cdef vreal e = (d3 - d1) * 2
    t[0] = d0 * 4 - d2 * 5 + d4
    t[tstep] = a + b
    t[2 * tstep] = a - b
    t[3 * tstep] = c + e
    t[4 * tstep] = c - e
    t[5 * tstep] = d1 * 4 - d3 * 5 + d5


cdef inline inlined spread_1d(
    const real* m, Py_ssize_t step, vreal* d, const int dstep
) noexcept nogil:
    # d = B m: 6 points, `step` numbers apart, to 6 vectors
    cdef vreal m0 = load(m)
    cdef vreal m5 = load(m + 5 * step)
    cdef vreal even = load(m + step) + load(m + 2 * step)
    cdef vreal odd = load(m + step) - load(m + 2 * step)
    cdef vreal even2 = load(m + 3 * step) + load(m + 4 * step)
    cdef vreal odd2 = (load(m + 3 * step) - load(m + 4 * step)) * 2
    d[0] = m0 * 4
    d[dstep] = (m5 - odd) * 4 - odd2
    d[2 * dstep] = -(m0 * 5 + even * 4 + even2)
    d[3 * dstep] = (odd + odd2) - m5 * 5
    d[4 * dstep] = m0 + even + even2
    d[5 * dstep] = m5


cdef inline void transform_input(
    const Planes* x, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = Bt d B of the tile d of one channel that begins at (top, left), zeros
    # outside the image, for `count` <= VLEN images
    cdef vreal t[POINTS]  # t[column, point]
    cdef vreal line[6]
    cdef Py_ssize_t i, j, ih, iw
    cdef Py_ssize_t rowstep = x.w * x.n
    cdef bint whole = count == VLEN and top >= 0 and top + 6 <= x.h
    for j in range(6):
        iw = left + j
        if not 0 <= iw < x.w:
            for i in range(6):
                t[j * 6 + i] = broadcast(0)
        elif whole:
            input_1d(plane + top * rowstep + iw * x.n, rowstep, t + j * 6, 1)
        else:
            for i in range(6):
                ih = top + i
                line[i] = broadcast(0)
                if 0 <= ih < x.h:
                    line[i] = load_some(plane + ih * rowstep + iw * x.n, count)
            input_1d(<real*>line, VLEN, t + j * 6, 1)
    for i in range(6):
        input_1d(<real*>(t + i), 6 * VLEN, line, 1)
        for j in range(6):
            store(v + (i * 6 + j) * vstride, line[j])


cdef inline inlined transform_grad(
    const int side, const Planes* d, const real* plane, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t count, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = G d Gt of the side x side tile d that begins at (top, left), zeros outside
    # the image, for `count` <= VLEN images
    cdef vreal t[24]  # t[column, point]
    cdef vreal line[6]
    cdef Py_ssize_t i, j
    cdef Py_ssize_t rowstep = d.w * d.n
    cdef const real* first = plane + top * rowstep + left * d.n
    cdef bint whole = count == VLEN and top + side <= d.h and left + side <= d.w
    for j in range(side):
        if whole:
            evaluate_1d(side, first + j * d.n, rowstep, t + j * 6, 1, True)
            continue
        for i in range(side):
            line[i] = broadcast(0)
            if top + i < d.h and left + j < d.w:
                line[i] = load_some(first + i * rowstep + j * d.n, count)
        evaluate_1d(side, <real*>line, VLEN, t + j * 6, 1, True)
    for i in range(6):
        evaluate_1d(side, <real*>(t + i), 6 * VLEN, line, 1, True)
        for j in range(6):
            store(v + (i * 6 + j) * vstride, line[j])
