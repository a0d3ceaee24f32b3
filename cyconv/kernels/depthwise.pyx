# Depthwise convolution and, for stride 1, its gradient by the input: each channel has a filter of its
# own, so that nothing is summed over channels, and what counts is how little each tile costs besides.
#
# Lanes are what lies side by side in a row of the output: pixels and images. In a padded copy of the
# input (panel.pxd), what a tap reads for a row is one stretch of memory, whatever the batch. Of the
# copy, a job keeps the rows that one output row reads, in a ring: the next row takes the place of one
# that is not needed any more. Where rows are shorter than a tile, all rows of a job are computed at a
# time: lanes run on from one row into the next, over what pads it.

from cyconv.kernels.panel cimport (
    Problem, column_place, copy, from_cache_line, lay_out_padded, pad_row, padded_size, tap_at,
)
from cyconv.kernels.planes cimport Planes, check_apart, extent, numbers, planes
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport VLEN, real
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport LINE, PLACED, RUN, fetch_row, first_row, own_scratch, parts_of, tile
from cyconv.kernels.window cimport axis, check_window, pace

cdef enum:
    JOBS = 32           # enough for any number of threads to share the work evenly
    LANES = 4 * VLEN    # of a tile
    NEAR = 16384 // sizeof(real)  # numbers that stay in a core's first cache


cdef struct Depthwise:
    Task task
    Problem p
    Py_ssize_t parts       # jobs that share the rows of a channel
    Py_ssize_t band        # rows that are computed at a time
    Py_ssize_t ring        # rows of the copy that they read from
    real* scratch          # of the threads
    Py_ssize_t per_thread  # numbers of scratch


cdef void one_filter(
    Py_ssize_t taps, const real* x, const Py_ssize_t* xoff, const real* w, const Py_ssize_t* woff,
    real* out, Py_ssize_t lanes, bint relu,
) noexcept nogil:
    # the micro-kernel for one output channel: placed_tile would bring those for many along
    if lanes > 2 * VLEN:
        tile(1, 4, PLACED, False, taps, x, xoff, w, woff, 1, out, lanes, lanes, relu, 1, False)
    elif lanes > VLEN:
        tile(1, 2, PLACED, False, taps, x, xoff, w, woff, 1, out, lanes, lanes, relu, 1, False)
    else:
        tile(1, 1, PLACED, False, taps, x, xoff, w, woff, 1, out, lanes, lanes, relu, 1, False)


cdef void rows_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # some rows of one channel; scratch: the places of what the taps read, of their weights and of what
    # the columns of the kernel read, the ring, and the outputs of a band
    cdef const Depthwise* d = <const Depthwise*>task
    cdef const Problem* p = &d.p
    cdef real* scratch = d.scratch + thread * d.per_thread
    cdef Py_ssize_t channel = job // d.parts, part = job % d.parts
    cdef Py_ssize_t row = first_row(part, p.out.h, d.parts)
    cdef Py_ssize_t end = first_row(part + 1, p.out.h, d.parts)
    cdef Py_ssize_t rowlen = p.out.w * p.out.n, start = row * pace(&p.rows), padded = start
    cdef Py_ssize_t first, last, rows, lanes, lane, rest, line, t, kh, kw
    cdef Py_ssize_t across = p.cols.kernel
    cdef Py_ssize_t* xoff = <Py_ssize_t*>from_cache_line(scratch)
    cdef Py_ssize_t* woff = xoff + p.taps
    cdef Py_ssize_t* columns = woff + p.taps
    cdef real* ring = from_cache_line(<real*>(columns + across))
    cdef real* band = ring + d.ring * p.rowsize + LANES
    cdef const real* w = p.w + channel * (1 + p.taps)
    cdef real* out = p.out.data + channel * p.out.stride + row * rowlen
    cdef real* to
    for t in range(p.taps):
        woff[t] = t
    for kw in range(across):
        columns[kw] = column_place(p, kw)
    while row < end:
        rows = min(d.band, end - row)
        first = row * pace(&p.rows)
        last = first + d.ring - (d.band - rows) * pace(&p.rows)
        padded = max(padded, first)
        while padded < last:
            pad_row(p, channel, padded, ring + (padded - start) % d.ring * p.rowsize)
            padded = padded + 1
        for kh in range(p.rows.kernel):
            line = (first - start + tap_at(&p.rows, kh)) % d.ring * p.rowsize
            for kw in range(across):
                xoff[kh * across + kw] = line + columns[kw]
        to = out if d.band == 1 else band
        lanes = (rows - 1) * p.rowsize + rowlen
        lane = 0
        while lane < lanes:
            if d.band == 1:  # the next row lies behind
                rest = (end - row) * rowlen - lane - RUN
                fetch_row(out + lane + RUN, min(<Py_ssize_t>LANES, rest))
            one_filter(p.taps, ring + lane, xoff, w, woff, to + lane,
                       min(<Py_ssize_t>LANES, lanes - lane), p.relu)
            lane = lane + LANES
        if d.band > 1:
            for t in range(rows):
                copy(out + t * rowlen, band + t * p.rowsize, rowlen)
        row, out = row + rows, out + rows * rowlen


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Depthwise* d = <const Depthwise*>task
    share(rows_job, task, d.p.x.c * d.parts, threads)


