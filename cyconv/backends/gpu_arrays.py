"""The GPU's arrays: how they lie in memory, and sums over their rows."""

from __future__ import annotations

import math
from typing import Any

from ..geometry import Window
from .gpu_device import launch

Array = Any

LARGEST = 2**30  # size from which indices take 64 bits: half of what 32 hold, for what is added
MOST_CHUNKS = 1024  # threads that add up one row
FEW_CHUNKS = 32


def xp() -> Any:
    """CuPy, which only those who have a GPU import."""
    import cupy

    return cupy


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """A new array of arbitrary values; shapes (N, C) and (N, C, H, W) lie batch-last."""
    if len(shape) not in (2, 4):
        return xp().empty(shape, dtype)
    return turned(xp().empty((*shape[1:], shape[0]), dtype))


def as_batch_last(a: Array) -> Array:
    """``a`` batch-last and without gaps: the same object if it is so already; others in C order."""
    if a.ndim not in (2, 4):
        return a if a.flags.c_contiguous else xp().ascontiguousarray(a)
    p = planes_of(a)
    return a if p.flags.c_contiguous else turned(xp().ascontiguousarray(p))


def copy_batch_last(a: Array, out: Array) -> None:
    """Copy an array into a batch-last one of its shape, (N, C) or (N, C, H, W)."""
    out[...] = a


def planes_of(a: Array) -> Array:
    """(N, C, ...) -> (C, ..., N), a view."""
    return a.transpose(*range(1, a.ndim), 0)


def turned(planes: Array) -> Array:
    """(C, ..., N) -> (N, C, ...), a view."""
    return planes.transpose(-1, *range(planes.ndim - 1))


def lying(a: Array) -> Array:
    """Any array as it lies in memory, without gaps: 2-d and 4-d ones as planes."""
    a = as_batch_last(a)
    return planes_of(a) if a.ndim in (2, 4) else a


def rows_of(a: Array) -> Array:
    """(N, C, ...) -> (C, ...*N), one row a channel, without gaps."""
    p = xp().ascontiguousarray(planes_of(as_batch_last(a)))
    return p.reshape(len(p), math.prod(p.shape[1:]))


def flat(a: Array | None) -> Array | None:
    """The numbers in C order, without gaps."""
    return None if a is None else xp().ascontiguousarray(a).reshape(-1)


def window_sizes(window: Window) -> tuple[int, ...]:
    """What the kernels call WINDOW."""
    top, _, left, _ = window.padding
    sliding = (*window.kernel, *window.stride, top, left, *window.dilation)
    return (*window.in_size, *sliding, *window.out_size)


def needs_wide(window: Window, *sizes: int) -> bool:
    """Whether an index could exceed 32 bits."""
    return max(*sizes, sum(window.in_size) + sum(window.padding) + max(window.kernel)) >= LARGEST


# ------------------------------------------------------------------ sums


def channel_sum(a: Array) -> Array:
    """(C,): the sum of (N, C, ...) over all axes but the channels."""
    return add_up(partial_sums(rows_of(a)))


def chunks_for(length: int, most: int = MOST_CHUNKS) -> int:
    """Threads that add up a row: a whole number of warps, by the length alone."""
    return min(most, max(1, -(-length // 1024)) * 32)


def partial_sums(rows: Array, mean: Array | None = None, most: int = MOST_CHUNKS) -> Array:
    """(C, chunks): each row in parts; with ``mean`` (C,) the squares of the distances from it."""
    chunks = chunks_for(rows.shape[1], most)
    out = xp().empty((len(rows), chunks), rows.dtype)
    wide = max(rows.size, out.size) >= LARGEST
    name, given = ("sum_partials", ()) if mean is None else ("square_partials", (mean,))
    launch(name, rows.dtype, wide, out.size, out, rows, *given, rows.shape[1], chunks)
    return out


def add_up(partials: Array, divisor: int = 1) -> Array:
    """(C,): the sum of each row over a divisor."""
    if partials.shape[1] > FEW_CHUNKS:  # else few threads would add up many numbers
        partials = partial_sums(partials, most=FEW_CHUNKS)
    out = xp().empty(len(partials), partials.dtype)
    arguments = (out, partials, partials.shape[1], float(divisor))
    launch("sum_rows", out.dtype, partials.size >= LARGEST, out.size, *arguments)
    return out
