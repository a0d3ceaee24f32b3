# Convolution by Winograd's minimal filtering: F(4x4, 3x3) for 3x3 kernels, where a tile of 4x4 outputs
# takes 36 multiplications instead of 144, and F(3x3, 5x5) for 5x5 kernels, where a tile of 3x3 outputs
# takes 49 instead of 225. With stride 2, a tile of 4x4 outputs takes 81 of 144 for 3x3 kernels, 144 of
# 400 for 5x5 ones and 196 of 784 for 7x7 ones.
#
#   U = G w Gt      of each kernel, once per call                    (winograd_weights.pyx)
#   V = Bt x B      of each tile of the input and each channel       (transform_input)
#   M = U V         summed over channels: a product for each point   (the micro-kernel of tile.pxd)
#   Y = At M A      the outputs of each channel                      (transform_output)
#
# Lanes are images, so each transform is plain sums of vectors; of few images, they are tiles, see
# tile_lanes.pxd. A job takes one tile of up to 2 VLEN images, and for each block of output channels goes
# from V to Y, so that V and M stay in the cache. A thread takes tiles that lie beside each other: where
# two write near each other, lines go to and fro between their caches. The gradient by the input is the
# same with each kernel turned by 180 degrees; or, where that takes many more tiles, the way back through
# the same tiles (winograd_input_grad.pyx).
#
# Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

from cyconv.kernels.panel cimport from_cache_line
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, extent, numbers, planes
from cyconv.kernels.points cimport ALONG, SIDE, STRIDED, WIDENED, reads_along, side_of
from cyconv.kernels.share cimport share, share_in_turn
from cyconv.kernels.simd cimport VLEN, inlined, real, store, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport LINE, first_row, odd_lines, own_scratch, parts_of, rows_in
from cyconv.kernels.tile_lanes cimport (
    blocks_of, cut, fill_channel, filled_size, lanes_of, multiply, own_size, strips_of,
)
from cyconv.kernels.tiling cimport Problem, multiply_points, problem_of, weights_of
from cyconv.kernels.transforms cimport fetch, output_columns, output_line, store_some, transform_parts

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


cdef struct Correlation:
    Task task
    Problem p
    real* v         # where lanes are tiles: V of a strip of them, or of one for each thread
    real* scratch   # of each thread, ...
    Py_ssize_t each # ... so many numbers


