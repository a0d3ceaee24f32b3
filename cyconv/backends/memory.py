"""Memory for large arrays: aligned to cache lines, and used again once its array is gone.

Fresh memory is slow: the system clears each page when it is first touched. A training step asks
for the same sizes again and again, so a block whose last array dies is kept for the next array
of its size.
"""

from __future__ import annotations

import numpy as np

LINE = 64  # bytes of a cache line, and of the largest vector register
SMALL = 16 * 1024  # bytes; below, the system's own allocator is as good
KEPT = 512 * 2**20  # bytes at most that wait to be used again

_free: dict[int, list[tuple[bytearray, int]]] = {}  # by size: memory, and where its first line is
_kept = 0  # bytes in _free


class _Block(np.ndarray):
    """A whole piece of memory; it is the base of the array that uses it and dies with it."""

    memory: tuple[bytearray, int] | None = None

    def __del__(self) -> None:
        if self.memory is not None:
            _give_back(self.memory)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As ``np.empty`` in C order, beginning at a cache line."""
    global _kept
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size < SMALL:
        return np.empty(shape, dtype)
    total = size + LINE
    try:
        memory, offset = _free[total].pop()
        _kept -= total
    except (KeyError, IndexError):
        memory = bytearray(total)
        offset = -np.frombuffer(memory, np.uint8).ctypes.data % LINE
    block = _Block(total, np.uint8, memory)
    block.memory = memory, offset
    return np.ndarray(shape, dtype, block, offset)


def _give_back(memory: tuple[bytearray, int]) -> None:
    global _kept
    total = len(memory[0])
    if _kept + total > KEPT:  # sizes have changed: forget those of before
        _free.clear()
        _kept = 0
    _kept += total
    _free.setdefault(total, []).append(memory)
