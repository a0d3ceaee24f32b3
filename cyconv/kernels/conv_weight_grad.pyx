# Gradient of a convolution by its weights: dw[f, c, t] = sum over positions of dout[f] * x[c, t].
#
# Lanes are what is summed over: a row of the output is OW * N consecutive numbers, and so is what
# tap t reads of the input, once the input's rows are padded and, for a stride above 1, their
# columns are sorted by column % stride (panel.pxd). A tile keeps FR output channels by TR taps of sums
# in registers, for a piece of the output after the other. A job takes some channels of the input and
# some of the output, of all images: so many that their pieces stay in the cache from tile to tile. If
# that makes few jobs, each takes a slice of the rows only, and the sums of all slices are added.

from cyconv.kernels.panel cimport (
    Problem, from_cache_line, lay_out_padded, pad_row, padded_size, tap_place,
)
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes, planes_of
from cyconv.kernels.share cimport add_slices, share
from cyconv.kernels.simd cimport FR1, TR_MAX, VLEN, lane_sums, real, store
from cyconv.kernels.sums cimport best_tile, cost_of, first_in, fr_of, tile_of
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport first_row, own_scratch, parts_of
from cyconv.kernels.window cimport Axis, axis, check_window

cdef enum:
    PIECE = 2048   # numbers of an output channel, about: those of a tile fit in the nearest cache
    HELD = 196608  # bytes of input that a job uses together, if one row of the output reads no more, ...
    BOTH = 589824  # ... and with the sums
    FEW_TAPS = 6   # a job takes so many channels that it has at least these
    JOBS = 16      # enough for a few threads to share the work evenly, if ...
    SHARE = 262144  # ... each has so many multiply-adds
    READING = 8    # what it costs to read a number from far, relative to a multiplication, ...
    COPYING = 2    # ... and to copy it, relative to that; and ...
    ADDING = 16 * VLEN  # ... to add up the lanes of a sum, and the sums of the slices
    TILE = 25      # sums of a tile at most
    BLOCK = 4096   # numbers of dw whose slices are added in a job


cdef struct Sums:
    Problem window                         # x, and where each output reads it
    Planes dout
    real* dw                               # (groups * fg, cg, taps), or (slices, groups * fg, cg, taps)
    Py_ssize_t groups, cg, fg, taps
    Py_ssize_t band                        # output rows whose input is copied together
    Py_ssize_t channels, cblocks           # channels per job, jobs along the channels
    Py_ssize_t filters, fblocks            # output channels per job, jobs along them
    Py_ssize_t slices                      # jobs along the rows
    Py_ssize_t tr, fr                      # a tile
    Py_ssize_t copied                      # numbers of padded rows per thread


cdef struct Part:                          # of the work: what a job does
    Py_ssize_t channel, channels           # the first of x, and how many
    Py_ssize_t filter, filters             # the first of dout, and how many
    Py_ssize_t taps                        # of all its channels
    Py_ssize_t tr, fr, tblocks, fblocks    # tiles
    const real* x                          # the rows that the output from `row` on reads
    Py_ssize_t row
    Py_ssize_t* xoff                       # (taps): where each finds its first number there
    real* sums                             # (fblocks, tblocks, fr, tr, VLEN)


# ------------------------------------------------------------------ one job


cdef inline Py_ssize_t rows_read(const Sums* p, Py_ssize_t rows) noexcept nogil:
    # of the input, for so many of the output
    cdef const Axis* a = &p.window.rows
    return (rows - 1) * a.stride + (a.kernel - 1) * a.dilation + 1


cdef inline real* sums_of(const Part* part, Py_ssize_t fb, Py_ssize_t tb) noexcept nogil:
    return part.sums + (fb * part.tblocks + tb) * part.fr * part.tr * VLEN


cdef inline void find_taps(const Sums* p, const Part* part, Py_ssize_t plane) noexcept nogil:
    # where all taps find their first number, in planes of x that are so far apart
    cdef Py_ssize_t t
    for t in range(part.taps):
        part.xoff[t] = t // p.taps * plane + tap_place(&p.window, t % p.taps)


cdef void add_piece(
    const Sums* p, const Part* part, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
    Py_ssize_t cols,
) noexcept nogil:
    # to the sums what some columns of some output rows give
    cdef Py_ssize_t drow = p.dout.w * p.dout.n, xrow = p.window.rows.stride * p.window.rowsize
    cdef const real* x = part.x + (row - part.row) * xrow + col * p.dout.n
    cdef const real* dout
    cdef Py_ssize_t fb, f
    for fb in range(part.fblocks):
        f = first_in(fb, part.fr, part.filters)
        dout = p.dout.data + (part.filter + f) * p.dout.stride + row * drow + col * p.dout.n
        tile_of(part.tr, rows, cols * p.dout.n, x, xrow, part.xoff, part.taps, dout, drow,
                p.dout.stride, part.filters, sums_of(part, fb, 0))


cdef void add_rows(const Sums* p, const Part* part, Py_ssize_t end) noexcept nogil:
    # to the sums what the output rows from part.row to `end` give, in pieces of about equal size
    cdef Py_ssize_t row, col = 0, rows, cols, most, pieces
    most = max(<Py_ssize_t>1, PIECE // p.dout.n)
    pieces = parts_of(p.dout.w, most)
    cols = parts_of(p.dout.w, pieces)
    rows = max(<Py_ssize_t>1, PIECE // (cols * p.dout.n))
    while col < p.dout.w:
        row = part.row
        while row < end:
            add_piece(p, part, row, min(rows, end - row), col, min(cols, p.dout.w - col))
            row = row + rows
        col = col + cols


cdef void run_job(const Sums* p, Py_ssize_t job, real* scratch) noexcept nogil:
    cdef Py_ssize_t slice = job // p.fblocks // p.cblocks // p.groups
    cdef Py_ssize_t last = first_row(slice + 1, p.dout.h, p.slices)
    cdef Py_ssize_t group = job // p.fblocks // p.cblocks % p.groups
    cdef Py_ssize_t c = job // p.fblocks % p.cblocks * p.channels
    cdef Py_ssize_t f = job % p.fblocks * p.filters
    cdef Py_ssize_t plane = p.window.x.stride, end, i, row
    cdef real* copied
    cdef Part part
    part.channels, part.filters = min(p.channels, p.cg - c), min(p.filters, p.fg - f)
    if part.channels <= 0 or part.filters <= 0:
        return
    part.channel, part.filter = group * p.cg + c, group * p.fg + f
    part.taps = part.channels * p.taps
    part.tr = p.tr if p.tr <= part.taps else min(part.taps, <Py_ssize_t>FEW_TAPS)
    part.fr = fr_of(part.tr)
    part.tblocks = parts_of(part.taps, part.tr)
    part.fblocks = parts_of(part.filters, part.fr)
    part.xoff = <Py_ssize_t*>from_cache_line(scratch)
    copied = from_cache_line(<real*>(part.xoff + part.taps))
    part.sums = copied + p.copied
    for i in range(part.tblocks * part.fblocks * part.fr * part.tr * VLEN):
        part.sums[i] = 0
    if not p.window.in_place:
        plane = rows_read(p, p.band) * p.window.rowsize
    find_taps(p, &part, plane)
    part.row = first_row(slice, p.dout.h, p.slices)
    part.x = copied
    while part.row < last:
        end = min(part.row + p.band, last)
        if p.window.in_place:
            part.x = p.window.x.data + part.channel * plane + part.row * p.window.rowsize
        else:
            for i in range(part.channels):
                for row in range(rows_read(p, end - part.row)):
                    pad_row(&p.window, part.channel + i, part.row * p.window.rows.stride + row,
                            copied + i * plane + row * p.window.rowsize)
        add_rows(p, &part, end)
        part.row = end
    write_sums(p, &part, c, p.dw + slice * weights_of(p))


cdef void write_sums(
    const Sums* p, const Part* part, Py_ssize_t channel, real* to
) noexcept nogil:
    # where `channel` is the first of its group
    cdef Py_ssize_t fb, tb, f, t, i, j
    cdef real totals[TILE + VLEN]
    cdef real* dw
    for fb in range(part.fblocks):
        f = first_in(fb, part.fr, part.filters)
        for tb in range(part.tblocks):
            t = first_in(tb, part.tr, part.taps)
            i = 0
            while i < part.fr * part.tr:  # the last may read behind all sums, in own_scratch's gap
                store(totals + i, lane_sums(sums_of(part, fb, tb) + i * VLEN))
                i = i + VLEN
            for i in range(min(part.fr, part.filters)):
                dw = to + ((part.filter + f + i) * p.cg + channel) * p.taps + t
                for j in range(part.tr):
                    dw[j] = totals[i * part.tr + j]


cdef inline Py_ssize_t weights_of(const Sums* p) noexcept nogil:
    return p.groups * p.fg * p.cg * p.taps


cdef struct Gradient:
    Task task
    Sums p
    real* dw
    Py_ssize_t jobs
    real* scratch          # of the threads
    Py_ssize_t per_thread  # numbers of scratch


cdef void add_job(const void* task, Py_ssize_t block, int thread) noexcept nogil:
    cdef const Sums* p = &(<const Gradient*>task).p
    cdef Py_ssize_t begin = block * BLOCK
    add_slices((<const Gradient*>task).dw + begin, p.dw + begin, weights_of(p), p.slices,
               min(<Py_ssize_t>BLOCK, weights_of(p) - begin))


# ------------------------------------------------------------------ the work, cut into jobs


cdef inline Py_ssize_t row_bytes(const Sums* p, Py_ssize_t channels) noexcept nogil:
    # that one row of the output reads from a copy of so many channels
    if p.window.in_place:
        return 0
    return channels * rows_read(p, 1) * p.window.rowsize * <Py_ssize_t>sizeof(real)


cdef inline Py_ssize_t band_of(const Sums* p, Py_ssize_t channels, Py_ssize_t most) noexcept nogil:
    # output rows whose input is copied together: what they read of so many channels stays in the cache
    cdef Py_ssize_t rows = HELD // (channels * p.window.rowsize * <Py_ssize_t>sizeof(real))
    if p.window.in_place:
        return most
    return max(<Py_ssize_t>1, min((rows - rows_read(p, 1)) // p.window.rows.stride + 1, most))


cdef void cut(Sums* p) noexcept nogil:
    # The channels of input and output in a job, and its rows, by shape alone: what it reads of the input
    # stays in the cache, and so do the sums; there are enough jobs; and they cost least. Where channels
    # of either are cut, all of the other is read once more; where rows are, there are more sums to be
    # added up, and what two bands read is copied twice.
    cdef const Axis* rows = &p.window.rows
    cdef Py_ssize_t least = min(p.cg, parts_of(FEW_TAPS, p.taps))
    cdef Py_ssize_t most = min(p.cg, HELD // (PIECE * <Py_ssize_t>sizeof(real)) // rows.kernel)
    cdef double xcost = READING * <double>p.cg * p.window.x.h * p.window.x.w
    cdef double dcost = READING * <double>p.fg * p.dout.h * p.dout.w
    cdef double macs = <double>weights_of(p) * p.dout.h * p.dout.w * p.dout.n
    cdef Py_ssize_t wanted = 1 + <Py_ssize_t>min(macs / SHARE, <double>(JOBS - 1))
    cdef double cost, cheapest = -1
    cdef Py_ssize_t channels, cblocks, fblocks, slices, tr, fr, units, held, band, jobs
    cdef int sliced
    for channels in range(least, max(least, most) + 1):
        tr = best_tile(channels * p.taps, p.fg)
        fr = fr_of(tr)
        units = parts_of(p.fg, fr)  # of output channels, those of a tile
        held = BOTH - max(<Py_ssize_t>HELD, row_bytes(p, channels))
        held = held // (channels * p.taps * fr * VLEN * <Py_ssize_t>sizeof(real))  # of these, in the cache
        held = max(<Py_ssize_t>1, held)
        cblocks = parts_of(p.cg, channels)
        for sliced in range(2):
            fblocks = parts_of(units, held)
            jobs = p.groups * cblocks * fblocks
            slices = min(parts_of(wanted, jobs), p.dout.h)
            if not sliced:
                fblocks, slices = min(fblocks * slices, units), 1
            jobs = p.groups * cblocks * fblocks * slices
            band = band_of(p, channels, parts_of(p.dout.h, slices))
            cost = 1
            if not p.window.in_place:
                cost = COPYING * rows_read(p, band) / <double>(band * rows.stride)
            cost = cost * fblocks * xcost + cblocks * dcost \
                + cost_of(tr, channels * p.taps, p.fg) * cblocks * p.dout.h * p.dout.w \
                + <double>slices * ADDING * p.fg * p.cg * p.taps / p.dout.n
            cost = cost * max(jobs, wanted) / jobs
            if cheapest < 0 or cost < cheapest:
                cheapest = cost
                p.channels, p.cblocks, p.fblocks, p.slices = channels, cblocks, fblocks, slices
                p.tr, p.fr, p.band = tr, fr, band
                p.filters = parts_of(units, fblocks) * fr


cdef Sums problem_of(
    Planes x, Planes dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation,
) except *:
    cdef Sums p
    cdef Problem* window = &p.window
    check_window(kernel, stride, padding, dilation, 1)
    p.dout, p.groups = dout, groups
    if groups < 1 or x.c % groups or dout.c % groups or x.n != dout.n \
            or min(dout.n, dout.h, dout.w, dout.c, x.c) < 1:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    window.x, window.out = x, dout
    window.rows = axis(x.h, dout.h, kernel[0], stride[0], padding[0], dilation[0], False)
    window.cols = axis(x.w, dout.w, kernel[1], stride[1], padding[1], dilation[1], False)
    window.taps = p.taps = window.rows.kernel * window.cols.kernel
    p.cg, p.fg = x.c // groups, dout.c // groups
    if <double>p.taps * x.c >= 2.0**40 or <double>p.taps * x.c * p.fg >= 2.0**50 \
            or <double>x.c * x.n * (
            padded_size(&window.rows) * <double>(padded_size(&window.cols) + window.cols.stride)) >= 2.0**50:
        raise MemoryError("kernel: weight_grad would need more scratch than there can be")
    lay_out_padded(window)
    cut(&p)
    p.copied = 0 if window.in_place else p.channels * rows_read(&p, p.band) * window.rowsize
    return p


cdef Py_ssize_t thread_size(const Sums* p) noexcept nogil:
    # numbers of scratch of each thread; a job with fewer channels has a smaller tr and may have a larger
    # fr: bound both
    cdef Py_ssize_t count = p.channels * p.taps + TR_MAX
    cdef Py_ssize_t offsets = (count * <Py_ssize_t>sizeof(Py_ssize_t) + 128) // <Py_ssize_t>sizeof(real)
    return own_scratch(offsets + p.copied + count * (p.filters + FR1) * VLEN)


cdef Py_ssize_t size_of(const Sums* p, int threads) noexcept nogil:
    # numbers of scratch of all threads
    return (p.slices * weights_of(p) if p.slices > 1 else 0) + threads * thread_size(p)


def scratch_size(
    tuple x, tuple dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation, int threads,
):
    """Numbers of scratch that ``weight_grad`` takes for arrays of the shapes x and dout."""
    check_threads(threads)
    cdef Sums p = problem_of(planes_of(x), planes_of(dout), groups, kernel, stride, padding, dilation)
    return size_of(&p, threads)


cdef void sums_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Gradient* g = <const Gradient*>task
    run_job(&g.p, job, g.scratch + thread * g.per_thread)


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Gradient* g = <const Gradient*>task
    share(sums_job, task, g.jobs, threads)
    if g.p.slices > 1:
        share(add_job, task, parts_of(weights_of(&g.p), BLOCK), threads)


def weight_grad(
    object x, object dout, object dw, object scratch, Py_ssize_t groups, tuple kernel,
    tuple stride, tuple padding, tuple dilation, int threads, bint later=False,
):
    """Fill dw, 1-d as (F, C/groups, KH, KW), from x and dout, batch-last (N, C, H, W).

    scratch: 1-d of ``scratch_size(...)``; padding is (top, left).
    """
    cdef Sums p = problem_of(
        planes(x, False), planes(dout, False), groups, kernel, stride, padding, dilation
    )
    check_threads(threads)
    cdef Gradient call
    cdef Py_ssize_t size = size_of(&p, threads)
    cdef real* base = numbers(scratch, size, True)
    call.dw = p.dw = numbers(dw, weights_of(&p), True)
    check_apart(base, size, p.dw, weights_of(&p))
    if p.slices > 1:
        p.dw, base = base, base + p.slices * weights_of(&p)
    call.p, call.jobs = p, groups * p.cblocks * p.fblocks * p.slices
    call.scratch, call.per_thread = base, thread_size(&p)
    call.task.run, call.task.threads = run, threads
    return finish(&call.task, sizeof(call), later)
