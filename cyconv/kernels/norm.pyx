# Sums over channels, and batch normalisation. A job is one channel, whose plane is contiguous.

from cython.parallel cimport prange
from libc.math cimport sqrt

from cyconv.kernels.planes cimport Planes, check_threads, numbers, planes, same_shape
from cyconv.kernels.simd cimport VLEN, broadcast, gated, inlined, lane_sum, load, real, vreal

cdef enum:
    RUN = 256 * VLEN  # numbers added up in one precision before they join the total in double


cdef inline double sum_of(const real* x, Py_ssize_t count, real origin) noexcept nogil:
    # the sum of x - origin
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d
    while i + 4 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = c = d = broadcast(0)
        while i + 4 * VLEN <= end:
            a = a + (load(x + i) - origin)
            b = b + (load(x + i + VLEN) - origin)
            c = c + (load(x + i + 2 * VLEN) - origin)
            d = d + (load(x + i + 3 * VLEN) - origin)
            i = i + 4 * VLEN
        total = total + lane_sum((a + b) + (c + d))
    while i < count:
        total = total + (x[i] - origin)
        i = i + 1
    return total


cdef double squares_of(const real* x, Py_ssize_t count, real mean) noexcept nogil:
    # the sum of (x - mean)^2
    cdef double total = 0
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d, u
    while i + 4 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = c = d = broadcast(0)
        while i + 4 * VLEN <= end:
            u = load(x + i) - mean
            a = a + u * u
            u = load(x + i + VLEN) - mean
            b = b + u * u
            u = load(x + i + 2 * VLEN) - mean
            c = c + u * u
            u = load(x + i + 3 * VLEN) - mean
            d = d + u * u
            i = i + 4 * VLEN
        total = total + lane_sum((a + b) + (c + d))
    while i < count:
        total = total + (x[i] - mean) * (x[i] - mean)
        i = i + 1
    return total


cdef void moments_of(const real* x, Py_ssize_t count, double* mean, double* var) noexcept nogil:
    # of all numbers; each run is read twice while it is in the cache, the first one three times. A
    # number near the mean is subtracted, so that few digits are lost to a large one. Source: Chan,
    # Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    # 1979.
    cdef double squares = 0, run_mean, beside, shift
    cdef Py_ssize_t i = 0, run
    cdef real origin
    run = min(<Py_ssize_t>RUN, count)
    mean[0] = sum_of(x, run, 0) / run
    if not mean[0] - mean[0] == 0:  # infinite or NaN
        mean[0] = 0
    while i < count:
        run = min(<Py_ssize_t>RUN, count - i)
        origin = <real>mean[0]
        run_mean = origin + sum_of(x + i, run, origin) / run
        origin = <real>run_mean
        beside = run_mean - origin
        shift = run_mean - mean[0]
        squares = squares + squares_of(x + i, run, origin) - beside * beside * run
        squares = squares + shift * shift * i * run / (i + run)
        mean[0] = mean[0] + shift * run / (i + run)
        i = i + run
    var[0] = squares / count


def channel_sum(object a, object out, int threads):
    """Fill out, 1-d (C,), with the sums of a, batch-last (N, C, H, W), over all axes but C."""
    cdef Planes p = planes(a, False)
    cdef real* sums = numbers(out, p.c, True)
    cdef Py_ssize_t c, count = p.n * p.h * p.w
    check_threads(threads)
    with nogil:
        for c in prange(p.c, num_threads=threads, schedule="static"):
            sums[c] = <real>sum_of(p.data + c * p.stride, count, 0)


