# The panel of im2col: what a block of output positions reads, copied together; and what a convolution
# is, for the kernels in conv.pyx.

from cyconv.kernels.planes cimport Planes
from cyconv.kernels.simd cimport VLEN, load, real, store
from cyconv.kernels.window cimport Axis, source


cdef struct Problem:
    Planes x, out              # x is read, out is written
    const real* w              # packed: (groups, blocks, 1 + cg * taps, mr), the bias first
    Py_ssize_t groups, cg, fg  # channels per group: read, written
    Py_ssize_t taps            # KH * KW
    Py_ssize_t mr, blocks      # written channels per block, blocks per group
    Axis rows, cols
    Py_ssize_t images          # taken together along a row by the direct algorithm
    Py_ssize_t channels        # read one after the other, while they stay in the cache
    Py_ssize_t panels          # filled together by im2col
    bint strided               # neighbours in a row of the output do not read neighbours
    bint relu


cdef enum:
    PANELS = 4  # filled together at most


cdef struct Panel:             # output positions from `position` on
    real* rows                 # (cg * taps, width): what tap t reads in channel c, zeros for padding
    Py_ssize_t position, lanes # how many, and in how wide rows, with zeros behind them
    Py_ssize_t width


cdef struct Segment:           # lanes that lie in one row of the output, one pixel if `strided`
    Py_ssize_t lane, size      # the first, and how many
    Py_ssize_t row, place      # where the first lies: the row, and the number in the row


cdef struct Run:               # lanes whose sources are neighbours in memory, or padding
    Py_ssize_t lane, size, offset  # in a plane of x; -1 for padding


cdef inline void copy(real* dst, const real* src, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    while count >= VLEN:
        store(dst, load(src))
        dst, src, count = dst + VLEN, src + VLEN, count - VLEN
    for i in range(count):
        dst[i] = src[i]


cdef inline Py_ssize_t segments_of(
    const Problem* p, Py_ssize_t position, Py_ssize_t lanes, Segment* segments
) noexcept nogil:
    # cut the lanes from output position `position` on into segments, and say how many there are
    cdef Py_ssize_t rowlen = p.out.w * p.out.n
    cdef Py_ssize_t length = p.out.n if p.strided else rowlen  # of the longest segment
    cdef Py_ssize_t lane = 0, count = 0
    while lane < lanes:
        segments[count].lane = lane
        segments[count].row = (position + lane) // rowlen
        segments[count].place = (position + lane) % rowlen
        segments[count].size = min(lanes - lane, length - segments[count].place % length)
        lane = lane + segments[count].size
        count = count + 1
    return count


cdef inline Py_ssize_t add_run(
    Run* runs, Py_ssize_t found, Py_ssize_t lane, Py_ssize_t size, Py_ssize_t offset
) noexcept nogil:
    if size <= 0:
        return found
    runs[found].lane, runs[found].size, runs[found].offset = lane, size, offset
    return found + 1


cdef inline Py_ssize_t runs_of(
    const Problem* p, const Segment* segments, Py_ssize_t count, Py_ssize_t kh, Py_ssize_t kw,
    Run* runs,
) noexcept nogil:
    # what tap (kh, kw) reads for each segment, as runs of neighbours in memory or of padding
    cdef Py_ssize_t images = p.x.n, rowlen = p.x.w * images
    cdef Py_ssize_t i, ih, at, low, high, found = 0
    cdef const Segment* s
    cdef Py_ssize_t shift = kw * p.cols.dilation - p.cols.before
    if p.cols.transposed:
        shift = -shift
    shift = min(max(shift, -p.out.w), p.x.w)  # beyond these nothing is read, and nothing overflows
    for i in range(count):
        s = segments + i
        ih = source(&p.rows, s.row, kh)
        if ih < 0:
            low, high, at = s.size, s.size, 0
        elif p.strided:
            at = source(&p.cols, s.place // images, kw)
            low = 0 if at >= 0 else s.size
            high = s.size
            at = at * images + s.place % images
        else:
            at = s.place + shift * images
            low = min(max(<Py_ssize_t>0, -at), s.size)
            high = min(max(low, rowlen - at), s.size)
        found = add_run(runs, found, s.lane, low, -1)
        found = add_run(runs, found, s.lane + low, high - low, ih * rowlen + at + low)
        found = add_run(runs, found, s.lane + high, s.size - high, -1)
    return found


cdef inline void fill_row(
    const Run* runs, Py_ssize_t count, const real* src, Py_ssize_t width, real* row
) noexcept nogil:
    # what one tap reads in the plane src
    cdef Py_ssize_t i, j
    if count == 1 and width == 2 * VLEN and runs[0].offset >= 0:  # the most usual case
        store(row, load(src + runs[0].offset))
        store(row + VLEN, load(src + runs[0].offset + VLEN))
        return
    for i in range(count):
        if runs[i].offset >= 0:
            copy(row + runs[i].lane, src + runs[i].offset, runs[i].size)
        else:
            for j in range(runs[i].size):
                row[runs[i].lane + j] = 0


cdef inline void fill_panels(
    const Problem* p, Py_ssize_t group, const Panel* panels, Py_ssize_t count
) noexcept nogil:
    # The panels lie one after the other in the image, and are filled channel by channel together:
    # so a channel's plane, which is far from the next one, is read in longer stretches.
    cdef const real* plane = p.x.data + group * p.cg * p.x.stride
    cdef Segment segments[PANELS][2 * VLEN]
    cdef Py_ssize_t segment_counts[PANELS]
    cdef Run runs[PANELS][6 * VLEN + 1]
    cdef Py_ssize_t run_counts[PANELS]
    cdef Py_ssize_t c, t, i
    for i in range(count):
        segment_counts[i] = segments_of(p, panels[i].position, panels[i].lanes, segments[i])
    for t in range(p.taps):
        for i in range(count):
            run_counts[i] = runs_of(
                p, segments[i], segment_counts[i], t // p.cols.kernel, t % p.cols.kernel, runs[i])
            run_counts[i] = add_run(
                runs[i], run_counts[i], panels[i].lanes, panels[i].width - panels[i].lanes, -1)
        for c in range(p.cg):
            for i in range(count):
                fill_row(runs[i], run_counts[i], plane + c * p.x.stride, panels[i].width,
                         panels[i].rows + (c * p.taps + t) * panels[i].width)
