# Softmax cross-entropy and its gradient. Logits are batch-last: class k of image i at k * n + i.

from libc.math cimport exp, log
from libc.stdint cimport int64_t

from cyconv.kernels.planes cimport Planes, class_numbers, has_shape, numbers, planes
from cyconv.kernels.simd cimport real


cdef Planes logits_of(object array, bint writable) except *:
    cdef Planes p = planes(array, writable)
    if p.h != 1 or p.w != 1 or p.c < 1:
        raise ValueError("kernel: logits must have shape (N, K, 1, 1)")
    return p


def cross_entropy(
    object logits, object target, double smoothing, object losses, object log_probs,
):
    """Fill losses (N,) and log_probs (N, K, 1, 1) from logits (N, K, 1, 1)."""
    cdef Planes z = logits_of(logits, False)
    cdef Planes lp = logits_of(log_probs, True)
    has_shape(lp, z.n, z.c, 1, 1)
    cdef const int64_t* right = class_numbers(target, z.n, z.c)
    cdef real* loss = numbers(losses, z.n, True)
    cdef Py_ssize_t i, k
    cdef double top, total, mean
    with nogil:
        for i in range(z.n):
            top = z.data[i]
            for k in range(1, z.c):  # not max(): NaN must stay
                top = top if z.data[k * z.stride + i] <= top else z.data[k * z.stride + i]
            total = 0
            for k in range(z.c):
                total = total + exp(z.data[k * z.stride + i] - top)
            total = log(total)
            mean = 0
            for k in range(z.c):
                lp.data[k * lp.stride + i] = <real>(z.data[k * z.stride + i] - top - total)
                mean = mean + lp.data[k * lp.stride + i]
            mean = mean / z.c
            loss[i] = <real>(
                (smoothing - 1) * lp.data[right[i] * lp.stride + i]
                - (smoothing * mean if smoothing != 0 else 0)
            )


def cross_entropy_backward(
    object dlosses, object log_probs, object target, double smoothing, object dlogits,
):
    """Fill dlogits (N, K, 1, 1) with dlosses * (softmax - smoothed one-hot target)."""
    cdef Planes lp = logits_of(log_probs, False)
    cdef Planes dz = logits_of(dlogits, True)
    has_shape(dz, lp.n, lp.c, 1, 1)
    cdef const int64_t* right = class_numbers(target, lp.n, lp.c)
    cdef real* d = numbers(dlosses, lp.n, False)
    cdef Py_ssize_t i, k
    cdef double wanted
    with nogil:
        for k in range(lp.c):
            for i in range(lp.n):
                wanted = smoothing / lp.c + (1 - smoothing if right[i] == k else 0)
                dz.data[k * dz.stride + i] = <real>(
                    d[i] * (exp(lp.data[k * lp.stride + i]) - wanted)
                )
