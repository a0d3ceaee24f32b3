# Gradient of a convolution by its weights: dw[f, c, t] = sum over positions of dout[f] * x[c, t].
#
# Lanes are what is summed over: a row of the output is OW * N consecutive numbers, and so is what
# tap t reads of the input, once the input's rows are padded and, for a stride above 1, their
# columns are sorted by column % stride. A tile keeps FR output channels by TR taps of sums in
# registers. The output's rows are taken in bands, so that the rows in use stay in the cache.

from cython.parallel cimport prange, threadid

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes
from cyconv.kernels.simd cimport (
    FR1, FR2, FR3, FR4, FR5, FR6, TR_MAX, VLEN, inlined, keep, lane_sum, load, load_first, real,
    store, vreal,
)
from cyconv.kernels.window cimport check_window

cdef enum:
    BAND = 16384  # numbers of one output channel in a band of rows
    FEW_TAPS = 6  # a job takes so many channels that it has at least these
    JOBS = 32     # enough for any number of threads to share the work evenly


cdef struct Problem:
    Planes x, dout
    real* dw                               # (groups * fg, cg, taps)
    Py_ssize_t groups, cg, fg
    Py_ssize_t kh, kw, taps
    Py_ssize_t sh, sw, top, left, dh, dw_  # stride, padding, dilation
    bint in_place                          # x needs neither padding nor sorting
    Py_ssize_t cols                        # columns per phase of a padded row
    Py_ssize_t rowlen                      # numbers of a padded row
    Py_ssize_t band                        # output rows in a band
    Py_ssize_t channels, cblocks           # channels per job, jobs along the channels
    Py_ssize_t fparts, fmost               # jobs along the output channels, and their size
    Py_ssize_t tr, fr                      # a tile
    Py_ssize_t copied                      # numbers of padded rows per thread


# ------------------------------------------------------------------ the micro-kernel


cdef inline inlined tile(
    const int fr, const int tr, Py_ssize_t rows, Py_ssize_t length,
    const real* x, Py_ssize_t xrow, const Py_ssize_t* xoff,
    const real* dout, Py_ssize_t drow, Py_ssize_t dstride, Py_ssize_t fcount, real* sums,
) noexcept nogil:
    # sums[f, t] += dout[f] * x[t] over rows of `length` numbers. fr and tr are constants.
    cdef vreal s[32]
    cdef vreal held[9]
    cdef vreal u
    cdef const real* xs[9]
    cdef const real* ds[16]
    cdef Py_ssize_t r, j, whole = length - length % VLEN
    cdef int f, t
    for f in range(fr):
        ds[f] = dout + min(<Py_ssize_t>f, fcount - 1) * dstride
        for t in range(tr):
            s[f * tr + t] = load(sums + (f * tr + t) * VLEN)
    for t in range(tr):
        xs[t] = x + xoff[t]
    for r in range(rows):
        j = 0
        while j < whole:
            if fr < tr:  # the fewer vectors are held in registers
                for f in range(fr):
                    held[f] = load(ds[f] + j)
                for t in range(tr):
                    u = load(xs[t] + j)
                    keep(u)
                    for f in range(fr):
                        s[f * tr + t] = s[f * tr + t] + u * held[f]
            else:
                for t in range(tr):
                    held[t] = load(xs[t] + j)
                for f in range(fr):
                    u = load(ds[f] + j)
                    keep(u)
                    for t in range(tr):
                        s[f * tr + t] = s[f * tr + t] + u * held[t]
            j = j + VLEN
        if whole < length:
            for t in range(tr):
                held[t] = load_first(xs[t] + whole, length - whole)
            for f in range(fr):
                u = load_first(ds[f] + whole, length - whole)
                for t in range(tr):
                    s[f * tr + t] = s[f * tr + t] + u * held[t]
        for f in range(fr):
            ds[f] = ds[f] + drow
        for t in range(tr):
            xs[t] = xs[t] + xrow
    for f in range(fr):
        for t in range(tr):
            store(sums + (f * tr + t) * VLEN, s[f * tr + t])


