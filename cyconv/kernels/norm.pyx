# Sums over channels, and batch normalisation. A job is one channel, whose plane is contiguous.

from cython.parallel cimport prange
from libc.math cimport sqrt

from cyconv.kernels.planes cimport Planes, check_threads, numbers, planes, same_shape
from cyconv.kernels.simd cimport VLEN, broadcast, lane_sum, load, real, vreal

cdef enum:
    RUN = 4096  # numbers added up in one precision before they join the total in double


cdef double sum_of(const real* x, Py_ssize_t count) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d
    while i + 4 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = c = d = broadcast(0)
        while i + 4 * VLEN <= end:
            a = a + load(x + i)
            b = b + load(x + i + VLEN)
            c = c + load(x + i + 2 * VLEN)
            d = d + load(x + i + 3 * VLEN)
            i = i + 4 * VLEN
        total = total + lane_sum((a + b) + (c + d))
    while i < count:
        total = total + x[i]
        i = i + 1
    return total


cdef double squares_of(const real* x, Py_ssize_t count, real mean) noexcept nogil:
    # the sum of (x - mean)^2
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, u, v
    while i + 2 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = broadcast(0)
        while i + 2 * VLEN <= end:
            u = load(x + i) - mean
            v = load(x + i + VLEN) - mean
            a = a + u * u
            b = b + v * v
            i = i + 2 * VLEN
        total = total + lane_sum(a + b)
    while i < count:
        total = total + (x[i] - mean) * (x[i] - mean)
        i = i + 1
    return total


cdef double products_of(
    const real* dout, const real* x, Py_ssize_t count, real mean
) noexcept nogil:
    # the sum of dout * (x - mean)
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b
    while i + 2 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = broadcast(0)
        while i + 2 * VLEN <= end:
            a = a + load(dout + i) * (load(x + i) - mean)
            b = b + load(dout + i + VLEN) * (load(x + i + VLEN) - mean)
            i = i + 2 * VLEN
        total = total + lane_sum(a + b)
    while i < count:
        total = total + dout[i] * (x[i] - mean)
        i = i + 1
    return total


def channel_sum(object a, object out, int threads):
    """Fill out, 1-d (C,), with the sums of a, batch-last (N, C, H, W), over all axes but C."""
    cdef Planes p = planes(a, False)
    cdef real* sums = numbers(out, p.c, True)
    cdef Py_ssize_t c, count = p.n * p.h * p.w
    check_threads(threads)
    with nogil:
        for c in prange(p.c, num_threads=threads, schedule="static"):
            sums[c] = <real>sum_of(p.data + c * p.stride, count)


cdef void norm_channel(
    const real* x, real* out, Py_ssize_t count, double eps, real gamma, real beta, bint relu,
    real* mean, real* var, real* inv_std,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real y
    cdef real m = <real>(sum_of(x, count) / count)
    cdef double v = squares_of(x, count, m) / count
    cdef real s = <real>(1 / sqrt(v + eps))
    cdef real scale = s * gamma
    if relu:
        for i in range(count):
            y = (x[i] - m) * scale + beta
            out[i] = 0 if y < 0 else y
    else:
        for i in range(count):
            out[i] = (x[i] - m) * scale + beta
    mean[0] = m
    var[0] = <real>v
    inv_std[0] = s


def batch_norm(
    object x, object out, object gamma, object beta, object mean, object var, object inv_std,
    double eps, bint relu, int threads,
):
    """Fill out, and mean, var and inv_std (C,), from x, batch-last; gamma, beta (C,) or None.

    ``relu`` replaces what is below 0 by 0.
    """
    cdef Planes a = planes(x, False)
    cdef Planes o = planes(out, True)
    same_shape(a, o)
    cdef const real* g = NULL if gamma is None else numbers(gamma, a.c, False)
    cdef const real* b = NULL if beta is None else numbers(beta, a.c, False)
    cdef real* m = numbers(mean, a.c, True)
    cdef real* v = numbers(var, a.c, True)
    cdef real* s = numbers(inv_std, a.c, True)
    cdef Py_ssize_t c, count = a.n * a.h * a.w
    check_threads(threads)
    if count < 1:
        raise ValueError("kernel: batch_norm needs at least one value")
    with nogil:
        for c in prange(a.c, num_threads=threads, schedule="static"):
            norm_channel(a.data + c * a.stride, o.data + c * o.stride, count, eps,
                         g[c] if g != NULL else 1, b[c] if b != NULL else 0, relu, m + c,
                         v + c, s + c)


cdef void norm_grad_channel(
    const real* dout, const real* x, real* dx, Py_ssize_t count, real gamma, real mean,
    real inv_std, real* dgamma, real* dbeta,
) noexcept nogil:
    # dx = gamma inv_std (dout - mean(dout) - xhat mean(dout xhat)), xhat = (x - mean) inv_std
    cdef Py_ssize_t i
    cdef double total = sum_of(dout, count)
    cdef double along = products_of(dout, x, count, mean) * inv_std
    cdef real scale = gamma * inv_std
    cdef real shift = <real>(total / count)
    cdef real slope = <real>(along / count) * inv_std
    for i in range(count):
        dx[i] = (dout[i] - shift - (x[i] - mean) * slope) * scale
    dgamma[0] = <real>along
    dbeta[0] = <real>total


def batch_norm_backward(
    object dout, object x, object dx, object gamma, object mean, object inv_std, object dgamma,
    object dbeta, int threads,
):
    """Fill dx, and dgamma and dbeta (C,), from dout, x and what ``batch_norm`` found."""
    cdef Planes d = planes(dout, False)
    cdef Planes a = planes(x, False)
    cdef Planes r = planes(dx, True)
    same_shape(d, a)
    same_shape(a, r)
    cdef const real* g = NULL if gamma is None else numbers(gamma, a.c, False)
    cdef const real* m = numbers(mean, a.c, False)
    cdef const real* s = numbers(inv_std, a.c, False)
    cdef real* dg = numbers(dgamma, a.c, True)
    cdef real* db = numbers(dbeta, a.c, True)
    cdef Py_ssize_t c, count = a.n * a.h * a.w
    check_threads(threads)
    if count < 1:
        raise ValueError("kernel: batch_norm_backward needs at least one value")
    with nogil:
        for c in prange(a.c, num_threads=threads, schedule="static"):
            norm_grad_channel(d.data + c * d.stride, a.data + c * a.stride, r.data + c * r.stride,
                              count, g[c] if g != NULL else 1, m[c], s[c], dg + c, db + c)
