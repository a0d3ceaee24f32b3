"""Memory for arrays, and how they lie in it.

Large ones are page-aligned, in huge pages, and their memory is used again once they are gone.

Fresh memory is slow: the system clears each page when it is first touched. A training step asks
for the same sizes again and again, so a block whose last array dies is kept for the next array
of its size, or of one not much smaller. Small pages are slow too: a convolution writes to many
planes at a time, more than the processor can keep the addresses of. What waits to be used again, at
most 512 MB, counts as the process's memory and is given back at its end.
"""

from __future__ import annotations

import math
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np

Array = Any

BYTE = np.dtype(np.uint8)
SMALL = 16 * 1024  # bytes; below, the system's own allocator is as good
SCRATCH = 512 * 1024  # bytes of scratch memory that each thread keeps
HUGE = 2 * 2**20  # bytes of a huge page
ROOM = 8 * 2**20  # bytes of a program's scratch memory, unless a kernel call needs more
KEPT = 512 * 2**20  # bytes at most that wait to be used again
CACHE_PERIOD = 2048  # bytes; addresses that far apart share cache sets with few others
CACHE_GAP = 192  # bytes, an odd number of cache lines
ONE_PIECE = 256 * 1024  # bytes; smaller arrays stay in a core's own cache, and have no gaps

# a forked child gets a copy of its own, where there is fork
PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class _Pool:
    """Memory that waits to be used again, so many bytes of it at most."""

    def __init__(self, limit: float = math.inf) -> None:
        self.free: dict[int, list[mmap.mmap]] = {}  # by size
        self.kept, self.limit = 0, limit

    def take(self, size: int) -> mmap.mmap:
        """A free piece of this size, or else the smallest larger one that would not waste half of
        itself, or else a new one."""
        memory = self._pop(size)
        if memory is None:
            larger = sorted(s for s in list(self.free) if size < s < 2 * size)
            memory = next(filter(None, map(self._pop, larger)), None)
        return memory or _map(size)

    def _pop(self, size: int) -> mmap.mmap | None:
        try:  # no look before: other threads take pieces as well
            memory = self.free[size].pop()
        except (KeyError, IndexError):
            return None
        self.kept -= size
        return memory

    def give_back(self, memory: mmap.mmap) -> None:
        size = len(memory)
        if self.kept + size > self.limit:  # sizes have changed: forget those of before
            self.free.clear()
            self.kept = 0
        if size <= self.limit:
            self.kept += size
            self.free.setdefault(size, []).append(memory)

    def close(self) -> None:
        """Nobody will use it again: what is free goes back to the system, as will the rest."""
        self.limit = self.kept = 0
        self.free.clear()


_everybodys = _Pool(KEPT)


class Arena:
    """Memory that belongs to one user: what is given back is used again there and nowhere else."""

    def __init__(self) -> None:
        self.arrays = _Pool()
        # pieces of ROOM bytes. Not that of arrays: each thread would write where another
        # one has, and first take it from the other's cache
        self.scratch = _Pool()

    def close(self) -> None:
        """Nobody will use it again."""
        self.arrays.close()
        self.scratch.close()


class _State(threading.local):
    arena: Arena | None = None
    scratch: np.ndarray | None = None


_state = _State()


@contextmanager
def memory_from(arena: Arena | None) -> Iterator[None]:
    """Take the memory of all new arrays of this thread from an arena, or from everybody's."""
    before, _state.arena = _state.arena, arena
    try:
        yield
    finally:
        _state.arena = before


def is_from(arena: Arena, array: Array) -> bool:
    """True if the array's memory is an arena's."""
    while isinstance(array, np.ndarray) and not isinstance(array, _Block):
        array = array.base
    return isinstance(array, _Block) and array.pool in (arena.arrays, arena.scratch)


