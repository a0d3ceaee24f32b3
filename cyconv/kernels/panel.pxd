# im2col: what a convolution is, and the panels of what its outputs read.
#
# Reading the neighbours of a pixel at the image's edge, or every second pixel of a row, would take a
# decision for each number. So the input is first copied once, with its padding and with the columns
# sorted by column % stride: in this copy, what one tap reads for a row of outputs is one stretch of
# memory, whatever the tap. (Nothing is copied where the input itself is like that.) A panel then takes
# what all taps read for 2 VLEN outputs, rows of 2 VLEN numbers, which the micro-kernel reads in order.
# Where pixels are the lanes, those of one row need no panel: they are read in the copy.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport (
    VLEN, every_second, load, load_first, prefetch, real, store, store_first,
)
from cyconv.kernels.tile cimport fetch_row, first_row, parts_of, rows_in
from cyconv.kernels.window cimport Axis, pace, source, spread

cdef enum:
    PANELS = 8                 # filled together at most
    AHEAD = 8                  # channels from where memory is asked for to where it is copied ...
    BEYOND = 2048 // sizeof(real)  # ... and numbers of a row: pages end too soon for the processor to foresee


cdef struct Problem:
    Planes x, out              # x is read, out is written
    const real* w              # packed: (groups, blocks, 1 + cg * taps, mr), the bias first ...
    bint by_tap                # ... and then (taps, cg) or, if not, (cg, taps)
    Py_ssize_t groups, cg, fg  # channels per group: read, written
    Py_ssize_t taps            # KH * KW
    Py_ssize_t mr, blocks      # written channels per block, at most, and blocks per group
    Py_ssize_t jobs            # rows of pixels or blocks of lanes, in each group
    Py_ssize_t parts           # jobs that share the blocks, ...
    bint by_part               # ... and whether those of the same blocks, rather than rows, follow each other
    Axis rows, cols
    bint direct, relu
    # of the direct algorithm
    Py_ssize_t images          # taken together along a row
    Py_ssize_t channels        # read one after the other, while they stay in the cache, ...
    Py_ssize_t run, band       # ... and pixels beside each other; rows of them in a job
    # of im2col
    Py_ssize_t panels          # filled together
    real* filled               # all panels, if they are filled before they are used
    bint in_place              # x needs no copy
    real* padded               # (C, rows, phases, columns, N), or x itself
    real* end                  # of what may be read there
    Py_ssize_t height, width   # rows of a padded plane, and columns of a phase
    Py_ssize_t phases
    Py_ssize_t rowsize, plane  # numbers of a padded row, and from plane to plane
    Py_ssize_t* places         # (cg * taps): of what is read, relative to what tap (0, 0) reads
    Py_ssize_t* weights        # (cg * taps): of its weights


cdef struct Panel:             # output positions (row, column, image) from `position` on
    real* rows                 # (cg * taps, width): what tap t reads in channel c
    Py_ssize_t position, lanes # how many, in rows of `width`; behind them lies anything
    Py_ssize_t width
    bint in_place              # rows is where tap (0, 0) reads: there is nothing to copy


cdef struct Segment:           # lanes that lie in one row of the output
    Py_ssize_t lane, size      # the first, and how many
    Py_ssize_t place           # in a padded plane, of what tap (0, 0) reads


cdef inline real* out_at(
    const Problem* p, Py_ssize_t group, Py_ssize_t block, Py_ssize_t position
) noexcept nogil:
    return p.out.data + (group * p.fg + first_row(block, p.fg, p.blocks)) * p.out.stride + position


cdef inline void fetch_out(
    const Problem* p, const real* out, Py_ssize_t rows, Py_ssize_t lanes
) noexcept nogil:
    # ask for what a tile writes: of planes so far apart, the processor foresees nothing
    cdef Py_ssize_t f
    for f in range(rows):
        fetch_row(out + f * p.out.stride, lanes)


cdef inline Py_ssize_t rows_of(const Problem* p, Py_ssize_t block) noexcept nogil:
    # written channels
    return rows_in(block, p.fg, p.blocks)


cdef inline void for_all_channels(
    Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t channels, Py_ssize_t step
) noexcept nogil:
    # from the offsets of one channel's taps those of others, which lie `step` apart
    cdef Py_ssize_t c, t
    for c in range(1, channels):
        for t in range(taps):
            offsets[c * taps + t] = offsets[t] + c * step


cdef inline Py_ssize_t tap_step(const Problem* p) noexcept nogil:
    # rows from the weights of a tap to those of the next, and ...
    return p.cg if p.by_tap else 1


cdef inline Py_ssize_t channel_step(const Problem* p) noexcept nogil:
    # ... from those of a channel
    return 1 if p.by_tap else p.taps


cdef inline const real* weights_of(
    const Problem* p, Py_ssize_t group, Py_ssize_t block
) noexcept nogil:
    return p.w + (group * p.blocks + block) * (1 + p.cg * p.taps) * p.mr


cdef inline real* from_cache_line(real* scratch) noexcept nogil:
    return scratch + (64 - <size_t>scratch % 64) % 64 // sizeof(real)


