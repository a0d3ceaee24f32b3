"""The one stream of random numbers, for initial weights and dropout; ``seed`` restarts it."""

from __future__ import annotations

import numpy as np

_generator: np.random.Generator | None = None  # made when first needed: importing takes a while


def seed(n: int) -> None:
    """Restart the stream from ``n`` (an int >= 0): the same seed gives the same numbers."""
    global _generator
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"seed must be an integer, got {n!r}")
    if n < 0:
        raise ValueError(f"seed must be at least 0, got {n!r}")
    _generator = np.random.default_rng(n)


def generator() -> np.random.Generator:
    """The generator in use; its ``bit_generator.state`` is what a checkpoint keeps."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator
