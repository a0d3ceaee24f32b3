"""Elementwise arithmetic and matrix products: thin ops over NumPy's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from ..autograd import Array, Op
from ..backends import backend_of, in_one_order, namespace_of, summed
from ..creation import float_dtype
from ..tensor import Tensor, apply
from .inputs import comparables, is_relu, operands, tensor_in

RELATIONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def unbroadcast(dout: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``dout`` over the axes along which an input of this shape was repeated."""
    if dout.shape == shape:
        return dout
    dout = in_one_order(dout)
    if dout.ndim > len(shape):
        dout = summed(dout, tuple(range(dout.ndim - len(shape))))
    repeated = tuple(i for i, size in enumerate(shape) if size == 1 and dout.shape[i] != 1)
    return summed(dout, repeated, keepdims=True) if repeated else dout


class Add(Op):
    any_layout = True
    kernel_inputs = 2

    def __init__(self, relu: bool = False):
        self.keeps_inputs = self.relu = relu

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        self.kernel_backward = a.shape == b.shape  # else gradients are summed up
        out = backend_of(a).add(a, b, self.relu)
        self.rectified = out if self.relu else None
        return out

    def backward(self, dout: Array) -> tuple[Array, ...]:
        dout = self.before_relu(dout)
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
        share = dout / self.b
        db = -share * (self.a / self.b)  # b * b would underflow earlier than this
        return unbroadcast(share, self.a.shape), unbroadcast(db, self.b.shape)


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


def add(a: Any, b: Any, *, activation: str | None = None) -> Tensor:
    """a + b, elementwise with broadcasting.

    Parameters
    ----------
    a, b : tensors, arrays or numbers of shapes that broadcast, float32 or float64 like the other
    activation : None or "relu", which is then applied in the same pass over the sum

    Returns
    -------
    A tensor of the broadcast shape and the common dtype.

    Raises
    ------
    ValueError : the shapes do not broadcast, or another activation
    TypeError : one is float32 and the other float64, or holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.add([1.0, 2.0], 10.0)
    tensor([11., 12.])
    """
    return apply(Add(is_relu("add", activation)), *operands("add", a, b))


def sub(a: Any, b: Any) -> Tensor:
    """a - b, elementwise with broadcasting.

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
    >>> cc.ops.sub([1.0, 2.0], 10.0)
    tensor([-9., -8.])
    """
    return apply(Sub(), *operands("sub", a, b))


def mul(a: Any, b: Any) -> Tensor:
    """a * b, elementwise with broadcasting.

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
    >>> cc.ops.mul([[1.0], [2.0]], [3.0, 4.0])
    tensor([[3., 4.],
            [6., 8.]])
    """
    return apply(Mul(), *operands("mul", a, b))


def div(a: Any, b: Any) -> Tensor:
    """a / b, elementwise with broadcasting; infinite or NaN where b is 0.

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
    >>> cc.ops.div([1.0, 0.0], 0.0)
    tensor([inf, nan])
    """
    return apply(Div(), *operands("div", a, b))


def pow(a: Any, exponent: float) -> Tensor:
    """a ** exponent, elementwise.

    Parameters
    ----------
    a : any shape, float32 or float64; numbers and other arrays become float32
    exponent : a number

    Returns
    -------
    A tensor of the shape and dtype of a.

    Raises
    ------
    TypeError : the exponent is a tensor or an array, or a holds no numbers
    ValueError : the exponent is not finite

    >>> import cyconv as cc
    >>> cc.ops.pow([1.0, 2.0, 3.0], 2)
    tensor([1., 4., 9.])
    """
    if isinstance(exponent, (Tensor, np.ndarray)):
        raise TypeError("pow: the exponent must be a number; use exp(log(a) * b) for tensors")
    power = number("pow: exponent", exponent)
    whole = int(power) if power.is_integer() else power  # NumPy's integer powers are exact
    return apply(Pow(whole), tensor_in("pow", "input", a))


def neg(a: Any) -> Tensor:
    """-a, elementwise.

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
    >>> cc.ops.neg([1.0, -2.0])
    tensor([-1.,  2.])
    """
    return apply(Neg(), tensor_in("neg", "input", a))


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product ``a @ b``, by NumPy's rules.

    Parameters
    ----------
    a, b : (K,), (M, K) with (K, N), or stacks (..., M, K) with (..., K, N) that broadcast; float32
        or float64 like the other

    Returns
    -------
    (M, N), or a stack of these; an operand of shape (K,) leaves out its axis.

    Raises
    ------
    ValueError : the shapes do not fit
    TypeError : one is float32 and the other float64, or holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    tensor([3., 7.])
    """
    x, y = operands("matmul", a, b)
    if not x.ndim or not y.ndim or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape} do not fit")
    try:
        return apply(Matmul(), x, y)
    except ValueError:
        raise ValueError(f"matmul: stacks {x.shape} and {y.shape} do not broadcast") from None


def cast(a: Any, dtype: Any) -> Tensor:
    """The same values in another dtype; the gradient is cast back.

    Parameters
    ----------
    a : any shape, float32 or float64
    dtype : "float32" or "float64", or NumPy's type

    Returns
    -------
    A tensor of that dtype.

    Raises
    ------
    TypeError : another dtype, of a or wanted

    >>> import cyconv as cc
    >>> cc.ops.cast([0.5], "float64")
    tensor([0.5], dtype=float64)
    """
    return apply(Cast(float_dtype("cast", dtype)), tensor_in("cast", "input", a))


def compare(relation: str, a: Any, b: Any) -> Tensor:
    """Compare elementwise with broadcasting; not differentiable.

    Parameters
    ----------
    relation : "equal", "not_equal", "less", "less_equal", "greater" or "greater_equal"
    a, b : tensors, arrays or numbers of any dtype, of shapes that broadcast

    Returns
    -------
    A tensor of bools of the broadcast shape.

    Raises
    ------
    ValueError : another relation, or shapes that do not broadcast
    TypeError : a or b holds no numbers

    >>> import cyconv as cc
    >>> cc.ops.compare("less", [1.0, 5.0], 3.0)
    tensor([ True, False], dtype=bool)
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
