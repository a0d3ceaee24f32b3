"""The GPU backend: CuPy's arrays and matrix products, and the kernels of ``gpu_*.cu``.

Images lie batch-last here, too: neighbouring threads then take neighbouring images, whatever the
size of the window, and im2col's columns times the weights are the planes of the output, with
nothing to turn round. Kernels take arrays without gaps.

All functions return at once: the GPU works them off in order, and the program waits for it only
where a value is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..geometry import Pool2dGeometry
from .cpu_numpy_steps import move_running
from .gpu_arrays import (
    LARGEST,
    add_up,
    as_batch_last,
    channel_sum,
    chunks_for,
    copy_batch_last,
    empty,
    flat,
    lying,
    needs_wide,
    partial_sums,
    planes_of,
    rows_of,
    turned,
    window_sizes,
    xp,
)
from .gpu_conv import conv2d, conv2d_input_grad, conv2d_weight_grad, plan_conv2d
from .gpu_device import launch

__all__ = [
    "as_batch_last",
    "channel_sum",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "copy_batch_last",
    "empty",
    "plan_conv2d",
]

Array = Any

# ------------------------------------------------------------------ pooling


def max_pool2d(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """out (N, C, OH, OW) and, int32, the tap kh * KW + kw at which each maximum was found."""
    out, argmax = empty(g.out_shape, x.dtype), empty(g.out_shape, np.int32)
    wide = needs_wide(g.window, x.size, out.size)
    arguments = (
        planes_of(out),
        planes_of(argmax),
        lying(x),
        g.n,
        *window_sizes(g.window),
        -math.inf,
    )
    launch("max_pool", x.dtype, wide, out.size, *arguments)
    return out, argmax


def max_pool2d_backward(
    dout: Array, argmax: Array, g: Pool2dGeometry, rectified: Array | None = None
) -> Array:
    """dx (N, C, H, W): each dout (N, C, OH, OW) goes to the tap argmax.

    Where ``rectified`` (N, C, H, W) is not above 0, dx is 0.
    """
    dx = empty(g.x_shape, dout.dtype)
    arguments = (planes_of(dx), lying(dout), lying(argmax), g.n, *window_sizes(g.window))
    wide = needs_wide(g.window, dx.size, dout.size)
    launch("max_pool_backward", dx.dtype, wide, dx.size, *arguments)
    return dx if rectified is None else relu_backward(dx, rectified)


def avg_pool2d(x: Array, g: Pool2dGeometry) -> Array:
    """out (N, C, OH, OW): the mean of each window."""
    return _average("avg_pool", x, g.out_shape, g)


def avg_pool2d_backward(dout: Array, g: Pool2dGeometry, rectified: Array | None = None) -> Array:
    """dx (N, C, H, W): an equal share of dout (N, C, OH, OW) goes to every tap.

    ``rectified`` as in ``max_pool2d_backward``.
    """
    dx = _average("avg_pool_backward", dout, g.x_shape, g)
    return dx if rectified is None else relu_backward(dx, rectified)


def _average(name: str, a: Array, shape: tuple[int, ...], g: Pool2dGeometry) -> Array:
    out, (_, bottom, _, right) = empty(shape, a.dtype), g.window.padding
    sizes = (g.n, *window_sizes(g.window), bottom, right, g.count_include_pad)
    launch(
        name,
        a.dtype,
        needs_wide(g.window, a.size, out.size),
        out.size,
        planes_of(out),
        lying(a),
        *sizes,
    )
    return out


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
    """out = (x - mean) * inv_std * gamma + beta; mean, biased var, inv_std (C,) each.

    ``running`` mean and variance (C,) move towards the batch's, in place; without a ``momentum``
    they are used instead, and copied. ``residual``, shaped as x, is added to out; with ``relu``,
    out then is max(out, 0).
    """
    rows = rows_of(x)
    length, wide = rows.shape[1], rows.size >= LARGEST
    if momentum is None and running:
        mean, var = (statistic.copy() for statistic in running)
    else:
        mean = add_up(partial_sums(rows), max(1, length))
        var = add_up(partial_sums(rows, mean), max(1, length))
    inv_std, out = xp().empty_like(var), xp().empty_like(rows)
    launch("inverse_std", x.dtype, wide, var.size, inv_std, var, float(eps))
    arguments = (out, rows, mean, inv_std, flat(gamma), flat(beta), length)
    launch("normalise", x.dtype, wide, out.size, *arguments)
    if residual is not None:
        out += rows_of(residual)
    if relu:
        xp().maximum(out, 0, out=out)
    move_running(running, momentum, mean, var, length)
    return turned(out.reshape(*x.shape[1:], len(x))), mean, var, inv_std


def batch_norm_backward(
    dout: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """dx, dgamma (C,) and dbeta (C,); the last two also if there is no gamma and beta.

    ``gamma`` and ``beta`` are ``batch_norm``'s, and ``out`` is what it made, if with ``relu``.
    """
    dout = dout if out is None else relu_backward(dout, out)
    d, rows = rows_of(dout), rows_of(x)
    length, chunks = rows.shape[1], chunks_for(rows.shape[1])
    parts = [xp().empty((len(rows), chunks), d.dtype) for _ in range(2)]
    wide = max(rows.size, parts[0].size) >= LARGEST
    statistics = (mean, inv_std, length, chunks)
    launch("gradient_partials", d.dtype, wide, parts[0].size, *parts, d, rows, *statistics)
    dgamma, dbeta = (add_up(part) for part in parts)
    dx = xp().empty_like(d)
    sums = (flat(gamma), mean, inv_std, dgamma, dbeta, length, float(max(1, length)))
    launch("normalise_backward", d.dtype, wide, dx.size, dx, d, rows, *sums)
    return turned(dx.reshape(*x.shape[1:], len(x))), dgamma, dbeta


def cross_entropy(logits: Array, target: Array, label_smoothing: float) -> tuple[Array, Array]:
    """losses (N,) of logits (N, K) against classes target (N,), and log-softmax(logits) (N, K).

    A target that is no class gives a loss of NaN: to raise an error the program would have to wait.
    """
    (n, classes), smoothing = logits.shape, float(label_smoothing)
    losses, log_probs = xp().empty(n, logits.dtype), empty(logits.shape, logits.dtype)
    numbers = (classes, 1 - smoothing, smoothing / classes, math.nan)
    arrays = (losses, planes_of(log_probs), lying(logits), xp().ascontiguousarray(target, np.int64))
    launch("cross_entropy", logits.dtype, logits.size >= LARGEST, n, *arrays, *numbers)
    return losses, log_probs


def cross_entropy_backward(
    dlosses: Array, log_probs: Array, target: Array, label_smoothing: float
) -> Array:
    """dlogits (N, K) = dlosses (N,) * (softmax - smoothed target)."""
    (n, classes), smoothing = log_probs.shape, float(label_smoothing)
    dlogits = empty(log_probs.shape, log_probs.dtype)
    arrays = (
        planes_of(dlogits),
        flat(dlosses),
        lying(log_probs),
        xp().ascontiguousarray(target, np.int64),
    )
    numbers = (n, 1 - smoothing, smoothing / classes)
    wide = dlogits.size >= LARGEST
    launch("cross_entropy_backward", dlogits.dtype, wide, dlogits.size, *arrays, *numbers)
    return dlogits


# ------------------------------------------------------------------ elementwise


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    out = empty(x.shape, x.dtype)
    launch("relu", x.dtype, False, out.size, lying(out), lying(x))
    return out


def relu_backward(dout: Array, out: Array) -> Array:
    """dx: dout where the output is positive or NaN, else 0."""
    dx = empty(out.shape, out.dtype)
    launch("relu_backward", out.dtype, False, dx.size, lying(dx), lying(dout), lying(out))
    return dx


def add(a: Array, b: Array, relu: bool = False, gate: Array | None = None) -> Array:
    """a + b, broadcast; with ``relu``, max(a + b, 0), with a gate 0 where that is at most 0."""
    out = a + b
    if gate is not None:
        return relu_backward(out, gate)
    return xp().maximum(out, 0, out=out) if relu else out


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
    """One step of gradient descent, in place on parameters and velocities, if any."""
    rates = (float(lr), float(momentum), float(1 - dampening), float(weight_decay), bool(nesterov))
    for w, grad, velocity in zip(ws, grads, velocities):
        _in_place("sgd_step", (w, velocity), grad, rates)


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
    """One step of Adam, or with ``decoupled`` of AdamW, in place; step counts from 1."""
    root, rate = math.sqrt(1 - beta2**step), lr / (1 - beta1**step)
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = (1 - beta1, 1 - beta2, root, rate, eps, decay, shrink)
    for w, grad, m, v in zip(ws, grads, ms, vs):
        _in_place("adam_step", (w, m, v), grad, tuple(map(float, numbers)))


def _in_place(
    name: str, kept: tuple[Array | None, ...], grad: Array, numbers: tuple[Any, ...]
) -> None:
    """Launch a step; what lies in another order than C's is written back from a copy."""
    w, *others = lines = [flat(a) for a in kept]
    launch(name, grad.dtype, False, grad.size, w, flat(grad), *others, *numbers)
    for array, line in zip(kept, lines):
        if array is not None and not array.flags.c_contiguous:
            array[...] = line.reshape(array.shape)  # type: ignore[union-attr]
