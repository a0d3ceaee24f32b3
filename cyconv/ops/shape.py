"""Changes of shape: views of their input where NumPy can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import integer
from ..autograd import Array, Op
from ..backends import namespace_of
from ..tensor import Tensor, apply
from .inputs import axes_in, index_in, tensor_in


class Reshape(Op):
    any_layout = True
    keeps_inputs = False
    is_view = True

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, a: Array) -> Array:
        self.before = a.shape
        return a.reshape(self.shape)

    def backward(self, dout: Array) -> Array:
        return dout.reshape(self.before)


class Flatten(Op):
    """(N, C, H, W) -> (N, C*H*W); batch-last memory stays batch-last."""

    any_layout = True
    keeps_inputs = False
    is_view = True

    def forward(self, a: Array) -> Array:
        self.before = a.shape
        n, *rest = a.shape
        # the batch axis last, as it lies in memory: then reshape is a view
        return a.transpose(*range(1, a.ndim), 0).reshape(int(np.prod(rest)), n).T

    def backward(self, dout: Array) -> Array:
        n, *rest = self.before
        return dout.T.reshape(*rest, n).transpose(len(rest), *range(len(rest)))


class Transpose(Op):
    any_layout = True
    keeps_inputs = False
    is_view = True

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes

    def forward(self, a: Array) -> Array:
        return a.transpose(self.axes)

    def backward(self, dout: Array) -> Array:
        return dout.transpose(tuple(map(self.axes.index, range(dout.ndim))))


class GetItem(Op):
    any_layout = True
    keeps_inputs = False

    def __init__(self, index: Any):
        self.index = index
        parts = index if isinstance(index, tuple) else (index,)
        # arrays pick elements, which are copied
        self.is_view = all(
            p is None or p is ... or isinstance(p, (int, np.integer, slice)) for p in parts
        )

    def forward(self, a: Array) -> Array:
        self.shape = a.shape
        return a[self.index]

    def backward(self, dout: Array) -> Array:
        da = namespace_of(dout).zeros(self.shape, dout.dtype)
        if self.is_view:
            da[self.index] = dout
        else:  # an element picked twice gets both gradients
            namespace_of(dout).add.at(da, self.index, dout)
        return da


# ------------------------------------------------------------------ the functions


def reshape(a: Any, shape: Any) -> Tensor:
    """The same elements in another shape, a view where NumPy can.

    Parameters
    ----------
    a : any shape and dtype
    shape : sizes; one of them may be -1, which is then worked out

    Returns
    -------
    A tensor of that shape.

    Raises
    ------
    ValueError : the elements do not fit into it
    TypeError : sizes that are no whole numbers

    >>> import cyconv as cc
    >>> cc.ops.reshape([1.0, 2.0, 3.0, 4.0], (2, -1))
    tensor([[1., 2.],
            [3., 4.]])
    """
    x = a if isinstance(a, Tensor) else tensor_in("reshape", "input", a)
    sizes = tuple(shape) if isinstance(shape, (Sequence, np.ndarray)) else (shape,)
    sizes = tuple(integer("reshape: size", size, -1, 2**62) for size in sizes)
    try:
        return apply(Reshape(sizes), x)
    except ValueError:
        raise ValueError(f"reshape: shape {x.shape} does not fit into {sizes}") from None


def transpose(a: Any, axes: Any = None) -> Tensor:
    """The axes in another order, a view.

    Parameters
    ----------
    a : any shape and dtype
    axes : each axis once, in the new order; reversed if not given

    Returns
    -------
    A tensor of shape (a.shape[axes[0]], a.shape[axes[1]], ...).

    Raises
    ------
    ValueError : axes are not those of a
    TypeError : a holds no numbers, or an axis is no integer

    >>> import cyconv as cc
    >>> cc.ops.transpose(cc.zeros(2, 3, 4), (0, 2, 1)).shape
    (2, 4, 3)
    """
    x = a if isinstance(a, Tensor) else tensor_in("transpose", "input", a)
    order = axes_in("transpose", range(x.ndim)[::-1] if axes is None else axes, x.ndim)
    if not isinstance(order, tuple) or len(order) != x.ndim:
        raise ValueError(f"transpose: axes {axes!r} are not the {x.ndim} axes of shape {x.shape}")
    return apply(Transpose(order), x)


def one_image(op: Callable[..., Any], x: Tensor, *others: Any, **options: Any) -> Any:
    """An op of images for a single one, (C, H, W), as a batch of one."""
    out = op(reshape(x, (1, *x.shape)), *others, **options)
    if isinstance(out, tuple):  # max_pool2d with its indices
        return tuple(reshape(part, part.shape[1:]) for part in out)
    return reshape(out, out.shape[1:])


def flatten(a: Any) -> Tensor:
    """All axes but the first become one; batch-last images stay where they are in memory.

    Parameters
    ----------
    a : (N, ...), as (N, C, H, W), any dtype

    Returns
    -------
    (N, C*H*W)

    Raises
    ------
    ValueError : fewer than two axes
    TypeError : a holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.flatten(cc.zeros(2, 3, 4, 5)).shape
    (2, 60)
    """
    x = a if isinstance(a, Tensor) else tensor_in("flatten", "input", a)
    if x.ndim < 2:
        raise ValueError(f"flatten: input must have shape (N, ...), got {x.shape}")
    return apply(Flatten(), x)


def getitem(a: Tensor, index: Any) -> Tensor:
    """``a[index]`` by NumPy's rules, differentiably: a view for slices, a copy for index arrays.

    Parameters
    ----------
    a : any shape and dtype
    index : ints, slices, None, ..., arrays of ints or bools, or a tuple of these

    Returns
    -------
    A tensor of the shape that NumPy gives.

    Raises
    ------
    IndexError : the index does not fit the shape, or is none
    TypeError : a holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.getitem([1.0, 2.0, 3.0], [2, 0])
    tensor([3., 1.])
    """
    x = a if isinstance(a, Tensor) else tensor_in("getitem", "input", a)
    wanted = _own(index_in(index, x))
    try:
        return apply(GetItem(wanted), x)
    except (IndexError, OverflowError, ValueError) as error:
        raise IndexError(f"index {index!r} of a tensor of shape {x.shape}: {error}") from None


def _own(index: Any) -> Any:
    """The index with its arrays copied: backward reads them, and their owner may change them."""
    if isinstance(index, tuple):
        return tuple(_own(part) for part in index)
    return index.copy() if hasattr(index, "copy") else index
