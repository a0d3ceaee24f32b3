"""The one stream of random numbers, for initial weights and dropout; ``seed`` restarts it."""

from __future__ import annotations

import numpy as np

from .arguments import integer

_generator: np.random.Generator | None = None  # made when first needed: importing takes a while


def seed(n: int) -> None:
    """Restart the stream: the same seed gives the same numbers.

    Parameters
    ----------
    n : int from 0 to 2^128 - 1

    Raises
    ------
    TypeError : n is no integer
    ValueError : it is out of that range

    >>> import cyconv as cc
    >>> cc.seed(7)
    >>> a = cc.randn(2)
    >>> cc.seed(7)
    >>> (cc.randn(2) == a).tolist()
    [True, True]
    """
    global _generator
    _generator = np.random.default_rng(integer("seed", n, 0, 2**128 - 1))


def generator() -> np.random.Generator:
    """The generator in use; its ``bit_generator.state`` is what a checkpoint keeps."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator
