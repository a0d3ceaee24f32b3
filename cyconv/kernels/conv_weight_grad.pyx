# Gradient of a convolution by its weights: dw[f, c, t] = sum over positions of dout[f] * x[c, t].
#
# Lanes are what is summed over: a row of the output is OW * N consecutive numbers, and so is what
# tap t reads of the input, once the input's rows are padded and, for a stride above 1, their
# columns are sorted by column % stride. A tile keeps FR output channels by TR taps of sums in
# registers, for a piece of the output after the other. A job takes some channels of the input and some
# of the output, of all images: so many that their pieces stay in the cache from tile to tile.

from cython.parallel cimport prange, threadid

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes
from cyconv.kernels.simd cimport FR1, TR_MAX, VLEN, lane_sum, load, real
from cyconv.kernels.sums cimport best_tile, first_in, fr_of, tile_of
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.window cimport check_window

cdef enum:
    PIECE = 2048   # numbers of an output channel, about: those of a tile fit in the nearest cache
    HELD = 196608  # bytes of input, and of output, that a job uses together
    FEW_TAPS = 6   # a job takes so many channels that it has at least these
    JOBS = 16      # enough for a few threads to share the work evenly
    COPYING = 4    # what it costs to copy the input, relative to reading it


cdef struct Problem:
    Planes x, dout
    real* dw                               # (groups * fg, cg, taps)
    Py_ssize_t groups, cg, fg
    Py_ssize_t kh, kw, taps
    Py_ssize_t sh, sw, top, left, dh, dw_  # stride, padding, dilation
    bint in_place                          # x needs neither padding nor sorting
    Py_ssize_t cols                        # columns per phase of a padded row
    Py_ssize_t rowlen                      # numbers of a padded row
    Py_ssize_t band                        # output rows whose input is copied together
    Py_ssize_t channels, cblocks           # channels per job, jobs along the channels
    Py_ssize_t filters, fblocks            # output channels per job, jobs along them
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


cdef void copy_rows(
    const Problem* p, const real* plane, Py_ssize_t first, Py_ssize_t count, real* dst
) noexcept nogil:
    # padded input rows first .. first + count - 1: dst[row, phase, column, image]
    cdef Py_ssize_t r, phase, j, ih, iw, n, images = p.x.n
    cdef const real* src
    for r in range(count):
        ih = first + r - p.top
        for phase in range(p.sw):
            for j in range(p.cols):
                iw = j * p.sw + phase - p.left
                if 0 <= ih < p.x.h and 0 <= iw < p.x.w:
                    src = plane + (ih * p.x.w + iw) * images
                    for n in range(images):
                        dst[n] = src[n]
                else:
                    for n in range(images):
                        dst[n] = 0
                dst = dst + images


cdef inline Py_ssize_t rows_read(const Problem* p, Py_ssize_t rows) noexcept nogil:
    # of the input, for so many of the output
    return (rows - 1) * p.sh + (p.kh - 1) * p.dh + 1


cdef inline real* sums_of(const Part* part, Py_ssize_t fb, Py_ssize_t tb) noexcept nogil:
    return part.sums + (fb * part.tblocks + tb) * part.fr * part.tr * VLEN


cdef inline void find_taps(const Problem* p, const Part* part, Py_ssize_t plane) noexcept nogil:
    # where all taps find their first number, in planes of x that are so far apart
    cdef Py_ssize_t t, tap, column
    for t in range(part.taps):
        tap = t % p.taps
        column = tap % p.kw * p.dw_
        column = column % p.sw * p.cols + column // p.sw
        part.xoff[t] = t // p.taps * plane + tap // p.kw * p.dh * p.rowlen + column * p.x.n


cdef void add_piece(
    const Problem* p, const Part* part, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
    Py_ssize_t cols,
) noexcept nogil:
    # to the sums what some columns of some output rows give
    cdef Py_ssize_t drow = p.dout.w * p.dout.n, xrow = p.sh * p.rowlen
    cdef const real* x = part.x + (row - part.row) * xrow + col * p.x.n
    cdef const real* dout
    cdef Py_ssize_t fb, f
    for fb in range(part.fblocks):
        f = first_in(fb, part.fr, part.filters)
        dout = p.dout.data + (part.filter + f) * p.dout.stride + row * drow + col * p.dout.n
        tile_of(part.tr, rows, cols * p.dout.n, x, xrow, part.xoff, part.taps, dout, drow,
                p.dout.stride, part.filters, sums_of(part, fb, 0))


