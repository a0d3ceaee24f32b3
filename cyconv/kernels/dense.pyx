# A fully connected layer for one image, which would not fill the lanes of a vector as in conv.pyx. Here
# lanes are input features, and the sums of four outputs are kept at a time.

from cyconv.kernels.planes cimport check_threads, numbers
from cyconv.kernels.share cimport share
from cyconv.kernels.simd cimport VLEN, broadcast, lane_sum, load, real, vreal
from cyconv.kernels.task cimport Task, finish
from cyconv.kernels.tile cimport parts_of

cdef enum:
    ROWS = 4    # outputs at a time, which read x once
    SHARE = 16  # outputs in a job


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
