"""Functions of each element: the larger of two, exponential, logarithm, square root, limits."""

from __future__ import annotations

from typing import Any

from ..arguments import number
from ..autograd import Array, Op
from ..backends import namespace_of
from ..tensor import Tensor, apply
from .basic import neg, unbroadcast
from .inputs import operands, tensor_in


class Maximum(Op):
    """The larger of two; at a tie each side gets half of the gradient."""

    any_layout = True

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return namespace_of(a).maximum(a, b)

    def backward(self, dout: Array) -> tuple[Array, ...]:
        a, b = self.a, self.b
        share = ((a > b) + 0.5 * (a == b)).astype(dout.dtype)
        return unbroadcast(dout * share, a.shape), unbroadcast(dout * (1 - share), b.shape)


class Exp(Op):
    def forward(self, a: Array) -> Array:
        self.out = namespace_of(a).exp(a)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * self.out


class Log(Op):
    def forward(self, a: Array) -> Array:
        self.a = a
        return namespace_of(a).log(a)

    def backward(self, dout: Array) -> Array:
        return dout / self.a


class Sqrt(Op):
    def forward(self, a: Array) -> Array:
        self.out = namespace_of(a).sqrt(a)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout / (2 * self.out)


class Abs(Op):
    """The absolute value; its gradient at 0 is 0."""

    any_layout = True

    def forward(self, a: Array) -> Array:
        self.a = a
        return namespace_of(a).abs(a)

    def backward(self, dout: Array) -> Array:
        return dout * namespace_of(dout).sign(self.a)


class Clip(Op):
    """Limit to [low, high]; the gradient passes where the input lies within, ends included."""

    any_layout = True

    def __init__(self, low: float | None, high: float | None):
        self.low, self.high = low, high

    def forward(self, a: Array) -> Array:
        self.a = a
        return namespace_of(a).clip(a, self.low, self.high)

    def backward(self, dout: Array) -> Array:
        inside = namespace_of(dout).ones_like(self.a, dtype=bool)
        if self.low is not None:
            inside &= self.a >= self.low
        if self.high is not None:
            inside &= self.a <= self.high
        return dout * inside


# ------------------------------------------------------------------ the functions


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise with broadcasting; NaN if either is NaN.

    Where they are equal each gets half of the gradient.

    Parameters
    ----------
    a, b : tensors, arrays or numbers of shapes that broadcast, float32 or float64 like the other

    Returns
    -------
    A tensor of the broadcast shape and the common dtype.

    Raises
    ------
    ValueError : the shapes do not broadcast
    TypeError : one is float32 and the other float64, or holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.maximum([1.0, 5.0], 3.0)
    tensor([3., 5.])
    """
    return apply(Maximum(), *operands("maximum", a, b))


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise with broadcasting; NaN if either is NaN.

    Where they are equal each gets half of the gradient.

    Parameters
    ----------
    a, b : tensors, arrays or numbers of shapes that broadcast, float32 or float64 like the other

    Returns
    -------
    A tensor of the broadcast shape and the common dtype.

    Raises
    ------
    ValueError : the shapes do not broadcast
    TypeError : one is float32 and the other float64, or holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.minimum([1.0, 5.0], 3.0)
    tensor([1., 3.])
    """
    x, y = operands("minimum", a, b)
    return neg(apply(Maximum(), neg(x), neg(y)))


def exp(a: Any) -> Tensor:
    """e to the power of a, elementwise.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    TypeError : a holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.exp([0.0, 1.0]).numpy().round(4)
    array([1.    , 2.7183], dtype=float32)
    """
    return apply(Exp(), tensor_in("exp", "input", a))


def log(a: Any) -> Tensor:
    """The natural logarithm, elementwise; -inf at 0 and NaN below.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    TypeError : a holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.log([1.0, 0.0])
    tensor([  0., -inf])
    """
    return apply(Log(), tensor_in("log", "input", a))


def sqrt(a: Any) -> Tensor:
    """The square root, elementwise; NaN below 0.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    TypeError : a holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.sqrt([4.0, 9.0])
    tensor([2., 3.])
    """
    return apply(Sqrt(), tensor_in("sqrt", "input", a))


def abs(a: Any) -> Tensor:
    """The absolute value, elementwise; its gradient at 0 is 0.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    TypeError : a holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.abs([-2.0, 3.0])
    tensor([2., 3.])
    """
    return apply(Abs(), tensor_in("abs", "input", a))


def clip(a: Any, low: float | None = None, high: float | None = None) -> Tensor:
    """Values below ``low`` become ``low``, values above ``high`` become ``high``.

    The gradient passes where a lies within, ends included, and is 0 elsewhere.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32
    low, high : numbers; None for no limit

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    ValueError : low is larger than high
    TypeError : a or a limit is no number

    >>> import cyconv as cc
    >>> cc.ops.clip([-1.0, 0.5, 9.0], 0.0, 1.0)
    tensor([0. , 0.5, 1. ])
    """
    ends = [
        None if end is None else number(f"clip: {name}", end)
        for name, end in (("low", low), ("high", high))
    ]
    if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
        raise ValueError(f"clip: low {low} is larger than high {high}")
    return apply(Clip(*ends), tensor_in("clip", "input", a))