cdef void add_rows(const Problem* p, const Part* part, Py_ssize_t end) noexcept nogil:
    # to the sums what the output rows from part.row to `end` give, in pieces of about equal size
    cdef Py_ssize_t row, col = 0, rows, cols, most, pieces
    most = max(<Py_ssize_t>1, PIECE // p.dout.n)
    pieces = (p.dout.w + most - 1) // most
    cols = (p.dout.w + pieces - 1) // pieces
    rows = max(<Py_ssize_t>1, PIECE // (cols * p.dout.n))
    while col < p.dout.w:
        row = part.row
        while row < end:
            add_piece(p, part, row, min(rows, end - row), col, min(cols, p.dout.w - col))
            row = row + rows
        col = col + cols


cdef void run_job(const Problem* p, Py_ssize_t job, real* scratch) noexcept nogil:
    cdef Py_ssize_t group = job // p.fblocks // p.cblocks
    cdef Py_ssize_t c = job // p.fblocks % p.cblocks * p.channels
    cdef Py_ssize_t f = job % p.fblocks * p.filters
    cdef Py_ssize_t plane = p.x.stride, end, i
    cdef real* copied
    cdef Part part
    part.channels, part.filters = min(p.channels, p.cg - c), min(p.filters, p.fg - f)
    if part.channels <= 0 or part.filters <= 0:
        return
    part.channel, part.filter = group * p.cg + c, group * p.fg + f
    part.taps = part.channels * p.taps
    part.tr = p.tr if p.tr <= part.taps else min(part.taps, <Py_ssize_t>FEW_TAPS)
    part.fr = fr_of(part.tr)
    part.tblocks = (part.taps + part.tr - 1) // part.tr
    part.fblocks = (part.filters + part.fr - 1) // part.fr
    part.xoff = <Py_ssize_t*>(scratch + (64 - <size_t>scratch % 64) % 64 // sizeof(real))
    copied = <real*>(part.xoff + part.taps)
    part.sums = copied + p.copied
    for i in range(part.tblocks * part.fblocks * part.fr * part.tr * VLEN):
        part.sums[i] = 0
    if not p.in_place:
        plane = rows_read(p, p.band) * p.rowlen
    find_taps(p, &part, plane)
    part.row = 0
    part.x = p.x.data + part.channel * p.x.stride if p.in_place else copied
    while part.row < p.dout.h:
        end = min(part.row + p.band, p.dout.h)
        if not p.in_place:
            for i in range(part.channels):
                copy_rows(p, p.x.data + (part.channel + i) * p.x.stride, part.row * p.sh,
                          rows_read(p, end - part.row), copied + i * plane)
        add_rows(p, &part, end)
        part.row = end
    write_sums(p, &part, c)


cdef void write_sums(const Problem* p, const Part* part, Py_ssize_t channel) noexcept nogil:
    # to dw, where `channel` is the first of its group
    cdef Py_ssize_t fb, tb, f, t, i, j
    cdef real* dw
    for fb in range(part.fblocks):
        f = first_in(fb, part.fr, part.filters)
        for tb in range(part.tblocks):
            t = first_in(tb, part.tr, part.taps)
            for i in range(min(part.fr, part.filters)):
                dw = p.dw + ((part.filter + f + i) * p.cg + channel) * p.taps + t
                for j in range(part.tr):
                    dw[j] = lane_sum(load(sums_of(part, fb, tb) + (i * part.tr + j) * VLEN))


# ------------------------------------------------------------------ the work, cut into jobs


cdef void cut(Problem* p) noexcept nogil:
    # The channels of input and output in a job: what it uses together stays in the cache, and there are
    # enough jobs, by shape alone. Where either is cut, all of the other is read once more.
    cdef Py_ssize_t least = min(p.cg, (FEW_TAPS + p.taps - 1) // p.taps)
    cdef Py_ssize_t most = HELD // (PIECE * <Py_ssize_t>sizeof(real))
    cdef double xcost = COPYING * <double>p.cg * p.x.h * p.x.w
    cdef double dcost = <double>p.fg * p.dout.h * p.dout.w
    cdef Py_ssize_t units
    p.channels = max(least, min(p.cg, most // p.kh))
    p.tr = best_tile(p.channels * p.taps, p.fg)
    p.fr = fr_of(p.tr)
    units = (p.fg + p.fr - 1) // p.fr  # of output channels, those of a tile
    p.cblocks = (p.cg + p.channels - 1) // p.channels
    p.fblocks = (p.fg + most - 1) // most
    while p.groups * p.cblocks * p.fblocks < JOBS and (p.channels > least or p.fblocks < units):
        if p.fblocks >= units or (p.channels > least and p.cblocks * dcost <= p.fblocks * xcost):
            p.cblocks = p.cblocks + 1
            p.channels = (p.cg + p.cblocks - 1) // p.cblocks
        else:
            p.fblocks = p.fblocks + 1
    p.filters = (units + p.fblocks - 1) // p.fblocks * p.fr


cdef Problem problem_of(
    Planes x, Planes dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation,
) except *:
    cdef Problem p
    cdef Py_ssize_t need_h, need_w, rows
    check_window(kernel, stride, padding, dilation, 1)
    p.x, p.dout, p.groups = x, dout, groups
    p.kh, p.kw = kernel
    p.sh, p.sw = stride
    p.top, p.left = padding
    p.dh, p.dw_ = dilation
    if groups < 1 or x.c % groups or dout.c % groups or x.n != dout.n \
            or min(dout.n, dout.h, dout.w, dout.c, x.c) < 1:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    p.taps = p.kh * p.kw
    p.cg, p.fg = x.c // groups, dout.c // groups
    need_h = rows_read(&p, dout.h)
    need_w = (dout.w - 1) * p.sw + (p.kw - 1) * p.dw_ + 1
    p.in_place = p.sw == 1 and p.top == 0 and p.left == 0 and need_h <= x.h and need_w <= x.w
    p.cols = x.w if p.in_place else (need_w + p.sw - 1) // p.sw
    p.rowlen = p.cols * p.sw * x.n
    cut(&p)
    p.band, p.copied = dout.h, 0
    if p.in_place:
        return p
    if <double>p.cols * p.sw * x.n * need_h >= 2.0**40 or <double>p.taps * x.c >= 2.0**40:
        raise MemoryError("kernel: weight_grad would need more scratch than there can be")
    rows = HELD // (p.channels * p.rowlen * <Py_ssize_t>sizeof(real))
    p.band = max(<Py_ssize_t>1, min((rows - rows_read(&p, 1)) // p.sh + 1, dout.h))
    p.copied = p.channels * rows_read(&p, p.band) * p.rowlen
    return p


cdef Py_ssize_t scratch_of(const Problem* p) noexcept nogil:
    # a job with fewer channels has a smaller tr and may have a larger fr: bound both
    cdef Py_ssize_t count = p.channels * p.taps + TR_MAX
    cdef Py_ssize_t offsets = (count * <Py_ssize_t>sizeof(Py_ssize_t) + 64) // <Py_ssize_t>sizeof(real)
    return offsets + p.copied + count * (p.filters + FR1) * VLEN


def scratch_size(
    object x, object dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation,
):
    """Numbers of scratch per thread that ``weight_grad`` takes for the same arguments."""
    cdef Problem p = problem_of(
        planes(x, False), planes(dout, False), groups, kernel, stride, padding, dilation
    )
    return scratch_of(&p)


cdef struct Gradient:
    Task task
    Problem p
    Py_ssize_t jobs
    real* scratch
    Py_ssize_t per_thread  # numbers of scratch


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Gradient* g = <const Gradient*>task
    cdef Py_ssize_t job
    for job in prange(g.jobs, num_threads=threads, schedule="dynamic"):
        run_job(&g.p, job, g.scratch + threadid() * g.per_thread)


def weight_grad(
    object x, object dout, object dw, object scratch, Py_ssize_t groups, tuple kernel,
    tuple stride, tuple padding, tuple dilation, int threads, bint later=False,
):
    """Fill dw, 1-d as (F, C/groups, KH, KW), from x and dout, batch-last (N, C, H, W).

    scratch: 1-d of ``threads * scratch_size(...)``; padding is (top, left).
    """
    cdef Problem p = problem_of(
        planes(x, False), planes(dout, False), groups, kernel, stride, padding, dilation
    )
    check_threads(threads)
    cdef Gradient call
    cdef Py_ssize_t per_thread = scratch_of(&p)
    cdef real* base = numbers(scratch, threads * per_thread, True)
    cdef Py_ssize_t weights = groups * p.fg * p.cg * p.taps
    p.dw = numbers(dw, weights, True)
    check_apart(base, threads * per_thread, p.dw, weights)
    call.p, call.jobs = p, groups * p.cblocks * p.fblocks
    call.scratch, call.per_thread = base, per_thread
    call.task.run, call.task.threads = run, threads
    return finish(&call.task, sizeof(call), later)
