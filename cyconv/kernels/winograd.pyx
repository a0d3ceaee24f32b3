# Convolution by Winograd's minimal filtering: F(4x4, 3x3) for 3x3 kernels, where a tile of 4x4 outputs
# takes 36 multiplications instead of 144, and F(3x3, 5x5) for 5x5 kernels, where a tile of 3x3 outputs
# takes 49 instead of 225. With stride 2, a tile of 4x4 outputs takes 81 of 144 for 3x3 kernels, 144 of
# 400 for 5x5 ones and 196 of 784 for 7x7 ones.
#
#   U = G w Gt      of each kernel, once per call                    (pack_weights)
#   V = Bt x B      of each tile of the input and each channel       (transform_input)
#   M = U V         summed over channels: a product for each point   (the micro-kernel of tile.pxd)
#   Y = At M A      the outputs of each channel                      (transform_output)
#
# Lanes are images, so each transform is plain sums of vectors; of few images, they are tiles, see
# tile_lanes.pxd. A job takes a few tiles of one row for up to 2 VLEN images, and for each block of
# output channels goes from V to Y, so that M stays in the cache. A thread takes rows that lie beside
# each other: where two write near each other, lines go to and fro between their caches. The gradient by the input is the same
# with each kernel turned by 180 degrees; or, where that takes many more tiles, the way back through the
# same tiles (winograd_input_grad.pyx).
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cython.parallel cimport prange, threadid

from cyconv.kernels.panel cimport from_cache_line
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, extent, numbers, planes
from cyconv.kernels.points cimport (
    ALONG, MOST, SIDE, STRIDED, WIDENED, evaluate_1d, reads_along, side_of, taps_of, weights_along,
)
from cyconv.kernels.simd cimport VLEN, inlined, prefetch, real, store, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport LINE, first_row, odd_lines, own_scratch, rows_in
from cyconv.kernels.tile_lanes cimport (
    blocks_of, fill_channel, filled_size, lanes_of, multiply, own_size, strip_of, strips_of,
)
from cyconv.kernels.tiling cimport Problem, multiply_points, problem_of
from cyconv.kernels.transforms cimport fetch, output_columns, output_line, store_some, transform_parts

cdef enum:
    LANES = 16           # no less than MR_MAX, and whole vectors
    FAR = 2097152        # bytes of U that lie outside of a core's own cache
    AHEAD = 8            # channels between where such memory is asked for and where it is written


# ------------------------------------------------------------------ transforms


cdef void transform_channel(
    const Problem* p, const real* plane, Py_ssize_t top, Py_ssize_t left, Py_ssize_t count, real* v,
    Py_ssize_t vstride, Py_ssize_t width,
) noexcept nogil:
    # the method becomes a constant
    cdef const Planes* x = &p.x
    if p.method == 4: transform_parts(4, 2, x, plane, top, left, count, v, vstride, width)
    elif p.apart == 2: transform_parts(3, 2, x, plane, top, left, count, v, vstride, width)
    elif p.method == 3: transform_parts(3, 1, x, plane, top, left, count, v, vstride, width)
    elif p.method == 5: transform_parts(5, 1, x, plane, top, left, count, v, vstride, width)
    elif p.method == STRIDED:
        transform_parts(STRIDED, 1, x, plane, top, left, count, v, vstride, width)
    else: transform_parts(WIDENED, 1, x, plane, top, left, count, v, vstride, width)