# ------------------------------------------------------------------ the padded copy


cdef inline Py_ssize_t padded_size(const Axis* a) noexcept nogil:
    # positions from the first to the last that any output reads; 2**40 or more if that is absurd
    cdef double reach = <double>(a.kernel - 1) * a.dilation
    cdef double last = <double>(a.out - 1) * pace(a)
    return <Py_ssize_t>(last + reach + 1) if last + reach < 2.0**40 else 2**40


cdef inline Py_ssize_t origin(const Axis* a) noexcept nogil:
    # where the input's first position lies among them, maybe before the first
    return (a.kernel - 1) * a.dilation - a.before if a.transposed else a.before


cdef inline Py_ssize_t tap_at(const Axis* a, Py_ssize_t k) noexcept nogil:
    # how far kernel position k reads from where the first does; a gradient turns the kernel round
    return (a.kernel - 1 - k if a.transposed else k) * a.dilation


cdef inline bint lay_out_padded(Problem* p) noexcept nogil:
    # how the copy lies; False if it would be out of all proportion. (How one lies that could not even be
    # addressed stays open.)
    cdef double size
    p.phases = pace(&p.cols)
    p.height = padded_size(&p.rows)
    p.width = parts_of(padded_size(&p.cols), p.phases)
    size = <double>p.x.c * p.height * p.phases * p.width * p.x.n
    if size >= 2.0**60:
        return False
    p.rowsize = p.phases * p.width * p.x.n
    p.plane = p.height * p.rowsize
    p.in_place = (p.taps == 1 or not p.rows.transposed) \
        and p.rows.stride == 1 and p.cols.stride == 1 \
        and p.height == p.x.h and p.width == p.x.w and p.rows.before == 0 and p.cols.before == 0
    return size < 2.0**20 or size < 16 * (
        <double>p.x.c * p.x.h * p.x.w * p.x.n + <double>p.out.c * p.out.h * p.out.w * p.out.n)