cdef Depthwise depthwise_of(
    tuple x, tuple out, tuple kernel, tuple stride, tuple padding, tuple dilation, bint transposed,
    int threads,
) except *:
    cdef Depthwise d
    check_window(kernel, stride, padding, dilation, threads)
    d.p.x.n, d.p.x.c, d.p.x.h, d.p.x.w = x
    d.p.out.n, d.p.out.c, d.p.out.h, d.p.out.w = out
    if d.p.x.c != d.p.out.c or d.p.x.n != d.p.out.n or min(*x, *out) < 1 or max(*x, *out) >= 2**31:
        raise ValueError("kernel: depthwise got sizes that do not fit")
    d.p.rows = axis(d.p.x.h, d.p.out.h, kernel[0], stride[0], padding[0], dilation[0], transposed)
    d.p.cols = axis(d.p.x.w, d.p.out.w, kernel[1], stride[1], padding[1], dilation[1], transposed)
    d.p.taps = d.p.rows.kernel * d.p.cols.kernel
    if d.p.taps >= 2**24 or not lay_out_padded(&d.p):
        raise ValueError("kernel: depthwise would read much more than there is")
    cdef Py_ssize_t rowlen = d.p.out.w * d.p.out.n
    d.parts, d.band = min(d.p.out.h, parts_of(JOBS, d.p.x.c)), 1
    if pace(&d.p.rows) == d.p.phases == 1 and rowlen < LANES \
            and d.p.rowsize <= 2 * max(rowlen, <Py_ssize_t>VLEN):
        d.parts = min(d.p.out.h, max(d.parts, 2 * d.p.out.h * d.p.rowsize // NEAR))
        d.band = parts_of(d.p.out.h, d.parts)
    d.ring = padded_size(&d.p.rows) - (d.p.out.h - d.band) * pace(&d.p.rows)
    # the last tile of a band may read beyond the ring
    d.per_thread = own_scratch(
        (d.ring + d.band) * d.p.rowsize + 2 * LANES + 2 * LINE
        + (2 * d.p.taps + d.p.cols.kernel) * <Py_ssize_t>(sizeof(Py_ssize_t) // sizeof(real)))
    return d


def scratch_size(
    tuple x, tuple out, tuple kernel, tuple stride, tuple padding, tuple dilation, bint transposed,
    int threads,
):
    """Numbers of scratch that ``correlate`` takes for arrays of the shapes x and out."""
    cdef Depthwise d = depthwise_of(x, out, kernel, stride, padding, dilation, transposed, threads)
    return threads * d.per_thread


def correlate(
    object x, object w, object out, object scratch, tuple kernel, tuple stride, tuple padding,
    tuple dilation, bint transposed, bint relu, int threads, bint later=False,
):
    """Fill ``out`` from ``x``, batch-last (N, C, H, W) both, and the packed weights ``w``.

    w: 1-d, as (C, 1 + KH * KW), the bias first; scratch: 1-d, of ``scratch_size(...)``; padding is
    (top, left). ``transposed`` computes the gradient by the input: x is then the gradient by the
    output. ``relu`` replaces what is below 0 by 0.
    """
    cdef Planes a = planes(x, False)
    cdef Planes o = planes(out, True)
    cdef Depthwise d = depthwise_of(
        (a.n, a.c, a.h, a.w), (o.n, o.c, o.h, o.w), kernel, stride, padding, dilation, transposed,
        threads)
    d.scratch = numbers(scratch, threads * d.per_thread, True)
    check_apart(d.scratch, threads * d.per_thread, o.data, extent(o))
    d.p.x, d.p.out, d.p.relu = a, o, relu
    d.p.w = numbers(w, a.c * (1 + d.p.taps), False)
    d.task.run, d.task.threads = run, threads
    return finish(&d.task, sizeof(d), later)
