"""Automatic differentiation by recording (reverse mode).

While ``record()`` is on, ``tensor.apply`` hangs a ``Node`` on every result that depends on a tensor
with ``attach_grad``. A node knows its op, which holds what its ``backward`` reads, and where the
op's inputs came from. ``backward`` walks the nodes from the loss to the parameters, each after all
nodes that used its result, and frees them as it goes.

Source of the method: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 3.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from typing import TYPE_CHECKING, Any

from . import backends
from .arguments import flag

if TYPE_CHECKING:
    from .tensor import Tensor

Array = Any  # a NumPy or CuPy array


class _State(threading.local):
    recording = False
    training = False
    trace: Any = None  # a program.Trace: is told what ops do

    def __init__(self) -> None:
        self.before: list[tuple[bool, bool]] = []  # the modes outside of each ``with``


_state = _State()


def is_recording() -> bool:
    """True if operations of this thread are being recorded for ``backward``.

    >>> import cyconv as cc
    >>> cc.is_recording()
    False
    """
    return _state.recording


def is_training() -> bool:
    """True if dropout and batch norm behave as in training in this thread.

    >>> import cyconv as cc
    >>> with cc.record():
    ...     cc.is_training()
    True
    """
    return _state.training


class _Modes(ContextDecorator):
    """Sets the modes of this thread, those that are not None; one object may do so many times."""

    def __init__(self, recording: bool | None, training: bool | None):
        self._recording, self._training = recording, training

    def __enter__(self) -> None:
        _state.before.append((_state.recording, _state.training))
        if self._recording is not None:
            _state.recording = self._recording
        if self._training is not None:
            _state.training = self._training

    def __exit__(self, *error: object) -> None:
        _state.recording, _state.training = _state.before.pop()


def record(train: bool = True) -> Any:
    """Context manager: record operations so that ``backward`` can be called on their result.

    It holds for this thread. An operation is recorded if one of its inputs has ``attach_grad`` or
    comes from a recorded one.

    Parameters
    ----------
    train : training mode inside: dropout drops, batch norm uses the batch's statistics

    Returns
    -------
    A context manager.

    Raises
    ------
    TypeError : train is no bool

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapter 3.

    >>> import cyconv as cc
    >>> x = cc.tensor([1.0, 2.0]).attach_grad()
    >>> with cc.record():
    ...     loss = (x * x).sum()
    >>> loss.backward()
    >>> x.grad
    tensor([2., 4.])
    """
    return _Modes(True, flag("record: train", train))


def pause(train: bool = False) -> Any:
    """Context manager: stop recording for a while, inside ``record()``.

    Parameters
    ----------
    train : training mode inside

    Returns
    -------
    A context manager.

    Raises
    ------
    TypeError : train is no bool

    >>> import cyconv as cc
    >>> with cc.record():
    ...     with cc.pause():
    ...         cc.is_recording(), cc.is_training()
    ...     cc.is_recording()
    (False, False)
    True
    """
    return _Modes(False, flag("pause: train", train))


def train_mode() -> Any:
    """Context manager: training mode on, recording as it was.

    >>> import cyconv as cc
    >>> with cc.train_mode():
    ...     cc.is_recording(), cc.is_training()
    (False, True)
    """
    return _Modes(None, True)


def predict_mode() -> Any:
    """Context manager: training mode off, recording as it was.

    >>> import cyconv as cc
    >>> with cc.record():
    ...     with cc.predict_mode():
    ...         cc.is_recording(), cc.is_training()
    (True, False)
    """
    return _Modes(None, False)


@contextmanager
def traced_by(trace: Any) -> Iterator[None]:
    """Context manager: tell a ``program.Trace`` what every op of this thread does."""
    _state.trace = trace
    try:
        yield
    finally:
        _state.trace = None


class Op:
    """A differentiable operation: ``forward`` and ``backward`` side by side in one class.

    ``forward(*arrays)`` returns one new array and keeps on ``self`` what ``backward`` reads.
    ``backward(dout)`` gets the gradient of the loss by that array and returns the gradient by each
    input in order (a tuple; the bare array if there is one input; None where ``needs[i]`` is
    False or there is no gradient). ``backward`` never writes to ``dout``.
    """

    needs: tuple[bool, ...] = ()  #: which inputs need a gradient, set by apply
    #: False if backward reads neither an input nor the output, so that writing to them in place
    #: between forward and backward is harmless
    keeps_inputs = True
    is_view = False  #: True if the result may share the first input's memory
    #: True if forward and backward give the same bits however their arrays lie in memory; else they
    #: get arrays in one order only
    any_layout = False
    #: how many inputs, the first ones, forward's kernel calls read in place; 0 if forward does more
    #: than to call kernels of the backend and to take views
    kernel_inputs = 0
    kernel_backward = False  #: True if backward only calls kernels of the backend and takes views
    #: what forward returned, if the last thing that it did was max(., 0), and ...
    rectified: Array | None = None
    #: ... whether the gradient that backward gets is 0 already where that is not above 0
    gated = False
    #: True if backward takes a second argument: the one input, if it is a ``rectified``; where that
    #: is not above 0 the gradient by it is to be 0
    gates = False

    def forward(self, *arrays: Array) -> Array:
        raise RuntimeError(f"{type(self).__name__} does not define forward")

    def backward(self, dout: Array) -> Any:
        raise RuntimeError(f"{type(self).__name__} does not define backward")

    def before_relu(self, dout: Array) -> Array:
        """``dout`` on its way back through the ReLU that ended the op, if one did."""
        if self.rectified is None or self.gated:
            return dout
        return backends.backend_of(dout).relu_backward(dout, self.rectified)


class Uses:
    """How many live nodes still need one piece of memory; tensors that are views share it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __reduce__(self) -> Any:  # no graph needs the memory of a copy
        return Uses, ()


