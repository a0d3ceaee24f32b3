"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Array, Op
from ..backends import namespace_of, summed
from ..tensor import Tensor, apply
from .inputs import axes_in, tensor_in


class Softmax(Op):
    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        if not x.size:  # nothing has no largest value
            self.out = x.copy()
            return self.out
        out = namespace_of(x).exp(x - x.max(axis=self.axis, keepdims=True))
        out /= summed(out, self.axis, keepdims=True)
        self.out = out
        return out

    def backward(self, dout: Array) -> Array:
        along = summed(dout * self.out, self.axis, keepdims=True)
        return self.out * (dout - along)


class LogSoftmax(Op):
    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        xp = namespace_of(x)
        if not x.size:
            self.out = x.copy()
            return self.out
        centred = x - x.max(axis=self.axis, keepdims=True)
        self.out = centred - xp.log(summed(xp.exp(centred), self.axis, keepdims=True))
        return self.out

    def backward(self, dout: Array) -> Array:
        total = summed(dout, self.axis, keepdims=True)
        return dout - namespace_of(dout).exp(self.out) * total


# ------------------------------------------------------------------ the functions


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis; finite for any finite x.

    Parameters
    ----------
    x : any shape, float32 or float64
    axis : which one

    Returns
    -------
    A tensor of the shape and dtype of x; along the axis it sums to 1.

    Raises
    ------
    ValueError : no such axis
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.softmax([0.0, 0.0, 1000.0])
    tensor([0., 0., 1.])
    """
    return _along_axis("softmax", Softmax, tensor_in("softmax", "input", x), axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - log(sum(exp(x))) along an axis; finite for any finite x.

    Parameters
    ----------
    x : any shape, float32 or float64
    axis : which one

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : no such axis
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.log_softmax([0.0, 1000.0])
    tensor([-1000.,     0.])
    """
    return _along_axis("log_softmax", LogSoftmax, tensor_in("log_softmax", "input", x), axis)


def _along_axis(op: str, kind: Callable[[int], Op], x: Tensor, axis: Any) -> Tensor:
    """Run an op along one axis; a number is an axis of one element."""
    where = axes_in(op, axis, max(x.ndim, 1))
    if not isinstance(where, int):
        raise ValueError(f"{op}: axis must be one axis of shape {x.shape}, got {axis!r}")
    if x.ndim:
        return apply(kind(where), x)
    return apply(kind(where), x.reshape(1)).reshape(())
