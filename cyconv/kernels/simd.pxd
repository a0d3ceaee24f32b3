# Numbers and vectors of numbers. Cython takes a vector for a float and emits plain C arithmetic,
# which the C compiler turns into vector instructions; see simd.h.

from libc.stdint cimport int32_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vreal
    ctypedef int32_t vint  # VLEN of them
    enum: VLEN
    enum: MR_MAX
    enum: TR_MAX
    enum: FR1
    enum: FR2
    enum: FR3
    enum: FR4
    enum: FR5
    enum: FR6
    real SMALLEST_NORMAL  # below, processors take a hundred times as long
    vreal broadcast(real x)
    void prefetch "PREFETCH"(const real* p)  # a hint that harms nowhere
    void keep "KEEP"(vreal v)
    void hide "HIDE"(const real* p)
    void set_aside "SET_ASIDE"(const void* p)
    void transpose(vreal* rows)  # VLEN vectors
    vreal every_second(vreal a, vreal b)  # of a the first, third, ..., of b the second, fourth, ...
    vreal rectified(vreal v)  # max(v, 0); NaN stays
    vreal gated(vreal v, vreal gate)  # v where gate is not at most 0, else 0
    vint every(int32_t x)
    # v and its number where v is larger than the best, or NaN
    void take_larger(vreal* best, vint* numbers, vreal v, int32_t number)
    void store_ints(int32_t* p, vint v, Py_ssize_t count)  # VLEN of them, or the first ones
    # v where a number is the one that is looked for, else 0; of VLEN numbers, or the first ones
    vreal where_equal(vreal v, const int32_t* numbers, int32_t number, Py_ssize_t count)
    # of 0 to VLEN numbers; nothing else is read (then there are zeros behind them) or written
    vreal load_first(const real* p, Py_ssize_t count)
    void store_first(real* p, vreal v, Py_ssize_t count)
    # the return type of a function that must be inlined, so that its constant arguments unroll loops
    ctypedef void inlined "ALWAYS_INLINE void"


cdef inline vreal load(const real* p) noexcept nogil:
    return (<vreal*>p)[0]


cdef inline void store(real* p, vreal v) noexcept nogil:
    (<vreal*>p)[0] = v


cdef inline vreal lane_sums(const real* vectors) noexcept nogil:
    # of VLEN vectors, all of which are read: the bits that lane_sum finds for each
    cdef vreal rows[VLEN]
    cdef vreal total
    cdef Py_ssize_t i
    for i in range(VLEN):
        rows[i] = load(vectors + i * VLEN)
    transpose(rows)
    total = rows[0]
    for i in range(1, VLEN):
        total = total + rows[i]
    return total


cdef inline real lane_sum(vreal v) noexcept nogil:
    cdef real* lanes = <real*>&v
    cdef real total = 0
    cdef Py_ssize_t i
    for i in range(VLEN):
        total = total + lanes[i]
    return total
