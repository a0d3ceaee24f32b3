# The micro-kernel of convolutions, of their gradients by the input and of Winograd's products: mr
# output channels by nv vectors of lanes, summed up in registers over all that each output reads. nv is
# 2, or 4 where mr is too small to keep the FMA units busy, or 1 where there are no more lanes.

from cyconv.kernels.simd cimport (
    MR_MAX, VLEN, broadcast, hide, inlined, keep, load, load_first, prefetch, real, rectified, set_aside, store,
    store_first, vreal,
)

cdef enum:
    LINE = 64 // sizeof(real)  # numbers in a line of the cache
    RUN = 32 * LINE            # numbers that are written while the memory of the next ones is fetched
    # numbers between the scratch of two threads: as many as it has, but at least and at most so many. The
    # processor expects a thread to go on in steps as large as those before, and what it then takes away from
    # the other one's cache takes long to come back
    APART = 4096
    FAR_APART = 524288 // sizeof(real)
    WIDE_MR = 3  # so few output channels take 4 vectors
    # how x and w lie: rows that begin at their offsets; x (count, nv VLEN) without gaps, and w (count, mr)
    # in rows that are wstep apart; x so, and w (mr, count) in rows that are wstep apart
    PLACED = 0
    PACKED = 1
    IN_ROWS = 2
    NEAR = 3  # rows of w whose addresses are multiples of wstep from one that is kept


cdef inline Py_ssize_t parts_of(Py_ssize_t count, Py_ssize_t size) noexcept nogil:
    # how many parts of that size, the last one of what is left, hold so many
    return (count + size - 1) // size


cdef inline Py_ssize_t first_row(Py_ssize_t block, Py_ssize_t rows, Py_ssize_t blocks) noexcept nogil:
    # of a block, where so many blocks of about equal size share the rows, ...
    return block * rows // blocks


cdef inline Py_ssize_t rows_in(Py_ssize_t block, Py_ssize_t rows, Py_ssize_t blocks) noexcept nogil:
    # ... and how many it has
    return first_row(block + 1, rows, blocks) - first_row(block, rows, blocks)


cdef inline Py_ssize_t odd_lines(Py_ssize_t numbers) noexcept nogil:
    # from one of many arrays to the next: an odd number of cache lines. What is written to all of them
    # in turn then lies all over the cache, and not in the few places of a power of two.
    return (parts_of(numbers, LINE) | 1) * LINE


cdef inline void fetch_row(const real* row, Py_ssize_t count) noexcept nogil:
    # ask for numbers that lie behind each other, if count is above 0
    cdef Py_ssize_t i = 0
    while i < count:
        prefetch(row + i)
        i = i + LINE


cdef inline Py_ssize_t end_of_run(const real* out, Py_ssize_t begin, Py_ssize_t count) noexcept nogil:
    # of the `count` numbers that are written to out, so many while the memory of the next ones is asked for:
    # a write has to fetch its line, which the processor foresees less well than for reads. (What lies
    # behind all of them may be another thread's, who would have to fetch it back.)
    cdef Py_ssize_t end = min(begin + RUN, count)
    fetch_row(out + end, min(<Py_ssize_t>RUN, count - end))
    return end


cdef inline Py_ssize_t own_scratch(Py_ssize_t numbers) noexcept nogil:
    # from the scratch of one thread, of so many numbers, to the next one's
    cdef Py_ssize_t size = odd_lines(numbers)
    return size + max(<Py_ssize_t>APART, min(size, <Py_ssize_t>FAR_APART))


cdef struct Ending:
    # what a tile needs once its sums are there: until then its rows take all registers
    real* place
    Py_ssize_t step, lanes
    real* out
    Py_ssize_t outstride
    bint add, relu, whole


