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


cdef void relu_run(const real* x, real* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = 0 if x[i] < 0 else x[i]  # NaN is not below 0: it stays


cdef struct Relu:
    Task task
    Planes x, out


cdef void run_relu(const void* task, int threads) noexcept nogil:
    cdef const Relu* r = <const Relu*>task
    cdef Py_ssize_t size = r.x.h * r.x.w * r.x.n
    cdef Py_ssize_t runs = (size + CHUNK - 1) // CHUNK
    cdef Py_ssize_t job
    for job in prange(r.x.c * runs, num_threads=threads, schedule="static"):
        relu_run(r.x.data + job // runs * r.x.stride + job % runs * CHUNK,
                 r.out.data + job // runs * r.out.stride + job % runs * CHUNK,
                 min(<Py_ssize_t>CHUNK, size - job % runs * CHUNK))


def relu(object x, object out, int threads, bint later=False):
    """Fill out with max(x, 0); batch-last arrays of one shape.

    ``later`` does nothing now but gives a task for a program.
    """
    cdef Relu r
    check_threads(threads)
    r.x = planes(x, False)
    r.out = planes(out, True)
    same_shape(r.x, r.out)
    r.task.run, r.task.threads = run_relu, threads
    return finish(&r.task, sizeof(r), later)


cdef inline inlined add_run(
    const bint relu, const real* a, const real* b, real* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real total
    for i in range(count):
        total = a[i] + b[i]
        out[i] = 0 if relu and total < 0 else total


cdef struct Add:
    Task task
    Planes a, b, out
    bint relu


cdef void run_add(const void* task, int threads) noexcept nogil:
    cdef const Add* s = <const Add*>task
    cdef Py_ssize_t size = s.a.h * s.a.w * s.a.n
    cdef Py_ssize_t runs = (size + CHUNK - 1) // CHUNK
    cdef Py_ssize_t job
    for job in prange(s.a.c * runs, num_threads=threads, schedule="static"):
        add_job(s, job // runs, job % runs * CHUNK, size)


cdef void add_job(const Add* s, Py_ssize_t channel, Py_ssize_t first, Py_ssize_t size) noexcept nogil:
    # whether there is a ReLU becomes a constant
    cdef const real* a = s.a.data + channel * s.a.stride + first
    cdef const real* b = s.b.data + channel * s.b.stride + first
    cdef real* out = s.out.data + channel * s.out.stride + first
    if s.relu:
        add_run(True, a, b, out, min(<Py_ssize_t>CHUNK, size - first))
    else:
        add_run(False, a, b, out, min(<Py_ssize_t>CHUNK, size - first))


def add(object a, object b, object out, bint relu, int threads, bint later=False):
    """Fill out with a + b, or with max(a + b, 0) if ``relu``; batch-last arrays of one shape.

    ``later`` does nothing now but gives a task for a program.
    """
    cdef Add s
    check_threads(threads)
    s.a = planes(a, False)
    s.b = planes(b, False)
    s.out = planes(out, True)
    same_shape(s.a, s.b)
    same_shape(s.b, s.out)
    s.relu = relu
    s.task.run, s.task.threads = run_add, threads
    return finish(&s.task, sizeof(s), later)


cdef void relu_grad_run(
    const real* dout, const real* out, real* dx, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        dx[i] = 0 if out[i] <= 0 else dout[i]


def relu_backward(object dout, object out, object dx, int threads):
    """Fill dx with dout where out is not at most 0, else 0; batch-last arrays of one shape."""
    check_threads(threads)
    cdef Planes d = planes(dout, False)
    cdef Planes o = planes(out, False)
    cdef Planes r = planes(dx, True)
    same_shape(d, o)
    same_shape(o, r)
    cdef Py_ssize_t size = d.h * d.w * d.n
    cdef Py_ssize_t runs = (size + CHUNK - 1) // CHUNK
    cdef Py_ssize_t job, at
    with nogil:
        for job in prange(d.c * runs, num_threads=threads, schedule="static"):
            relu_grad_run(d.data + job // runs * d.stride + job % runs * CHUNK,
                          o.data + job // runs * o.stride + job % runs * CHUNK,
                          r.data + job // runs * r.stride + job % runs * CHUNK,
                          min(<Py_ssize_t>CHUNK, size - job % runs * CHUNK))


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
