"""Layers without a weight, which work on every element or only change the shape."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..arguments import integer, number
from ..ops.activation import check_approximate
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0), of an input of any shape; see ``ops.relu``.

    >>> import cyconv as cc
    >>> cc.nn.ReLU()([-1.0, 2.0])
    tensor([0., 2.])
    """

    def forward(self, x: Any) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x, of an input of any shape; see ``ops.leaky_relu``.

    Parameters
    ----------
    negative_slope : a finite number

    Raises
    ------
    TypeError : negative_slope is no number
    ValueError : it is NaN or infinite

    >>> import cyconv as cc
    >>> cc.nn.LeakyReLU(0.1)([-1.0, 2.0])
    tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = number("LeakyReLU: negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class Sigmoid(Module):
    """1 / (1 + e^-x), of an input of any shape; see ``ops.sigmoid``.

    >>> import cyconv as cc
    >>> cc.nn.Sigmoid()([0.0])
    tensor([0.5])
    """

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, of an input of any shape; see ``ops.tanh``.

    >>> import cyconv as cc
    >>> cc.nn.Tanh()([0.0, 100.0])
    tensor([0., 1.])
    """

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class GELU(Module):
    """x * Phi(x), of an input of any shape; see ``ops.gelu``.

    Parameters
    ----------
    approximate : "none", or "tanh" for a formula in place of the distribution function Phi

    Raises
    ------
    ValueError : approximate is something else

    >>> import cyconv as cc
    >>> cc.nn.GELU()([0.0, 1.0]).numpy().round(4)
    array([0.    , 0.8413], dtype=float32)
    """

    def __init__(self, approximate: str = "none"):
        self.approximate = check_approximate("GELU", approximate)

    def forward(self, x: Any) -> Tensor:
        return ops.gelu(x, self.approximate)


class Softplus(Module):
    """log(1 + e^x), of an input of any shape; see ``ops.softplus``.

    >>> import cyconv as cc
    >>> cc.nn.Softplus()([0.0, 50.0]).numpy().round(4)
    array([ 0.6931, 50.    ], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.softplus(x)


class SiLU(Module):
    """x * sigmoid(x), of an input of any shape; see ``ops.silu``.

    >>> import cyconv as cc
    >>> cc.nn.SiLU()([0.0, 2.0]).numpy().round(4)
    array([0.    , 1.7616], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.silu(x)


class ELU(Module):
    """x where x > 0, else alpha * (e^x - 1), of an input of any shape; see ``ops.elu``.

    Parameters
    ----------
    alpha : a finite number

    Raises
    ------
    TypeError : alpha is no number
    ValueError : it is NaN or infinite

    >>> import cyconv as cc
    >>> cc.nn.ELU(0.5)([-100.0, 2.0])
    tensor([-0.5,  2. ])
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = number("ELU: alpha", alpha)

    def forward(self, x: Any) -> Tensor:
        return ops.elu(x, self.alpha)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis, of an input of any shape; see ``ops.softmax``.

    Cross-entropy takes logits: train without this layer.

    Parameters
    ----------
    axis : int from -4 to 3

    Raises
    ------
    TypeError : axis is no integer
    ValueError : it is out of that range or, when the layer is called, no axis of the input

    >>> import cyconv as cc
    >>> cc.nn.Softmax()([[0.0, 0.0]])
    tensor([[0.5, 0.5]])
    """

    def __init__(self, axis: int = -1):
        self.axis = integer("Softmax: axis", axis, -4, 3)

    def forward(self, x: Any) -> Tensor:
        return ops.softmax(x, self.axis)


class Flatten(Module):
    """(N, C, H, W) -> (N, C * H * W): all axes but the first become one; see ``ops.flatten``.

    >>> import cyconv as cc
    >>> cc.nn.Flatten()(cc.zeros(2, 3, 4, 4)).shape
    (2, 48)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.flatten(x)


class Identity(Module):
    """x itself: a placeholder where a layer is expected.

    >>> import cyconv as cc
    >>> cc.nn.Identity()(cc.ones(2))
    tensor([1., 1.])
    """

    def forward(self, x: Any) -> Any:
        return x
