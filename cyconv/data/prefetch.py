"""Working ahead: the next item of an iterator is made, or copied, while this one is in use."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from .. import backends

T = TypeVar("T")

_END = object()


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """The same items in the same order, up to ``depth`` of them made in advance by a thread.

    An error in ``items`` is raised here, at its place in the order, with its traceback. The thread
    starts with the first ``next`` and is gone when the items are used up, when an error is raised,
    and when the iterator is closed, as leaving a ``for`` loop early does.
    """
    results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in items:
                results.put((item, None))
                if stop.is_set():
                    return
            results.put((_END, None))
        except BaseException as error:
            results.put((_END, error))

    # in the caller's context, so that np.errstate and the like hold in the thread, too
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="cyconv-prefetch", daemon=True)
    owner = os.getpid()
    try:
        thread.start()
        while True:
            if os.getpid() != owner:
                raise RuntimeError("batches cannot be fetched further in a forked process")
            item, error = results.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        if os.getpid() == owner:  # a forked child has no thread, and perhaps a locked queue
            stop.set()
            with suppress(queue.Empty):  # room for the put that the thread may be waiting in
                while True:
                    results.get_nowait()
            if thread.ident is not None:
                thread.join()


def on_device(batches: Iterable[tuple[Any, Any]], device: str) -> Iterable[tuple[Any, Any]]:
    """The same batches (x, y) with x on a device: for a GPU copied there while it computes.

    x becomes a tensor. Labels stay in the computer's memory, where they can be looked at without
    waiting for the GPU; what else a loss may compare with, a tensor of floats, moves along.
    """
    return batches if device == "cpu" else _copied_ahead(batches)


def _copied_ahead(batches: Iterable[tuple[Any, Any]]) -> Generator[tuple[Any, Any], None, None]:
    from ..creation import as_tensor
    from ..tensor import Tensor

    copier = backends.copier()

    def start(value: Any) -> tuple[Any, Any]:
        """The value on the GPU, and the end of its copy; the value and None if it is to stay."""
        if not isinstance(value, Tensor) or value.device != "cpu":
            return value, None
        if value.dtype.kind != "f":
            return value.numpy(), None
        array, copied = copier.start(value.data)
        return Tensor(array), copied

    def ready(batch: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        for _, copied in batch:
            if copied is not None:
                copier.wait_for(copied)
        return batch[0][0], batch[1][0]

    waiting: list[tuple[Any, Any]] = []
    try:
        for x, y in batches:
            batch = [start(as_tensor(x)), start(y)]
            if waiting:
                yield ready(waiting)
            waiting = batch
        if waiting:
            yield ready(waiting)
    finally:
        copier.close()
