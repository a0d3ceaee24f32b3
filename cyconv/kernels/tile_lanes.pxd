# Winograd's convolution of few images: lanes are tiles, and the images of each.
#
# What element (i, j) of the tiles reads lies `step` pixels apart from tile to tile. So a channel is
# first laid out, with zeros around it: for each j what it reads in all tiles of a row, row by row of the
# image, which are sorted by their number modulo `step`. There, an element of all tiles is one stretch of
# memory, from tile to tile of a row and on to the next row.
#
#   V   a job transforms one channel, of a strip of rows of tiles     (fill_channel)
#   M   a job takes a block of lanes and a block of output channels   (multiply)
#   Y   is turned back from lanes to rows of pixels                   (write_tiles)

from cyconv.kernels.panel cimport copy
from cyconv.kernels.points cimport (
    ALONG, MOST, SIDE, STRIDED, WIDENED, input_1d, points_along, reads_along, side_of, step_of,
)
from cyconv.kernels.simd cimport (
    VLEN, broadcast, inlined, keep, load, real, store, store_first, transpose, vreal,
)
from cyconv.kernels.tile cimport first_row, odd_lines, parts_of, rows_in
from cyconv.kernels.tiling cimport Problem, multiply_points
from cyconv.kernels.transforms cimport input_lines, output_columns, output_line

cdef enum:
    WIDTH = 2 * VLEN                         # lanes of a block
    ROW = SIDE * SIDE                        # of a tile's outputs, at most: whole vectors
    OWN = 1310720                            # bytes of V that a thread uses together, ...
    SHARED = 2359296                         # ... and that all of them do
    MOST_UNEVEN = 115                        # percent of the mean that a thread may take


cdef struct Place:  # of a lane
    Py_ssize_t ty, tx, image


cdef inline Place place_of(const Problem* p, Py_ssize_t first, Py_ssize_t lane) noexcept nogil:
    # behind the first lane of the row `first` of tiles
    cdef Place at
    at.ty, lane = first + lane // across(p), lane % across(p)
    at.tx, at.image = lane // p.out.n, lane % p.out.n
    return at


cdef inline Py_ssize_t reads_of(const Problem* p) noexcept nogil:
    # rows and columns that a tile reads
    return p.apart * reads_along(p.method)


cdef inline Py_ssize_t reach(const Problem* p) noexcept nogil:
    # how many tiles further they lie
    return (reads_of(p) - 1) // p.step


cdef inline Py_ssize_t across(const Problem* p) noexcept nogil:
    # lanes of a row of tiles
    return p.tile_cols * p.out.n


cdef inline Py_ssize_t lanes_of(const Problem* p, Py_ssize_t rows) noexcept nogil:
    return rows * across(p)


