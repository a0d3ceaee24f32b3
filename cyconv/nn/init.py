"""Initial values of weights: each function fills a tensor in place and returns it.

The numbers come from ``cyconv.random.generator()``, so ``cyconv.seed`` makes them repeatable.
fan_in is the number of inputs that one output of the layer sums over, fan_out the number of
outputs that one input goes into: for a weight (out, in) these are in and out, for a convolution's
weight (F, C/groups, KH, KW) they are C/groups * KH * KW and F * KH * KW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .. import backends
from ..geometry import number
from ..random import generator
from ..tensor import FLOATS, Tensor

_skipping = ContextVar("skipping", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """Context manager for building nets whose weights are loaded right after.

    New layers stay at zero: no time is spent and no random number drawn, and memory that is never
    written is never really taken, whatever sizes a damaged file asks for.
    """
    before = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(before)


def normal_(t: Tensor, std: float = 1.0, mean: float = 0.0) -> Tensor:
    """Normal distribution of this mean and standard deviation."""
    mean, std = number("normal_: mean", mean), _not_negative("normal_: std", std)
    return _fill("normal_", t, lambda: _standard_normal(t) * std + mean)


def uniform_(t: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform distribution over [low, high)."""
    low, high = number("uniform_: low", low), number("uniform_: high", high)
    if not low <= high:
        raise ValueError(f"uniform_: low must be at most high, got {low} and {high}")
    return _fill("uniform_", t, lambda: _random(t) * (high - low) + low)


def xavier_normal_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with std = gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    Keeps the variance of activations and gradients through layers that are linear near 0, as tanh.
    """
    fan_in, fan_out = fans("xavier_normal_", t)
    gain = _not_negative("xavier_normal_: gain", gain)
    return normal_(t, gain * math.sqrt(2 / (fan_in + fan_out)))


def xavier_uniform_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform over [-a, a), a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    fan_in, fan_out = fans("xavier_uniform_", t)
    gain = _not_negative("xavier_uniform_: gain", gain)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(t, -bound, bound)


def he_normal_(t: Tensor, mode: str = "fan_in") -> Tensor:
    """Normal with std = sqrt(2 / fan) (He et al. 2015, "Delving deep into rectifiers", eq. 10).

    Keeps the variance through layers with ReLU: of activations with ``mode="fan_in"``, of
    gradients with ``mode="fan_out"``.
    """
    return normal_(t, math.sqrt(2 / _fan("he_normal_", t, mode)))


def he_uniform_(t: Tensor, mode: str = "fan_in") -> Tensor:
    """Uniform over [-a, a), a = sqrt(6 / fan): the variance of ``he_normal_`` (He et al. 2015)."""
    bound = math.sqrt(6 / _fan("he_uniform_", t, mode))
    return uniform_(t, -bound, bound)


def zeros_(t: Tensor) -> Tensor:
    """All zeros."""
    return _fill("zeros_", t, lambda: 0)


def ones_(t: Tensor) -> Tensor:
    """All ones."""
    return _fill("ones_", t, lambda: 1)


def fans(where: str, t: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in) or (F, C/groups, KH, KW), each at least 1."""
    if not isinstance(t, Tensor) or t.ndim < 2:
        got = f"shape {t.shape}" if isinstance(t, Tensor) else repr(t)
        raise ValueError(f"{where}: fans need a tensor of 2 or more dimensions, got {got}")
    taps = math.prod(t.shape[2:])
    return max(1, t.shape[1] * taps), max(1, t.shape[0] * taps)


def _not_negative(where: str, value: Any) -> float:
    if number(where, value) < 0:
        raise ValueError(f"{where} must not be negative, got {value!r}")
    return float(value)


def _fan(where: str, t: Tensor, mode: str) -> int:
    if not isinstance(mode, str) or mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{where}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return fans(where, t)[mode == "fan_out"]


def _fill(where: str, t: Tensor, values: Callable[[], Any]) -> Tensor:
    if not isinstance(t, Tensor) or t.dtype.name not in FLOATS:
        got = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"{where}: t must be a float32 or float64 tensor, got {got}")
    if not _skipping.get():
        drawn = np.asarray(values(), dtype=t.dtype)
        t._write()[...] = backends.to_device(drawn, t.device)
    return t


def _standard_normal(t: Tensor) -> np.ndarray:
    return generator().standard_normal(t.shape, dtype=t.dtype.type)


def _random(t: Tensor) -> np.ndarray:
    return generator().random(t.shape, dtype=t.dtype.type)
