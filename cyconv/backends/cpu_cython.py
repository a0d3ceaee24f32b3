"""The compiled backend: chooses memory layout, algorithm and threads; the kernels loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..geometry import Pool2dGeometry
from . import cpu_numpy
from .capture import call, constant, not_caught
from .cpu_cython_arrays import (  # noqa: F401  (part of the contract)
    SERIAL_BELOW,
    Array,
    as_batch_last,
    copy_batch_last,
    describe,
    flat,
    flat_or_none,
    images,
    images_or_none,
    in_c_order,
    isa,
    kernels_of,
    sliding,
    threads_for,
    with_pixels,
)
from .cpu_cython_conv import (  # noqa: F401  (part of the contract)
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
    plan_conv2d,
)
from .memory import aligned_empty, empty, is_batch_last


def channel_sum(a: Array) -> Array:
    """The sum over every axis but 1: (N, C) or (N, C, ...) -> (C,)."""
    a = images(a)
    out = aligned_empty((a.shape[1],), a.dtype)
    call(kernels_of(a).norm.channel_sum, a, out, threads_for(a.size))
    return out


# ------------------------------------------------------------------ pooling


def max_pool2d(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """x (N, C, H, W) -> out and argmax (N, C, OH, OW); argmax (int32) is kh * KW + kw."""
    x = images(x)
    out, argmax = empty(g.out_shape, x.dtype), _winners(g.out_shape)
    call(kernels_of(x).max_pool.max_pool, x, out, argmax, *sliding(g.window), threads_for(x.size))
    return out, argmax


def _winners(shape: tuple[int, ...]) -> Array:
    n, c, h, w = shape
    return aligned_empty((c, h, w, n), np.dtype(np.int32)).transpose(3, 0, 1, 2)


def max_pool2d_backward(
    dout: Array, argmax: Array, g: Pool2dGeometry, rectified: Array | None = None
) -> Array:
    """dout and argmax (N, C, OH, OW) -> dx (N, C, H, W), 0 where ``rectified`` is not above 0."""
    dout, dx = images(dout), empty(g.x_shape, dout.dtype)
    gate = images_or_none(rectified)
    options = (*sliding(g.window), threads_for(dx.size))
    call(kernels_of(dout).max_pool.max_pool_backward, dout, argmax, gate, dx, *options)
    return dx


def avg_pool2d(x: Array, g: Pool2dGeometry) -> Array:
    """x (N, C, H, W) -> out (N, C, OH, OW)."""
    return _average(x, None, g.out_shape, g, transposed=False)


def avg_pool2d_backward(dout: Array, g: Pool2dGeometry, rectified: Array | None = None) -> Array:
    """dout (N, C, OH, OW) -> dx (N, C, H, W), 0 where ``rectified`` is not above 0."""
    return _average(dout, rectified, g.x_shape, g, transposed=True)


def _average(
    src: Array, rectified: Array | None, shape: tuple[int, ...], g: Pool2dGeometry, transposed: bool
) -> Array:
    src, w = images(src), g.window
    gate = images_or_none(rectified)
    dst = empty(shape, src.dtype)
    options = (w.kernel, w.stride, w.padding, g.count_include_pad, transposed)
    threads = threads_for(max(src.size, dst.size))
    call(kernels_of(src).avg_pool.avg_pool, src, gate, dst, *options, threads)
    return dst


# ------------------------------------------------------------------ normalisation and loss


def batch_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    relu: bool = False,
    running: tuple[Array, Array] | None = None,
    momentum: float | None = 0.0,
    residual: Array | None = None,
) -> tuple[Array, Array, Array, Array]:
    """x (N, C, ...) -> out, mean, biased variance and inv_std (C,), of the batch itself.

    ``running`` mean and variance (C,) move towards the batch's, in place; without a ``momentum``
    they are used instead, and copied. ``residual``, shaped as x, is added to out; with ``relu``,
    out then is max(out, 0).
    """
    a = images(x)
    added = None if residual is None else images(residual)
    out = empty(a.shape, x.dtype)
    mean, var, inv_std = _filled((3, x.shape[1]), x)
    if x.size:
        weights = constant(flat_or_none(gamma)), constant(flat_or_none(beta))
        lines = [in_c_order(kept) for kept in running or ()]
        if momentum is None:  # they are only read
            lines, running = [constant(line) for line in lines], None
        statistics = (mean, var, inv_std, *(lines or (None, None)))
        options = (momentum, eps, relu, threads_for(x.size))
        arrays = (a, added, out, *weights, *statistics)
        call(kernels_of(a).norm.batch_norm, *arrays, *options)
        _write_back(running or (), lines)
    return out.reshape(x.shape), mean, var, inv_std


def _filled(shape: tuple[int, ...], x: Array) -> Array:
    """Memory that a kernel fills; zeros if there is nothing in x that it could read."""
    out = aligned_empty(shape, x.dtype)
    if not x.size:
        out[...] = 0
    return out


def batch_norm_backward(
    dout: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """dout and x (N, C, ...) -> dx, dgamma (C,), dbeta (C,); out is given if it is ReLU's."""
    a, d = images(x), images(dout)
    dx = empty(a.shape, x.dtype)
    dgamma, dbeta = _filled((2, x.shape[1]), x)
    if x.size:
        call(
            kernels_of(a).norm.batch_norm_backward,
            d,
            a,
            dx,
            flat_or_none(gamma),
            flat_or_none(beta),
            mean,
            inv_std,
            dgamma,
            dbeta,
            out is not None,
            threads_for(x.size),
        )
    return dx.reshape(x.shape), dgamma, dbeta