cdef inline void cut(Problem* p, int threads) noexcept nogil:
    # into strips of about equal size, which are blocks of lanes at least. Threads that take strips of their
    # own need not hand each other V, but all of them read the whole of U: that is not to be more, of each
    # channel. (The sizes and the share were measured at batches of 1, 4 and 8.)
    cdef Py_ssize_t row = p.points * p.channels * across(p) * <Py_ssize_t>sizeof(real)
    cdef Py_ssize_t least = parts_of(WIDTH, across(p))
    cdef Py_ssize_t each = parts_of(parts_of(p.tile_rows, max(least, OWN // row)), threads)
    p.strip = parts_of(p.tile_rows, each * threads)
    p.own_strips = p.strip >= least \
        and p.matrices * p.out.c <= p.points * threads * lanes_of(p, p.strip) \
        and 100 * p.strip * each * threads <= MOST_UNEVEN * p.tile_rows
    if not p.own_strips:
        p.strip = parts_of(p.tile_rows, parts_of(p.tile_rows, max(least, SHARED // row)))


cdef inline Py_ssize_t strips_of(const Problem* p) noexcept nogil:
    return parts_of(p.tile_rows, p.strip)


cdef inline Py_ssize_t blocks_of(Py_ssize_t lanes) noexcept nogil:
    return parts_of(lanes, WIDTH)


cdef inline Py_ssize_t filled_size(const Problem* p) noexcept nogil:
    # numbers of V
    return blocks_of(lanes_of(p, p.strip)) * p.points * odd_lines(p.channels * WIDTH)


cdef inline Py_ssize_t padded_width(const Problem* p) noexcept nogil:
    # columns that the tiles of a row read
    return (p.tile_cols - 1) * p.step + reads_of(p)


cdef inline Py_ssize_t padded_size(const Problem* p, Py_ssize_t rows) noexcept nogil:
    # numbers of a channel, of so many rows of tiles, padded
    return p.step * rows * padded_width(p) * p.out.n


cdef inline Py_ssize_t own_size(const Problem* p) noexcept nogil:
    # numbers of scratch of each thread: a channel, padded and laid out, and what is read behind it; or M
    cdef Py_ssize_t rows = p.strip + reach(p), size = padded_size(p, rows)
    return max(size + reads_of(p) * p.step * lanes_of(p, rows) + 2 * WIDTH, p.points * p.mr * WIDTH)


# ------------------------------------------------------------------ V


# Whole vectors are written: what they bring too much is overwritten by what comes next.


cdef inline real* put(const real* src, Py_ssize_t count, real* dst) noexcept nogil:
    cdef Py_ssize_t k = 0
    while k < count:
        store(dst + k, load(src + k))
        k = k + VLEN
    return dst + count


cdef inline real* put_zeros(Py_ssize_t count, real* dst) noexcept nogil:
    cdef vreal zeros = broadcast(0)
    cdef Py_ssize_t k = 0
    keep(zeros)  # or the compiler calls memset, for a few numbers each time
    while k < count:
        store(dst + k, zeros)
        k = k + VLEN
    return dst + count


cdef inline void pad(
    const int step, const Problem* p, const real* plane, Py_ssize_t first, Py_ssize_t rows, real* dst
) noexcept nogil:
    # so many rows of tiles from `first` on: dst (step, rows, width, N), zeros where no image is
    cdef Py_ssize_t n = p.out.n, width = padded_width(p)
    cdef Py_ssize_t begin = min(max(p.left, <Py_ssize_t>0), width)
    cdef Py_ssize_t skipped = max(-p.left, <Py_ssize_t>0)
    cdef Py_ssize_t count = max(min(p.x.w - skipped, width - begin), <Py_ssize_t>0)
    cdef Py_ssize_t i, row, ih
    for i in range(step):
        for row in range(rows):
            ih = (first + row) * step + i - p.top
            if 0 <= ih < p.x.h:
                dst = put_zeros(begin * n, dst)
                copy(dst, plane + (ih * p.x.w + skipped) * n, count * n)
                dst = put_zeros((width - begin - count) * n, dst + count * n)
            else:
                dst = put_zeros(width * n, dst)


cdef inline inlined sort_columns(
    const int step, const int reads, const Problem* p, const real* padded, Py_ssize_t rows, real* dst
) noexcept nogil:
    # dst (reads, rows, across), what each column of the tiles reads of padded rows
    cdef Py_ssize_t n = p.out.n, width = padded_width(p), row, i, j
    for j in range(reads):
        for row in range(rows):
            for i in range(p.tile_cols):
                dst = put(padded + (row * width + i * step + j) * n, n, dst)


cdef inline inlined sort_single(
    const int step, const int reads, const Problem* p, const real* padded, Py_ssize_t rows, real* dst
) noexcept nogil:
    # the same of one image. Of VLEN tiles at a time, whole vectors of what each reads are turned into its
    # columns; behind the last tile lies anything.
    cdef vreal square[VLEN]
    cdef Py_ssize_t tiles = rows * p.tile_cols, behind = padded_width(p) - p.tile_cols * step
    cdef Py_ssize_t first = 0, col = 0, column, count, i, j
    cdef const real* src
    while first < tiles:
        count = min(tiles - first, <Py_ssize_t>VLEN)
        column = 0
        while column < reads:
            src, i = padded + column, col
            for j in range(VLEN):
                square[j] = load(src)
                src, i = src + step, i + 1
                if i == p.tile_cols:
                    src, i = src + behind, 0
            transpose(square)
            for j in range(min(<Py_ssize_t>VLEN, reads - column)):
                store_first(dst + (column + j) * tiles + first, square[j], count)
            column = column + VLEN
        padded, col, first = src - column + VLEN, i, first + count


cdef inline inlined lay_out(
    const int step, const int reads, const Problem* p, const real* plane, Py_ssize_t first,
    Py_ssize_t rows, real* padded, real* dst,
) noexcept nogil:
    # what so many rows of tiles from `first` on read of a channel: dst (reads, step, rows, across), of
    # columns of the tiles and rows of the image modulo `step`
    pad(step, p, plane, first, rows, padded)
    if p.out.n == 1:
        sort_single(step, reads, p, padded, step * rows, dst)
    else:
        sort_columns(step, reads, p, padded, step * rows, dst)


cdef inline inlined transform_lanes(
    const int method, const int apart, const Problem* p, const real* laid, Py_ssize_t size,
    Py_ssize_t top, Py_ssize_t left, real* v, Py_ssize_t vstride,
) noexcept nogil:
    # v[point * vstride] = Bt d B of VLEN tiles of one channel, of pixels `apart` from each other
    cdef vreal t[MOST]  # t[column, point]
    cdef vreal line[ALONG]
    cdef Py_ssize_t i, j, ih, iw
    cdef int step = apart * step_of(method), reads = reads_along(method), along = points_along(method)
    cdef Py_ssize_t row = across(p)
    for j in range(reads):
        iw = left + apart * j
        for i in range(reads):
            ih = top + apart * i
            line[i] = load(laid + (iw * step + ih % step) * size + ih // step * row)
        input_1d(method, <real*>line, VLEN, t + j * along, 1)
    input_lines(method, t, v, vstride)


cdef inline inlined fill_of(
    const int method, const int apart, const Problem* p, Py_ssize_t c, Py_ssize_t first,
    Py_ssize_t rows, real* v, real* own,
) noexcept nogil:
    cdef Py_ssize_t total = lanes_of(p, rows), size = lanes_of(p, rows + reach(p))
    cdef Py_ssize_t begin = 0, width, lane, i, j
    cdef int step = apart * step_of(method)
    cdef real* to
    cdef real* laid = own + padded_size(p, rows + reach(p)) + WIDTH
    lay_out(step, apart * reads_along(method), p, p.x.data + c * p.x.stride, first, rows + reach(p), own, laid)
    while begin < total:
        width = VLEN if total - begin <= VLEN else WIDTH
        lane = 0
        while lane < width:
            to = v + c * apart * apart * width + lane
            for i in range(apart):
                for j in range(apart):
                    transform_lanes(method, apart, p, laid + begin + lane, size, i, j, to,
                                    odd_lines(p.channels * width))
                    to = to + width
            lane = lane + VLEN
        v = v + p.points * odd_lines(p.channels * width)
        begin = begin + width


cdef inline void fill_channel(
    const Problem* p, Py_ssize_t c, Py_ssize_t first, Py_ssize_t rows, real* v, real* own
) noexcept nogil:
    # v (blocks of lanes, points, C, lanes) of one channel; the method becomes a constant
    if p.method == 4: fill_of(4, 2, p, c, first, rows, v, own)
    elif p.apart == 2: fill_of(3, 2, p, c, first, rows, v, own)
    elif p.method == 3: fill_of(3, 1, p, c, first, rows, v, own)
    elif p.method == 5: fill_of(5, 1, p, c, first, rows, v, own)
    elif p.method == STRIDED: fill_of(STRIDED, 1, p, c, first, rows, v, own)
    else: fill_of(WIDENED, 1, p, c, first, rows, v, own)


# ------------------------------------------------------------------ M and Y


cdef inline inlined write_tiles(
    const int method, const Problem* p, const real* m, Py_ssize_t mstride, real bias, Place at,
    Py_ssize_t count, real* plane,
) noexcept nogil:
    # one channel's outputs of `count` <= VLEN lanes, of which the first is at a place
    cdef vreal t[ALONG * SIDE]  # t[column, output row]
    cdef vreal y[ROW + 1]  # a whole vector is read from the last one's lanes on
    cdef real tiles[VLEN * ROW]
    cdef const real* lanes = <const real*>y
    cdef Py_ssize_t n = p.out.n, i, lane, images, rows, cols
    cdef int side = side_of(method)
    cdef real* dst
    output_columns(method, m, mstride, t)
    for i in range(side):
        output_line(method, t, i, bias, p.relu, y + i * side)
    if n == 1:
        for i in range(side * side, parts_of(side * side, VLEN) * VLEN):
            y[i] = broadcast(0)
        i = 0
        while i < side * side:
            transpose(y + i)
            for lane in range(VLEN):
                store(tiles + lane * ROW + i, y[i + lane])
            i = i + VLEN
    lane = 0
    while lane < count:
        images = min(n - at.image, count - lane)
        rows = min(<Py_ssize_t>side, p.out.h - at.ty * side)
        cols = min(<Py_ssize_t>side, p.out.w - at.tx * side)
        dst = plane + (at.ty * side * p.out.w + at.tx * side) * n + at.image
        if n == 1:
            write_tile(side, tiles + lane * ROW, rows, cols, dst, p.out.w)
        else:
            write_images(side, lanes + lane, rows, cols, images, n, dst, p.out.w * n)
        lane, at.image = lane + images, at.image + images
        if at.image == n:
            at.image, at.tx = 0, at.tx + 1
        if at.tx == p.tile_cols:
            at.tx, at.ty = 0, at.ty + 1


cdef inline inlined write_tile(
    const int side, const real* tile, Py_ssize_t rows, Py_ssize_t cols, real* dst, Py_ssize_t step
) noexcept nogil:
    # rows of pixels, `step` numbers apart, of the only image
    cdef Py_ssize_t i, j
    for i in range(rows):
        if cols == side:
            for j in range(side):
                dst[i * step + j] = tile[i * side + j]
        else:
            for j in range(cols):
                dst[i * step + j] = tile[i * side + j]


cdef inline inlined write_images(
    const int side, const real* lanes, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t images, Py_ssize_t n,
    real* dst, Py_ssize_t step,
) noexcept nogil:
    # the same of some of n images, which lie side by side in vectors, one for each pixel
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(cols):
            store_first(dst + i * step + j * n, load(lanes + (i * side + j) * VLEN), images)


cdef inline void write_tiles_of(
    const Problem* p, const real* m, Py_ssize_t mstride, Py_ssize_t f, Place at, Py_ssize_t count
) noexcept nogil:
    # the method becomes a constant
    cdef real bias = p.bias[f] if p.bias != NULL else 0
    cdef real* plane = p.out.data + f * p.out.stride
    if p.method == 3: write_tiles(3, p, m, mstride, bias, at, count, plane)
    elif p.method == 4: write_tiles(4, p, m, mstride, bias, at, count, plane)
    elif p.method == 5: write_tiles(5, p, m, mstride, bias, at, count, plane)
    elif p.method == STRIDED: write_tiles(STRIDED, p, m, mstride, bias, at, count, plane)
    else: write_tiles(WIDENED, p, m, mstride, bias, at, count, plane)


cdef inline void multiply(
    const Problem* p, Py_ssize_t part, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows,
    const real* v, real* m,
) noexcept nogil:
    # outputs of one block of channels for one block of lanes, number `part` of the strip
    cdef Py_ssize_t begin = part * WIDTH
    cdef Py_ssize_t total = lanes_of(p, rows), lanes = min(total - begin, <Py_ssize_t>WIDTH)
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else WIDTH
    cdef Py_ssize_t start = first_row(block, p.out.c, p.blocks)
    cdef Py_ssize_t channels = rows_in(block, p.out.c, p.blocks), f, lane, count
    cdef Place at
    multiply_points(p, block, v + part * p.points * odd_lines(p.channels * WIDTH), m, width)
    lane = 0
    while lane < lanes:
        at = place_of(p, first, begin + lane)
        count = min(<Py_ssize_t>VLEN, lanes - lane)
        for f in range(channels):
            write_tiles_of(p, m + f * width + lane, channels * width, start + f, at, count)
        lane = lane + VLEN
