# Convolutions that are computed as products of dense matrices.
#
# dense: a fully connected layer for one image, which would not fill the lanes of a vector as in conv.pyx.
# Here lanes are input features, and the sums of four outputs are kept at a time.
#
# weight_grad (im2col): dout (F, positions), as it lies, times what each tap reads (positions, C * KH * KW).
# Lanes are taps of channels, so that a tile keeps many sums that need no adding up across lanes. What
# these read is transposed into panels for that, as many positions at a time as the cache holds. A job
# takes some of the panels and a slice of the positions: it fills what it multiplies, with sums of its
# own, and the sums of all slices are added. A 1x1 convolution without steps or padding has all its
# pixels read as if they were images of one.

from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes, planes_of
from cyconv.kernels.share cimport add_slices, share
from cyconv.kernels.simd cimport (
    MR_MAX, VLEN, broadcast, lane_sum, load, load_first, real, store, transpose, vreal,
)
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport LINE, first_row, own_scratch, parts_of, rows_in, rows_tile
from cyconv.kernels.window cimport Axis, axis, check_window, source

cdef enum:
    ROWS = 4          # outputs of a dense layer at a time, which read x once
    SHARE = 16        # outputs in a job
    WIDTH = 2 * VLEN  # taps in a panel
    HELD = 524288     # bytes of a job's panels
    BLOCKS = 10       # panels in a job at most: with more, few positions would fit
    JOBS = 16         # at least, so that a few threads share them evenly, ...
    LEAST = 512       # ... if a slice has so many positions: adding up is little beside the products


# ------------------------------------------------------------------ one image


cdef struct Dense:
    Task task
    const real* x     # (C,) of one image
    const real* w     # (F, C)
    const real* bias  # (F,) or NULL
    real* out         # (F,)
    Py_ssize_t c, f
    bint relu


cdef void sums_of(const Dense* d, Py_ssize_t f, real* sums) noexcept nogil:
    # the sums of outputs f to f + ROWS - 1; beyond the last they are the last one's
    cdef vreal a[ROWS]
    cdef vreal b[ROWS]
    cdef vreal u, v
    cdef const real* w[ROWS]
    cdef Py_ssize_t j = 0, i
    for i in range(ROWS):
        w[i] = d.w + min(f + i, d.f - 1) * d.c
        a[i] = broadcast(0)
        b[i] = broadcast(0)
    while j + 2 * VLEN <= d.c:
        u = load(d.x + j)
        v = load(d.x + j + VLEN)
        for i in range(ROWS):
            a[i] = a[i] + u * load(w[i] + j)
            b[i] = b[i] + v * load(w[i] + j + VLEN)
        j = j + 2 * VLEN
    for i in range(ROWS):
        sums[i] = lane_sum(a[i] + b[i])
    while j < d.c:
        for i in range(ROWS):
            sums[i] = sums[i] + d.x[j] * w[i][j]
        j = j + 1


cdef void run_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Dense* d = <const Dense*>task
    cdef Py_ssize_t f = job * SHARE, last = min(f + SHARE, d.f), i
    cdef real sums[ROWS]
    cdef real value
    while f < last:
        sums_of(d, f, sums)
        for i in range(min(<Py_ssize_t>ROWS, last - f)):
            value = sums[i] + (d.bias[f + i] if d.bias != NULL else 0)
            if d.relu and value < 0:  # NaN is not below 0: it stays
                value = 0
            d.out[f + i] = value
        f = f + ROWS


cdef void run(const void* task, int threads) noexcept nogil:
    share(run_job, task, parts_of((<const Dense*>task).f, SHARE), threads)


def dense(
    object x, object w, object bias, object out, bint relu, int threads, bint later=False
):
    """Fill out, 1-d (F,), with x @ w.T + bias for one image.

    x: 1-d (C,); w: 1-d, as (F, C); bias: 1-d (F,) or None. ``relu`` replaces what is below 0 by 0.
    """
    cdef Dense d
    check_threads(threads)
    d.c, d.f = len(x), len(out)
    if not 1 <= d.c < 2**31 or not 1 <= d.f < 2**31:
        raise ValueError(f"kernel: {d.c} features and {d.f} outputs are out of range")
    d.out = numbers(out, d.f, True)
    d.x = numbers(x, d.c, False)
    d.w = numbers(w, d.f * d.c, False)
    d.bias = NULL if bias is None else numbers(bias, d.f, False)
    d.relu = relu
    d.task.run, d.task.threads = run, threads
    return finish(&d.task, sizeof(d), later)


# ------------------------------------------------------------------ the gradient by the weights


