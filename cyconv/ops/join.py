"""Larger arrays from smaller ones: tensors side by side, zeros around images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import shown
from ..autograd import Array, Op
from ..backends import namespace_of
from ..geometry import image_shape, padding4
from ..tensor import Tensor, apply
from .inputs import axis_in, tensor_in, tensors_in
from .shape import one_image, reshape


class Concat(Op):
    any_layout = True
    keeps_inputs = False

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, *arrays: Array) -> Array:
        self.ends = np.cumsum([a.shape[self.axis] for a in arrays])[:-1].tolist()
        return namespace_of(arrays[0]).concatenate(arrays, axis=self.axis)

    def backward(self, dout: Array) -> tuple[Array, ...]:
        return tuple(namespace_of(dout).split(dout, self.ends, axis=self.axis))


class Pad2d(Op):
    """Zeros around the images of (N, C, H, W)."""

    any_layout = True
    keeps_inputs = False

    def __init__(self, padding: tuple[int, int, int, int]):
        self.padding = padding

    def forward(self, a: Array) -> Array:
        top, bottom, left, right = self.padding
        return namespace_of(a).pad(a, ((0, 0), (0, 0), (top, bottom), (left, right)))

    def backward(self, dout: Array) -> Array:
        top, bottom, left, right = self.padding
        return dout[:, :, top : dout.shape[2] - bottom, left : dout.shape[3] - right]


# ------------------------------------------------------------------ the functions


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors along an axis.

    Parameters
    ----------
    tensors : a list of at least one, all float32 or all float64, equal in all sizes but the axis's
    axis : which one, from -ndim to ndim - 1

    Returns
    -------
    A tensor whose size along the axis is the sum of theirs.

    Raises
    ------
    ValueError : an empty list, no such axis, other sizes that differ
    TypeError : dtypes that differ

    >>> import cyconv as cc
    >>> cc.ops.concat([[[1.0, 2.0]], [[3.0, 4.0]]], axis=1)
    tensor([[1., 2., 3., 4.]])
    """
    xs = _listed("concat", tensors)
    where = axis_in("concat", axis, xs[0].ndim)
    try:
        return apply(Concat(where), *xs)
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ValueError(f"concat: shapes {shapes} differ in more than axis {axis}") from None


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Put tensors of one shape side by side along a new axis.

    Parameters
    ----------
    tensors : a list of at least one, all float32 or all float64, of one shape
    axis : where the new axis is in the result, from -ndim - 1 to ndim

    Returns
    -------
    A tensor with one axis more, whose size is their number.

    Raises
    ------
    ValueError : an empty list, no such axis, shapes that differ
    TypeError : dtypes that differ

    >>> import cyconv as cc
    >>> cc.ops.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    xs = _listed("stack", tensors)
    where = axis_in("stack", axis, xs[0].ndim + 1)
    shape = xs[0].shape
    if any(x.shape != shape for x in xs):
        raise ValueError(f"stack: shapes {', '.join(str(x.shape) for x in xs)} differ")
    wider = (*shape[:where], 1, *shape[where:])
    return apply(Concat(where), *(reshape(x, wider) for x in xs))


def _listed(op: str, tensors: Any) -> list[Tensor]:
    if not isinstance(tensors, Sequence) or not tensors:
        raise ValueError(f"{op}: tensors must be a list of at least one, got {shown(tensors)}")
    return tensors_in(op, **{f"tensors[{i}]": t for i, t in enumerate(tensors)})


def pad2d(x: Any, padding: Any) -> Tensor:
    """Zeros around images.

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64
    padding : int, (rows, columns) or ((top, bottom), (left, right)), at least 0

    Returns
    -------
    (N, C, H + top + bottom, W + left + right), or (C, ...) of one image

    Raises
    ------
    ValueError : x has not three or four axes, or padding is negative
    TypeError : padding is no whole numbers, or x holds no floats

    >>> import cyconv as cc
    >>> cc.ops.pad2d(cc.ones(1, 1, 1, 1), ((0, 1), (2, 0)))
    tensor([[[[0., 0., 1.],
              [0., 0., 0.]]]])
    """
    tensor = tensor_in("pad2d", "input", x)
    if tensor.ndim == 3:
        return one_image(pad2d, tensor, padding)
    image_shape("pad2d", tensor.shape)
    return apply(Pad2d(padding4("pad2d: padding", padding)), tensor)
