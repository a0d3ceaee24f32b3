# What fully connected layers and 1x1 convolutions are besides convolutions: products of matrices.
#
# dense: the layer for one image, which would not fill the lanes of a vector. Here lanes are input
# features, and the sums of four outputs are kept at a time.
#
# weight_grad: dw[f, c] = sum of dout[f] * x[c] over all positions and images. Lanes are channels of x,
# so that a tile keeps many sums that need no adding up across lanes. x is transposed into panels for
# that, as many positions at a time as the cache holds; dout is read as it lies. Threads share positions,
# each with panels and sums of its own, or where these are few, the channels of dout.

from cyconv.kernels.pack cimport pack_rows
from cyconv.kernels.planes cimport Planes, check_apart, check_threads, numbers, planes
from cyconv.kernels.share cimport add_slices, share, share_in_turn
from cyconv.kernels.simd cimport MR_MAX, VLEN, broadcast, lane_sum, load, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport LINE, first_row, own_scratch, parts_of, rows_in, rows_tile

cdef enum:
    ROWS = 4          # outputs at a time, which read x once
    SHARE = 16        # outputs in a job
    WIDTH = 2 * VLEN  # channels in a panel of x
    HELD = 131072     # bytes of all panels
    SLICES = 16       # of the positions at most, with sums of their own: so many threads share them evenly
    LEAST = 512       # positions in each, so that adding up their sums is little beside the products


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
    Task task
    Planes x, dout
    real* dw                      # (F, C), of a slice
    Py_ssize_t count              # positions of all images
    Py_ssize_t slices             # of them, each with sums of its own
    Py_ssize_t begin, end         # of one slice
    Py_ssize_t most               # of those that are in panels together, ...
    Py_ssize_t first              # ... from this one on
    Py_ssize_t cblocks, fblocks   # panels of x, and tiles of dout
    real* panels                  # (cblocks, most, WIDTH), of a thread if there are slices
    real* sums                    # (slices, F, C)


cdef inline Py_ssize_t width_of(const Product* p, Py_ssize_t block) noexcept nogil:
    # of a panel of x: the micro-kernel takes one vector or two
    return WIDTH if p.x.c - block * WIDTH > VLEN else VLEN


cdef void fill_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a job is one panel
    cdef const Product* p = <const Product*>task
    cdef Py_ssize_t channel = job * WIDTH
    pack_rows(p.x.data + channel * p.x.stride + p.first, p.x.stride,
              min(<Py_ssize_t>WIDTH, p.x.c - channel), min(p.most, p.end - p.first),
              p.panels + job * p.most * WIDTH, width_of(p, job))


cdef void product_job(const void* task, Py_ssize_t job, int thread) noexcept nogil:
    # a job is what all panels give with one tile's channels of dout
    cdef const Product* p = <const Product*>task
    cdef Py_ssize_t f = first_row(job, p.dout.c, p.fblocks)
    cdef Py_ssize_t count = rows_in(job, p.dout.c, p.fblocks)
    cdef Py_ssize_t block
    for block in range(p.cblocks):
        rows_tile(p.first > p.begin, count, min(p.most, p.end - p.first), p.panels + block * p.most * WIDTH,
                  p.dout.data + f * p.dout.stride + p.first, p.dout.stride,
                  p.dw + f * p.x.c + block * WIDTH, p.x.c, min(<Py_ssize_t>WIDTH, p.x.c - block * WIDTH))


cdef Product product_of(Planes x, Planes dout) except *:
    cdef Product p
    p.x, p.dout = x, dout
    p.count = x.n * x.h * x.w
    p.slices = 1
    while p.slices < SLICES and p.count >= 2 * p.slices * LEAST:
        p.slices = 2 * p.slices
    if p.count != dout.n * dout.h * dout.w or min(p.count, x.c, dout.c) < 1 \
            or max(x.c, dout.c) >= 2**31:
        raise ValueError("kernel: weight_grad got sizes that do not fit")
    p.cblocks = parts_of(x.c, WIDTH)
    p.fblocks = parts_of(dout.c, MR_MAX)
    p.most = HELD // (<Py_ssize_t>sizeof(real) * p.cblocks * WIDTH)
    p.most = min(max(p.most, <Py_ssize_t>WIDTH), p.count)
    return p


cdef inline Py_ssize_t thread_size(const Product* p) noexcept nogil:
    # numbers of panels
    return own_scratch(p.cblocks * WIDTH * p.most)


cdef Py_ssize_t scratch_of(const Product* p, int threads) noexcept nogil:
    if p.slices == 1:
        return thread_size(p)
    return threads * thread_size(p) + p.slices * p.dout.c * p.x.c


def scratch_size(object x, object dout, int threads):
    """Numbers of scratch that ``weight_grad`` takes for the same arrays."""
    check_threads(threads)
    cdef Product p = product_of(planes(x, False), planes(dout, False))
    return scratch_of(&p, threads)


cdef void run_slice(Product* p, Py_ssize_t slice, int threads) noexcept nogil:
    cdef Py_ssize_t lines = parts_of(p.count, LINE)
    p.begin = p.first = first_row(slice, lines, p.slices) * LINE
    p.end = min(p.count, first_row(slice + 1, lines, p.slices) * LINE)
    while p.first < p.end:
        share(fill_job, p, p.cblocks, threads)
        share_in_turn(product_job, p, p.fblocks, 1, threads)
        p.first = p.first + p.most


cdef void slice_job(const void* task, Py_ssize_t slice, int thread) noexcept nogil:
    cdef Product p = (<const Product*>task)[0]
    p.panels = p.panels + thread * thread_size(&p)
    p.dw = p.sums + slice * p.dout.c * p.x.c
    run_slice(&p, slice, 1)


cdef void add_job(const void* task, Py_ssize_t f, int thread) noexcept nogil:
    # one channel of dout
    cdef const Product* p = <const Product*>task
    cdef Py_ssize_t begin = f * p.x.c
    add_slices(p.dw + begin, p.sums + begin, p.dout.c * p.x.c, p.slices, p.x.c)


cdef void run_product(const void* task, int threads) noexcept nogil:
    cdef Product p = (<const Product*>task)[0]
    if p.slices == 1:
        run_slice(&p, 0, threads)
        return
    share(slice_job, task, p.slices, threads)
    share(add_job, task, p.dout.c, threads)


def weight_grad(
    object x, object dout, object dw, object scratch, int threads, bint later=False
):
    """Fill dw, 1-d as (F, C), from x (N, C, H, W) and dout (N, F, H, W), batch-last.

    scratch: 1-d of ``scratch_size(x, dout, threads)``.
    """
    check_threads(threads)
    cdef Product p = product_of(planes(x, False), planes(dout, False))
    cdef Py_ssize_t size = scratch_of(&p, threads)
    p.dw = numbers(dw, p.dout.c * p.x.c, True)
    p.panels = numbers(scratch, size, True)
    check_apart(p.panels, size, p.dw, p.dout.c * p.x.c)
    p.sums = p.panels + threads * thread_size(&p)
    p.task.run, p.task.threads = run_product, threads
    return finish(&p.task, sizeof(p), later)
