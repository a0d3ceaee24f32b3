"""What the compiled backend builds on: which kernels run, with how many threads, on what memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .. import config, kernels
from ..geometry import Window
from .capture import not_caught
from .memory import empty, is_batch_last, native

Array = Any

SERIAL_BELOW = 20_000  # numbers read and written: starting threads costs about as much as these

isa = kernels.choose()
all_kernels = kernels.Kernels(isa)
narrower = kernels.narrower(isa)  # for convolutions of small batches
sets = {isa: all_kernels} | ({narrower: kernels.Kernels(narrower)} if narrower else {})
_openmp = bool(kernels.processor().openmp)


def describe() -> list[tuple[str, str]]:
    """How the kernels were built, as (name, value) pairs."""
    cpu = kernels.processor()
    return [
        ("instruction set", f"{isa} (built: {', '.join(kernels.built())})"),
        ("openmp", f"yes ({cpu.openmp})" if _openmp else "no: the kernels use one thread"),
        ("compiler", cpu.compiler),
    ]


def threads_for(numbers: int, most: int | None = None) -> int:
    """Threads for reading and writing so many: ``most``, those that are set now if not given."""
    if numbers < SERIAL_BELOW or not _openmp:
        return 1
    return config.get_num_threads() if most is None else most


def as_batch_last(a: Array) -> Array:
    """``a`` in native byte order, aligned and batch-last: the same object if it is so already."""
    a = native(a)
    if a.ndim not in (2, 4) or is_batch_last(a):
        return a
    not_caught()
    out = empty(a.shape, a.dtype)
    copy_batch_last(a, out)
    return out


def copy_batch_last(a: Array, out: Array) -> None:
    """Copy an array into a batch-last one of its shape, (N, C) or (N, C, H, W)."""
    plain = a.flags.c_contiguous and a.ndim in (2, 4) and a.dtype.char in "fd"
    if plain and len(a) > 1 and a.dtype == out.dtype and a.dtype.isnative:
        threads = threads_for(a.size)
        kernels_of(a).elementwise.to_batch_last(a.reshape(-1), with_pixels(out), threads)
    else:
        out[...] = a


def images(a: Array) -> Array:
    """A batch-last (N, C, H, W) array, whatever came in."""
    if a.ndim in (2, 4):
        return with_pixels(as_batch_last(a))
    return as_batch_last(a.reshape(*a.shape[:2], -1, 1))


def with_pixels(a: Array) -> Array:
    """(N, C) as (N, C, 1, 1), and (N, C, H, W) as it is."""
    return a if a.ndim == 4 else a[:, :, None, None]


def images_or_none(a: Array | None) -> Array | None:
    return None if a is None else images(a)


def in_c_order(a: Array) -> Array:
    """``a`` in C order and native byte order: the same object if it is so already."""
    line = native(a)
    line = line if line.flags.c_contiguous else line.copy()
    if line is not a:
        not_caught()
    return line


def flat(a: Array) -> Array:
    """The numbers as a contiguous 1-d array in C order."""
    return in_c_order(a).reshape(-1)


def flat_or_none(a: Array | None) -> Array | None:
    return None if a is None else flat(a)


def sliding(window: Window) -> tuple[tuple[int, int], ...]:
    """kernel, stride, padding (top, left) and dilation, as the kernels take them."""
    top, _, left, _ = window.padding
    return window.kernel, window.stride, (top, left), window.dilation


def kernels_of(a: Array) -> SimpleNamespace:
    return all_kernels[a.dtype.char]