cdef void run_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # own scratch: v (points, C, lanes), m (points, mr, lanes)
    cdef const Correlation* call = <const Correlation*>task
    cdef const Problem* p = &call.p
    cdef Py_ssize_t channels = p.channels
    cdef Py_ssize_t tx = job % p.tile_cols
    cdef Py_ssize_t blocks = parts_of(p.out.n, p.lanes)
    cdef Py_ssize_t ty = job // p.tile_cols // blocks
    cdef Py_ssize_t image = job // p.tile_cols % blocks * p.lanes
    cdef Py_ssize_t lanes = min(p.lanes, p.out.n - image)
    cdef Py_ssize_t width = VLEN if lanes <= VLEN else 2 * VLEN
    cdef Py_ssize_t vstep = odd_lines(channels * width)
    cdef Py_ssize_t size = p.apart * reads_along(p.method)  # of a tile of the input
    cdef Py_ssize_t top = ty * p.step - p.top, left = tx * p.step - p.left
    cdef real* v = call.scratch + thread * call.each
    cdef real* m = v + p.points * odd_lines(channels * p.lanes)
    cdef Py_ssize_t c, lane, block, f, start, count
    cdef const real* plane
    cdef real bias
    for c in range(p.x.c):
        plane = p.x.data + c * p.x.stride + image
        fetch(&p.x, plane + p.x.stride, top, left, size, size, lanes)
        lane = 0
        while lane < lanes:
            transform_channel(p, plane + lane, top, left, min(<Py_ssize_t>VLEN, lanes - lane),
                              v + c * (channels // p.x.c) * width + lane, vstep, width)
            lane = lane + VLEN
    for block in range(p.blocks):
        start = first_row(block, p.out.c, p.blocks)
        count = rows_in(block, p.out.c, p.blocks)
        for f in range(count):
            fetch(&p.out, p.out.data + (start + f) * p.out.stride + image,
                  ty * p.side, tx * p.side, p.side, p.side, lanes)
        multiply_points(p, block, v, m, width)
        for f in range(count):
            bias = p.bias[start + f] if p.bias != NULL else 0
            lane = 0
            while lane < lanes:
                transform_tile(
                    p, m + f * width + lane, count * width, bias, ty, tx,
                    min(<Py_ssize_t>VLEN, lanes - lane),
                    p.out.data + (start + f) * p.out.stride + image + lane)
                lane = lane + VLEN


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Problem* p = &(<const Correlation*>task).p
    share(run_job, task, parts_of(p.out.n, p.lanes) * p.tile_rows * p.tile_cols, threads)


cdef struct Strip:  # of some rows of tiles
    Correlation call
    Py_ssize_t first, rows
    Py_ssize_t parts  # blocks of lanes
    bint by_lanes  # jobs that follow each other share lanes, else channels


cdef void fill_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Strip* s = <const Strip*>task
    fill_channel(&s.call.p, job, s.first, s.rows, s.call.v, s.call.scratch + thread * s.call.each)


cdef void multiply_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Strip* s = <const Strip*>task
    cdef Py_ssize_t blocks = s.call.p.blocks
    cdef Py_ssize_t part = job // blocks if s.by_lanes else job % s.parts
    cdef Py_ssize_t block = job % blocks if s.by_lanes else job // s.parts
    multiply(&s.call.p, part, block, s.first, s.rows, s.call.v, s.call.scratch + thread * s.call.each)


cdef void run_strip(const Correlation* c, Py_ssize_t strip, int threads) noexcept nogil:
    cdef Strip s
    cdef Py_ssize_t jobs
    s.call, s.first = c[0], strip * c.p.strip
    s.rows = min(c.p.strip, c.p.tile_rows - s.first)
    s.parts = blocks_of(lanes_of(&c.p, s.rows))
    s.by_lanes = c.p.out.c <= lanes_of(&c.p, s.rows)
    jobs = s.parts * c.p.blocks
    share(fill_job, &s, c.p.x.c, threads)
    if s.by_lanes:
        share_in_turn(multiply_job, &s, jobs, max(<Py_ssize_t>1, jobs // (4 * threads)), threads)
    else:  # U is more than V: a thread is to read what it packed itself
        share(multiply_job, &s, jobs, threads)


cdef void own_strip_job(const void* task, Py_ssize_t strip, int thread) noexcept nogil:
    # by one thread, with a V of its own
    cdef Correlation own = (<const Correlation*>task)[0]
    own.v = own.v + thread * filled_size(&own.p)
    own.scratch = own.scratch + thread * own.each
    run_strip(&own, strip, 1)


cdef void run_tiles(const void* task, int threads) noexcept nogil:
    cdef const Correlation* c = <const Correlation*>task
    cdef Py_ssize_t strip
    if c.p.own_strips:
        share(own_strip_job, task, strips_of(&c.p), threads)
    else:
        for strip in range(strips_of(&c.p)):
            run_strip(c, strip, threads)


cdef Py_ssize_t shared_size(const Problem* p, int threads) noexcept nogil:
    # numbers of scratch besides what each thread has
    if not p.tiles:
        return LINE
    return LINE + filled_size(p) * (threads if p.own_strips else 1)


cdef Py_ssize_t each_size(const Problem* p) noexcept nogil:
    # numbers of scratch of each thread
    cdef Py_ssize_t each = odd_lines(p.channels * p.lanes) + p.mr * p.lanes
    return own_scratch(own_size(p) if p.tiles else p.points * each)


def scratch_size(
    Py_ssize_t n, Py_ssize_t c, Py_ssize_t f, Py_ssize_t oh, Py_ssize_t ow, Py_ssize_t kernel,
    Py_ssize_t stride, bint transposed, bint tiles, int threads,
):
    """Numbers of scratch that ``correlate`` takes for x (n, c, ., .) and out (n, f, oh, ow)."""
    check_threads(threads)
    cdef Problem p = problem_of(n, c, f, oh, ow, kernel, stride, transposed, tiles)
    if tiles:
        cut(&p, threads)
    return shared_size(&p, threads) + threads * each_size(&p)


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
    if tiles:
        cut(&p, threads)
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
    call.p, call.each = p, each_size(&p)
    call.task.run, call.task.threads = run_tiles if p.tiles else run, threads
    return finish(&call.task, sizeof(call), later)
