"""Working ahead: the next item of an iterator is made in a thread while this one is in use."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

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
    thread.start()
    try:
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
            thread.join()
