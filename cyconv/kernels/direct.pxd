# The direct algorithm: a block of lanes is up to 2 VLEN images (4 VLEN where few channels are written) at
# one output pixel, and what they read is read in place.

from cyconv.kernels.panel cimport (
    Problem, channel_step, fetch_out, for_all_channels, out_at, rows_of, tap_step, weights_of,
)
from cyconv.kernels.simd cimport VLEN, real
from cyconv.kernels.tile cimport WIDE_MR, fetch_row, parts_of, placed_tile
from cyconv.kernels.window cimport Axis, is_inner, pace, source, spread

cdef enum:
    CACHED = 524288   # bytes that a core's own cache surely holds
    LEAST_TERMS = 24  # summed up at a time for each channel of a block, so that loading the sums
                      # costs little: the fewer channels read x, the nearer it must be
    ROWS = 8          # of pixels at most that a job takes
    NEAR = 32768      # bytes that all blocks of channels read while they stay in a first-level cache


cdef struct Taps:
    Py_ssize_t* xoff           # where each tap of a tile finds x, and its weights
    Py_ssize_t* woff
    Py_ssize_t across          # taps in a row of a channel
    Py_ssize_t last            # of the taps' places in a plane, the furthest


cdef inline Py_ssize_t find_taps(
    const Problem* p, Py_ssize_t row, Py_ssize_t col, Py_ssize_t channels, Taps* s
) noexcept nogil:
    # where an output pixel finds what it reads of so many channels, and the weights of that; upwards in
    # a plane, as the processor foresees nothing that is read backwards
    cdef Py_ssize_t i, j, kh, kw, ih, iw, before, taps = 0
    s.last = -(2**60)  # none
    for i in range(p.rows.kernel):
        kh = p.rows.kernel - 1 - i if p.rows.transposed else i
        ih = source(&p.rows, row, kh)
        if ih < 0:
            continue
        before = taps
        for j in range(p.cols.kernel):
            kw = p.cols.kernel - 1 - j if p.cols.transposed else j
            iw = source(&p.cols, col, kw)
            if iw >= 0:
                s.xoff[taps] = (ih * p.x.w + iw) * p.x.n
                s.last = max(s.last, s.xoff[taps])
                s.woff[taps] = (kh * p.cols.kernel + kw) * tap_step(p) * p.mr
                taps += 1
        s.across = taps - before
    for_all_channels(s.xoff, taps, channels, p.x.stride)
    for_all_channels(s.woff, taps, channels, channel_step(p) * p.mr)
    return channels * taps


cdef inline Py_ssize_t images_in_place(
    const Problem* p, const Taps* s, Py_ssize_t place, Py_ssize_t end
) noexcept nogil:
    # so many of `end` images can a pixel, whose taps are moved on by `place`, read in whole vectors: the
    # last vector takes other pixels' images along, but nothing beyond the plane, which may be the last
    cdef Py_ssize_t vectors = parts_of(end, VLEN)
    return end if place + s.last + vectors * VLEN <= p.x.h * p.x.w * p.x.n else end - end % VLEN


cdef inline Py_ssize_t run_from(const Problem* p, Py_ssize_t col) noexcept nogil:
    # how many pixels of one phase from an inner one on are inner ones, up to those taken together
    cdef Py_ssize_t apart = spread(&p.cols), run = 1
    while run < p.run and col + run * apart < p.out.w and is_inner(&p.cols, col + run * apart):
        run = run + 1
    return run


cdef inline void fetch_ahead(
    const Problem* p, const real* x, const Taps* s, Py_ssize_t count, Py_ssize_t run, Py_ssize_t images
) noexcept nogil:
    # ask for what a run of pixels reads besides those before it, of all taps' rows and channels: they
    # are more streams than the processor foresees. One block alone leaves it no time to wait for them.
    cdef Py_ssize_t k, j
    if count == 0:  # a pixel that sees nothing but padding
        return
    k = s.across - 1  # the last column's tap
    while k < count:
        for j in range(run * pace(&p.cols)):
            fetch_row(x + s.xoff[k] - j * p.x.n, images)
        k = k + s.across


