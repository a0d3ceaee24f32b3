"""Layers without a weight, which work on every element or only change the shape."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..geometry import integer
from ..tensor import Tensor
from .module import Module, bounded


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Any) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x (Maas, Hannun and Ng 2013)."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = bounded("LeakyReLU: negative_slope", negative_slope, -float("inf"))

    def forward(self, x: Any) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class Sigmoid(Module):
    """1 / (1 + e^-x)"""

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class GELU(Module):
    """x * Phi(x) (Hendrycks and Gimpel 2016); ``approximate`` is "none" or "tanh"."""

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return ops.gelu(x, self.approximate)


class Softplus(Module):
    """log(1 + e^x) (Dugas et al. 2000)."""

    def forward(self, x: Any) -> Tensor:
        return ops.softplus(x)


class SiLU(Module):
    """x * sigmoid(x) (Elfwing, Uchibe and Doya 2017)."""

    def forward(self, x: Any) -> Tensor:
        return ops.silu(x)


class ELU(Module):
    """x where x > 0, else alpha * (e^x - 1) (Clevert, Unterthiner and Hochreiter 2015)."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = bounded("ELU: alpha", alpha, -float("inf"))

    def forward(self, x: Any) -> Tensor:
        return ops.elu(x, self.alpha)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis. Cross-entropy takes logits: train without this layer."""

    def __init__(self, axis: int = -1):
        self.axis = integer("Softmax: axis", axis, -4, 3)

    def forward(self, x: Any) -> Tensor:
        return ops.softmax(x, self.axis)


class Flatten(Module):
    """(N, C, H, W) -> (N, C*H*W)"""

    def forward(self, x: Any) -> Tensor:
        return ops.flatten(x)


class Identity(Module):
    """x itself: a placeholder where a layer is expected."""

    def forward(self, x: Any) -> Any:
        return x
