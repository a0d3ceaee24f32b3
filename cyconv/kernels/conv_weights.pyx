# The weights of a convolution, laid out for conv.pyx and depthwise.pyx; see pack.pxd.

from cyconv.kernels.pack cimport are_by_tap, blocks_of, mr_of, pack_block, packed
from cyconv.kernels.planes cimport check_threads, numbers
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport first_row
from cyconv.kernels.window cimport check_window


def packed_size(Py_ssize_t groups, Py_ssize_t fg, Py_ssize_t taps):
    """How many numbers the packed weights have."""
    return packed(groups, fg, taps)


def by_tap(bint transposed, bint direct, tuple stride):
    """Whether ``correlate`` wants weights that lie tap by tap, see ``pack_weights``."""
    check_window((1, 1), stride, (0, 0), (1, 1), 1)
    return are_by_tap(transposed, direct, stride[0], stride[1])


cdef struct Packing:
    Task task
    const real* w
    const real* bias
    real* out
    Py_ssize_t groups, rows, cols, taps, blocks, mr
    bint swapped, by_tap


cdef void pack_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Packing* p = <const Packing*>task
    cdef Py_ssize_t group = job // p.blocks, block = job % p.blocks, size = p.cols * p.taps
    pack_block(
        p.w + group * p.rows * size, p.bias + group * p.rows if p.bias != NULL else NULL,
        p.out + (group * p.blocks + block) * (1 + size) * p.mr,
        first_row(block, p.rows, p.blocks), first_row(block + 1, p.rows, p.blocks),
        p.mr, p.rows, p.cols, p.taps, p.swapped, p.by_tap)


cdef void run_packing(const void* task, int threads) noexcept nogil:
    cdef const Packing* p = <const Packing*>task
    share(pack_job, task, p.groups * p.blocks, threads)


def pack_weights(
    object w, object bias, object out, Py_ssize_t groups, Py_ssize_t rows, Py_ssize_t cols,
    Py_ssize_t taps, bint swapped, bint by_tap, int threads, bint later=False,
):
    """Lay weights out as the micro-kernel reads them: (groups, blocks, 1 + cols * taps, mr).

    w: 1-d, as (groups, rows, cols, taps), or as (groups, cols, rows, taps) if ``swapped``; bias:
    1-d (groups * rows) or None; out: 1-d of ``packed_size``. Blocks have mr rows or one less and
    zeros. In a block lie (cols, taps) or, if ``by_tap``, (taps, cols).
    """
    check_threads(threads)
    if min(cols, taps) < 1 or <double>cols * taps >= 2.0**40:  # which `packed` sees the product of
        raise ValueError("kernel: there are too many weights, or none")
    cdef Py_ssize_t size = packed(groups, rows, cols * taps)
    cdef Packing p
    p.mr = mr_of(rows)
    p.w = numbers(w, groups * rows * cols * taps, False)
    p.bias = NULL if bias is None else numbers(bias, groups * rows, False)
    p.out = numbers(out, size, True)
    p.groups, p.rows, p.cols, p.taps = groups, rows, cols, taps
    p.blocks, p.swapped, p.by_tap = blocks_of(rows), swapped, by_tap
    p.task.run, p.task.threads = run_packing, threads
    return finish(&p.task, sizeof(p), later)
