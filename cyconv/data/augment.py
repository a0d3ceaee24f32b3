"""Random changes of training images, a whole batch at a time.

An augmentation is called with a batch (N, C, H, W) of any dtype and a ``numpy.random.Generator``,
and returns a batch of the same shape and dtype. ``DataLoader(augment=[...])`` hands it a generator
that depends on the seed, the epoch and the number of the batch, and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import integer, number


@dataclass(frozen=True)
class RandomCrop:
    """Shift each image at random by up to ``padding`` pixels each way; zeros come in at the edge.

    The same as padding with zeros and cropping back to the old size at a random place.

    Parameters
    ----------
    padding : pixels, int, at least 0

    Raises
    ------
    TypeError : padding is no integer; when it is called, rng is no ``numpy.random.Generator``
    ValueError : padding is below 0; when it is called, images of another shape

    Source: He et al., "Deep residual learning for image recognition", 2016, section 4.2.

    >>> import numpy as np
    >>> import cyconv as cc
    >>> images = np.ones((2, 3, 8, 8), "uint8")
    >>> moved = cc.data.RandomCrop(4)(images, np.random.default_rng(0))
    >>> moved.shape, moved.dtype
    ((2, 3, 8, 8), dtype('uint8'))
    """

    padding: int = 4

    def __post_init__(self) -> None:
        integer("RandomCrop: padding", self.padding, 0)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _check("RandomCrop", images, rng)
        n, c, h, w = images.shape
        p = self.padding
        down, right = rng.integers(0, 2 * p + 1, size=(2, n))
        padded = np.zeros((n, c, h + 2 * p, w + 2 * p), images.dtype)
        padded[:, :, p : p + h, p : p + w] = images
        # (N, C, H+2p, W+2p) -> view (N, C, 2p+1, 2p+1, H, W): every crop there is
        crops = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        chosen: np.ndarray = crops[np.arange(n), :, down, right]
        return chosen


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror each image left to right with probability ``p``.

    Parameters
    ----------
    p : from 0 to 1

    Raises
    ------
    TypeError : p is no number; when it is called, rng is no ``numpy.random.Generator``
    ValueError : p is out of that range; when it is called, images of another shape

    >>> import numpy as np
    >>> import cyconv as cc
    >>> image = np.array([[[[1, 2, 3]]]], "uint8")
    >>> cc.data.HorizontalFlip(p=1)(image, np.random.default_rng(0))
    array([[[[3, 2, 1]]]], dtype=uint8)
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number("HorizontalFlip: p", self.p, 0, 1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _check("HorizontalFlip", images, rng)
        flip = rng.random(len(images)) < self.p
        flipped = images.copy()
        flipped[flip] = images[flip][..., ::-1]
        return flipped


def _check(where: str, images: Any, rng: Any) -> None:
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        got = f"shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"{where}: images must be a NumPy array (N, C, H, W), got {got}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{where}: rng must be a numpy.random.Generator, got {rng!r}")
