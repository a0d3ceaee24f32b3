# How kernels that have no tiles share out their work: rows of planes. The rows of all channels are
# counted row by row, so that each thread has about the same part of an image in every kernel, and finds
# in its own caches what it wrote before.

from cython.parallel cimport prange

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.tile cimport first_row

# computes the rows from `begin` to `end` of a channel
ctypedef void (*RowsOf)(const void* task, Py_ssize_t channel, Py_ssize_t begin, Py_ssize_t end) noexcept nogil


cdef inline Py_ssize_t row_from(Py_ssize_t row, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
    # the channel's first row from that one on of all channels'
    return (row - channel + channels - 1) // channels


cdef inline void run_part(
    RowsOf run, const void* task, Py_ssize_t channels, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        run(task, c, row_from(begin, c, channels), row_from(end, c, channels))


cdef inline void run_rows(RowsOf run, const void* task, const Planes* out, int threads) noexcept nogil:
    # all rows of all channels of what is written
    cdef Py_ssize_t rows = out.c * out.h if out.n * out.w else 0
    cdef int job
    for job in prange(threads, num_threads=threads, schedule="static"):
        run_part(run, task, out.c, first_row(job, rows, threads), first_row(job + 1, rows, threads))
