"""Kernel calls caught while they run, so that they can be run again as one program.

A capture knows which tasks the compiled backend ran since it was last asked. Their memory comes
from an arena of its own: what an operation gives back serves the ones after it, when the program
runs just as while it is caught. ``frozen`` says what becomes of the weights: as they are now, laid
out once, they are constants, which the capture keeps; or each run reads them anew, where they lie.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .memory import Arena, aligned_empty, is_from, memory_from, scratch


class Capture:
    def __init__(self, frozen: bool) -> None:
        self.frozen = frozen
        self.arena = Arena()
        self.constants: list[Any] = []
        self._tasks: list[Any] = []
        self._whole = True

    def take(self) -> tuple[Any, ...]:
        """The tasks since the last call; none if something else ran, too."""
        tasks = tuple(self._tasks) if self._whole else ()
        self._tasks, self._whole = [], True
        return tasks


class _State(threading.local):
    capture: Capture | None = None


_state = _State()


@contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Catch the kernel calls of this thread."""
    with memory_from(capture.arena):
        _state.capture = capture
        try:
            yield
        finally:
            _state.capture = None


def call(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Run a kernel now and, while calls are caught, whenever the program is run."""
    kernel(*arguments)
    capture = _state.capture
    if capture is not None:
        capture._tasks.append(kernel(*arguments, True))
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        capture.constants += [a for a in arrays if not is_from(capture.arena, a)]


def prepare(kernel: Callable[..., Any], *arguments: Any) -> None:
    """As ``call``, for a kernel that reads weights only."""
    if _freezes():
        kernel(*arguments)
    else:
        call(kernel, *arguments)


def constant(array: Any) -> Any:
    """What a kernel call reads that is no result of another: a copy if it is to stay as it is."""
    return array.copy() if array is not None and _freezes() else array


def constant_and_scratch(constants: int, numbers: int, dtype: Any) -> Any:
    """Memory for what ``prepare`` fills, and for a kernel call that reads it: two 1-d arrays.

    If the first is not filled again when the program runs, it is none that a call before has given
    back, as that call would write there.
    """
    if not _freezes():
        return scratch((constants, numbers), dtype)
    with memory_from(None):
        kept = aligned_empty((constants,), dtype)
    return kept, *scratch((numbers,), dtype)


def _freezes() -> bool:
    return _state.capture is not None and _state.capture.frozen


def not_caught() -> None:
    """Something was computed that no task stands for."""
    if _state.capture is not None:
        _state.capture._whole = False
