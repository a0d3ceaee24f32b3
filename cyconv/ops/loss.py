"""Softmax and the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Array, Op
from ..backends import as_array, backend_of, beside, first_where, namespace_of
from ..geometry import number
from ..tensor import Tensor, apply
from . import shape as shape_ops
from .activation import _sigmoid
from .inputs import on_one_device, tensor_in, tensors_in

REDUCTIONS = ("mean", "sum", "none")


class Softmax(Op):
    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        out = namespace_of(x).exp(x - x.max(axis=self.axis, keepdims=True))
        out /= out.sum(axis=self.axis, keepdims=True)
        self.out = out
        return out

    def backward(self, dout: Array) -> Array:
        along = (dout * self.out).sum(axis=self.axis, keepdims=True)
        return self.out * (dout - along)


class LogSoftmax(Op):
    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        xp = namespace_of(x)
        centred = x - x.max(axis=self.axis, keepdims=True)
        self.out = centred - xp.log(xp.exp(centred).sum(axis=self.axis, keepdims=True))
        return self.out

    def backward(self, dout: Array) -> Array:
        total = dout.sum(axis=self.axis, keepdims=True)
        return dout - namespace_of(dout).exp(self.out) * total


class CrossEntropy(Op):
    """One loss per sample, from logits (N, K) and class numbers (N,)."""

    any_layout = True

    def __init__(self, labels: Array, label_smoothing: float):
        self.labels, self.smoothing = labels, label_smoothing

    def forward(self, logits: Array) -> Array:
        self.labels = beside(self.labels, logits)
        losses, self.log_probs = backend_of(logits).cross_entropy(
            logits, self.labels, self.smoothing
        )
        return losses

    def backward(self, dout: Array) -> Array:
        return backend_of(dout).cross_entropy_backward(
            dout, self.log_probs, self.labels, self.smoothing
        )


class BCEWithLogits(Op):
    """max(z, 0) - z * t + log(1 + e^-|z|), the binary cross-entropy without overflow."""

    def forward(self, z: Array, t: Array) -> Array:
        self.z, self.t = z, t
        xp = namespace_of(z)
        return xp.maximum(z, 0) - z * t + xp.log1p(xp.exp(-xp.abs(z)))

    def backward(self, dout: Array) -> tuple[Array, ...]:
        return dout * (_sigmoid(self.z) - self.t), -dout * self.z


# ------------------------------------------------------------------ the functions


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis; finite for any finite x."""
    tensor, axis = _with_axis("softmax", x, axis)
    return apply(Softmax(axis), tensor)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along an axis; finite for any finite x."""
    tensor, axis = _with_axis("log_softmax", x, axis)
    return apply(LogSoftmax(axis), tensor)


def cross_entropy(
    logits: Any, labels: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """-log(softmax(logits)[label]): the negative log likelihood of the right class.

    Parameters
    ----------
    logits : (N, K), float32 or float64; any size of the values is safe
    labels : (N,) whole numbers from 0 to K - 1 (an array, a tensor or a list). Those that lie on a
        GPU are not checked, which would take waiting for it: a wrong one makes the loss NaN
    label_smoothing : from 0 to 1; that share of the target is spread evenly over all K classes
        (Szegedy et al. 2015)
    reduction : "mean" over the batch, "sum", or "none" for one loss per sample

    Returns
    -------
    () or, with ``reduction="none"``, (N,). The mean of an empty batch is NaN.

    >>> import cyconv as cc
    >>> round(cc.ops.cross_entropy([[0.0, 0.0]], [1]).item(), 4)
    0.6931
    """
    op = "cross_entropy"
    _check_reduction(op, reduction)
    tensor = tensor_in(op, "logits", logits)
    if tensor.ndim != 2 or not tensor.shape[1]:
        raise ValueError(f"{op}: logits must have shape (N, K) with K above 0, got {tensor.shape}")
    smoothing = number(f"{op}: label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    losses = apply(CrossEntropy(_class_numbers(op, labels, tensor), smoothing), tensor)
    return _reduce(losses, reduction)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared difference, (input - target)**2, of two tensors of one shape."""
    _check_reduction("mse_loss", reduction)
    difference = _same_shape("mse_loss", input, target)
    return _reduce((difference[0] - difference[1]) ** 2, reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """-(t log(p) + (1 - t) log(1 - p)) with p = sigmoid(input), for targets t from 0 to 1."""
    op = "binary_cross_entropy_with_logits"
    _check_reduction(op, reduction)
    return _reduce(apply(BCEWithLogits(), *_same_shape(op, input, target)), reduction)


def _with_axis(op: str, x: Any, axis: Any) -> tuple[Tensor, int]:
    tensor = tensor_in(op, "input", x)
    where = shape_ops._axes(op, axis, tensor.ndim)
    if not isinstance(where, int) or not tensor.shape[where]:
        raise ValueError(f"{op}: axis {axis!r} of shape {tensor.shape} has no elements to compare")
    return tensor, where


def _class_numbers(op: str, labels: Any, logits: Tensor) -> Array:
    """Labels as an int64 array (N,) with every value in [0, K)."""
    try:
        array = labels.data if isinstance(labels, Tensor) else as_array(labels)
    except ValueError:
        raise ValueError(f"{op}: labels must be one number per sample, got {labels!r}") from None
    n, classes = logits.shape
    if array.shape != (n,):
        raise ValueError(
            f"{op}: labels must have shape ({n},) for logits {logits.shape}, got {array.shape}"
        )
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{op}: labels must be whole numbers, got dtype {array.dtype}")
    if isinstance(labels, Tensor) and labels.device != logits.device:
        on_one_device(op, {"logits": logits, "labels": labels}, [logits, labels])
    worst = first_where(~((array >= 0) & (array < classes)), array)  # NaN is neither
    if worst is not None:
        raise ValueError(
            f"{op}: labels must be from 0 to {classes - 1}, got {worst} ({array.dtype})"
        )
    numbers = array.astype(np.int64)
    if array.dtype.kind == "f":
        worst = first_where(numbers != array, array)
        if worst is not None:
            raise ValueError(f"{op}: labels must be whole numbers, got {worst} ({array.dtype})")
    return numbers


def _same_shape(op: str, input: Any, target: Any) -> list[Tensor]:
    tensors = tensors_in(op, input=input, target=target)
    if tensors[0].shape != tensors[1].shape:
        raise ValueError(
            f"{op}: input has shape {tensors[0].shape} but target has shape {tensors[1].shape}"
        )
    return tensors


def _check_reduction(op: str, reduction: Any) -> None:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