cdef void norm_channel(
    const real* x, real* out, Py_ssize_t count, double eps, real gamma, real beta, bint relu,
    real* mean, real* var, real* inv_std,
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real y
    cdef double mean_, var_
    moments_of(x, count, &mean_, &var_)
    cdef real m = <real>mean_
    cdef real s = <real>(1 / sqrt(var_ + eps))
    cdef real scale = s * gamma
    if relu:
        for i in range(count):
            y = (x[i] - m) * scale + beta
            out[i] = 0 if y < 0 else y
    else:
        for i in range(count):
            out[i] = (x[i] - m) * scale + beta
    mean[0] = m
    var[0] = <real>var_
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


cdef inline vreal arriving(
    const bint relu, const real* dout, const real* out, Py_ssize_t i
) noexcept nogil:
    # the gradient before the ReLU that made out, if any
    return gated(load(dout + i), load(out + i)) if relu else load(dout + i)


cdef inline inlined grad_sums(
    const bint relu, const real* dout, const real* out, const real* x, Py_ssize_t count, real mean,
    double* total, double* along,
) noexcept nogil:
    # the sums of dout and of dout * (x - mean)
    cdef Py_ssize_t i = 0, end
    cdef vreal a, b, c, d, u, v
    cdef real last
    total[0] = along[0] = 0
    while i + 2 * VLEN <= count:
        end = min(count, i + RUN)
        a = b = c = d = broadcast(0)
        while i + 2 * VLEN <= end:
            u, v = arriving(relu, dout, out, i), arriving(relu, dout, out, i + VLEN)
            a, b = a + u, b + v
            c = c + u * (load(x + i) - mean)
            d = d + v * (load(x + i + VLEN) - mean)
            i = i + 2 * VLEN
        total[0] = total[0] + lane_sum(a + b)
        along[0] = along[0] + lane_sum(c + d)
    while i < count:
        last = 0 if relu and out[i] <= 0 else dout[i]
        total[0] = total[0] + last
        along[0] = along[0] + last * (x[i] - mean)
        i = i + 1


cdef inline inlined norm_grad_channel(
    const bint relu, const real* dout, const real* out, const real* x, real* dx, Py_ssize_t count,
    real gamma, real mean, real inv_std, real* dgamma, real* dbeta,
) noexcept nogil:
    # dx = gamma inv_std (dout - mean(dout) - xhat mean(dout xhat)), xhat = (x - mean) inv_std
    cdef Py_ssize_t i
    cdef double total, along
    grad_sums(relu, dout, out, x, count, mean, &total, &along)
    along = along * inv_std
    cdef real scale = gamma * inv_std
    cdef real shift = <real>(total / count)
    cdef real slope = <real>(along / count) * inv_std
    for i in range(count):
        dx[i] = ((0 if relu and out[i] <= 0 else dout[i]) - shift - (x[i] - mean) * slope) * scale
    dgamma[0] = <real>along
    dbeta[0] = <real>total


cdef void norm_grad_job(
    const real* dout, const real* out, const real* x, real* dx, Py_ssize_t count, real gamma, real mean,
    real inv_std, real* dgamma, real* dbeta,
) noexcept nogil:
    # whether there was a ReLU becomes a constant
    if out == NULL:
        norm_grad_channel(False, dout, out, x, dx, count, gamma, mean, inv_std, dgamma, dbeta)
    else:
        norm_grad_channel(True, dout, out, x, dx, count, gamma, mean, inv_std, dgamma, dbeta)


def batch_norm_backward(
    object dout, object rectified, object x, object dx, object gamma, object mean, object inv_std,
    object dgamma, object dbeta, int threads,
):
    """Fill dx, and dgamma and dbeta (C,), from dout, x and what ``batch_norm`` found.

    rectified: what it made, if with ``relu``, else None.
    """
    cdef Planes d = planes(dout, False)
    cdef Planes a = planes(x, False)
    cdef Planes r = planes(dx, True)
    cdef Planes o = d if rectified is None else planes(rectified, False)
    same_shape(d, a)
    same_shape(a, r)
    same_shape(r, o)
    cdef bint relu = rectified is not None
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
            norm_grad_job(d.data + c * d.stride, o.data + c * o.stride if relu else NULL,
                          a.data + c * a.stride, r.data + c * r.stride, count,
                          g[c] if g != NULL else 1, m[c], s[c], dg + c, db + c)