cdef struct Product:
    Planes x, dout
    Axis rows, cols
    Py_ssize_t taps, size        # of a channel, and of all of them
    Py_ssize_t blocks, fblocks   # panels, and tiles of dout
    Py_ssize_t parts             # jobs along the panels
    Py_ssize_t slices            # jobs along the steps
    Py_ssize_t pixels, images    # in a step, beside each other: all images, unless it is one pixel
    Py_ssize_t across, image_parts, total  # steps along a row of the output, along images, and of all
    real* sums                   # (slices, F, size)


cdef struct Step:                # positions that lie beside each other in a plane of dout
    Py_ssize_t row, col, pixels
    Py_ssize_t image, images


cdef inline Step step_of(const Product* p, Py_ssize_t step) noexcept nogil:
    cdef Step s
    cdef Py_ssize_t part = step % p.image_parts
    step = step // p.image_parts
    s.row = step // p.across
    s.col = first_row(step % p.across, p.dout.w, p.across)
    s.pixels = rows_in(step % p.across, p.dout.w, p.across)
    s.image = part * p.images
    s.images = min(p.images, p.dout.n - s.image)
    return s


cdef inline Py_ssize_t width_of(const Product* p, Py_ssize_t block) noexcept nogil:
    # of a panel: the micro-kernel takes one vector or two
    return WIDTH if p.size - block * WIDTH > VLEN else VLEN