cdef inline inlined transform_output(
    const int method, const Problem* p, const real* m, Py_ssize_t mstride, real bias,
    Py_ssize_t top, Py_ssize_t left, Py_ssize_t count, real* plane,
) noexcept nogil:
    # one channel's tile of outputs that begins at (top, left), as far as they lie in the image, for
    # `count` <= VLEN images
    cdef vreal t[ALONG * SIDE]  # t[column, output row]
    cdef vreal line[SIDE]
    cdef Py_ssize_t i, j
    cdef int side = side_of(method)
    cdef Py_ssize_t rows = min(p.out.h - top, <Py_ssize_t>side)
    cdef Py_ssize_t cols = min(p.out.w - left, <Py_ssize_t>side)
    cdef bint whole = count == VLEN and cols == side
    cdef real* dst = plane + (top * p.out.w + left) * p.out.n
    output_columns(method, m, mstride, t)
    for i in range(rows):
        output_line(method, t, i, bias, p.relu, line)
        for j in range(side):
            if whole:
                store(dst + j * p.out.n, line[j])
            elif j < cols:
                store_some(dst + j * p.out.n, line[j], count)
        dst = dst + p.out.w * p.out.n


cdef void transform_tile(
    const Problem* p, const real* m, Py_ssize_t mstride, real bias, Py_ssize_t ty, Py_ssize_t tx,
    Py_ssize_t count, real* plane,
) noexcept nogil:
    # the method becomes a constant
    cdef Py_ssize_t top = ty * p.side, left = tx * p.side
    if p.method == 3: transform_output(3, p, m, mstride, bias, top, left, count, plane)
    elif p.method == 4: transform_output(4, p, m, mstride, bias, top, left, count, plane)
    elif p.method == 5: transform_output(5, p, m, mstride, bias, top, left, count, plane)
    elif p.method == STRIDED: transform_output(STRIDED, p, m, mstride, bias, top, left, count, plane)
    else: transform_output(WIDENED, p, m, mstride, bias, top, left, count, plane)


# ------------------------------------------------------------------ jobs


