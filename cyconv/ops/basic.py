"""Elementwise arithmetic and matrix products: thin ops over NumPy's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Array, Op
from ..backends import in_one_order, namespace_of
from ..creation import valid_dtype
from ..geometry import number
from ..tensor import Tensor, apply
from .inputs import comparables, operands, tensor_in

RELATIONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def unbroadcast(dout: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``dout`` over the axes along which an input of this shape was repeated."""
    if dout.shape == shape:
        return dout
    dout = in_one_order(dout)
    if dout.ndim > len(shape):
        dout = dout.sum(axis=tuple(range(dout.ndim - len(shape))))
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and dout.shape[i] != 1)
    return dout.sum(axis=repeated, keepdims=True) if repeated else dout


class Add(Op):
    any_layout = True
    keeps_inputs = False

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        return a + b

    def backward(self, dout: Array) -> tuple[Array, ...]:
        return unbroadcast(dout, self.shapes[0]), unbroadcast(dout, self.shapes[1])


class Sub(Op):
    any_layout = True
    keeps_inputs = False

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        return a - b

    def backward(self, dout: Array) -> tuple[Array, ...]:
        return unbroadcast(dout, self.shapes[0]), unbroadcast(-dout, self.shapes[1])


class Mul(Op):
    any_layout = True

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a * b

    def backward(self, dout: Array) -> tuple[Array, ...]:
        a, b = self.a, self.b
        return unbroadcast(dout * b, a.shape), unbroadcast(dout * a, b.shape)


class Div(Op):
    any_layout = True

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a / b

    def backward(self, dout: Array) -> tuple[Array, ...]:
        a, b = self.a, self.b
        return unbroadcast(dout / b, a.shape), unbroadcast(-dout * a / (b * b), b.shape)


class Pow(Op):
    """a to the power of a constant."""

    def __init__(self, exponent: float):
        self.exponent = exponent

    def forward(self, a: Array) -> Array:
        self.a = a
        return a**self.exponent

    def backward(self, dout: Array) -> Array:
        if self.exponent == 0:
            return dout * 0
        return dout * (self.exponent * self.a ** (self.exponent - 1))


class Neg(Op):
    any_layout = True
    keeps_inputs = False

    def forward(self, a: Array) -> Array:
        return -a

    def backward(self, dout: Array) -> Array:
        return -dout


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


class Matmul(Op):
    """The matrix product of 1-d, 2-d or stacked operands, as NumPy's ``@``."""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a @ b

    def backward(self, dout: Array) -> tuple[Array, ...]:
        a, b = self.a, self.b
        rows = a[None, :] if a.ndim == 1 else a  # a vector on the left is a row,
        columns = b[:, None] if b.ndim == 1 else b  # one on the right is a column
        if a.ndim == 1:
            dout = dout[..., None, :] if b.ndim > 1 else dout[None]
        if b.ndim == 1:
            dout = dout[..., None]
        da = unbroadcast(dout @ columns.swapaxes(-1, -2), rows.shape)
        db = unbroadcast(rows.swapaxes(-1, -2) @ dout, columns.shape)
        return da.reshape(a.shape), db.reshape(b.shape)


class Cast(Op):
    """To another float dtype."""

    any_layout = True
    keeps_inputs = False

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype

    def forward(self, a: Array) -> Array:
        self.before = a.dtype
        return a.astype(self.dtype)

    def backward(self, dout: Array) -> Array:
        return dout.astype(self.before)


# ------------------------------------------------------------------ the functions


def add(a: Any, b: Any) -> Tensor:
    """a + b, elementwise with broadcasting."""
    return apply(Add(), *operands("add", a, b))


def sub(a: Any, b: Any) -> Tensor:
    """a - b, elementwise with broadcasting."""
    return apply(Sub(), *operands("sub", a, b))


def mul(a: Any, b: Any) -> Tensor:
    """a * b, elementwise with broadcasting."""
    return apply(Mul(), *operands("mul", a, b))


def div(a: Any, b: Any) -> Tensor:
    """a / b, elementwise with broadcasting."""
    return apply(Div(), *operands("div", a, b))


def pow(a: Any, exponent: float) -> Tensor:
    """a ** exponent for a number ``exponent``."""
    if isinstance(exponent, (Tensor, np.ndarray)):
        raise TypeError("pow: the exponent must be a number; use exp(log(a) * b) for tensors")
    power = number("pow: exponent", exponent)
    whole = int(power) if power.is_integer() else power  # NumPy's integer powers are exact
    return apply(Pow(whole), tensor_in("pow", "input", a))


def neg(a: Any) -> Tensor:
    """-a"""
    return apply(Neg(), tensor_in("neg", "input", a))


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise with broadcasting; NaN if either is NaN."""
    return apply(Maximum(), *operands("maximum", a, b))


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise with broadcasting; NaN if either is NaN."""
    return neg(maximum(neg(a), neg(b)))


def exp(a: Any) -> Tensor:
    """e to the power of a."""
    return apply(Exp(), tensor_in("exp", "input", a))


def log(a: Any) -> Tensor:
    """The natural logarithm; -inf at 0 and NaN below."""
    return apply(Log(), tensor_in("log", "input", a))


def sqrt(a: Any) -> Tensor:
    """The square root; NaN below 0."""
    return apply(Sqrt(), tensor_in("sqrt", "input", a))


def abs(a: Any) -> Tensor:
    """The absolute value."""
    return apply(Abs(), tensor_in("abs", "input", a))


def clip(a: Any, low: float | None = None, high: float | None = None) -> Tensor:
    """Values below ``low`` become ``low``, values above ``high`` become ``high``."""
    ends = [
        None if end is None else number(f"clip: {name}", end)
        for name, end in (("low", low), ("high", high))
    ]
    if ends[0] is not None and ends[1] is not None and ends[0] > ends[1]:
        raise ValueError(f"clip: low {low} is larger than high {high}")
    return apply(Clip(*ends), tensor_in("clip", "input", a))


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product ``a @ b`` of 1-d, 2-d or stacked operands."""
    x, y = operands("matmul", a, b)
    if not x.ndim or not y.ndim or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape} do not fit")
    try:
        return apply(Matmul(), x, y)
    except ValueError:
        raise ValueError(f"matmul: stacks {x.shape} and {y.shape} do not broadcast") from None


def cast(a: Any, dtype: Any) -> Tensor:
    """To float32 or float64, differentiably."""
    wanted = valid_dtype("cast", dtype)
    if wanted.kind != "f":
        raise TypeError(f"cast: dtype must be float32 or float64, got {dtype!r}")
    return apply(Cast(wanted), tensor_in("cast", "input", a))


def compare(relation: str, a: Any, b: Any) -> Tensor:
    """Compare elementwise with broadcasting, e.g. ``compare("less", a, b)``; a tensor of bools.

    ``relation`` is "equal", "not_equal", "less", "less_equal", "greater" or "greater_equal".
    """
    if not isinstance(relation, str) or relation not in RELATIONS:
        raise ValueError(f"compare: relation must be one of {RELATIONS}, got {relation!r}")
    x, y = comparables(relation, a, b)
    xp = namespace_of(x if hasattr(x, "shape") else y)
    try:
        return Tensor(xp.asarray(getattr(xp, relation)(x, y)))
    except ValueError:
        shapes = f"{np.shape(x)} and {np.shape(y)}"
        raise ValueError(f"{relation}: shapes {shapes} do not broadcast") from None