cdef inline void direct_row(
    const Problem* p, Py_ssize_t group, Py_ssize_t first, Py_ssize_t last, Py_ssize_t channel,
    Py_ssize_t row, Py_ssize_t image, Py_ssize_t end, Taps* s,
) noexcept nogil:
    # one row of output pixels for the images from `image` to `end`, as far as they can be read in place,
    # for the blocks of written channels from `first` to `last`, and for as many read ones from `channel`
    # on as stay in the cache. All blocks use what a run of pixels reads, before the next run.
    cdef Py_ssize_t channels = min(p.channels, p.cg - channel)
    cdef const real* plane = p.x.data + (group * p.cg + channel) * p.x.stride
    cdef const real* x = plane
    cdef const real* w
    cdef real* out
    cdef real* to
    cdef bint add = channel > 0
    cdef bint relu = p.relu and channel + channels == p.cg
    cdef Py_ssize_t phase, ow, run, pixel, i, stop, lanes, block, rows, count = 0
    # behind the bias and the channels before
    cdef Py_ssize_t behind = (1 + channel * channel_step(p)) * p.mr if add else 0
    # pixels so far apart read with the same taps what lies a step further, if no tap is outside
    cdef Py_ssize_t apart = spread(&p.cols)
    cdef Py_ssize_t step = pace(&p.cols) * p.x.n
    cdef bint inner, was_inner
    for phase in range(min(apart, p.out.w)):
        inner = False
        ow = phase
        while ow < p.out.w:
            was_inner = inner
            inner = is_inner(&p.cols, ow)
            if not (inner and was_inner):
                x = plane
                count = find_taps(p, row, ow, channels, s)
            run = run_from(p, ow) if inner else 1
            if inner and p.blocks == 1 and p.channels < p.cg:
                fetch_ahead(p, x + run * step + image, s, count, run, end - image)
            for block in range(first, last):
                w = weights_of(p, group, block) + behind
                rows = rows_of(p, block)
                out = out_at(p, group, block, (row * p.out.w + ow) * p.out.n)
                for pixel in range(run):
                    i, stop = image, images_in_place(p, s, x - plane + pixel * step, end)
                    while i < stop:
                        lanes = min(stop - i, <Py_ssize_t>(2 * VLEN))
                        if p.mr <= WIDE_MR and stop - i >= 4 * VLEN:
                            lanes = 4 * VLEN
                        to = out + pixel * apart * p.out.n + i
                        if not add:
                            fetch_out(p, to, rows, lanes)
                        placed_tile(add, rows, count, x + pixel * step + i, s.xoff, w, s.woff, p.mr, to,
                                    p.out.stride, lanes, relu)
                        i = i + lanes
            x = x + run * step
            ow = ow + run * apart


# ------------------------------------------------------------------ what is taken together


cdef inline Py_ssize_t used(const Axis* a) noexcept nogil:
    # about how many kernel positions meet one output position
    return parts_of(a.kernel, spread(a))


cdef inline Py_ssize_t channels_at_a_time(const Problem* p) noexcept nogil:
    # of those read, so that what a pixel reads of them stays in the cache for all blocks
    cdef Py_ssize_t taps = used(&p.rows) * used(&p.cols)
    cdef Py_ssize_t channels = NEAR // (taps * p.images * <Py_ssize_t>sizeof(real))
    cdef Py_ssize_t least = LEAST_TERMS * min(p.mr, <Py_ssize_t>6)
    return min(p.cg, max(channels, parts_of(least, taps)))


cdef inline Py_ssize_t pixels_at_a_time(const Problem* p) noexcept nogil:
    # side by side, so that the columns that they read stay in the cache for all blocks
    cdef Py_ssize_t column = p.channels * used(&p.rows) * p.images * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t columns = max(NEAR // column, used(&p.cols))
    return (columns - used(&p.cols)) // pace(&p.cols) + 1


cdef inline Py_ssize_t rows_at_a_time(const Problem* p, int threads) noexcept nogil:
    # of pixels: neighbours read much the same, which is gone when other channels were read in between;
    # so many that what they write stays in the cache, and that the threads can share the work
    cdef double row = <double>p.fg * p.out.w * p.images * sizeof(real)
    cdef Py_ssize_t most = parts_of(p.out.n, p.images) * p.out.h // (4 * threads)
    if p.channels == p.cg:
        return 1
    return max(<Py_ssize_t>1, min(min(most, <Py_ssize_t>ROWS), <Py_ssize_t>(CACHED / 2 / row)))


cdef inline void cut_direct(Problem* p, int threads) noexcept nogil:
    # images that a job takes along a row: all, if what they read stays in the cache from row to row
    p.images = p.out.n
    p.channels = channels_at_a_time(p)
    if <double>p.rows.kernel * p.x.w * p.channels * p.x.n * sizeof(real) > CACHED:
        p.images = (4 if p.mr <= WIDE_MR else 2) * VLEN
        p.channels = channels_at_a_time(p)
    p.run = pixels_at_a_time(p)
    p.band = rows_at_a_time(p, threads)
