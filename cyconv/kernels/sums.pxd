# The micro-kernel of sums along lanes, as gradients by the weights are: dw[f, t] = sum of dout[f] * x[t],
# where the lanes are numbers of one row of dout and of one of x. A tile keeps fr rows of dout by tr
# rows of x ("taps") of sums in registers.

from cyconv.kernels.simd cimport (
    FR1, FR2, FR3, FR4, FR5, FR6, TR_MAX, VLEN, broadcast, inlined, keep, load, load_first, prefetch,
    real, store, vreal,
)
from cyconv.kernels.tile cimport parts_of

cdef enum:
    BEYOND = 2048 // sizeof(real)  # numbers from where memory is asked for to where it is read


cdef inline Py_ssize_t first_in(Py_ssize_t block, Py_ssize_t size, Py_ssize_t count) noexcept nogil:
    # of a block; the last one overlaps the one before rather than to be smaller
    return max(<Py_ssize_t>0, min(block * size, count - size))


cdef inline inlined tile(
    const int fr, const int tr, Py_ssize_t rows, Py_ssize_t length,
    const real* x, Py_ssize_t xrow, const Py_ssize_t* xoff, Py_ssize_t taps,
    const real* dout, Py_ssize_t drow, Py_ssize_t dstride, Py_ssize_t fcount, real* sums,
) noexcept nogil:
    # sums[f, t] += dout[f] * x[t] over rows of `length` numbers, for all taps, tr at a time. fr and tr
    # are constants.
    cdef vreal s[32]
    cdef vreal held[9]
    cdef vreal u
    cdef const real* xs[9]
    cdef const real* ds[16]
    cdef Py_ssize_t block, r, j, whole = length - length % VLEN
    cdef real* place
    cdef int f, t
    for block in range(parts_of(taps, tr)):
        for f in range(fr):
            ds[f] = dout + min(<Py_ssize_t>f, fcount - 1) * dstride
            for t in range(tr):
                s[f * tr + t] = broadcast(0)
        for t in range(tr):
            xs[t] = x + xoff[first_in(block, tr, taps) + t]
        for r in range(rows):
            j = 0
            while j < whole:
                if fr == 1:  # so little is done with each number that memory would be waited for
                    prefetch(ds[0] + j + BEYOND)
                if fr < tr:  # the fewer vectors are held in registers
                    for f in range(fr):
                        held[f] = load(ds[f] + j)
                    for t in range(tr):
                        u = load(xs[t] + j)
                        keep(u)
                        for f in range(fr):
                            s[f * tr + t] = s[f * tr + t] + u * held[f]
                else:
                    for t in range(tr):
                        held[t] = load(xs[t] + j)
                    for f in range(fr):
                        u = load(ds[f] + j)
                        keep(u)
                        for t in range(tr):
                            s[f * tr + t] = s[f * tr + t] + u * held[t]
                j = j + VLEN
            if whole < length:
                for t in range(tr):
                    held[t] = load_first(xs[t] + whole, length - whole)
                for f in range(fr):
                    u = load_first(ds[f] + whole, length - whole)
                    for t in range(tr):
                        s[f * tr + t] = s[f * tr + t] + u * held[t]
            for f in range(fr):
                ds[f] = ds[f] + drow
            for t in range(tr):
                xs[t] = xs[t] + xrow
        for f in range(fr):
            for t in range(tr):
                place = sums + (f * tr + t) * VLEN
                store(place, load(place) + s[f * tr + t])
        sums = sums + fr * tr * VLEN


cdef inline void tile_of(
    Py_ssize_t tr, Py_ssize_t rows, Py_ssize_t length,
    const real* x, Py_ssize_t xrow, const Py_ssize_t* xoff, Py_ssize_t taps,
    const real* dout, Py_ssize_t drow, Py_ssize_t dstride, Py_ssize_t fcount, real* sums,
) noexcept nogil:
    # tr and the fr that goes with it become constants
    if tr == 1: tile(FR1, 1, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 2: tile(FR2, 2, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 3: tile(FR3, 3, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 4: tile(FR4, 4, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 5: tile(FR5, 5, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 6: tile(FR6, 6, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)
    elif tr == 9: tile(1, 9, rows, length, x, xrow, xoff, taps, dout, drow, dstride, fcount, sums)


cdef inline Py_ssize_t fr_of(Py_ssize_t tr) noexcept nogil:
    # 9 by 1 is for depthwise convolutions with 3x3 kernels; there are no tiles of 7 and 8 taps
    return FR1 if tr == 1 else FR2 if tr == 2 else FR3 if tr == 3 else FR4 if tr == 4 \
        else FR5 if tr == 5 else FR6 if tr == 6 else 1 if tr == 9 else 0


cdef inline double cost_of(Py_ssize_t tr, Py_ssize_t count, Py_ssize_t fg) noexcept nogil:
    # of all products of so many taps and filters: those for nothing, too, and the vectors to be loaded
    cdef Py_ssize_t fr = fr_of(tr)
    cdef double products = <double>(parts_of(count, tr) * tr) * (parts_of(fg, fr) * fr)
    return products * (1 + 0.25 / tr + 0.25 / fr)


cdef inline Py_ssize_t best_tile(Py_ssize_t count, Py_ssize_t fg) noexcept nogil:
    # the number of taps in a tile that costs least
    cdef Py_ssize_t tr, best = 1
    cdef double cost, least = cost_of(1, count, fg)
    for tr in range(2, min(count, <Py_ssize_t>TR_MAX) + 1):
        cost = cost_of(tr, count, fg) if fr_of(tr) > 0 else least
        if cost < least:
            best, least = tr, cost
    return best
