"""Normalisation: batch, layer and group norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import autograd
from ..arguments import ABOVE_0, integer, number
from ..autograd import Array, Op
from ..backends import backend_of, summed
from ..geometry import channels_of
from ..tensor import Tensor, apply
from .inputs import is_relu, on_one_device, tensor_in, tensors_in


class BatchNormTraining(Op):
    """By the statistics of the batch itself, towards which ``running``, mean and var, move.

    A fourth input is added before the ReLU.
    """

    any_layout = True
    kernel_backward = True

    def __init__(
        self, eps: float, relu: bool, running: tuple[Array, Array] | None, momentum: float
    ):
        # outside of training programs of kernels alone may get some images at a time
        self.kernel_inputs = int(autograd.is_training())
        self.eps, self.relu, self.running, self.momentum = eps, relu, running, momentum

    def forward(self, x: Array, gamma: Array, beta: Array, residual: Array | None = None) -> Array:
        backend = backend_of(x)
        self.x, self.gamma, self.beta = backend.as_batch_last(x), gamma, beta
        self.adds = residual is not None
        out, self.mean, self.var, self.inv_std = backend.batch_norm(
            self.x, gamma, beta, self.eps, self.relu, self.running, self.momentum, residual
        )
        self.rectified = out if self.relu else None
        return out

    def backward(self, dout: Array) -> tuple[Array, ...]:
        given = (self.x, self.gamma, self.beta, self.mean, self.inv_std)
        backend = backend_of(dout)
        if self.adds:
            dout = self.before_relu(dout)
            return *backend.batch_norm_backward(dout, *given), dout
        rectified = None if self.gated else self.rectified
        return backend.batch_norm_backward(dout, *given, rectified)


class BatchNormInference(Op):
    """By given statistics: a multiply-add per element. A second input is added before the ReLU."""

    any_layout = True

    def __init__(self, eps: float, relu: bool, kernel_inputs: int):
        self.kernel_inputs = kernel_inputs  # x and, if anything is added, that
        self.eps, self.relu = eps, relu

    def forward(self, x: Array, *others: Array) -> Array:
        *added, gamma, beta, mean, var = others
        self.x, self.gamma, self.adds = x, gamma, bool(added)
        residual = added[0] if added else None
        # keeps copies: training may move the running statistics between forward and backward
        out, self.mean, _, self.inv_std = backend_of(x).batch_norm(
            x, gamma, beta, self.eps, self.relu, (mean, var), None, residual
        )
        self.rectified = out if self.relu else None
        return out

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        backend, dout = backend_of(dout), self.before_relu(dout)
        normalised = (self.x - _over(self.mean, dout)) * _over(self.inv_std, dout)
        dx = dout * _over(self.gamma * self.inv_std, dout)
        grads = backend.channel_sum(dout * normalised), backend.channel_sum(dout)
        return (dx, dout, *grads) if self.adds else (dx, *grads)


def _over(channel_values: Array, x: Array) -> Array:
    """(C,) shaped so that it broadcasts along axis 1 of x."""
    return channel_values.reshape(-1, *(1,) * (x.ndim - 2))


class Standardise(Op):
    """Subtract the mean and divide by the standard deviation along the last axis of (M, L)."""

    def __init__(self, eps: float):
        self.eps = eps

    def forward(self, x: Array) -> Array:
        centred = x - _mean(x)
        var = _mean(centred * centred)
        self.inv_std = 1 / (var + x.dtype.type(self.eps)) ** 0.5
        self.out = centred * self.inv_std
        return self.out

    def backward(self, dout: Array) -> Array:
        return self.inv_std * (dout - _mean(dout) - self.out * _mean(dout * self.out))


def _mean(rows: Array) -> Array:
    """(M, L) -> (M, 1)."""
    return summed(rows, 1, keepdims=True) / rows.dtype.type(rows.shape[1])


# ------------------------------------------------------------------ the functions


def batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Any = None,
    activation: str | None = None,
) -> Tensor:
    """Normalise each channel: gamma * (x - mean) / sqrt(var + eps) + beta.

    In training mode (inside ``record()``) mean and variance are the batch's own, over all axes but
    1, and the running ones move towards them in place: r = (1 - momentum) * r + momentum * batch,
    where the batch's variance is the unbiased one. Otherwise the running ones are used; without
    them always the batch's.

    Parameters
    ----------
    x : (N, C) or (N, C, ...), float32 or float64
    gamma, beta, running_mean, running_var : (C,) or None, of the same dtype
    momentum, eps : numbers; eps is above 0
    residual : None, or what is added to the result, of the shape and dtype of x
    activation : None or "relu", which is then applied to the result

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : shapes that do not fit, eps not above 0, in training one value per channel
    TypeError : dtypes that differ, running statistics that are no tensors

    Source: Ioffe and Szegedy, "Batch Normalization", 2015.

    >>> import cyconv as cc
    >>> cc.ops.batch_norm([[1.0, 0.0], [3.0, 8.0]]).numpy().round(4)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """
    op = "batch_norm"
    tensor = tensor_in(op, "input", x)
    channels = channels_of(op, tensor.shape)
    share = number("batch_norm: momentum", momentum, 0, 1)
    eps = number(f"{op}: eps", eps, ABOVE_0)
    fused = is_relu(op, activation)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: give both running_mean and running_var, or neither")
    gamma, beta = _scale_and_shift(op, tensor, gamma, beta, (channels,))
    added = [] if residual is None else [tensors_in(op, input=tensor, residual=residual)[1]]
    if added and added[0].shape != tensor.shape:
        raise ValueError(
            f"{op}: residual must have the shape of the input, {tensor.shape}, got {added[0].shape}"
        )
    if running_mean is not None:
        for name, buffer in (("running_mean", running_mean), ("running_var", running_var)):
            if not isinstance(buffer, Tensor):
                raise TypeError(f"{op}: {name} must be a tensor, got {type(buffer).__name__}")
            if buffer.shape != (channels,) or buffer.dtype != tensor.dtype:
                raise ValueError(
                    f"{op}: {name} must have shape ({channels},) and dtype {tensor.dtype}, "
                    f"got {buffer.shape} and {buffer.dtype}"
                )
            if type(buffer.data) is not type(tensor.data):
                on_one_device(op, {"input": tensor, name: buffer}, [tensor, buffer])
    if running_mean is not None and not autograd.is_training():
        # as other tensors of the same memory, so that a graph does not forbid to write to them
        running = Tensor(running_mean.data), Tensor(running_var.data)
        by_running = BatchNormInference(eps, fused, 1 + len(added))
        return apply(by_running, tensor, *added, gamma, beta, *running)
    count = tensor.size // channels if channels else 0
    if count == 1 and autograd.is_training():
        raise ValueError(f"{op}: one value per channel has no variance, got input {tensor.shape}")
    moved = None if running_mean is None else (running_mean._write(), running_var._write())
    return apply(BatchNormTraining(eps, fused, moved, share), tensor, gamma, beta, *added)


def layer_norm(
    x: Any, normalized_shape: Any, gamma: Any = None, beta: Any = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalise each sample over its last axes: gamma * (x - mean) / sqrt(var + eps) + beta.

    The variance is the biased one, the mean of the squared distances from the mean.

    Parameters
    ----------
    x : any shape that ends in normalized_shape, float32 or float64
    normalized_shape : an int or a tuple, the sizes of the last axes
    gamma, beta : of that shape, or None for ones and zeros
    eps : above 0

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : shapes that do not fit, or eps not above 0
    TypeError : dtypes that differ

    Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.

    >>> import cyconv as cc
    >>> cc.ops.layer_norm([[1.0, 3.0], [0.0, 8.0]], 2).numpy().round(4)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    op = "layer_norm"
    tensor = tensor_in(op, "input", x)
    sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    shape = tuple(integer(f"{op}: normalized_shape", size, 1) for size in sizes)
    if not shape or tensor.shape[tensor.ndim - len(shape) :] != shape or tensor.ndim < len(shape):
        raise ValueError(f"{op}: input {tensor.shape} does not end in normalized_shape {shape}")
    gamma, beta = _scale_and_shift(op, tensor, gamma, beta, shape)
    rows = tensor.reshape(-1 if tensor.size else 0, int(np.prod(shape)))
    out = apply(Standardise(number(f"{op}: eps", eps, ABOVE_0)), rows).reshape(tensor.shape)
    return out * gamma + beta


def group_norm(
    x: Any, num_groups: int, gamma: Any = None, beta: Any = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalise each sample over groups of channels: gamma * (x - mean) / sqrt(var + eps) + beta.

    The variance is the biased one, as in ``layer_norm``.

    Parameters
    ----------
    x : (N, C, ...), float32 or float64
    num_groups : into how many groups the C channels are cut; it divides C
    gamma, beta : (C,), or None for ones and zeros
    eps : above 0

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : shapes that do not fit, or eps not above 0
    TypeError : dtypes that differ

    Source: Wu and He, "Group Normalization", 2018.

    >>> import cyconv as cc
    >>> cc.ops.group_norm([[1.0, 3.0, 0.0, 8.0]], 2).numpy().round(4)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    op = "group_norm"
    tensor = tensor_in(op, "input", x)
    channels = channels_of(op, tensor.shape)
    groups = integer(f"{op}: num_groups", num_groups, 1)
    if channels % groups:
        raise ValueError(f"{op}: {channels} channels do not split into num_groups={groups}")
    gamma, beta = _scale_and_shift(op, tensor, gamma, beta, (channels,))
    n = tensor.shape[0]
    length = tensor.size // (n * groups) if tensor.size else 1
    rows = tensor.reshape(n * groups if tensor.size else 0, length)
    out = apply(Standardise(number(f"{op}: eps", eps, ABOVE_0)), rows).reshape(tensor.shape)
    over = (channels, *(1,) * (tensor.ndim - 2))
    return out * gamma.reshape(over) + beta.reshape(over)


def _scale_and_shift(
    op: str, x: Tensor, gamma: Any, beta: Any, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """gamma and beta as tensors of this shape and of x's dtype; ones and zeros for None."""
    gamma = np.ones(shape, x.dtype) if gamma is None else gamma
    beta = np.zeros(shape, x.dtype) if beta is None else beta
    _, gamma, beta = tensors_in(op, input=x, gamma=gamma, beta=beta)
    for name, value in (("gamma", gamma), ("beta", beta)):
        if value.shape != shape:
            raise ValueError(f"{op}: {name} must have shape {shape}, got {value.shape}")
    return gamma, beta
