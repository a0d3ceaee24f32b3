# How the work of a kernel is shared out among threads: as jobs, as rows of planes, or as slices of what is
# summed up.

from cython.parallel cimport prange, threadid

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport real
from cyconv.kernels.tile cimport first_row, parts_of

ctypedef void (*Job)(const void* task, Py_ssize_t job, int thread) noexcept nogil
# computes the rows from `begin` to `end` of a channel
ctypedef void (*RowsOf)(const void* task, Py_ssize_t channel, Py_ssize_t begin, Py_ssize_t end) noexcept nogil


cdef inline void share(Job run, const void* task, Py_ssize_t jobs, int threads) noexcept nogil:
    # jobs that follow each other to one thread. (Where there is only one, OpenMP would still take half a
    # microsecond, as long as small kernels themselves.)
    cdef Py_ssize_t job
    if threads == 1:
        for job in range(jobs):
            run(task, job, 0)
        return
    for job in prange(jobs, num_threads=threads, schedule="static"):
        run(task, job, threadid())


cdef inline void share_in_turn(
    Job run, const void* task, Py_ssize_t jobs, Py_ssize_t chunk, int threads
) noexcept nogil:
    # jobs of different length, or that other threads wait for: so many at a time to who has none
    cdef Py_ssize_t job
    if threads == 1:
        share(run, task, jobs, 1)
        return
    for job in prange(jobs, num_threads=threads, schedule="dynamic", chunksize=chunk):
        run(task, job, threadid())


cdef inline Py_ssize_t row_from(Py_ssize_t row, Py_ssize_t channel, Py_ssize_t channels) noexcept nogil:
    # the channel's first row from that one on of all channels', counted row by row
    return parts_of(row - channel, channels)


cdef inline void run_part(
    RowsOf run, const void* task, Py_ssize_t channels, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        run(task, c, row_from(begin, c, channels), row_from(end, c, channels))


cdef inline void run_rows(RowsOf run, const void* task, const Planes* out, int threads) noexcept nogil:
    # All rows of all channels of what is written. Each thread has about the same part of an image in every
    # kernel, and finds in its own caches what it wrote before.
    cdef Py_ssize_t rows = out.c * out.h if out.n * out.w else 0
    cdef int job
    if threads == 1:
        run_part(run, task, out.c, 0, rows)
        return
    for job in prange(threads, num_threads=threads, schedule="static"):
        run_part(run, task, out.c, first_row(job, rows, threads), first_row(job + 1, rows, threads))


cdef inline void add_slices(
    real* dst, const real* sums, Py_ssize_t apart, Py_ssize_t slices, Py_ssize_t count
) noexcept nogil:
    # dst is what so many slices give, whose sums lie `apart`: in their order, whoever computed them
    cdef Py_ssize_t slice, i
    for i in range(count):
        dst[i] = sums[i]
    for slice in range(1, slices):
        sums = sums + apart
        for i in range(count):
            dst[i] = dst[i] + sums[i]
