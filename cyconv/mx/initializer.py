"""``mxnet.init``: initial values of parameters."""

import math
from typing import Any

from cyconv.nn import init

from .ndarray import NDArray


class Initializer:
    """Fills arrays by a function of a tensor; a class of one's own defines ``_init_weight``."""

    def __init__(self, fill: Any = None):
        self._fill = fill

    def _init_weight(self, name: str, arr: NDArray) -> None:
        self._fill(arr.tensor)


def _with(fill: Any) -> Any:
    return lambda *values, **named: Initializer(lambda tensor: fill(tensor, *values, **named))


Constant = _with(lambda t, value: t.__setitem__(..., value))
Uniform = _with(lambda t, scale=0.07: init.uniform_(t, -scale, scale))
Normal = _with(lambda t, sigma=0.01: init.normal_(t, sigma))
# cyconv's is uniform within gain * sqrt(6 / (fan_in + fan_out))
Xavier = _with(lambda t, *, magnitude=3: init.xavier_uniform_(t, math.sqrt(magnitude / 3)))
NAMED = {"zeros": Constant(0), "ones": Constant(1), "normal": Normal(), "xavier": Xavier()}
