# The most multiply-adds that the processor can do: as many sums as fill its registers, nothing loaded,
# nothing stored. What the benchmarks compare the other kernels with.

from cython.parallel cimport prange

from cyconv.kernels.planes cimport check_threads
from cyconv.kernels.simd cimport VLEN, broadcast, keep, lane_sum, real, vreal

cdef enum:
    SUMS = 12  # enough for two units with a latency of 6; fits 16 registers

lanes = VLEN
sums = SUMS


cdef real run(Py_ssize_t rounds) noexcept nogil:
    cdef vreal s[SUMS]
    cdef vreal factor = broadcast(<real>0.5), term = broadcast(1), v
    cdef Py_ssize_t r
    cdef int i
    for i in range(SUMS):
        s[i] = broadcast(<real>i)
    for r in range(rounds):
        for i in range(SUMS):
            v = s[i] * factor + term  # tends to 2
            keep(v)  # or the compiler changes the order of the loops
            s[i] = v
    for i in range(1, SUMS):
        s[0] = s[0] + s[i]
    return lane_sum(s[0])


def multiply_adds(Py_ssize_t rounds, int threads):
    """Do ``rounds * lanes * sums`` multiply-adds on each thread; the sum of what came out."""
    cdef double total = 0
    cdef Py_ssize_t job
    check_threads(threads)
    if not 1 <= rounds < 2**24:
        raise ValueError(f"kernel: {rounds} rounds are out of range")
    with nogil:
        for job in prange(threads, num_threads=threads, schedule="static"):
            total += run(rounds)
    return total
