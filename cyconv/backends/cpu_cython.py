"""The compiled backend: chooses memory layout, algorithm and threads; the kernels loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import config, kernels
from ..geometry import Conv2dGeometry, Pool2dGeometry, Window
from .algorithm import choose
from .capture import call, constant, constant_empty, not_caught
from .memory import aligned_empty, empty, flat, flat_or_none, is_batch_last, native

Array = Any

SERIAL_BELOW = 20_000  # multiply-adds: starting threads costs about as much as these

isa = kernels.choose()
_kernels = kernels.Kernels(isa)
_openmp = bool(kernels.processor().openmp)


def describe() -> list[tuple[str, str]]:
    """How the kernels were built, as (name, value) pairs."""
    cpu = kernels.processor()
    return [
        ("instruction set", f"{isa} (built: {', '.join(kernels.built())})"),
        ("openmp", f"yes ({cpu.openmp})" if _openmp else "no: the kernels use one thread"),
        ("compiler", cpu.compiler),
    ]


def _threads(work: int) -> int:
    """Threads for so many multiply-adds."""
    return config.get_num_threads() if work >= SERIAL_BELOW and _openmp else 1


# ------------------------------------------------------------------ memory


def as_batch_last(a: Array) -> Array:
    """``a`` in native byte order, aligned and batch-last: the same object if it is so already."""
    a = native(a)
    if a.ndim not in (2, 4) or is_batch_last(a):
        return a
    not_caught()
    out = empty(a.shape, a.dtype)
    copy_batch_last(a, out)
    return out


def copy_batch_last(a: Array, out: Array) -> None:
    """Copy an array into a batch-last one of its shape, (N, C) or (N, C, H, W)."""
    plain = a.flags.c_contiguous and a.ndim in (2, 4) and a.dtype.char in "fd"
    if plain and a.dtype == out.dtype and a.dtype.isnative:
        planes = out if a.ndim == 4 else out[:, :, None, None]
        _of(a).elementwise.to_batch_last(a.reshape(-1), planes, _threads(a.size))
    else:
        out[...] = a


def _images(a: Array) -> Array:
    """A batch-last (N, C, H, W) array, whatever came in."""
    a = as_batch_last(a)
    if a.ndim == 4:
        return a
    if a.ndim == 2:
        return a[:, :, None, None]
    return as_batch_last(a.reshape(*a.shape[:2], -1, 1))


def _sliding(window: Window) -> tuple[tuple[int, int], ...]:
    """kernel, stride, padding (top, left) and dilation, as the kernels take them."""
    top, _, left, _ = window.padding
    return window.kernel, window.stride, (top, left), window.dilation


def _of(a: Array) -> SimpleNamespace:
    return _kernels[a.dtype.char]


# ------------------------------------------------------------------ convolution


def plan_conv2d(g: Conv2dGeometry, dtype: Any, algo: str = "auto") -> tuple[str, str, int]:
    """Which algorithm the forward pass runs, why, and its scratch memory in bytes."""
    dtype = np.dtype(dtype)
    name, reason = _choose(g, dtype.char, algo, "forward")
    return name, reason, _scratch_size(name, g, dtype.char, False) * dtype.itemsize


def _choose(g: Conv2dGeometry, char: str, algo: str, direction: str) -> tuple[str, str]:
    vector = _kernels[char].conv.lanes // 2
    return choose(g, char, vector, direction) if algo == "auto" else (algo, "it was asked for")


def _scratch_size(name: str, g: Conv2dGeometry, char: str, transposed: bool) -> int:
    """Numbers of scratch memory."""
    if name == "dense":
        return 0
    threads, window = _threads(g.macs), g.window
    read, written = (g.out_shape, g.x_shape) if transposed else (g.x_shape, g.out_shape)
    if name == "winograd":
        sizes = (g.n, read[1], *written[1:], window.kernel[0])
        return _kernels[char].winograd.scratch_size(*sizes) * threads
    options = (g.groups, *_sliding(window), transposed, name == "direct", threads)
    return _kernels[char].conv.scratch_size(read, written, *options)


def conv2d(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str = "auto", relu: bool = False
) -> Array:
    """x (N, C, H, W) and w (F, C/G, KH, KW) -> out (N, F, OH, OW); with ``relu``, max(out, 0)."""
    return _correlate(x, w, b, g, algo, relu, transposed=False)


def conv2d_input_grad(dout: Array, w: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dout (N, F, OH, OW) and w (F, C/G, KH, KW) -> dx (N, C, H, W)."""
    return _correlate(dout, w, None, g, algo, False, transposed=True)


