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
from ..arguments import number
from ..random import generator
from ..tensor import FLOATS, Tensor

__all__ = [
    "he_normal_",
    "he_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

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
    """Normal distribution of this mean and standard deviation.

    Parameters
    ----------
    t : a tensor of any shape, float32 or float64
    std, mean : finite numbers, std at least 0

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is no float tensor, or std or mean no number
    ValueError : std or mean out of its range

    >>> import cyconv as cc
    >>> t = cc.nn.init.normal_(cc.zeros(1000), std=0.1, mean=5.0)
    >>> round(t.mean().item(), 1)
    5.0
    """
    mean, std = number("normal_: mean", mean), number("normal_: std", std, 0)
    return _fill("normal_", t, lambda: _standard_normal(t) * std + mean)


def uniform_(t: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform distribution over [low, high).

    Parameters
    ----------
    t : a tensor of any shape, float32 or float64
    low, high : finite numbers, low at most high

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is no float tensor, or low or high no number
    ValueError : low or high is not finite, or low is above high

    >>> import cyconv as cc
    >>> t = cc.nn.init.uniform_(cc.zeros(1000), 2.0, 3.0)
    >>> bool(t.numpy().min() >= 2), bool(t.numpy().max() <= 3)
    (True, True)
    """
    low, high = number("uniform_: low", low), number("uniform_: high", high)
    if not low <= high:
        raise ValueError(f"uniform_: low must be at most high, got {low} and {high}")
    return _fill("uniform_", t, lambda: _random(t) * (high - low) + low)


def xavier_normal_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with std = gain * sqrt(2 / (fan_in + fan_out)).

    Keeps the variance of activations and gradients through layers that are linear near 0, as tanh.

    Parameters
    ----------
    t : a weight of 2 or more dimensions, float32 or float64
    gain : a number, at least 0

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is a tensor of integers, or gain no number
    ValueError : t has fewer dimensions or is no tensor, or gain is out of its range

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, section 4.2.1.

    >>> import cyconv as cc
    >>> t = cc.nn.init.xavier_normal_(cc.zeros(300, 500))  # std = sqrt(2 / 800) = 0.05
    >>> round(float(t.numpy().std()), 3)
    0.05
    """
    fan_in, fan_out = fans("xavier_normal_", t)
    gain = number("xavier_normal_: gain", gain, 0)
    return normal_(t, gain * math.sqrt(2 / (fan_in + fan_out)))


def xavier_uniform_(t: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform over [-a, a), a = gain * sqrt(6 / (fan_in + fan_out)), as ``xavier_normal_``.

    Parameters
    ----------
    t : a weight of 2 or more dimensions, float32 or float64
    gain : a number, at least 0

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is a tensor of integers, or gain no number
    ValueError : t has fewer dimensions or is no tensor, or gain is out of its range

    Source: Glorot and Bengio 2010, equation 16.

    >>> import cyconv as cc
    >>> t = cc.nn.init.xavier_uniform_(cc.zeros(300, 300))  # a = sqrt(6 / 600) = 0.1
    >>> round(float(abs(t).numpy().max()), 3)
    0.1
    """
    fan_in, fan_out = fans("xavier_uniform_", t)
    gain = number("xavier_uniform_: gain", gain, 0)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return uniform_(t, -bound, bound)


def he_normal_(t: Tensor, mode: str = "fan_in") -> Tensor:
    """Normal with std = sqrt(2 / fan).

    Keeps the variance through layers with ReLU: of activations with ``mode="fan_in"``, of
    gradients with ``mode="fan_out"``.

    Parameters
    ----------
    t : a weight of 2 or more dimensions, float32 or float64
    mode : "fan_in" or "fan_out"

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is a tensor of integers
    ValueError : t has fewer dimensions or is no tensor; another mode

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015, equations 10 and 14.

    >>> import cyconv as cc
    >>> t = cc.nn.init.he_normal_(cc.zeros(400, 200))  # std = sqrt(2 / 200) = 0.1
    >>> round(float(t.numpy().std()), 2)
    0.1
    """
    return normal_(t, math.sqrt(2 / _fan("he_normal_", t, mode)))


def he_uniform_(t: Tensor, mode: str = "fan_in") -> Tensor:
    """Uniform over [-a, a), a = sqrt(6 / fan): the variance of ``he_normal_``.

    Parameters
    ----------
    t : a weight of 2 or more dimensions, float32 or float64
    mode : "fan_in" or "fan_out"

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is a tensor of integers
    ValueError : t has fewer dimensions or is no tensor; another mode

    Source: He et al. 2015, with a uniform distribution of the same variance.

    >>> import cyconv as cc
    >>> t = cc.nn.init.he_uniform_(cc.zeros(100, 600))  # a = sqrt(6 / 600) = 0.1
    >>> round(float(abs(t).numpy().max()), 3)
    0.1
    """
    bound = math.sqrt(6 / _fan("he_uniform_", t, mode))
    return uniform_(t, -bound, bound)


def zeros_(t: Tensor) -> Tensor:
    """All zeros.

    Parameters
    ----------
    t : a tensor of any shape, float32 or float64

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is no float tensor

    >>> import cyconv as cc
    >>> cc.nn.init.zeros_(cc.ones(2))
    tensor([0., 0.])
    """
    return _fill("zeros_", t, lambda: 0)


def ones_(t: Tensor) -> Tensor:
    """All ones.

    Parameters
    ----------
    t : a tensor of any shape, float32 or float64

    Returns
    -------
    t itself, filled in place.

    Raises
    ------
    TypeError : t is no float tensor

    >>> import cyconv as cc
    >>> cc.nn.init.ones_(cc.zeros(2))
    tensor([1., 1.])
    """
    return _fill("ones_", t, lambda: 1)


def fans(where: str, t: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in) or (F, C/groups, KH, KW), each at least 1."""
    if not isinstance(t, Tensor) or t.ndim < 2:
        got = f"shape {t.shape}" if isinstance(t, Tensor) else repr(t)
        raise ValueError(f"{where}: fans need a tensor of 2 or more dimensions, got {got}")
    taps = math.prod(t.shape[2:])
    return max(1, t.shape[1] * taps), max(1, t.shape[0] * taps)


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