class Node:
    """One recorded operation; ``sources`` has a Node, a Tensor with attach_grad or None each."""

    __slots__ = ("kept", "op", "sources")

    def __init__(self, op: Op, sources: tuple[Any, ...], kept: list[Uses]):
        self.op: Op | None = op
        self.sources = sources
        self.kept = kept
        for uses in kept:
            uses.count += 1

    def free(self) -> None:
        """Let go of everything the op holds; a second backward then raises."""
        for uses in self.kept:
            uses.count -= 1
        self.kept = []
        self.op = None
        self.sources = ()

    def __del__(self) -> None:
        for uses in self.kept:
            uses.count -= 1


def source_of(tensor: Tensor) -> Any:
    """Where the gradient by ``tensor`` goes: its node, itself if it has attach_grad, or None."""
    if tensor._node is not None:
        return tensor._node
    return tensor if tensor._grad_mode is not None else None


def backward(root: Tensor, head: Array) -> None:
    """Walk from ``root`` back to every tensor with attach_grad and store the gradients there."""
    _store(gradients_of(root, head), head)


def gradients_of(root: Tensor, head: Array) -> dict[Tensor, Array | None]:
    """The gradient by every tensor with attach_grad that ``root`` was computed from; may share
    memory with another one or with ``head``. Frees the graph."""
    start = source_of(root)
    if start is None:
        raise RuntimeError(
            "backward: nothing was recorded for this tensor; compute it inside record() from a "
            "tensor that has attach_grad()"
        )
    waiting = _count_uses(start)
    gradients: dict[Any, Array] = {start: head}
    ready = [start]
    leaves = {}
    while ready:
        target = ready.pop()
        dout = gradients.pop(target)
        if not isinstance(target, Node):
            leaves[target] = dout
            continue
        sources = target.sources
        if dout is None:  # an op gave no gradient to any use of this result
            grads: Any = (None,) * len(sources)
        else:
            grads = _backward_of(target, dout, gradients, waiting)
        for source, grad in zip(sources, grads):
            if source is None:
                continue
            accumulate(gradients, source, grad, waiting[source] == 1)
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
        target.free()
    return leaves


def leaves_of(root: Tensor) -> list[Tensor]:
    """The tensors with attach_grad that ``root`` was computed from."""
    start = source_of(root)
    found = [] if start is None else _count_uses(start)
    return [target for target in found if not isinstance(target, Node)]


def uses_of(root: Tensor) -> set[Uses]:
    """What the graph that ends in ``root`` still needs."""
    nodes = [target for target in _count_uses(source_of(root)) if isinstance(target, Node)]
    return {uses for node in nodes for uses in node.kept}


def _backward_of(
    target: Node, dout: Array, gradients: dict[Any, Array], waiting: dict[Any, int]
) -> tuple[Array | None, ...]:
    """What the op's backward gives; if it can, it does the work of the ReLU before it as well."""
    op: Any = target.op
    source = target.sources[0]
    arguments = [dout if op.any_layout else backends.in_one_order(dout)]
    if op.gates and isinstance(source, Node):
        before: Any = source.op
        used_once = waiting[source] == 1 and source not in gradients
        if used_once and before.rectified is not None:
            before.gated = True
            arguments.append(before.rectified)
    grads = op.backward(*arguments)
    if not isinstance(grads, tuple):
        grads = (grads,)
    if _state.trace is not None:
        grads = _state.trace.note_backward(op, (dout, *arguments[1:]), grads)
    return grads


def _store(leaves: dict[Tensor, Array | None], head: Array) -> None:
    """Hand each tensor its gradient, in memory that no other gradient and no one else has."""
    taken = {id(_memory(head))}
    for tensor, grad in leaves.items():
        if grad is None:
            continue
        memory = _memory(grad)
        if id(memory) in taken or not backends.is_writeable(grad):
            grad = memory = grad.copy(order="K")
        taken.add(id(memory))
        tensor._store_grad(grad)


def _memory(array: Array) -> Array:
    """The array that owns the memory of this view."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


def accumulate(
    gradients: dict[Any, Array], source: Any, grad: Array | None, last: bool = False
) -> None:
    """Add ``grad`` to what has arrived at ``source``: the one place where gradients add up.

    With the ``last`` one it goes back through the ReLU that ended the source, if one did.
    """
    sofar = gradients.get(source)
    if grad is None or sofar is None:
        gradients[source] = sofar if grad is None else grad
        return
    before: Any = source.op if last and isinstance(source, Node) else None
    gate = None if before is None else before.rectified
    if gate is not None:
        before.gated = True
    # either may be shared with another source: never write into it
    total = gradients[source] = backends.backend_of(grad).add(sofar, grad, gate=gate)
    if _state.trace is not None:
        _state.trace.note_sum(sofar, grad, gate, total)


def _count_uses(start: Any) -> dict[Any, int]:
    """For everything reachable from ``start``, by how many recorded inputs it is used."""
    counts: dict[Any, int] = {start: 0}
    stack = [start]
    while stack:
        target = stack.pop()
        if not isinstance(target, Node):
            continue
        if target.op is None:
            raise RuntimeError(
                "backward: the graph was already used and freed by an earlier backward(); "
                "record the computation again"
            )
        for source in target.sources:
            if source is None:
                continue
            if source in counts:
                counts[source] += 1
            else:
                counts[source] = 1
                stack.append(source)
    return counts