class _Block(np.ndarray):
    """A whole piece of memory; it is the base of the array that uses it and dies with it."""

    memory: mmap.mmap | None = None
    pool: _Pool | None = None

    def __del__(self) -> None:
        if self.memory is not None and self.pool is not None:
            self.pool.give_back(self.memory)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As ``np.empty`` in C order, beginning at a page."""
    return np.ndarray(shape, dtype, _memory(math.prod(shape) * dtype.itemsize))


def scratch(counts: tuple[int, ...], dtype: np.dtype) -> list[np.ndarray]:
    """1-d arrays of these sizes for one kernel call; the thread's next one gets the same memory."""
    if _state.arena is not None or sum(counts) * dtype.itemsize > SCRATCH:
        return [np.ndarray((n,), dtype, _room(n * dtype.itemsize)) for n in counts]
    # in use still, if we are in a signal handler or a finaliser that came in between
    whole, _state.scratch = _state.scratch, None
    if whole is None or sys.getrefcount(whole) > 2:
        whole = np.empty(SCRATCH, BYTE)
    _state.scratch = whole
    begin, arrays = 0, []
    for count in counts:
        arrays.append(np.ndarray((count,), dtype, whole, begin))
        begin += count * dtype.itemsize
    return arrays


def _room(size: int) -> np.ndarray:
    """So many bytes of scratch memory; of a program's, unless that is too small."""
    arena = _state.arena
    return _memory(size) if arena is None or size > ROOM else _block(arena.scratch, ROOM)


def _memory(size: int) -> np.ndarray:
    """So many bytes; small ones from the system's allocator."""
    arena = _state.arena
    if size < (SMALL if arena is None else 1):
        return np.empty(size, BYTE)
    return _block(_everybodys if arena is None else arena.arrays, size)


def _block(pool: _Pool, size: int) -> _Block:
    memory = pool.take(size)
    block = _Block(size, BYTE, memory)
    block.memory, block.pool = memory, pool
    return block


def _map(size: int) -> mmap.mmap:
    try:
        memory = mmap.mmap(-1, size, **PRIVATE)
    except (OSError, OverflowError, ValueError):
        raise MemoryError(f"no memory for an array of {size} bytes") from None
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


# ------------------------------------------------------------------ layouts


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """A new array of arbitrary values; shapes (N, C) and (N, C, H, W) lie batch-last."""
    dtype = np.dtype(dtype)
    if len(shape) not in (2, 4):
        return aligned_empty(shape, dtype)
    size, strides = _batch_last(shape, dtype.itemsize)
    return np.ndarray(shape, dtype, _memory(size), 0, strides)


@lru_cache(maxsize=4096)
def _batch_last(shape: tuple[int, ...], itemsize: int) -> tuple[int, tuple[int, ...]]:
    """Bytes and strides of a new array (N, C) or (N, C, H, W)."""
    n, c, *image = shape
    pixel = n * itemsize
    if not image:
        return c * pixel, (itemsize, pixel)
    plane = math.prod(image) * pixel
    # planes a multiple of CACHE_PERIOD apart would compete for the same few places in the cache;
    # without gaps, on the other hand, an array can be viewed as (N, C * H * W)
    if plane % CACHE_PERIOD == 0 and c * plane >= ONE_PIECE:
        plane += CACHE_GAP
    return c * plane, (itemsize, plane, image[1] * pixel, pixel)


def is_batch_last(a: Array) -> bool:
    """True if each channel's plane (H, W, N) is contiguous and planes do not overlap."""
    shape, strides, expected = a.shape, a.strides, a.itemsize
    for axis in (0, 3, 2) if len(shape) == 4 else (0,):
        if shape[axis] != 1 and strides[axis] != expected:
            return a.size == 0
        expected *= shape[axis]
    return shape[1] == 1 or strides[1] >= expected or a.size == 0


def native(a: Array) -> Array:
    if a.dtype.isnative and a.flags.aligned:
        return a
    return np.require(a, a.dtype.newbyteorder("="), ["A"])
