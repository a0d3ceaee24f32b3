# How many multiply-adds the processor can do: twelve sums that do not wait for each other.
from cython.parallel cimport prange

cdef extern from "vector.h" nogil:
    enum: LANES
    ctypedef float vector


cdef void run(Py_ssize_t steps, float* result) noexcept nogil:
    cdef vector sums[12]
    cdef vector scale
    cdef float* lanes = <float*>&scale
    cdef Py_ssize_t i, step
    for i in range(LANES):
        lanes[i] = 0.999
    sums[0] = scale
    for i in range(1, 12):
        sums[i] = sums[i - 1] + scale
    for step in range(steps):
        for i in range(12):
            sums[i] = sums[i] * scale + scale  # one instruction
    for i in range(1, 12):
        sums[0] = sums[0] + sums[i]
    result[0] = (<float*>&sums[0])[0]


def peak(Py_ssize_t steps, float[::1] results, int threads):
    """Runs steps * 12 * LANES multiply-adds in each thread; returns their number."""
    cdef int thread
    for thread in prange(threads, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        run(steps, &results[thread * 16])
    return steps * 12 * LANES * threads


vector_lanes = LANES
