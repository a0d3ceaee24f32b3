"""``mxnet.image``: resizing."""

import numpy as np

from .ndarray import NDArray, array


def _taps(old: int, new: int) -> tuple[np.ndarray, ...]:
    """For each new pixel the two old ones around its middle, and the second's share in 2048ths."""
    middle = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    low = np.floor(middle)
    places = (side.astype(int).clip(0, old - 1) for side in (low, low + 1))
    return *places, np.rint((middle - low) * 2048).astype(int)


def imresize(src: NDArray, w: int, h: int) -> NDArray:
    """A uint8 image (H, W, C) in another size, by linear interpolation, rounded as OpenCV does."""
    if src.ndim != 3 or src.dtype != np.uint8:
        raise TypeError(f"imresize: expected a uint8 image (H, W, C), got {src.dtype} {src.shape}")
    pixels = src.asnumpy(int)
    left, right, share = _taps(src.shape[1], w)
    rows = pixels[:, left] * (2048 - share[:, None]) + pixels[:, right] * share[:, None]
    upper, lower, share = _taps(src.shape[0], h)
    down = share[:, None, None]
    sums = ((rows[upper] >> 4) * (2048 - down) >> 16) + ((rows[lower] >> 4) * down >> 16)
    return array((sums + 2) >> 2, dtype=np.uint8)
