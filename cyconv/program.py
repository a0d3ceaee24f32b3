"""What ran once, as a list of steps that can run again: kernel calls, and what ops did besides.

A ``Trace`` is told what autograd runs (``autograd.traced_by``). Kernel calls are caught on their
way (``backends/capture.py``); what an op computes in another way becomes a call of that op. Kernel
calls that follow each other run as one, without the interpreter between them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from . import backends, kernels
from .autograd import Array, Op
from .backends.capture import Capture
from .config import get_num_threads
from .tensor import Tensor

Step = Callable[[], None]

_lock_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def lock_of(owner: Any) -> threading.Lock:
    """A lock for ``owner._lock``; a forked process, where nobody could open it, gets a new one."""
    _lock_owners.add(owner)
    return threading.Lock()


def not_pickled(owner: Any) -> Any:
    """For ``owner.__reduce__``: programs are addresses in this process."""
    raise TypeError(
        f"a {type(owner).__name__} cannot be copied or pickled; compile a copy of its net instead"
    )


def _renew_locks() -> None:
    for owner in _lock_owners:
        owner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Kernels:
    """Kernel calls that follow each other."""

    def __init__(self, tasks: tuple[Any, ...]):
        self.tasks, self._run = tasks, kernels.runner().run

    def __call__(self) -> None:
        self._run(self.tasks, get_num_threads())


class Program:
    """Steps in order; call it to run them."""

    def __init__(self, pieces: Sequence[Any]):
        steps: list[Step] = []
        for is_step, group in groupby(pieces, callable):
            run = tuple(group)
            steps += run if is_step else (Kernels(run),)
        self.steps = tuple(steps)

    def __call__(self) -> None:
        for step in self.steps:
            step()

    @property
    def kernel_calls(self) -> int:
        return sum(isinstance(step, Kernels) and len(step.tasks) for step in self.steps)

    @property
    def only_kernels(self) -> bool:
        return all(isinstance(step, Kernels) for step in self.steps)


class Trace:
    """Notes what ops do, of whose inputs any may be another one when it is done again."""

    def __init__(self, capture: Capture):
        self.capture = capture
        self._pieces: list[Any] = []  # tasks and callables
        self._repeated: set[Op] = set()  # whose forward is called again, and keeps new arrays then

    def take(self) -> Program:
        """What was noted since the last call."""
        pieces, self._pieces = self._pieces, []
        return Program(pieces)

    def note(self, op: Op, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        """Called after each op's forward."""
        tasks = self.capture.take()
        if not is_view(op, inputs, out):
            if not (op.kernel_inputs and tasks):
                self._repeated.add(op)
                tasks = (forward(op, [t.data for t in inputs], out),)
            self._pieces += tasks

    def note_backward(
        self, op: Op, arguments: tuple[Array, ...], grads: tuple[Any, ...]
    ) -> tuple[Array | None, ...]:
        """Called after each op's backward; gives the gradients that are needed, as arrays."""
        tasks = self.capture.take()
        arrays = [_own(g, arguments[0]) if needed else None for g, needed in zip(grads, op.needs)]
        grads = tuple(arrays)
        new = [g for g in grads if g is not None and not np.may_share_memory(g, arguments[0])]
        if new or tasks:
            if not (op.kernel_backward and tasks) or op in self._repeated:
                tasks = (backward(op, arguments, grads),)
            self._pieces += tasks
        return grads

    def note_sum(self, a: Array, b: Array, gate: Array | None, out: Array) -> None:
        """Called after two gradients of one tensor were added up."""

        def step() -> None:
            out[...] = backends.backend_of(out).add(a, b, gate=gate)

        self._pieces += self.capture.take() or (step,)


def agrees(
    both: Callable[[Array], tuple[list[Array | None], list[Array | None]]], example: Array
) -> bool:
    """Whether what a program and its net, ``both(x)``, give is the same up to rounding.

    x is not the example: it has values of both signs, or, where these give infinities or NaN, as
    logarithms do, positive ones.
    """
    values = np.sin(np.arange(1, example.size + 1, dtype=example.dtype)).reshape(example.shape)
    for x in (values, np.abs(values)):
        found, expected = both(x)
        if not all(map(_close, found, expected)):
            return False
        if all(array is None or np.isfinite(array).all() for array in expected):
            break
    return True


def _close(found: Array | None, expected: Array | None) -> bool:
    if found is None or expected is None:
        return found is expected
    if np.array_equal(found, expected):
        return True
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return np.allclose(found, expected, rtol=0, atol=1e-4 * scale, equal_nan=True)


def _own(grad: Any, dout: Array) -> Array | None:
    """A gradient as an array, which can be written to unless it is part of ``dout``."""
    array = np.asarray(grad) if isinstance(grad, np.generic) else grad
    if array is None or array.flags.writeable or np.may_share_memory(array, dout):
        return array
    return array.copy(order="K")


def is_view(op: Op, inputs: tuple[Tensor, ...], out: Tensor) -> bool:
    """True if the op computed nothing: it gave its input's memory in another shape."""
    return op.is_view and np.may_share_memory(out.data, inputs[0].data)


def forward(op: Op, inputs: list[Array], out: Tensor) -> Step:
    """Run an op again, from the arrays that it read into the one that it gave."""
    result = out.data

    def step() -> None:
        arrays = inputs if op.any_layout else [backends.in_one_order(a) for a in inputs]
        with np.errstate(all="ignore"):
            result[...] = op.forward(*arrays)

    return step


def backward(op: Op, arguments: tuple[Array, ...], grads: tuple[Any, ...]) -> Step:
    """Run an op's backward again, from the arrays that it read into those that it gave."""

    def step() -> None:
        dout, *rest = arguments
        dout = dout if op.any_layout else backends.in_one_order(dout)
        with np.errstate(all="ignore"):
            again = op.backward(dout, *rest)
        for grad, new in zip(grads, again if isinstance(again, tuple) else (again,)):
            if grad is not None and not np.may_share_memory(grad, dout):
                grad[...] = new

    return step