cdef inline inlined tile(
    const int mr, const int nv, const int how, bint add, Py_ssize_t count,
    const real* x, const Py_ssize_t* xoff, const real* w, const Py_ssize_t* woff, Py_ssize_t wstep,
    real* out, Py_ssize_t outstride, Py_ssize_t lanes, bint relu, Py_ssize_t times,
    bint again,
) noexcept nogil:
    # out[f, lanes] = bias[f] + sum over k < count of w[k, f] * x[k, lanes], where the bias is a row
    # before the weights (and 0 where w is IN_ROWS); or, if add, out[f, lanes] += the sum; then, if relu,
    # max(out, 0). As often as `times` says, if PACKED: the next x lies `odd_lines` further, the next out
    # and w lie behind; or w is the same, if `again`.
    # IN x, w; OUT out. The constants are so where this is inlined: sums and held live in registers.
    # (gcc unrolls the loops of the sums early enough for that because they are inside of another, and
    # none has more than 16 rounds.)
    cdef vreal sums[28]  # at most mr * nv below
    cdef vreal held[14]
    cdef vreal u
    cdef real edge[28 * VLEN]  # in place of out, where that is smaller than the tile
    cdef real* place
    cdef Py_ssize_t step
    cdef const real* xk
    cdef const real* wk[5]  # of rows NEAR apart, if IN_ROWS, or one
    cdef Py_ssize_t k, time
    cdef Py_ssize_t fstep = wstep if how == IN_ROWS else 1
    cdef bint whole = lanes == nv * VLEN
    cdef int i, j
    cdef Ending ending
    cdef Ending* aside = &ending
    cdef int apart = NEAR if how == IN_ROWS else mr
    cdef int bases = (mr + NEAR - 1) // NEAR if how == IN_ROWS else 0
    for time in range(times):
        place, step = out, outstride
        if not whole:
            place, step = edge, nv * VLEN
            if add:
                load_edge(out, outstride, edge, mr, nv, lanes)
        if add or how == IN_ROWS:
            for i in range(mr):
                for j in range(nv):
                    sums[i * nv + j] = broadcast(0)
        else:
            for i in range(mr):
                for j in range(nv):
                    sums[i * nv + j] = broadcast(w[i])
            w = w + wstep
        for i in range(bases):
            wk[i] = w + i * NEAR * wstep
        if how == IN_ROWS:
            ending.place, ending.step, ending.lanes = place, step, lanes
            ending.out, ending.outstride = out, outstride
            ending.add, ending.relu, ending.whole = add, relu, whole
            set_aside(aside)
        for k in range(count):
            if how == PLACED:
                xk = x + xoff[k]
                wk[0] = w + woff[k]
            else:
                xk = x + k * nv * VLEN
                if how == PACKED:
                    wk[0] = w + k * wstep
            for i in range(bases):
                hide(wk[i])
            if mr < nv:  # the fewer of the two are held in registers
                for i in range(mr):
                    held[i] = broadcast(wk[i // apart][i % apart * fstep])
                for j in range(nv):
                    u = load(xk + j * VLEN)
                    keep(u)
                    for i in range(mr):
                        sums[i * nv + j] = sums[i * nv + j] + u * held[i]
                        keep(sums[i * nv + j])  # its place is not u's, of which there is one
            else:
                for j in range(nv):
                    held[j] = load(xk + j * VLEN)
                for i in range(mr):
                    for j in range(nv):
                        sums[i * nv + j] = sums[i * nv + j] + held[j] * wk[i // apart][i % apart * fstep]
            for i in range(bases):
                wk[i] = wk[i] + 1
        if how == IN_ROWS:
            set_aside(aside)
            place, step, lanes = aside.place, aside.step, aside.lanes
            out, outstride = aside.out, aside.outstride
            add, relu, whole = aside.add, aside.relu, aside.whole
        if add:  # at the end: many small sums are more exact than a large one that grows
            for i in range(mr):
                for j in range(nv):
                    sums[i * nv + j] = sums[i * nv + j] + load(place + i * step + j * VLEN)
        if relu:
            for i in range(mr):
                for j in range(nv):
                    sums[i * nv + j] = rectified(sums[i * nv + j])
        for i in range(mr):
            for j in range(nv):
                store(place + i * step + j * VLEN, sums[i * nv + j])
        if not whole:
            store_edge(edge, out, outstride, mr, nv, lanes)
        x, out = x + odd_lines(count * nv * VLEN), out + mr * outstride
        w = w - wstep if again else w + count * wstep


cdef inline Py_ssize_t lanes_in(Py_ssize_t j, Py_ssize_t lanes) noexcept nogil:
    # in vector j
    return max(<Py_ssize_t>0, min(lanes - j * VLEN, <Py_ssize_t>VLEN))


cdef inline void load_edge(
    const real* out, Py_ssize_t outstride, real* edge, Py_ssize_t rows, Py_ssize_t vectors,
    Py_ssize_t lanes,
) noexcept nogil:
    # whole vectors of the edge are written and read: the processor passes no parts on from one to the other
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(vectors):
            store(edge + (i * vectors + j) * VLEN,
                  load_first(out + i * outstride + j * VLEN, lanes_in(j, lanes)))


cdef inline void store_edge(
    const real* edge, real* out, Py_ssize_t outstride, Py_ssize_t rows, Py_ssize_t vectors,
    Py_ssize_t lanes,
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(vectors):
            store_first(out + i * outstride + j * VLEN, load(edge + (i * vectors + j) * VLEN),
                        lanes_in(j, lanes))


cdef inline inlined tile_of(
    const int nv, const int how, bint add, Py_ssize_t mr, Py_ssize_t count,
    const real* x, const Py_ssize_t* xo, const real* w, const Py_ssize_t* wo, Py_ssize_t ws,
    real* out, Py_ssize_t os, Py_ssize_t lanes, bint relu, Py_ssize_t times, bint again,
) noexcept nogil:
    # mr becomes a constant
    if mr == 1: tile(1, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 2: tile(2, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 3: tile(3, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif nv > 2: return  # there are none
    elif mr == 4: tile(4, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 5: tile(5, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 6: tile(6, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 7 and MR_MAX >= 7: tile(7, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 8 and MR_MAX >= 8: tile(8, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 9 and MR_MAX >= 9: tile(9, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 10 and MR_MAX >= 10: tile(10, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 11 and MR_MAX >= 11: tile(11, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 12 and MR_MAX >= 12: tile(12, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 13 and MR_MAX >= 13: tile(13, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)
    elif mr == 14 and MR_MAX >= 14: tile(14, nv, how, add, count, x, xo, w, wo, ws, out, os, lanes, relu, times, again)


# Functions of their own, so that what a caller keeps in registers leaves all of them to the sums.


cdef inline void placed_tile(
    bint add, Py_ssize_t mr, Py_ssize_t count, const real* x, const Py_ssize_t* xoff, const real* w,
    const Py_ssize_t* woff, Py_ssize_t wstep, real* out, Py_ssize_t outstride, Py_ssize_t lanes,
    bint relu,
) noexcept nogil:
    # a sum over `count` rows of 1, 2 or 4 vectors of x and rows of w, which begin at their offsets
    if lanes > 2 * VLEN:  # mr <= WIDE_MR
        tile_of(4, PLACED, add, mr, count, x, xoff, w, woff, wstep, out, outstride, lanes, relu, 1, False)
    elif lanes > VLEN:
        tile_of(2, PLACED, add, mr, count, x, xoff, w, woff, wstep, out, outstride, lanes, relu, 1, False)
    else:
        tile_of(1, PLACED, add, mr, count, x, xoff, w, woff, wstep, out, outstride, lanes, relu, 1, False)


cdef inline void packed_tiles(
    bint add, Py_ssize_t mr, Py_ssize_t count, const real* x, const real* w, Py_ssize_t wstep,
    real* out, Py_ssize_t outstride, Py_ssize_t lanes, bint relu, Py_ssize_t times,
) noexcept nogil:
    # a sum over `count` rows of a panel x (count, VLEN or 2 VLEN) and of w (count, mr), and of those
    # behind as often as `times` says
    if lanes > VLEN:
        tile_of(2, PACKED, add, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, relu, times, False)
    else:
        tile_of(1, PACKED, add, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, relu, times, False)


cdef inline void shared_tiles(
    Py_ssize_t mr, Py_ssize_t count, const real* x, const real* w, Py_ssize_t wstep, real* out,
    Py_ssize_t outstride, Py_ssize_t lanes, Py_ssize_t times,
) noexcept nogil:
    # the same, of several panels and the same w
    if lanes > VLEN:
        tile_of(2, PACKED, False, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, False, times, True)
    else:
        tile_of(1, PACKED, False, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, False, times, True)


cdef inline void rows_tile(
    bint add, Py_ssize_t mr, Py_ssize_t count, const real* x, const real* w, Py_ssize_t wstep,
    real* out, Py_ssize_t outstride, Py_ssize_t lanes,
) noexcept nogil:
    # a sum over `count` rows of a panel x (count, VLEN or 2 VLEN) and numbers of mr rows of w
    if lanes > VLEN:
        tile_of(2, IN_ROWS, add, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, False, 1, False)
    else:
        tile_of(1, IN_ROWS, add, mr, count, x, NULL, w, NULL, wstep, out, outstride, lanes, False, 1, False)
