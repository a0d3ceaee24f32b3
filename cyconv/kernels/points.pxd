# Winograd's tiles of 6x6 points: what winograd.pyx and winograd_weight_grad.pyx share.
#
# A tile is transformed in both directions, each a product with a matrix of 6 rows: row i holds the
# powers of the i-th of the numbers 0, 1, -1, 2, -2 and infinity, where the polynomials that a
# convolution multiplies are evaluated. Lanes are images, so each transform is plain sums of vectors.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport VLEN, broadcast, inlined, load, load_first, real, store, vreal

cdef enum:
    POINTS = 36  # of a tile


cdef inline vreal load_some(const real* p, Py_ssize_t count) noexcept nogil:
    return load(p) if count == VLEN else load_first(p, count)


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
