"""Activation functions: elementwise, from a tensor to a tensor of the same shape."""

from __future__ import annotations

import math
from typing import Any

from ..arguments import number
from ..autograd import Array, Op
from ..backends import backend_of, namespace_of
from ..tensor import Tensor, apply
from .erf import erf
from .inputs import tensor_in


class ReLU(Op):
    any_layout = True
    kernel_inputs = 1
    kernel_backward = True

    def forward(self, x: Array) -> Array:
        self.rectified = backend_of(x).relu(x)
        return self.rectified

    def backward(self, dout: Array) -> Array:
        return self.before_relu(dout)


class LeakyReLU(Op):
    any_layout = True

    def __init__(self, slope: float):
        self.slope = slope

    def forward(self, x: Array) -> Array:
        self.x = x
        return namespace_of(x).where(x < 0, x * x.dtype.type(self.slope), x)

    def backward(self, dout: Array) -> Array:
        slope = dout.dtype.type(self.slope)
        return namespace_of(dout).where(self.x > 0, dout, dout * slope)


class Sigmoid(Op):
    def forward(self, x: Array) -> Array:
        self.out = _sigmoid(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * self.out * (1 - self.out)


class Tanh(Op):
    def forward(self, x: Array) -> Array:
        self.out = namespace_of(x).tanh(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * (1 - self.out * self.out)


class Softplus(Op):
    """log(1 + e^x), written so that neither end overflows."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return namespace_of(x).logaddexp(x, x.dtype.type(0))

    def backward(self, dout: Array) -> Array:
        return dout * _sigmoid(self.x)


class GELU(Op):
    """x times the normal distribution function of x, or its approximation by tanh."""

    def __init__(self, approximate: str):
        self.approximate = approximate

    def forward(self, x: Array) -> Array:
        self.x = x
        return x * self._phi(x)

    def _phi(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return (1 + namespace_of(x).tanh(_GELU_SCALE * (x + 0.044715 * x * x * x))) / 2
        return (1 + erf(x * x.dtype.type(math.sqrt(0.5)))) / 2

    def backward(self, dout: Array) -> Array:
        x, phi = self.x, self._phi(self.x)
        if self.approximate == "tanh":
            density = 2 * phi * (1 - phi) * _GELU_SCALE * (1 + 3 * 0.044715 * x * x)
        else:
            density = namespace_of(x).exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return dout * (phi + x * density)


class SiLU(Op):
    def forward(self, x: Array) -> Array:
        self.x = x
        return x * _sigmoid(x)

    def backward(self, dout: Array) -> Array:
        s = _sigmoid(self.x)
        return dout * (s + self.x * s * (1 - s))


class ELU(Op):
    def __init__(self, alpha: float):
        self.alpha = alpha

    def forward(self, x: Array) -> Array:
        xp = namespace_of(x)
        self.x = x
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.minimum(x, 0)))

    def backward(self, dout: Array) -> Array:
        xp = namespace_of(dout)
        return xp.where(self.x > 0, dout, dout * self.alpha * xp.exp(xp.minimum(self.x, 0)))


_GELU_SCALE = math.sqrt(2 / math.pi)


def _sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), written so that nothing overflows."""
    xp = namespace_of(x)
    small = xp.exp(-xp.abs(x))  # in (0, 1]
    return xp.where(x < 0, small, 1) / (1 + small)


# ------------------------------------------------------------------ the functions


def relu(x: Any) -> Tensor:
    """max(x, 0); NaN stays NaN. Its gradient at 0 is 0.

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.relu([-1.0, 0.0, 2.0])
    tensor([0., 0., 2.])
    """
    return apply(ReLU(), tensor_in("relu", "input", x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x (Maas, Hannun and Ng 2013).

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32
    negative_slope : a number

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x or the slope is no number
    ValueError : the slope is not finite

    >>> import cyconv as cc
    >>> cc.ops.leaky_relu([-1.0, 2.0])
    tensor([-0.01,  2.  ])
    """
    slope = number("leaky_relu: negative_slope", negative_slope)
    return apply(LeakyReLU(slope), tensor_in("leaky_relu", "input", x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), without overflow.

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.sigmoid([0.0, 2.0]).numpy().round(4)
    array([0.5   , 0.8808], dtype=float32)
    """
    return apply(Sigmoid(), tensor_in("sigmoid", "input", x))


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent.

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.tanh([0.0, 1.0]).numpy().round(4)
    array([0.    , 0.7616], dtype=float32)
    """
    return apply(Tanh(), tensor_in("tanh", "input", x))


def softplus(x: Any) -> Tensor:
    """log(1 + e^x), a smooth relu (Dugas et al. 2000), without overflow.

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.softplus([0.0, 1000.0]).numpy().round(4)
    array([6.931e-01, 1.000e+03], dtype=float32)
    """
    return apply(Softplus(), tensor_in("softplus", "input", x))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x * Phi(x) with the normal distribution function Phi (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32
    approximate : "none", or "tanh" for (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 instead of Phi

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : another approximation
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.gelu([0.0, 1.0]).numpy().round(4)
    array([0.    , 0.8413], dtype=float32)
    """
    op = GELU(check_approximate("gelu", approximate))
    return apply(op, tensor_in("gelu", "input", x))


def check_approximate(where: str, approximate: Any) -> str:
    """``approximate`` if ``gelu`` knows it; ``where`` begins the message."""
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise ValueError(f"{where}: approximate must be 'none' or 'tanh', got {approximate!r}")
    return approximate


def silu(x: Any) -> Tensor:
    """x * sigmoid(x), also called swish (Elfwing, Uchibe and Doya 2017).

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.silu([0.0, 2.0]).numpy().round(4)
    array([0.    , 1.7616], dtype=float32)
    """
    return apply(SiLU(), tensor_in("silu", "input", x))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (e^x - 1) (Clevert, Unterthiner and Hochreiter 2015).

    Parameters
    ----------
    x : any shape, float32 or float64; numbers and other arrays become float32
    alpha : a number

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    TypeError : x or alpha is no number
    ValueError : alpha is not finite

    >>> import cyconv as cc
    >>> cc.ops.elu([-1.0, 2.0]).numpy().round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    return apply(ELU(number("elu: alpha", alpha)), tensor_in("elu", "input", x))
