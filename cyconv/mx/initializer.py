"""Initial values of parameters, by MXNet's names (``mx.init``)."""

import math
from collections.abc import Callable
from typing import Any

from cyconv.nn import init
from cyconv.tensor import Tensor

from .ndarray import NDArray


class Initializer:
    """Fills arrays; a class of one's own defines ``_init_weight``."""

    def __init__(self, fill: Callable[[Tensor], Any] | None = None):
        self._fill: Any = fill

    def _init_weight(self, name: str, arr: NDArray) -> None:
        self._fill(arr.tensor)


def Constant(value: float) -> Initializer:
    """One value."""
    return Initializer(lambda t: t.__setitem__(..., value))


def Uniform(scale: float = 0.07) -> Initializer:
    """Uniform between -scale and scale."""
    return Initializer(lambda t: init.uniform_(t, -scale, scale))


def Normal(sigma: float = 0.01) -> Initializer:
    """Normal with standard deviation ``sigma``."""
    return Initializer(lambda t: init.normal_(t, sigma))


def Xavier(
    rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3
) -> Initializer:
    """Uniform within sqrt(magnitude / fan), or "gaussian"; the fan is "in", "out" or their mean."""
    if rnd_type not in ("uniform", "gaussian") or factor_type not in ("in", "out", "avg"):
        raise ValueError(f"Xavier: unknown {rnd_type=} or {factor_type=}")

    def fill(t: Tensor) -> None:
        fan_in, fan_out = init.fans("Xavier", t)
        fan = {"in": fan_in, "out": fan_out, "avg": (fan_in + fan_out) / 2}[factor_type]
        width = math.sqrt(magnitude / fan)
        (Uniform(width) if rnd_type == "uniform" else Normal(width))._fill(t)

    return Initializer(fill)


NAMED = {"zeros": Constant(0), "ones": Constant(1), "normal": Normal(), "xavier": Xavier()}
