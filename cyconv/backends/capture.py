"""Kernel calls caught while they run, so that they can be run again as one program.

A capture knows which tasks the compiled backend ran since it was last asked, and keeps the arrays
that are constants of theirs. All other memory comes from an arena of its own: what an operation
gives back serves the ones after it, when the program runs just as while it is caught.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .memory import Arena, aligned_empty, memory_from


class Capture:
    def __init__(self) -> None:
        self.arena = Arena()
        self.constants: list[Any] = []
        self._tasks: list[Any] = []
        self._whole = True

    def take(self) -> tuple[Any, ...] | None:
        """The tasks since the last call; None if something else ran, too."""
        tasks, whole = tuple(self._tasks), self._whole
        self._tasks, self._whole = [], True
        return tasks if whole else None


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


def call(kernel: Callable[..., Any], *arguments: Any, constants: tuple[Any, ...] = ()) -> None:
    """Run a kernel now and, while calls are caught, whenever the program is run."""
    kernel(*arguments)
    capture = _state.capture
    if capture is not None:
        capture._tasks.append(kernel(*arguments, True))
        capture.constants += constants


def constant(array: Any) -> Any:
    """What a kernel call reads that is no result of another: a copy while calls are caught."""
    return array if _state.capture is None or array is None else array.copy()


def constant_empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory for what is computed now and not again when the program runs: none that a call before
    has given back, as that call would write there."""
    if _state.capture is None:
        return aligned_empty(shape, dtype)
    with memory_from(None):
        return aligned_empty(shape, dtype)


def not_caught() -> None:
    """Something was computed that no task stands for."""
    if _state.capture is not None:
        _state.capture._whole = False