cdef void fill(
    const Product* p, const Step* s, Py_ssize_t first, Py_ssize_t width, real* dst
) noexcept nogil:
    # VLEN lanes of a panel whose rows are `width` apart: what the taps from `first` on read
    cdef const real* begin[VLEN]      # a row of x, or NULL outside of it
    cdef Py_ssize_t k[VLEN]           # columns of the kernel
    cdef const real* place[VLEN]
    cdef Py_ssize_t inside[VLEN]      # -1, or 0 outside of x
    cdef vreal square[VLEN]
    cdef vreal zeros = broadcast(0)
    cdef Py_ssize_t i, row, col, pixel, image, n
    for i in range(VLEN):
        row = source(&p.rows, s.row, (first + i) % p.taps // p.cols.kernel)
        k[i] = (first + i) % p.cols.kernel
        begin[i] = NULL
        if row >= 0 and first + i < p.size:
            begin[i] = p.x.data + (first + i) // p.taps * p.x.stride + row * p.x.w * p.x.n + s.image
    for pixel in range(s.col, s.col + s.pixels):
        for i in range(VLEN):
            col = source(&p.cols, pixel, k[i])
            inside[i] = -1 if begin[i] != NULL and col >= 0 else 0
            place[i] = begin[i] + col * p.x.n if inside[i] else <const real*>&zeros
        image = 0
        while image < s.images:
            n = min(<Py_ssize_t>VLEN, s.images - image)
            if n == VLEN:
                for i in range(VLEN):
                    square[i] = load(place[i] + (image & inside[i]))
            else:
                for i in range(VLEN):
                    square[i] = load_first(place[i] + (image & inside[i]), n)
            transpose(square)
            for i in range(n):
                store(dst + i * width, square[i])
            dst, image = dst + n * width, image + VLEN


cdef void run_part(
    const Product* p, Py_ssize_t slice, Py_ssize_t part, real* panels
) noexcept nogil:
    cdef Py_ssize_t block = first_row(part, p.blocks, p.parts)
    cdef Py_ssize_t blocks = rows_in(part, p.blocks, p.parts)
    cdef Py_ssize_t begin = first_row(slice, p.total, p.slices)
    cdef Py_ssize_t end = first_row(slice + 1, p.total, p.slices)
    cdef Py_ssize_t step, b, fb, f, rows, lane, half, width, count
    cdef real* sums = p.sums + slice * p.dout.c * p.size
    cdef const real* dout
    cdef Step s
    for step in range(begin, end):
        s = step_of(p, step)
        count = s.pixels * s.images
        for b in range(blocks):
            lane, width = (block + b) * WIDTH, width_of(p, block + b)
            for half in range(width // VLEN):
                fill(p, &s, lane + half * VLEN, width, panels + b * count * WIDTH + half * VLEN)
        dout = p.dout.data + (s.row * p.dout.w + s.col) * p.dout.n + s.image
        for fb in range(p.fblocks):
            f, rows = first_row(fb, p.dout.c, p.fblocks), rows_in(fb, p.dout.c, p.fblocks)
            for b in range(blocks):
                lane = (block + b) * WIDTH
                rows_tile(step > begin, rows, count, panels + b * count * WIDTH, dout + f * p.dout.stride,
                          p.dout.stride, sums + f * p.size + lane, p.size,
                          min(<Py_ssize_t>WIDTH, p.size - lane))


# ------------------------------------------------------------------ the work, cut into jobs


cdef Product product_of(
    Planes x, Planes dout, tuple kernel, tuple stride, tuple padding, tuple dilation
) except *:
    cdef Product p
    cdef Py_ssize_t most, positions
    check_window(kernel, stride, padding, dilation, 1)
    p.rows = axis(x.h, dout.h, kernel[0], stride[0], padding[0], dilation[0], False)
    p.cols = axis(x.w, dout.w, kernel[1], stride[1], padding[1], dilation[1], False)
    p.taps = p.rows.kernel * p.cols.kernel
    if min(dout.n, dout.h, dout.w, dout.c) < 1 or x.c < 1 or x.n != dout.n \
            or <double>dout.n * dout.h * dout.w >= 2.0**50 or <double>x.c * p.taps * dout.c >= 2.0**50:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    positions = dout.n * dout.h * dout.w
    if p.taps == 1 and x.h == dout.h and x.w == dout.w and p.rows.before == p.cols.before == 0 \
            and p.rows.stride == p.cols.stride == 1:
        x.n = dout.n = positions
        x.h = x.w = dout.h = dout.w = 1
        p.rows = p.cols = axis(1, 1, 1, 1, 0, 1, False)
    p.x, p.dout, p.size = x, dout, x.c * p.taps
    p.blocks, p.fblocks = parts_of(p.size, WIDTH), parts_of(dout.c, MR_MAX)
    p.parts, p.slices = parts_of(p.blocks, BLOCKS), 1
    while p.slices * p.parts < JOBS and positions >= 2 * p.slices * LEAST:
        p.slices = 2 * p.slices
    p.parts = min(p.blocks, max(p.parts, parts_of(JOBS, p.slices)))
    most = HELD // (<Py_ssize_t>sizeof(real) * WIDTH * parts_of(p.blocks, p.parts))
    most = min(most, parts_of(positions, p.slices))
    p.images = max(min(most // LINE * LINE, dout.n), min(dout.n, <Py_ssize_t>LINE))
    p.pixels = max(<Py_ssize_t>1, most // dout.n) if p.images == dout.n else 1
    p.across, p.image_parts = parts_of(dout.w, p.pixels), parts_of(dout.n, p.images)
    p.pixels = parts_of(dout.w, p.across)
    p.total = dout.h * p.across * p.image_parts
    p.slices = min(p.slices, p.total)
    return p


cdef inline Py_ssize_t thread_size(const Product* p) noexcept nogil:
    # numbers of panels
    return own_scratch(parts_of(p.blocks, p.parts) * WIDTH * p.pixels * p.images)


cdef Py_ssize_t scratch_of(const Product* p, int threads) noexcept nogil:
    return threads * thread_size(p) + (p.slices * p.dout.c * p.size if p.slices > 1 else 0)


cdef struct Gradient:
    Task task
    Product p
    real* dw
    real* panels  # of all threads


cdef void part_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    cdef const Gradient* g = <const Gradient*>task
    run_part(&g.p, job // g.p.parts, job % g.p.parts, g.panels + thread * thread_size(&g.p))


cdef void add_job(const void* task, Py_ssize_t f, int thread) noexcept nogil:
    # one channel of dout
    cdef const Gradient* g = <const Gradient*>task
    cdef Py_ssize_t begin = f * g.p.size
    add_slices(g.dw + begin, g.p.sums + begin, g.p.dout.c * g.p.size, g.p.slices, g.p.size)


cdef void run_product(const void* task, int threads) noexcept nogil:
    cdef const Product* p = &(<const Gradient*>task).p
    share(part_job, task, p.slices * p.parts, threads)
    if p.slices > 1:
        share(add_job, task, p.dout.c, threads)


def scratch_size(
    tuple x, tuple dout, tuple kernel, tuple stride, tuple padding, tuple dilation, int threads
):
    """Numbers of scratch that ``weight_grad`` takes for arrays of the shapes x and dout."""
    check_threads(threads)
    cdef Product p = product_of(planes_of(x), planes_of(dout), kernel, stride, padding, dilation)
    return scratch_of(&p, threads)


def weight_grad(
    object x, object dout, object dw, object scratch, tuple kernel, tuple stride, tuple padding,
    tuple dilation, int threads, bint later=False,
):
    """Fill dw, 1-d as (F, C, KH, KW), from x (N, C, H, W) and dout (N, F, OH, OW), batch-last.

    scratch: 1-d of ``scratch_size(...)``; padding is (top, left).
    """
    check_threads(threads)
    cdef Gradient call
    cdef Product p = product_of(planes(x, False), planes(dout, False), kernel, stride, padding, dilation)
    cdef Py_ssize_t size = scratch_of(&p, threads), weights = p.dout.c * p.size
    call.dw = p.sums = numbers(dw, weights, True)
    call.panels = numbers(scratch, size, True)
    check_apart(call.panels, size, call.dw, weights)
    if p.slices > 1:
        p.sums = call.panels + threads * thread_size(&p)
    call.p = p
    call.task.run, call.task.threads = run_product, threads
    return finish(&call.task, sizeof(call), later)