def _correlate(
    x: Array,
    w: Array,
    b: Array | None,
    g: Conv2dGeometry,
    algo: str,
    relu: bool,
    transposed: bool,
) -> Array:
    x, w = _images(x), flat(w)
    dtype = x.dtype
    conv = _of(x).conv
    window = g.window
    taps = window.kernel[0] * window.kernel[1]
    read, written = g.c // g.groups, g.f // g.groups
    if transposed:
        read, written = written, read
    out = empty(g.x_shape if transposed else g.out_shape, dtype)
    if not out.size:
        return out
    if not x.size:
        out[...] = 0 if b is None else b[:, None, None]
        return np.maximum(out, 0) if relu else out
    threads = _threads(g.macs)
    name = _choose(g, dtype.char, algo, "input_grad" if transposed else "forward")[0]
    if name == "dense":
        w, bias = constant(w), constant(flat_or_none(b))
        ends = (relu, threads)
        call(_of(x).dense.dense, flat(x), w, bias, out.reshape(-1), *ends, constants=(w, bias))
        return out
    scratch = aligned_empty((_scratch_size(name, g, dtype.char, transposed),), dtype)
    bias = flat_or_none(b)
    if name == "winograd":
        winograd, bias = _of(x).winograd, constant(bias)
        top, _, left, _ = window.padding
        side = window.kernel[0]
        if transposed:  # a correlation with the turned kernel
            top, left = side - 1 - top, side - 1 - left
        packed = constant_empty((winograd.packed_size(read, written),), dtype)
        winograd.pack_weights(w, packed, written, read, side, transposed, _threads(w.size))
        place = (top, left, side)
        arrays = (x, packed, bias, out, scratch)
        call(winograd.correlate, *arrays, *place, relu, threads, constants=(packed, bias))
        return out
    packed = constant_empty(conv.packed_size(g.groups, written, read * taps)[:1], dtype)
    sizes = (g.groups, written, read, taps)
    conv.pack_weights(w, bias, packed, *sizes, transposed, _threads(w.size))
    options = (g.groups, *_sliding(window), transposed, name == "direct", relu, threads)
    call(conv.correlate, x, packed, out, scratch, *options, constants=(packed,))
    return out