cdef inline Py_ssize_t column_place(const Problem* p, Py_ssize_t k) noexcept nogil:
    # what kernel column k reads, relative to what the first of no padding reads, in a padded row
    cdef Py_ssize_t col = tap_at(&p.cols, k)
    return (col % p.phases * p.width + col // p.phases) * p.out.n


cdef inline Py_ssize_t tap_place(const Problem* p, Py_ssize_t tap) noexcept nogil:
    # what a tap reads, relative to what tap (0, 0) of no padding reads, in a padded plane
    cdef Py_ssize_t row = tap_at(&p.rows, tap // p.cols.kernel)
    return row * p.rowsize + column_place(p, tap % p.cols.kernel)


cdef inline Py_ssize_t row_of(const Axis* a, Py_ssize_t position) noexcept nogil:
    # the input position that lies at a padded one, or -1: in a gradient by the input, what is read
    # has stride - 1 zeros between its rows
    cdef Py_ssize_t i = position - origin(a), apart = spread(a)
    if apart > 1:  # a division takes as long as ten multiplications
        if i % apart != 0:
            return -1
        i = i // apart
    return i if 0 <= i < a.size else -1


cdef inline bint is_read(const Axis* a, Py_ssize_t position) noexcept nogil:
    # whether any tap reads a padded position: a kernel may be smaller than its stride
    return a.transposed or a.dilation > 1 or position % a.stride < a.kernel


cdef inline Py_ssize_t ceil_divided(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    # a / b rounded up, or 0 for a below 0
    return parts_of(a, b) if a > 0 else 0


cdef inline void pad_row(
    const Problem* p, Py_ssize_t channel, Py_ssize_t row, real* dst
) noexcept nogil:
    # fill one row of the copy, as far as any tap reads it
    cdef Py_ssize_t ih = row_of(&p.rows, row), before = origin(&p.cols)
    cdef Py_ssize_t images = p.x.n
    cdef Py_ssize_t step = p.phases           # of columns of x
    cdef Py_ssize_t apart = spread(&p.cols)   # columns of the copy
    cdef Py_ssize_t phase, iw, at
    cdef const real* src
    cdef Py_ssize_t count
    if not is_read(&p.rows, row):
        return
    if ih < 0:
        clear(dst, p.rowsize)
        return
    src = p.x.data + channel * p.x.stride + ih * p.x.w * images
    if step == 1 and apart == 1:  # what lies in x, between zeros
        at = min(max(before, <Py_ssize_t>0), p.width)
        iw = max(-before, <Py_ssize_t>0)
        count = max(min(p.x.w - iw, p.width - at), <Py_ssize_t>0)
        clear(dst, at * images)
        copy(dst + at * images, src + iw * images, count * images)
        clear(dst + (at + count) * images, (p.width - at - count) * images)
        return
    for phase in range(p.phases):
        if not is_read(&p.cols, phase):
            dst = dst + p.width * images
            continue
        if p.cols.transposed:
            iw = ceil_divided(-before, apart)
            at = before + iw * apart
        else:
            at = ceil_divided(before - phase, step)
            iw = at * step + phase - before
        clear(dst, (p.width if apart > 1 else min(at, p.width)) * images)
        count = min(ceil_divided(p.x.w - iw, step), ceil_divided(p.width - at, apart))
        pick(dst + at * images, apart, src + iw * images, step, count, images)
        if apart == 1:
            at = at + count
            clear(dst + at * images, (p.width - at) * images)
        dst = dst + p.width * images


cdef inline void clear(real* dst, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dst[i] = 0


cdef inline void pick(
    real* dst, Py_ssize_t apart, const real* src, Py_ssize_t step, Py_ssize_t count,
    Py_ssize_t images,
) noexcept nogil:
    # every step-th of src's pixels, each of so many images, to every apart-th place
    cdef Py_ssize_t i
    while images == 1 and apart == 1 and step == 2 and count >= VLEN:
        store(dst, every_second(load(src), load(src + VLEN - 1)))
        dst, src, count = dst + VLEN, src + 2 * VLEN, count - VLEN
    while count > 0:
        if images >= VLEN:
            copy(dst, src, images)
        else:
            for i in range(images):
                dst[i] = src[i]
        dst, src, count = dst + apart * images, src + step * images, count - 1


cdef inline void copy(real* dst, const real* src, Py_ssize_t count) noexcept nogil:
    while count >= VLEN:
        prefetch(src + BEYOND)
        store(dst, load(src))
        dst, src, count = dst + VLEN, src + VLEN, count - VLEN
    if count > 0:
        store_first(dst, load_first(src, count), count)


# ------------------------------------------------------------------ panels


cdef inline Py_ssize_t place_of(const Problem* p, Py_ssize_t position) noexcept nogil:
    # where tap (0, 0) of an output position reads, in a padded plane
    cdef Py_ssize_t rowlen = p.out.w * p.out.n
    return position // rowlen * pace(&p.rows) * p.rowsize + position % rowlen


cdef inline Py_ssize_t segments_of(
    const Problem* p, const Panel* panel, Segment* segments
) noexcept nogil:
    # cut a panel's lanes into segments, and say how many there are
    cdef Py_ssize_t rowlen = p.out.w * p.out.n
    cdef Py_ssize_t lane = 0, count = 0, position
    while lane < panel.lanes:
        position = panel.position + lane
        segments[count].lane = lane
        segments[count].size = min(panel.lanes - lane, rowlen - position % rowlen)
        segments[count].place = place_of(p, position)
        lane = lane + segments[count].size
        count = count + 1
    return count


cdef inline void fill_panels(
    const Problem* p, Py_ssize_t group, const Panel* panels, Py_ssize_t count
) noexcept nogil:
    # The panels lie one after the other in the image, and are filled channel by channel together:
    # so a channel's plane, which is far from the next one, is read in longer stretches. Whole
    # vectors are copied; what they bring too much is overwritten by what comes next, or lies in
    # lanes that nobody looks at.
    cdef Segment segments[PANELS][2 * VLEN]
    cdef Py_ssize_t segment_counts[PANELS]
    cdef const real* plane
    cdef const real* src
    cdef real* dst
    cdef const Segment* s
    cdef Py_ssize_t c, t, i, j, size
    # of a row of lanes; the taps of larger kernels read on from the first
    cdef Py_ssize_t ahead = 2 * VLEN if p.taps == 1 else 1
    for i in range(count):
        segment_counts[i] = 0 if panels[i].in_place else segments_of(p, &panels[i], segments[i])
    for c in range(p.cg):
        plane = p.padded + (group * p.cg + c) * p.plane
        for t in range(p.taps):
            for i in range(count):
                for j in range(segment_counts[i]):
                    s = &segments[i][j]
                    src = plane + p.places[t] + s.place
                    dst = panels[i].rows + (c * p.taps + t) * panels[i].width + s.lane
                    size = s.size
                    if t == 0:  # planes lie too far apart for the processor to foresee the next
                        fetch_row(src + AHEAD * p.plane, ahead)
                    while size > 0 and src + VLEN <= p.end:
                        store(dst, load(src))
                        dst, src, size = dst + VLEN, src + VLEN, size - VLEN
                    if size > 0:  # at the end of x itself
                        copy(dst, src, size)


cdef inline void fill_pixel(
    const Problem* p, Py_ssize_t group, Py_ssize_t row, Py_ssize_t col, Py_ssize_t image,
    const Panel* panel,
) noexcept nogil:
    # a panel of one output pixel for fewer than VLEN images, from `image` on, from x itself; its rows
    # lie as the weights do
    cdef const real* plane = p.x.data + group * p.cg * p.x.stride + image
    cdef const real* src
    cdef real* dst
    cdef Py_ssize_t c, t, i, ih, iw
    for t in range(p.taps):
        ih = source(&p.rows, row, t // p.cols.kernel)
        iw = source(&p.cols, col, t % p.cols.kernel)
        for c in range(p.cg):
            dst = panel.rows + (c * channel_step(p) + t * tap_step(p)) * panel.width
            src = plane + c * p.x.stride + (ih * p.x.w + iw) * p.x.n
            for i in range(panel.width):
                dst[i] = src[i] if ih >= 0 and iw >= 0 and i < panel.lanes else 0
