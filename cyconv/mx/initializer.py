"""``mxnet.init``: initial values of parameters."""

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
    """Uniform within sqrt(magnitude / mean fan), or "gaussian" of that standard deviation."""
    if rnd_type not in ("uniform", "gaussian") or factor_type != "avg":
        raise ValueError(f"Xavier: unknown {rnd_type=} or {factor_type=}")
    if rnd_type == "gaussian":
        return Initializer(lambda t: init.xavier_normal_(t, math.sqrt(magnitude)))
    return Initializer(lambda t: init.xavier_uniform_(t, math.sqrt(magnitude / 3)))


NAMED = {"zeros": Constant(0), "ones": Constant(1), "normal": Normal(), "xavier": Xavier()}
