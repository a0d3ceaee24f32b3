# Weights as the micro-kernel of tile.pxd reads them: blocks of mr rows (output channels), in each the
# bias and then, for each term of the sum, the mr weights beside each other.

from cyconv.kernels.simd cimport (
    MR_MAX, VLEN, broadcast, load, load_first, real, store, store_first, transpose, vreal,
)
from cyconv.kernels.tile cimport parts_of


cdef inline Py_ssize_t blocks_of(Py_ssize_t rows) noexcept nogil:
    # of about equal size
    return parts_of(rows, MR_MAX)


cdef inline Py_ssize_t mr_of(Py_ssize_t rows) noexcept nogil:
    # of a block, at most
    return parts_of(rows, blocks_of(rows))


cdef inline Py_ssize_t packed(Py_ssize_t groups, Py_ssize_t rows, Py_ssize_t terms) except -1:
    # the numbers of all blocks of all groups
    if min(groups, rows, terms) < 1 or <double>groups * rows * terms >= 2.0**40:
        raise ValueError("kernel: there are too many weights, or none")
    return groups * blocks_of(rows) * (1 + terms) * mr_of(rows)


cdef inline bint are_by_tap(bint transposed, bint direct, Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    # An output pixel of a strided gradient meets few of the taps: where the weights of each lie
    # together, it reads no others. Panels have all taps of a channel together.
    return transposed and direct and max(rows, cols) > 1


cdef inline void pack_rows(
    const real* src, Py_ssize_t step, Py_ssize_t count, Py_ssize_t length, real* dst, Py_ssize_t mr
) noexcept nogil:
    # dst[k, i] = src[i * step + k] for k < length and i < count, and 0 for count <= i < mr
    cdef vreal square[VLEN]
    cdef Py_ssize_t i, k, j, first
    if mr == 1:  # it lies as it is to lie
        for k in range(length):
            dst[k] = src[k]
        return
    first = 0
    while first < mr:
        k = 0
        while k < length:
            for i in range(VLEN):
                if first + i >= count:
                    square[i] = broadcast(0)
                elif k + VLEN <= length:
                    square[i] = load(src + (first + i) * step + k)
                else:
                    square[i] = load_first(src + (first + i) * step + k, length - k)
            transpose(square)
            for j in range(min(<Py_ssize_t>VLEN, length - k)):
                # a whole vector may reach into the rows of dst that come next
                if first + VLEN <= mr or (mr <= VLEN and (k + j) * mr + VLEN <= length * mr):
                    store(dst + (k + j) * mr + first, square[j])
                else:
                    store_first(dst + (k + j) * mr + first, square[j],
                                min(<Py_ssize_t>VLEN, mr - first))
            k = k + VLEN
        first = first + VLEN


cdef inline void copy_rows(
    const real* src, Py_ssize_t step, Py_ssize_t count, Py_ssize_t length, real* dst, Py_ssize_t mr
) noexcept nogil:
    # dst[k, i] = src[k * step + i] for k < length and i < count, and 0 for count <= i < mr
    cdef Py_ssize_t k, i, whole = 0
    if mr <= VLEN <= step:  # a whole vector may reach into what comes next
        whole = max(<Py_ssize_t>0, min(length - 1, length - parts_of(VLEN, mr) + 1))
    for k in range(whole):
        store(dst + k * mr, load(src + k * step))
        for i in range(count, mr):
            dst[k * mr + i] = 0
    for k in range(whole, length):
        for i in range(mr):
            dst[k * mr + i] = src[k * step + i] if i < count else 0


cdef inline void pack_block(
    const real* src, const real* bias, real* dst, Py_ssize_t row, Py_ssize_t end, Py_ssize_t mr,
    Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t taps, bint swapped, bint by_tap,
) noexcept nogil:
    cdef Py_ssize_t count = end - row
    cdef Py_ssize_t fstep = taps if swapped else cols * taps
    cdef Py_ssize_t cstep = rows * taps if swapped else taps
    cdef Py_ssize_t i, c, t
    for i in range(mr):
        dst[i] = bias[row + i] if bias != NULL and i < count else 0
    dst = dst + mr
    src = src + row * fstep
    if by_tap:
        for c in range(cols):
            for t in range(taps):
                for i in range(count):
                    dst[(t * cols + c) * mr + i] = src[i * fstep + c * cstep + t]
                for i in range(count, mr):
                    dst[(t * cols + c) * mr + i] = 0
    elif swapped and taps == 1:  # it lies as it is to lie
        copy_rows(src, cstep, count, cols, dst, mr)
    elif swapped:
        for c in range(cols):
            pack_rows(src + c * cstep, fstep, count, taps, dst + c * taps * mr, mr)
    else:
        pack_rows(src, fstep, count, cols * taps, dst, mr)