cdef void tile_of(
    Py_ssize_t tr, Py_ssize_t rows, Py_ssize_t length,
    const real* x, Py_ssize_t xrow, const Py_ssize_t* xoff,
    const real* dout, Py_ssize_t drow, Py_ssize_t dstride, Py_ssize_t fcount, real* sums,
) noexcept nogil:
    # tr and the fr that goes with it become constants
    if tr == 1: tile(FR1, 1, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 2: tile(FR2, 2, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 3: tile(FR3, 3, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 4: tile(FR4, 4, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 5: tile(FR5, 5, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 6: tile(FR6, 6, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)
    elif tr == 9: tile(1, 9, rows, length, x, xrow, xoff, dout, drow, dstride, fcount, sums)


cdef Py_ssize_t fr_of(Py_ssize_t tr) noexcept nogil:
    # 9 by 1 is for depthwise convolutions with 3x3 kernels; there are no tiles of 7 and 8 taps
    return FR1 if tr == 1 else FR2 if tr == 2 else FR3 if tr == 3 else FR4 if tr == 4 \
        else FR5 if tr == 5 else FR6 if tr == 6 else 1 if tr == 9 else 0


# ------------------------------------------------------------------ one band of rows


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


cdef void run_job(const Problem* p, Py_ssize_t job, real* scratch) noexcept nogil:
    cdef Py_ssize_t fpart = job % p.fparts
    cdef Py_ssize_t cblock = job // p.fparts % p.cblocks
    cdef Py_ssize_t group = job // p.fparts // p.cblocks
    cdef Py_ssize_t c0 = cblock * p.channels
    cdef Py_ssize_t channels = min(p.channels, p.cg - c0)
    cdef Py_ssize_t f0 = fpart * p.fmost
    cdef Py_ssize_t filters = min(p.fmost, p.fg - f0)
    cdef Py_ssize_t fblocks = (filters + p.fr - 1) // p.fr
    cdef Py_ssize_t count = channels * p.taps
    cdef Py_ssize_t tr = p.tr if p.tr <= count else min(count, <Py_ssize_t>FEW_TAPS)
    cdef Py_ssize_t kblocks = (count + tr - 1) // tr
    cdef Py_ssize_t fr = fr_of(tr)
    cdef Py_ssize_t length = p.dout.w * p.dout.n
    cdef Py_ssize_t row, rows, inrows, c, k, f, kb, fb, t, i, first
    cdef Py_ssize_t xstride
    cdef Py_ssize_t* xoff = <Py_ssize_t*>(scratch + (64 - <size_t>scratch % 64) % 64 // sizeof(real))
    cdef real* copied = <real*>(xoff + kblocks * tr)
    cdef real* sums = copied + p.copied
    cdef real* tile_sums
    cdef const real* x
    cdef const real* dout
    if filters <= 0:
        return
    fblocks = (filters + fr - 1) // fr
    for i in range(kblocks * fblocks * fr * tr * VLEN):
        sums[i] = 0
    row = 0
    while row < p.dout.h:
        rows = min(p.band, p.dout.h - row)
        if p.in_place:
            x = p.x.data + (group * p.cg + c0) * p.x.stride + row * p.sh * p.rowlen
            xstride = p.x.stride
        else:
            inrows = (rows - 1) * p.sh + (p.kh - 1) * p.dh + 1
            xstride = inrows * p.rowlen
            for c in range(channels):
                copy_rows(p, p.x.data + (group * p.cg + c0 + c) * p.x.stride, row * p.sh, inrows,
                          copied + c * xstride)
            x = copied
        for kb in range(kblocks):
            k = min(kb * tr, count - tr)  # the last block may overlap the one before
            for t in range(tr):
                xoff[kb * tr + t] = tap_offset(p, (k + t) % p.taps) + (k + t) // p.taps * xstride
        for fb in range(fblocks):
            f = max(<Py_ssize_t>0, min(fb * fr, filters - fr))
            dout = p.dout.data + (group * p.fg + f0 + f) * p.dout.stride + row * length
            for kb in range(kblocks):
                tile_of(tr, rows, length, x, p.sh * p.rowlen, xoff + kb * tr,
                        dout, length, p.dout.stride, filters,
                        sums + (fb * kblocks + kb) * fr * tr * VLEN)
        row = row + rows
    for kb in range(kblocks):
        k = min(kb * tr, count - tr)
        for fb in range(fblocks):
            f = max(<Py_ssize_t>0, min(fb * fr, filters - fr))
            tile_sums = sums + (fb * kblocks + kb) * fr * tr * VLEN
            for i in range(min(fr, filters)):
                first = ((group * p.fg + f0 + f + i) * p.cg + c0) * p.taps + k
                for t in range(tr):
                    p.dw[first + t] = lane_sum(load(tile_sums + (i * tr + t) * VLEN))


cdef Py_ssize_t tap_offset(const Problem* p, Py_ssize_t tap) noexcept nogil:
    # where a tap's first number lies in the padded rows
    cdef Py_ssize_t column = tap % p.kw * p.dw_
    cdef Py_ssize_t offset = tap // p.kw * p.dh * p.rowlen
    return offset + (column % p.sw * p.cols + column // p.sw) * p.x.n


# ------------------------------------------------------------------ the work, cut into jobs


cdef Py_ssize_t best_tile(Py_ssize_t count, Py_ssize_t fg) noexcept nogil:
    # the number of taps in a tile that wastes least: sums for nothing, then vectors to be loaded
    cdef Py_ssize_t tr, fr, best = 1
    cdef double cost, least = 0
    for tr in range(1, min(count, <Py_ssize_t>TR_MAX) + 1):
        fr = fr_of(tr)
        if fr == 0:
            continue
        cost = <double>((count + tr - 1) // tr * tr) * ((fg + fr - 1) // fr * fr)
        cost = cost * (1 + 0.25 / tr + 0.25 / fr)
        if tr == 1 or cost < least:
            least = cost
            best = tr
    return best


cdef Problem problem_of(
    Planes x, Planes dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation,
) except *:
    cdef Problem p
    cdef Py_ssize_t need_h, need_w, most
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
    need_h = (dout.h - 1) * p.sh + (p.kh - 1) * p.dh + 1
    need_w = (dout.w - 1) * p.sw + (p.kw - 1) * p.dw_ + 1
    p.in_place = p.sw == 1 and p.top == 0 and p.left == 0 and need_h <= x.h and need_w <= x.w
    p.cols = x.w if p.in_place else (need_w + p.sw - 1) // p.sw
    p.rowlen = p.cols * p.sw * x.n
    p.band = max(<Py_ssize_t>1, BAND // max(<Py_ssize_t>1, dout.w * dout.n))
    p.band = min(p.band, dout.h)
    # small kernels take several channels into a tile
    p.channels = min(p.cg, (FEW_TAPS + p.taps - 1) // p.taps)
    p.cblocks = (p.cg + p.channels - 1) // p.channels
    p.tr = best_tile(p.channels * p.taps, p.fg)
    p.fr = fr_of(p.tr)
    # the output channels are cut, by shape alone, where the channels are few
    most = (p.fg + p.fr - 1) // p.fr
    p.fparts = min(most, (JOBS + groups * p.cblocks - 1) // (groups * p.cblocks))
    p.fmost = (most + p.fparts - 1) // p.fparts * p.fr
    p.copied = (p.band - 1) * p.sh + (p.kh - 1) * p.dh + 1  # input rows of a band
    if <double>need_w * x.n * p.copied * p.channels >= 2.0**40 or <double>p.taps * x.c >= 2.0**40:
        raise MemoryError("kernel: weight_grad would need more scratch than there can be")
    p.copied = 0 if p.in_place else p.channels * p.copied * p.rowlen
    return p


cdef Py_ssize_t scratch_of(const Problem* p) noexcept nogil:
    # a job with fewer channels has a smaller tr and may have a larger fr: bound both
    cdef Py_ssize_t count = p.channels * p.taps + TR_MAX
    cdef Py_ssize_t offsets = (count * <Py_ssize_t>sizeof(Py_ssize_t) + 64) // <Py_ssize_t>sizeof(real)
    return offsets + p.copied + count * (p.fmost + FR1) * VLEN


def scratch_size(
    object x, object dout, Py_ssize_t groups, tuple kernel, tuple stride, tuple padding,
    tuple dilation,
):
    """Numbers of scratch per thread that ``weight_grad`` takes for the same arguments."""
    cdef Problem p = problem_of(
        planes(x, False), planes(dout, False), groups, kernel, stride, padding, dilation
    )
    return scratch_of(&p)


def weight_grad(
    object x, object dout, object dw, object scratch, Py_ssize_t groups, tuple kernel,
    tuple stride, tuple padding, tuple dilation, int threads,
):
    """Fill dw, 1-d as (F, C/groups, KH, KW), from x and dout, batch-last (N, C, H, W).

    scratch: 1-d of ``threads * scratch_size(...)``; padding is (top, left).
    """
    cdef Problem p = problem_of(
        planes(x, False), planes(dout, False), groups, kernel, stride, padding, dilation
    )
    check_threads(threads)
    cdef Py_ssize_t per_thread = scratch_of(&p)
    cdef Py_ssize_t job
    cdef real* base = numbers(scratch, threads * per_thread, True)
    cdef Py_ssize_t weights = groups * p.fg * p.cg * p.taps
    p.dw = numbers(dw, weights, True)
    check_apart(base, threads * per_thread, p.dw, weights)
    with nogil:
        for job in prange(groups * p.cblocks * p.fparts, num_threads=threads, schedule="dynamic"):
            run_job(&p, job, base + threadid() * per_thread)