def conv2d_weight_grad(x: Array, dout: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """x (N, C, H, W) and dout (N, F, OH, OW) -> dw (F, C/G, KH, KW)."""
    dtype = x.dtype
    if not dout.size:
        return np.zeros(g.w_shape, dtype)
    window, threads = g.window, _threads(g.macs)
    if window.is_pointwise and window.in_size == (1, 1) and g.groups == 1:
        return _linear_weight_grad(x, dout, g)
    x, dout = _images(x), _images(dout)
    dw = np.empty(g.w_shape, dtype)
    if _choose(g, dtype.char, algo, "weight_grad")[0] == "winograd":
        winograd = _of(x).winograd_weight_grad
        side = window.kernel[0]
        size = winograd.scratch_size(g.n, g.c, g.f, *window.out_size, side, threads)
        scratch = aligned_empty((size,), dtype)
        top, _, left, _ = window.padding
        winograd.weight_grad(x, dout, dw.reshape(-1), scratch, top, left, side, threads)
        return dw
    kernel = _of(x).conv_weight_grad
    sizes = (g.groups, *_sliding(window))
    scratch = aligned_empty((kernel.scratch_size(x, dout, *sizes) * threads,), dtype)
    kernel.weight_grad(x, dout, dw.reshape(-1), scratch, *sizes, threads)
    return dw


def _linear_weight_grad(x: Array, dout: Array, g: Conv2dGeometry) -> Array:
    """dout.T @ x as a convolution whose images are the features and whose channels the images.

    Row-major x (N, C) is the batch-last memory of C images with N channels.
    """
    features = np.ascontiguousarray(native(x)[:, :, 0, 0]).T[:, :, None, None]  # (C, N, 1, 1)
    weights = dout[:, :, 0, 0].T  # (F, N)
    swapped = Conv2dGeometry(g.c, g.n, g.f, 1, g.window)
    out = conv2d(features, weights, None, swapped)  # (C, F, 1, 1), lying as (F, C)
    return out[:, :, 0, 0].T[:, :, None, None]


def channel_sum(a: Array) -> Array:
    """The sum over every axis but 1: (N, C) or (N, C, ...) -> (C,)."""
    a = _images(a)
    out = np.empty(a.shape[1], a.dtype)
    _of(a).norm.channel_sum(a, out, _threads(a.size))
    return out


# ------------------------------------------------------------------ pooling


def max_pool2d(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """x (N, C, H, W) -> out and argmax (N, C, OH, OW); argmax (int32) is kh * KW + kw."""
    x = _images(x)
    out, argmax = empty(g.out_shape, x.dtype), _winners(g.out_shape)
    call(_of(x).pool.max_pool, x, out, argmax, *_sliding(g.window), _threads(x.size))
    return out, argmax


def _winners(shape: tuple[int, ...]) -> Array:
    n, c, h, w = shape
    return aligned_empty((c, h, w, n), np.dtype(np.int32)).transpose(3, 0, 1, 2)


def max_pool2d_backward(dout: Array, argmax: Array, g: Pool2dGeometry) -> Array:
    """dout and argmax (N, C, OH, OW) -> dx (N, C, H, W)."""
    dout, dx = _images(dout), empty(g.x_shape, dout.dtype)
    options = (*_sliding(g.window), _threads(dx.size))
    _of(dout).pool.max_pool_backward(dout, argmax, dx, *options)
    return dx


def avg_pool2d(x: Array, g: Pool2dGeometry) -> Array:
    """x (N, C, H, W) -> out (N, C, OH, OW)."""
    return _average(x, g.out_shape, g, transposed=False)


def avg_pool2d_backward(dout: Array, g: Pool2dGeometry) -> Array:
    """dout (N, C, OH, OW) -> dx (N, C, H, W)."""
    return _average(dout, g.x_shape, g, transposed=True)


def _average(src: Array, shape: tuple[int, ...], g: Pool2dGeometry, transposed: bool) -> Array:
    src, w = _images(src), g.window
    dst = empty(shape, src.dtype)
    options = (w.kernel, w.stride, w.padding, g.count_include_pad, transposed)
    call(_of(src).pool.avg_pool, src, dst, *options, _threads(max(src.size, dst.size)))
    return dst


# ------------------------------------------------------------------ normalisation and loss


def batch_norm(
    x: Array, gamma: Array | None, beta: Array | None, eps: float, relu: bool = False
) -> tuple[Array, Array, Array, Array]:
    """x (N, C, ...) -> out, mean, biased variance and inv_std (C,), of the batch itself.

    With ``relu``, out is max(out, 0).
    """
    images = _images(x)
    out = empty(images.shape, x.dtype)
    mean, var, inv_std = np.zeros((3, x.shape[1]), x.dtype)
    if x.size:
        scale_shift = flat_or_none(gamma), flat_or_none(beta)
        options = (mean, var, inv_std, eps, relu, _threads(x.size))
        _of(images).norm.batch_norm(images, out, *scale_shift, *options)
    return out.reshape(x.shape), mean, var, inv_std


def batch_norm_backward(
    dout: Array, x: Array, gamma: Array | None, mean: Array, inv_std: Array
) -> tuple[Array, Array, Array]:
    """dout and x (N, C, ...) -> dx, dgamma (C,), dbeta (C,)."""
    images, d = _images(x), _images(dout)
    dx = empty(images.shape, x.dtype)
    dgamma, dbeta = np.zeros((2, x.shape[1]), x.dtype)
    if x.size:
        _of(images).norm.batch_norm_backward(
            d, images, dx, flat_or_none(gamma), mean, inv_std, dgamma, dbeta, _threads(x.size)
        )
    return dx.reshape(x.shape), dgamma, dbeta


def cross_entropy(logits: Array, target: Array, label_smoothing: float) -> tuple[Array, Array]:
    """logits (N, K), target (N,) -> losses (N,) and log_probs (N, K)."""
    z = _images(logits)
    losses, log_probs = np.empty(len(z), z.dtype), empty(z.shape, z.dtype)
    target = np.ascontiguousarray(target, np.int64)
    _of(z).loss.cross_entropy(z, target, label_smoothing, losses, log_probs)
    return losses, log_probs[:, :, 0, 0]


def cross_entropy_backward(
    dlosses: Array, log_probs: Array, target: Array, label_smoothing: float
) -> Array:
    """dlosses (N,), log_probs (N, K) -> dlogits (N, K)."""
    lp = _images(log_probs)
    dlogits = empty(lp.shape, lp.dtype)
    target = np.ascontiguousarray(target, np.int64)
    _of(lp).loss.cross_entropy_backward(flat(dlosses), lp, target, label_smoothing, dlogits)
    return dlogits[:, :, 0, 0]


# ------------------------------------------------------------------ elementwise


def relu(x: Array) -> Array:
    """max(x, 0), elementwise; NaN stays."""
    planes = _planes(x)
    out = empty(planes.shape, x.dtype)
    call(_of(x).elementwise.relu, planes, out, _threads(x.size))
    return out.reshape(x.shape)


def relu_backward(dout: Array, out: Array) -> Array:
    """dout where the output is above 0 or NaN, else 0."""
    d, o = _planes(dout), _planes(out)
    dx = empty(o.shape, o.dtype)
    _of(o).elementwise.relu_backward(d, o, dx, _threads(o.size))
    return dx.reshape(out.shape)


def _planes(a: Array) -> Array:
    """Any array as (N, C, H, W) for an elementwise kernel."""
    return _images(a) if a.ndim in (2, 4) else flat(a)[:, None, None, None]


def sgd_step(
    w: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """One step of gradient descent, in place on w and velocity (None without momentum).

    g = grad + weight_decay * w; velocity = momentum * velocity + (1 - dampening) * g;
    w -= lr * velocity, or with Nesterov's momentum lr * (g + momentum * velocity).
    """
    kept = (w,) if velocity is None else (w, velocity)
    lines = [flat(a) for a in kept]
    velocity_line = lines[1] if velocity is not None else None
    options = (lr, momentum, dampening, weight_decay, nesterov)
    _of(w).elementwise.sgd_step(lines[0], flat(grad), velocity_line, *options, _threads(w.size))
    _write_back(kept, lines)


def adam_step(
    w: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam, or with ``decoupled`` of AdamW, in place on w, m and v; step counts from 1.

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    w -= lr * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps).
    """
    kept = (w, m, v)
    lines = [flat(a) for a in kept]
    options = (step, lr, beta1, beta2, eps, weight_decay, decoupled)
    _of(w).elementwise.adam_step(lines[0], flat(grad), *lines[1:], *options, _threads(w.size))
    _write_back(kept, lines)


def _write_back(arrays: tuple[Array, ...], lines: list[Array]) -> None:
    """Copy the flat arrays that an in-place kernel wrote into those that they are copies of."""
    for array, line in zip(arrays, lines):
        if not np.may_share_memory(array, line):
            array[...] = line.reshape(array.shape)
