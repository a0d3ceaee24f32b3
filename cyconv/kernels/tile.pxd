# The micro-kernel of every convolution: mr output channels by 1 or 2 vectors of lanes, summed up in
# registers over all that each output reads.

from cyconv.kernels.simd cimport (
    MR_MAX, VLEN, broadcast, inlined, load, load_first, real, rectified, store, store_first, vreal,
)


cdef inline inlined tile(
    const int mr, const int nv, const bint packed, bint add, Py_ssize_t count,
    const real* x, const Py_ssize_t* xoff, const real* w, const Py_ssize_t* woff,
    real* out, Py_ssize_t outstride, Py_ssize_t fcount, Py_ssize_t lanes, bint relu,
) noexcept nogil:
    # out[f, lanes] = bias[f] + sum over k < count of w[k, f] * x[k, lanes], where the bias lies before
    # the weights; or, if add, out[f, lanes] += the sum, and there is no bias; then, if relu,
    # max(out, 0). packed: x (count, nv VLEN) and w (count, mr) lie without gaps; else xoff and woff
    # say where the rows begin.
    # IN x, w; OUT out. The constants are so where this is inlined: a and b live in registers.
    cdef vreal a[14]  # the largest mr below
    cdef vreal b[14]
    cdef vreal u, v
    cdef const real* xk
    cdef const real* wk
    cdef Py_ssize_t k
    cdef Py_ssize_t first = min(lanes, <Py_ssize_t>VLEN), second = lanes - first
    cdef bint whole = lanes == nv * VLEN and fcount >= mr
    cdef int i
    for i in range(mr):
        if not add:
            a[i] = broadcast(w[i])
            b[i] = a[i]
        elif whole:
            a[i] = load(out + i * outstride)
            b[i] = load(out + i * outstride + VLEN) if nv == 2 else a[i]
        else:
            a[i] = load_first(out + i * outstride, first if i < fcount else 0)
            b[i] = load_first(out + i * outstride + VLEN, second if i < fcount else 0)
    if not add:
        w = w + mr
    for k in range(count):
        if packed:
            xk = x + k * nv * VLEN
            wk = w + k * mr
        else:
            xk = x + xoff[k]
            wk = w + woff[k]
        u = load(xk)
        if nv == 2:
            v = load(xk + VLEN)
        for i in range(mr):
            a[i] = a[i] + u * wk[i]
            if nv == 2:
                b[i] = b[i] + v * wk[i]
    if relu:
        for i in range(mr):
            a[i] = rectified(a[i])
            if nv == 2:
                b[i] = rectified(b[i])
    if whole:
        for i in range(mr):
            store(out + i * outstride, a[i])
            if nv == 2:
                store(out + i * outstride + VLEN, b[i])
    else:
        for i in range(mr):
            if i < fcount:
                store_first(out + i * outstride, a[i], first)
                if nv == 2 and second > 0:
                    store_first(out + i * outstride + VLEN, b[i], second)


cdef inline inlined tile_of(
    const int nv, const bint packed, bint add, Py_ssize_t mr, Py_ssize_t count,
    const real* x, const Py_ssize_t* xo, const real* w, const Py_ssize_t* wo,
    real* out, Py_ssize_t os, Py_ssize_t fc, Py_ssize_t lanes, bint relu,
) noexcept nogil:
    # mr becomes a constant
    if mr == 14 and MR_MAX >= 14: tile(14, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 13 and MR_MAX >= 13: tile(13, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 12 and MR_MAX >= 12: tile(12, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 11 and MR_MAX >= 11: tile(11, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 10 and MR_MAX >= 10: tile(10, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 9 and MR_MAX >= 9: tile(9, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 8 and MR_MAX >= 8: tile(8, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 7 and MR_MAX >= 7: tile(7, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 6: tile(6, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 5: tile(5, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 4: tile(4, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 3: tile(3, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 2: tile(2, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)
    elif mr == 1: tile(1, nv, packed, add, count, x, xo, w, wo, out, os, fc, lanes, relu)


# Functions of their own, so that what a caller keeps in registers leaves all of them to the sums.


cdef inline void placed_tile(
    bint add, Py_ssize_t mr, Py_ssize_t count, const real* x, const Py_ssize_t* xoff,
    const real* w, const Py_ssize_t* woff, real* out, Py_ssize_t outstride, Py_ssize_t fcount,
    Py_ssize_t lanes, bint relu,
) noexcept nogil:
    # a sum over `count` vectors (or pairs) of x and rows of w that begin at their offsets
    if lanes > VLEN:
        tile_of(2, False, add, mr, count, x, xoff, w, woff, out, outstride, fcount, lanes, relu)
    else:
        tile_of(1, False, add, mr, count, x, xoff, w, woff, out, outstride, fcount, lanes, relu)


cdef inline void packed_tile(
    bint add, Py_ssize_t mr, Py_ssize_t count, const real* x, const real* w,
    real* out, Py_ssize_t outstride, Py_ssize_t fcount, Py_ssize_t lanes, bint relu,
) noexcept nogil:
    # a sum over `count` rows of a panel x (count, VLEN or 2 VLEN) and of w (count, mr)
    if lanes > VLEN:
        tile_of(2, True, add, mr, count, x, NULL, w, NULL, out, outstride, fcount, lanes, relu)
    else:
        tile_of(1, True, add, mr, count, x, NULL, w, NULL, out, outstride, fcount, lanes, relu)