def cross_entropy(logits: Array, target: Array, label_smoothing: float) -> tuple[Array, Array]:
    """logits (N, K), target (N,) -> losses (N,) and log_probs (N, K)."""
    z = images(logits)
    losses, log_probs = np.empty(len(z), z.dtype), empty(z.shape, z.dtype)
    target = np.ascontiguousarray(target, np.int64)
    kernels_of(z).loss.cross_entropy(z, target, label_smoothing, losses, log_probs)
    return losses, log_probs[:, :, 0, 0]


def cross_entropy_backward(
    dlosses: Array, log_probs: Array, target: Array, label_smoothing: float
) -> Array:
    """dlosses (N,), log_probs (N, K) -> dlogits (N, K)."""
    lp = images(log_probs)
    dlogits = empty(lp.shape, lp.dtype)
    target = np.ascontiguousarray(target, np.int64)
    kernels_of(lp).loss.cross_entropy_backward(flat(dlosses), lp, target, label_smoothing, dlogits)
    return dlogits[:, :, 0, 0]


# ------------------------------------------------------------------ elementwise


def relu(x: Array) -> Array:
    """max(x, 0), elementwise; NaN stays."""
    planes = _planes(x)
    out = empty(planes.shape, x.dtype)
    call(kernels_of(x).elementwise.relu, planes, out, threads_for(x.size))
    return out.reshape(x.shape)


def relu_and_search(x: Array) -> tuple[Array, bool]:
    """max(x, 0), and whether one of the numbers is 0: it has no derivative there."""
    not_caught()
    planes = _planes(x)
    out = empty(planes.shape, x.dtype)
    zero = kernels_of(x).elementwise.relu_and_search(planes, out, threads_for(x.size))
    return out.reshape(x.shape), zero


def relu_backward(dout: Array, out: Array) -> Array:
    """dout where the output is above 0 or NaN, else 0."""
    d, o = _planes(dout), _planes(out)
    dx = empty(o.shape, o.dtype)
    call(kernels_of(o).elementwise.relu_backward, d, o, dx, threads_for(o.size))
    return dx.reshape(out.shape)


def add(a: Array, b: Array, relu: bool = False, gate: Array | None = None) -> Array:
    """a + b, broadcast; with ``relu``, max(a + b, 0), with a gate 0 where that is at most 0."""
    alike = a.shape == b.shape and a.dtype == b.dtype and a.dtype.char in "fd" and a.dtype.isnative
    if not (alike and a.ndim in (2, 4) and a.size and is_batch_last(a) and is_batch_last(b)):
        not_caught()
        return cpu_numpy.add(a, b, relu, gate)
    out = empty(a.shape, a.dtype)
    arrays = with_pixels(a), with_pixels(b), images_or_none(gate), with_pixels(out)
    call(kernels_of(a).elementwise.add, *arrays, relu, threads_for(a.size))
    return out


def _planes(a: Array) -> Array:
    """Any array as (N, C, H, W) for an elementwise kernel."""
    return images(a) if a.ndim in (2, 4) else flat(a)[:, None, None, None]


def sgd_step(
    ws: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array | None],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """One step of gradient descent, in place on parameters and velocities (None without momentum).

    For each of them, all of one dtype: g = grad + weight_decay * w;
    velocity = momentum * velocity + (1 - dampening) * g;
    w -= lr * velocity, or with Nesterov's momentum lr * (g + momentum * velocity).
    """
    options = (lr, momentum, dampening, weight_decay, nesterov)
    _step("sgd_step", grads, (ws, velocities), options)


def adam_step(
    ws: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam, or with ``decoupled`` of AdamW, in place on parameters, ms and vs.

    For each of them, all of one dtype, where step counts from 1: m = beta1 m + (1 - beta1) g;
    v = beta2 v + (1 - beta2) g^2;
    w -= lr * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps).
    """
    options = (step, lr, beta1, beta2, eps, weight_decay, decoupled)
    _step("adam_step", grads, (ws, ms, vs), options)


def _step(
    name: str,
    grads: Sequence[Array],
    kept: tuple[Sequence[Array | None], ...],
    options: tuple[Any, ...],
) -> None:
    """Run a kernel that changes parameters, the first of what is kept, by their gradients."""
    threads = threads_for(sum([a.size for a in grads]))
    kernel = getattr(kernels_of(grads[0]).elementwise, name)
    with suppress(TypeError, ValueError):  # from the kernel, before it changes any
        return kernel(kept[0], grads, *kept[1:], *options, threads)
    ws, *others = lines = [[a if a is None else in_c_order(a) for a in arrays] for arrays in kept]
    kernel(ws, [in_c_order(a) for a in grads], *others, *options, threads)
    for arrays, copies in zip(kept, lines):
        _write_back(arrays, copies)


def _write_back(arrays: Sequence[Array | None], lines: Sequence[Array | None]) -> None:
    """Copy the arrays that an in-place kernel wrote into those that they are copies of, if any."""
    for array, line in zip(arrays, lines):
        if array is not None and line is not array:
            array[...] = line