cdef void run_job(const Problem* p, Py_ssize_t job, real* scratch) noexcept nogil:
    # scratch: v (chunk, points, C, lanes), m (points, mr, lanes)
    cdef Py_ssize_t channels = p.channels
    cdef Py_ssize_t chunk = job % p.chunks
    cdef Py_ssize_t blocks = (p.out.n + p.lanes - 1) // p.lanes
    cdef Py_ssize_t ty = job // p.chunks // blocks
    cdef Py_ssize_t image = job // p.chunks % blocks * p.lanes
    cdef Py_ssize_t lanes = min(p.lanes, p.out.n - image)
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef Py_ssize_t first = chunk * p.chunk
    cdef Py_ssize_t last = min(first + p.chunk, p.tile_cols)
    cdef Py_ssize_t vstep = odd_lines(channels * width), vsize = p.points * vstep
    cdef Py_ssize_t size = p.apart * reads_along(p.method)  # of a tile of the input
    cdef Py_ssize_t top = ty * p.step - p.top, left, images
    cdef real* v = scratch
    cdef real* m = v + p.chunk * p.points * odd_lines(channels * p.lanes)
    cdef Py_ssize_t c, tx, lane, block, f, start, count
    cdef const real* plane
    cdef real* to
    cdef real bias
    for c in range(p.x.c):
        plane = p.x.data + c * p.x.stride + image
        for tx in range(first, last):
            if tx + 1 < last:  # what the next tile reads besides
                fetch(&p.x, plane, top, tx * p.step - p.left + size, size, p.step, lanes)
            else:
                fetch(&p.x, plane + p.x.stride, top, first * p.step - p.left, size, size, lanes)
            left = tx * p.step - p.left
            lane = 0
            while lane < lanes:
                images = min(<Py_ssize_t>VLEN, lanes - lane)
                to = v + (tx - first) * vsize + c * (channels // p.x.c) * width + lane
                transform_channel(p, plane + lane, top, left, images, to, vstep, width)
                lane = lane + VLEN
    for block in range(p.blocks):
        start = first_row(block, p.out.c, p.blocks)
        count = rows_in(block, p.out.c, p.blocks)
        for tx in range(first, last):
            for f in range(count):
                fetch(&p.out, p.out.data + (start + f) * p.out.stride + image,
                      ty * p.side, tx * p.side, p.side, p.side, lanes)
            multiply_points(p, block, v + (tx - first) * vsize, m, width)
            for f in range(count):
                bias = p.bias[start + f] if p.bias != NULL else 0
                lane = 0
                while lane < lanes:
                    transform_tile(
                        p, m + f * width + lane, count * width, bias, ty, tx,
                        min(<Py_ssize_t>VLEN, lanes - lane),
                        p.out.data + (start + f) * p.out.stride + image + lane)
                    lane = lane + VLEN


cdef struct Correlation:
    Task task
    Problem p
    real* v         # where lanes are tiles: V of a strip of them, or of one for each thread
    real* scratch   # of each thread, ...
    Py_ssize_t each # ... so many numbers
    bint own_strips # as the scratch was made for, however many threads there are later


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Correlation* c = <const Correlation*>task
    cdef const Problem* p = &c.p
    cdef Py_ssize_t jobs = (p.out.n + p.lanes - 1) // p.lanes * p.tile_rows * p.chunks
    cdef Py_ssize_t job
    for job in prange(jobs, num_threads=threads, schedule="static"):
        run_job(p, job, c.scratch + threadid() * c.each)


cdef void strip_job(const Correlation* c, Py_ssize_t strip, int threads) noexcept nogil:
    # some rows of tiles
    cdef const Problem* p = &c.p
    cdef Py_ssize_t first = strip * strip_of(p), rows = min(strip_of(p), p.tile_rows - first)
    cdef Py_ssize_t parts = blocks_of(lanes_of(p, rows)), jobs = parts * p.blocks, job
    for job in prange(p.x.c, num_threads=threads, schedule="static"):
        fill_channel(p, job, first, rows, c.v, c.scratch + threadid() * c.each)
    if p.out.c > lanes_of(p, rows):  # U is more than V: a thread is to read what it packed itself
        for job in prange(jobs, num_threads=threads, schedule="static"):
            multiply(p, job % parts, job // parts, first, rows, c.v, c.scratch + threadid() * c.each)
    else:
        for job in prange(jobs, num_threads=threads, schedule="dynamic",
                          chunksize=max(<Py_ssize_t>1, jobs // (4 * threads))):
            multiply(p, job // p.blocks, job % p.blocks, first, rows, c.v,
                     c.scratch + threadid() * c.each)


cdef void own_strip_job(const Correlation* c, Py_ssize_t strip, int thread) noexcept nogil:
    # by one thread, with a V of its own
    cdef Correlation own = c[0]
    own.v = c.v + thread * filled_size(&c.p)
    own.scratch = c.scratch + thread * c.each
    strip_job(&own, strip, 1)


cdef void run_tiles(const void* task, int threads) noexcept nogil:
    cdef const Correlation* c = <const Correlation*>task
    cdef Py_ssize_t strip
    if c.own_strips:
        for strip in prange(strips_of(&c.p), num_threads=threads, schedule="static"):
            own_strip_job(c, strip, threadid())
    else:
        for strip in range(strips_of(&c.p)):
            strip_job(c, strip, threads)


cdef bint has_own_strips(const Problem* p, int threads) noexcept nogil:
    # whether threads need not hand each other V: where U, which all of them read then, is not more, and
    # they get about as many strips each
    cdef Py_ssize_t strips = strips_of(p)
    return p.out.c <= lanes_of(p, strip_of(p)) and (strips % threads == 0 or strips >= 4 * threads)


cdef Py_ssize_t shared_size(const Problem* p, int threads) noexcept nogil:
    # numbers of scratch besides what each thread has
    if not p.tiles:
        return LINE
    return LINE + filled_size(p) * (threads if has_own_strips(p, threads) else 1)


cdef Py_ssize_t each_size(const Problem* p) noexcept nogil:
    # numbers of scratch of each thread
    cdef Py_ssize_t each = p.chunk * odd_lines(p.channels * p.lanes) + p.mr * p.lanes
    return own_scratch(own_size(p) if p.tiles else p.points * each)


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t stride, bint transposed, bint tiles, int threads,
):
    """Numbers of scratch that ``correlate`` takes for x (n, c, ., .) and out (n, f, oh, ow)."""
    check_threads(threads)
    cdef Problem p = problem_of(n, c, f, oh, ow, kernel, stride, transposed, tiles)
    return shared_size(&p, threads) + threads * each_size(&p)


cdef Py_ssize_t weights_of(const Problem* p) noexcept nogil:
    # numbers of U
    return p.out.c * p.matrices * (1 + p.channels)


def packed_size(Py_ssize_t c, Py_ssize_t f, Py_ssize_t kernel, Py_ssize_t stride):
    """How many numbers ``pack_weights`` fills."""
    cdef Problem p = problem_of(1, c, f, 1, 1, kernel, stride, False, False)
    return weights_of(&p)


def correlate(
    object x, object u, object bias, object out, object scratch, Py_ssize_t top, Py_ssize_t left,
    Py_ssize_t kernel, Py_ssize_t stride, bint transposed, bint tiles, bint relu, int threads,
    bint later=False,
):
    """Fill ``out`` (N, F, OH, OW) from x (N, C, H, W), batch-last, and u from ``pack_weights``.

    bias: 1-d (F,) or None; scratch: 1-d of ``scratch_size(...)``; output (i, j) reads inputs from
    (i * stride - top, j * stride - left) on, ``kernel`` (3 or 5, with stride 2 also 7) rows and
    columns, zeros outside.
    ``transposed`` with stride 2 is the gradient by the input of 3x3 kernels with odd padding: then
    (2 i, 2 j) and the one behind it read from (i - top, j - left) on. ``tiles``: lanes are tiles, and
    not images. ``relu`` replaces what is below 0 by 0.
    """
    check_threads(threads)
    cdef Planes a = planes(x, False)
    cdef Planes o = planes(out, True)
    cdef Problem p = problem_of(o.n, a.c, o.c, o.h, o.w, kernel, stride, transposed, tiles)
    cdef Correlation call
    cdef Py_ssize_t size = shared_size(&p, threads) + threads * each_size(&p)
    if a.n != o.n or not -2**31 < top < 2**31 or not -2**31 < left < 2**31:
        raise ValueError("kernel: winograd got sizes that do not fit")
    p.x, p.out, p.top, p.left, p.relu = a, o, top, left, relu
    p.u = numbers(u, weights_of(&p), False)
    p.bias = NULL if bias is None else numbers(bias, o.c, False)
    cdef real* base = numbers(scratch, size, True)
    check_apart(base, size, o.data, extent(o))
    call.v = from_cache_line(base)
    call.scratch = call.v + shared_size(&p, threads) - LINE
    call.p, call.each, call.own_strips = p, each_size(&p), p.tiles and has_own_strips(&p, threads)
    call.task.run, call.task.threads = run_tiles if p.tiles else run, threads
    return finish(&call.task, sizeof(call), later)


# ------------------------------------------------------------------ weights


cdef inline inlined transform_weights(
    const int method, const int side, const real* w, real* u, Py_ssize_t first, Py_ssize_t count,
    Py_ssize_t channels, Py_ssize_t fstride, Py_ssize_t cstride, bint turned, bint scaled, bint far,
) noexcept nogil:
    # u = G w Gt, or A w At if not scaled, for `count` output channels, which are the lanes here; far:
    # u is not in the cache, and its points are more streams than the processor foresees
    cdef real g[25 * LANES]
    cdef vreal t[ALONG * 5]
    cdef vreal r[MOST]
    cdef Py_ssize_t c, i, k, point, lane, row, col, tap
    cdef int kernel = taps_of(method), along = weights_along(method), points = along * along
    cdef int apart = 1 if side == kernel else 2, parts = apart * apart
    for k in range(kernel * kernel * LANES):
        g[k] = 0
    for point in range(points):
        for i in range(count):
            u[point * (1 + channels) * count + i] = 0
    for c in range(channels):
        for point in range(points if far else 0):
            prefetch(u + (point * (1 + channels) + 1 + c + AHEAD) * count)
        for k in range(kernel * kernel):
            row = k // kernel * apart + c % parts // apart
            col = k % kernel * apart + c % apart
            tap = side * side - 1 - (row * side + col) if turned else row * side + col
            for i in range(count):
                g[k * LANES + i] = (
                    w[(first + i) * fstride + c // parts * cstride + tap]
                    if row < side and col < side else 0
                )
        lane = 0
        while lane < count:
            for k in range(kernel):  # columns: t (along, kernel)
                evaluate_1d(
                    method, kernel, g + k * LANES + lane, kernel * LANES, t + k, kernel, scaled)
            for k in range(along):  # rows: r (along, along)
                evaluate_1d(
                    method, kernel, <real*>(t + k * kernel), VLEN, r + k * along, 1, scaled)
            for point in range(points):
                # a whole vector may reach into the rows of the channels that come next
                store_some(u + (point * (1 + channels) + 1 + c) * count + lane, r[point],
                           VLEN if (channels - c) * count >= lane + VLEN else count - lane)
            lane = lane + VLEN


cdef struct Packing:
    Task task
    Problem p
    const real* w
    real* u
    Py_ssize_t rows, cols, kernel
    bint swapped, spread


cdef void pack_block(const Packing* call, Py_ssize_t block) noexcept nogil:
    cdef const Problem* p = &call.p
    cdef const real* w = call.w
    cdef Py_ssize_t kernel = call.kernel
    cdef bint turned = call.swapped and not call.spread, scaled = not call.spread
    cdef Py_ssize_t fs = kernel * kernel * (1 if call.swapped else call.cols)
    cdef Py_ssize_t cs = kernel * kernel * (call.rows if call.swapped else 1)
    cdef Py_ssize_t first = first_row(block, call.rows, p.blocks)
    cdef Py_ssize_t n = rows_in(block, call.rows, p.blocks), c = p.channels
    cdef bint far = <double>call.rows * c * p.matrices * sizeof(real) > FAR
    cdef real* u = call.u + first * p.matrices * (1 + c)
    if p.method == STRIDED or p.method == WIDENED:
        transform_weights(STRIDED, 3, w, u, first, n, c, fs, cs, turned, True, far)
    elif kernel == 3: transform_weights(3, 3, w, u, first, n, c, fs, cs, turned, scaled, far)
    elif p.apart == 1: transform_weights(5, 5, w, u, first, n, c, fs, cs, turned, scaled, far)
    elif kernel == 5: transform_weights(3, 5, w, u, first, n, c, fs, cs, False, True, far)
    else: transform_weights(4, 7, w, u, first, n, c, fs, cs, False, True, far)


cdef void run_packing(const void* task, int threads) noexcept nogil:
    cdef const Packing* call = <const Packing*>task
    cdef Py_ssize_t block
    for block in prange(call.p.blocks, num_threads=threads, schedule="static"):
        pack_block(call, block)


def pack_weights(
    object w, object u, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t kernel, Py_ssize_t stride,
    bint swapped, bint spread, int threads, bint later=False,
):
    """Transform weights: u from w, 1-d as (rows, cols, kernel, kernel), kernel 3, 5 or 7.

    ``swapped`` is for the gradient by the input: w is (cols, rows, kernel, kernel) then, and each
    kernel is turned by 180 degrees; or not, if ``spread``, which is for
    winograd_input_grad.pyx.
    """
    check_threads(threads)
    cdef Packing call
    call.p = problem_of(1, cols, rows, 1, 1, kernel, stride, swapped, False)
    call.w = numbers(w, rows * cols * kernel * kernel, False)
    call.u = numbers(u, weights_of(&call.p), True)
    call.rows, call.cols, call.kernel = rows, cols, kernel
    call.swapped, call.spread = swapped, spread
    call.task.run, call.task.threads = run_packing, threads
    return finish(&call.task, sizeof(call), later)
