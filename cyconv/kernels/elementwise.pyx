# One pass over each array: relu, sums, the optimisers' updates, and the change of memory layout.

from cython.parallel cimport prange
from libc.math cimport sqrt

from cyconv.kernels.pack cimport pack_rows
from cyconv.kernels.planes cimport Planes, check_threads, numbers, planes, same_shape
from cyconv.kernels.simd cimport inlined, real
from cyconv.kernels.task cimport Task, finish

cdef enum:
    CHUNK = 16384  # numbers per job
    SQUARE = 32    # pixels of all images that a job transposes


cdef enum:
    RELU, GATE, ADD, ADD_RELU  # what is done with each number


cdef struct Elementwise:
    Task task
    Planes a, b, out
    int what


cdef inline inlined run_of(
    const int what, const real* a, const real* b, real* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real x
    for i in range(count):
        if what == GATE:
            out[i] = 0 if b[i] <= 0 else a[i]
        else:
            x = a[i] if what == RELU else a[i] + b[i]
            out[i] = 0 if what != ADD and x < 0 else x  # NaN is not below 0: it stays


cdef void run_job(const Elementwise* e, Py_ssize_t channel, Py_ssize_t first) noexcept nogil:
    # what is done becomes a constant
    cdef const real* a = e.a.data + channel * e.a.stride + first
    cdef const real* b = e.b.data + channel * e.b.stride + first
    cdef real* out = e.out.data + channel * e.out.stride + first
    cdef Py_ssize_t count = min(<Py_ssize_t>CHUNK, e.a.h * e.a.w * e.a.n - first)
    if e.what == RELU: run_of(RELU, a, b, out, count)
    elif e.what == GATE: run_of(GATE, a, b, out, count)
    elif e.what == ADD: run_of(ADD, a, b, out, count)
    else: run_of(ADD_RELU, a, b, out, count)


cdef void run(const void* task, int threads) noexcept nogil:
    cdef const Elementwise* e = <const Elementwise*>task
    cdef Py_ssize_t runs = (e.a.h * e.a.w * e.a.n + CHUNK - 1) // CHUNK
    cdef Py_ssize_t job
    for job in prange(e.a.c * runs, num_threads=threads, schedule="static"):
        run_job(e, job // runs, job % runs * CHUNK)


cdef object elementwise(int what, object a, object b, object out, int threads, bint later):
    cdef Elementwise e
    check_threads(threads)
    e.a = planes(a, False)
    e.b = planes(b, False)
    e.out = planes(out, True)
    same_shape(e.a, e.b)
    same_shape(e.b, e.out)
    e.what = what
    e.task.run, e.task.threads = run, threads
    return finish(&e.task, sizeof(e), later)


def relu(object x, object out, int threads, bint later=False):
    """Fill out with max(x, 0); batch-last arrays of one shape."""
    return elementwise(RELU, x, x, out, threads, later)


def relu_backward(object dout, object out, object dx, int threads, bint later=False):
    """Fill dx with dout where out is not at most 0, else 0; batch-last arrays of one shape."""
    return elementwise(GATE, dout, out, dx, threads, later)


def add(object a, object b, object out, bint relu, int threads, bint later=False):
    """Fill out with a + b, or with max(a + b, 0) if ``relu``; batch-last arrays of one shape."""
    return elementwise(ADD_RELU if relu else ADD, a, b, out, threads, later)


# ------------------------------------------------------------------ optimisers


cdef void sgd_run(
    real* w, const real* grad, real* velocity, Py_ssize_t count,
    real lr, real momentum, real fresh, real decay, bint nesterov,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g
    if velocity == NULL:
        for i in range(count):
            w[i] = w[i] - lr * (grad[i] + decay * w[i])
    else:
        for i in range(count):
            g = grad[i] + decay * w[i]
            velocity[i] = momentum * velocity[i] + fresh * g
            w[i] = w[i] - lr * (g + momentum * velocity[i] if nesterov else velocity[i])


def sgd_step(
    object w, object grad, object velocity, double lr, double momentum, double dampening,
    double weight_decay, bint nesterov, int threads,
):
    """Update w and velocity (or None) in place from grad; contiguous 1-d arrays of one size."""
    check_threads(threads)
    cdef Py_ssize_t count = len(w)
    cdef real* p = numbers(w, count, True)
    cdef const real* g = numbers(grad, count, False)
    cdef real* v = NULL if velocity is None else numbers(velocity, count, True)
    cdef Py_ssize_t job, at
    with nogil:
        for job in prange((count + CHUNK - 1) // CHUNK, num_threads=threads, schedule="static"):
            sgd_run(p + job * CHUNK, g + job * CHUNK, v + job * CHUNK if v != NULL else NULL,
                    min(<Py_ssize_t>CHUNK, count - job * CHUNK), <real>lr, <real>momentum,
                    <real>(1 - dampening), <real>weight_decay, nesterov)


cdef void adam_run(
    real* w, const real* grad, real* m, real* v, Py_ssize_t count, double rate, double root,
    real beta1, real beta2, real eps, real coupled, real shrink,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g, step = <real>rate, scale = <real>(1 / root)
    for i in range(count):
        w[i] = w[i] * shrink
        g = grad[i] + coupled * w[i]
        m[i] = beta1 * m[i] + (1 - beta1) * g
        v[i] = beta2 * v[i] + (1 - beta2) * g * g
        w[i] = w[i] - step * m[i] / (<real>sqrt(v[i]) * scale + eps)


def adam_step(
    object w, object grad, object m, object v, Py_ssize_t step, double lr, double beta1,
    double beta2, double eps, double weight_decay, bint decoupled, int threads,
):
    """Update w, m and v in place from grad; contiguous 1-d arrays of one size."""
    check_threads(threads)
    cdef Py_ssize_t count = len(w)
    cdef real* p = numbers(w, count, True)
    cdef const real* g = numbers(grad, count, False)
    cdef real* first = numbers(m, count, True)
    cdef real* second = numbers(v, count, True)
    cdef double rate = lr / (1 - beta1 ** step)
    cdef double root = sqrt(1 - beta2 ** step)
    cdef Py_ssize_t job
    with nogil:
        for job in prange((count + CHUNK - 1) // CHUNK, num_threads=threads, schedule="static"):
            adam_run(p + job * CHUNK, g + job * CHUNK, first + job * CHUNK, second + job * CHUNK,
                     min(<Py_ssize_t>CHUNK, count - job * CHUNK), rate, root, <real>beta1,
                     <real>beta2, <real>eps, 0 if decoupled else <real>weight_decay,
                     <real>(1 - lr * weight_decay) if decoupled else 1)


# ------------------------------------------------------------------ layout


def to_batch_last(object src, object dst, int threads):
    """Fill dst, batch-last (N, C, H, W), from src, 1-d: the same images in C order."""
    check_threads(threads)
    cdef Planes d = planes(dst, True)
    cdef Py_ssize_t pixels = d.h * d.w
    cdef const real* a = numbers(src, d.n * d.c * pixels, False)
    cdef Py_ssize_t blocks, job, first
    if d.n == 0:
        return
    if d.stride == pixels * d.n:  # no gaps: the pixels of all planes are as those of one
        d.c, pixels = 1, d.c * pixels
    blocks = (pixels + SQUARE - 1) // SQUARE
    with nogil:
        for job in prange(d.c * blocks, num_threads=threads, schedule="static"):
            first = job % blocks * SQUARE
            pack_rows(a + job // blocks * pixels + first, d.c * pixels, d.n,
                      min(<Py_ssize_t>SQUARE, pixels - first),
                      d.data + job // blocks * d.stride + first * d.n, d.n)
