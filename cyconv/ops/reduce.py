"""Reductions: sums, means and extremes over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import flag
from ..autograd import Array, Op
from ..backends import namespace_of, summed
from ..tensor import Tensor, apply
from .inputs import axes_in, axis_in, tensor_in


def _keep_dims(dout: Array, axis: Any, shape: tuple[int, ...]) -> Array:
    """Give the result of a reduction its lost axes back, with size 1."""
    if axis is None:
        return dout.reshape((1,) * len(shape))
    axes = {a % len(shape) for a in ((axis,) if isinstance(axis, int) else axis)}
    return dout.reshape(tuple(1 if i in axes else size for i, size in enumerate(shape)))


class Sum(Op):
    keeps_inputs = False

    def __init__(self, axis: Any, keepdims: bool):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, a: Array) -> Array:
        self.shape = a.shape
        return summed(a, self.axis, self.keepdims)

    def backward(self, dout: Array) -> Array:
        dout = namespace_of(dout).asarray(dout)
        return namespace_of(dout).broadcast_to(_keep_dims(dout, self.axis, self.shape), self.shape)


class Mean(Sum):
    def forward(self, a: Array) -> Array:
        out = super().forward(a)
        self.count = a.size // out.size if out.size else 0
        return out / a.dtype.type(self.count) if self.count else out * a.dtype.type(np.nan)

    def backward(self, dout: Array) -> Array:
        return super().backward(dout / dout.dtype.type(self.count or 1))


class Max(Op):
    """The largest value; where several are largest they share the gradient equally."""

    choose = "max"

    def __init__(self, axis: Any, keepdims: bool):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, a: Array) -> Array:
        self.a = a
        self.out = getattr(a, self.choose)(axis=self.axis, keepdims=True)
        return self.out if self.keepdims else self.out.squeeze(self.axis)

    def backward(self, dout: Array) -> Array:
        dout = namespace_of(dout).asarray(dout)
        largest = (self.a == self.out).astype(dout.dtype)
        largest /= largest.sum(axis=self.axis, keepdims=True)
        return largest * _keep_dims(dout, self.axis, self.a.shape)


class Min(Max):
    choose = "min"


# ------------------------------------------------------------------ the functions


def sum(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over all elements, an axis, or several axes.

    Parameters
    ----------
    a : any shape, float32 or float64; integers and bools count as float32
    axis : an axis, several (a tuple), or None for all
    keepdims : leave each such axis in place, with size 1

    Returns
    -------
    A tensor without these axes: shape () for all. It is added up in float64.

    Raises
    ------
    ValueError : no such axis, or one twice
    TypeError : a holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([4., 6.])
    """
    x = _numbers_in("sum", a)
    return apply(Sum(axes_in("sum", axis, x.ndim), flag("sum: keepdims", keepdims)), x)


def mean(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over all elements, an axis, or several axes; NaN of nothing.

    Parameters
    ----------
    a, axis, keepdims : as in ``sum``

    Returns
    -------
    A tensor without these axes: shape () for all. It is added up in float64.

    Raises
    ------
    ValueError, TypeError : as ``sum``

    >>> import cyconv as cc
    >>> cc.ops.mean([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([1.5, 3.5])
    >>> cc.ops.mean(cc.tensor([1.0, 2.0, 4.0]) > 1.5).item() > 0.6
    True
    """
    x = _numbers_in("mean", a)
    return apply(Mean(axes_in("mean", axis, x.ndim), flag("mean: keepdims", keepdims)), x)


def max(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element over all, an axis, or several axes; NaN if there is one.

    Of several largest each gets an equal share of the gradient.

    Parameters
    ----------
    a : any shape, float32 or float64
    axis : an axis, several (a tuple), or None for all
    keepdims : leave each such axis in place, with size 1

    Returns
    -------
    A tensor without these axes: shape () for all.

    Raises
    ------
    ValueError : no such axis, one twice, or nothing to choose from
    TypeError : a holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.max([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([3., 4.])
    """
    return _extreme("max", Max, "largest", a, axis, keepdims)


def min(a: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element over all, an axis, or several axes; NaN if there is one.

    Of several smallest each gets an equal share of the gradient.

    Parameters
    ----------
    a, axis, keepdims : as in ``max``

    Returns
    -------
    A tensor without these axes: shape () for all.

    Raises
    ------
    ValueError, TypeError : as ``max``

    >>> import cyconv as cc
    >>> cc.ops.min([[1.0, 2.0], [3.0, 4.0]], axis=0)
    tensor([1., 2.])
    """
    return _extreme("min", Min, "smallest", a, axis, keepdims)


def argmax(a: Any, axis: int | None = None) -> Tensor:
    """The index of the largest value, the first of equals; not differentiable.

    Parameters
    ----------
    a : any shape and dtype
    axis : an axis, or None for the index into all elements in order

    Returns
    -------
    A tensor of int64 without that axis.

    Raises
    ------
    ValueError : no such axis, or nothing to choose from
    TypeError : a holds no numbers, or axis is no integer

    >>> import cyconv as cc
    >>> cc.ops.argmax([[1.0, 2.0], [4.0, 3.0]], axis=1)
    tensor([1, 0], dtype=int64)
    """
    return _place("argmax", "largest", a, axis)


def argmin(a: Any, axis: int | None = None) -> Tensor:
    """The index of the smallest value, the first of equals; not differentiable.

    Parameters
    ----------
    a, axis : as in ``argmax``

    Returns
    -------
    A tensor of int64 without that axis.

    Raises
    ------
    ValueError : no such axis, or nothing to choose from
    TypeError : a holds no numbers, or axis is no integer

    >>> import cyconv as cc
    >>> cc.ops.argmin([[1.0, 2.0], [4.0, 3.0]], axis=1)
    tensor([0, 1], dtype=int64)
    """
    return _place("argmin", "smallest", a, axis)


def _numbers_in(op: str, a: Any) -> Tensor:
    if isinstance(a, Tensor) and a.dtype.kind in "iub":
        return a.astype("float32")
    return tensor_in(op, "input", a)


def _extreme(op: str, kind: type[Max], word: str, a: Any, axis: Any, keepdims: bool) -> Tensor:
    x = tensor_in(op, "input", a)
    axes = axes_in(op, axis, x.ndim)
    reduced = range(x.ndim) if axes is None else (axes if isinstance(axes, tuple) else (axes,))
    if any(not x.shape[i] for i in reduced):
        raise ValueError(f"{op}: an input of shape {x.shape} has no {word} element")
    return apply(kind(axes, flag(f"{op}: keepdims", keepdims)), x)


def _place(op: str, word: str, a: Any, axis: int | None) -> Tensor:
    x = a if isinstance(a, Tensor) else tensor_in(op, "input", a)
    where = None if axis is None else axis_in(op, axis, x.ndim)
    if not (x.size if where is None else x.shape[where]):
        raise ValueError(f"{op}: axis {axis} of shape {x.shape} has no {word} element")
    return Tensor(namespace_of(x.data).asarray(getattr(x.data, op)(where)))
