"""A net in training as two programs of kernel calls, there and back: ``compile_training``.

The first batch of a shape goes through the net as always, and what runs is noted (``program.py``).
Weights, running statistics and gradients stay where they lie, so later batches of that shape only
run the programs. To autograd the whole net then is one op.
"""

from __future__ import annotations

import operator
import weakref
from typing import Any

import numpy as np

from . import autograd, backends, nn, random
from .autograd import Array, Node, Op
from .backends.capture import Capture, capturing
from .backends.memory import memory_from
from .config import get_num_threads
from .creation import as_tensor
from .nn import Module, Parameter
from .nn.containers import module_in
from .program import Trace, agrees, lock_of, not_pickled
from .tensor import Tensor

MOST = 4  # programs of a net, each with memory of its own; batches of other shapes go without


class CompiledTraining:
    """What ``compile_training`` returns: call it in place of the net.

    Inside ``record()`` it gives what the net gives, and ``backward`` the same gradients, faster.
    Elsewhere it calls the net itself; so it does for an input with a gradient of its own, on a GPU
    or the NumPy backend, for more than 4 different shapes, and for a second batch before
    ``backward`` was called for the first.

    ``net`` is the net, ``programs`` counts the shapes that it is prepared for.

    >>> import cyconv as cc
    >>> forward = cc.compile_training(cc.nn.Linear(3, 2))
    >>> for _ in range(3):
    ...     with cc.record():
    ...         loss = cc.ops.cross_entropy(forward(cc.ones(4, 3)), [0, 1, 0, 1])
    ...     loss.backward()
    >>> forward.net.weight.grad.shape
    (2, 3)
    """

    def __init__(self, net: Module):
        self.net = net
        self._passes: dict[Any, _Passes] = {}
        self._lock = lock_of(self)

    __reduce__ = not_pickled

    @property
    def programs(self) -> int:
        """How many shapes of batches it is prepared for."""
        return sum(passes.ready for passes in self._passes.values())

    def __call__(self, x: Any) -> Any:
        """The net's output for x, a new tensor."""
        tensor = as_tensor(x) if isinstance(x, np.ndarray) and x.dtype.char in "fd" else x
        if _suits(tensor):
            with self._lock:
                passes = self._free_passes(tensor)
                if passes is not None:
                    return passes.forward(tensor)
        return self.net(x)

    def _free_passes(self, x: Tensor) -> _Passes | None:
        """The passes for this shape, made anew where they do not hold any more; None if in use."""
        key = x.shape, x.dtype.char, autograd.is_training(), get_num_threads()
        passes = self._passes.get(key)
        if passes is not None and passes.busy:
            return None
        if passes is not None and passes.hold():
            return passes
        self._passes = {k: p for k, p in self._passes.items() if k != key and (p.busy or p.hold())}
        if len(self._passes) == MOST:
            return None
        passes = self._passes[key] = _Passes(self.net)
        return passes


def _suits(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and autograd.is_recording()
        and autograd.source_of(x) is None
        and backends.runs_kernels(x.data)
        and x.data.dtype.char in "fd"
        and x.size > 0
    )


def compile_training(net: Module) -> CompiledTraining:
    """Prepare a net for fast training: the interpreter takes no part between its layers.

    The loss and the optimiser stay as they are::

        forward = cc.compile_training(net)
        for x, y in loader:
            with cc.record():
                loss = cc.ops.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()

    The first batch of each shape and number of threads takes longer: it is computed by the net, and
    a second time to see that the programs agree with it. They read weights and write running
    statistics where these lie; once an attribute of a layer, or where a parameter lies, has changed
    they are made anew. Dropout draws new numbers for each batch.

    Parameters
    ----------
    net : a Module from one tensor to one tensor, computed through cyconv's operations alone

    Returns
    -------
    ``CompiledTraining``: a callable in place of the net. Gradients are the same bits, but for
    weights that the loss reads besides the net, whose parts add up in another order. The next
    ``backward`` writes them into the same memory, so copy what is to be kept.

    Raises
    ------
    TypeError : net is no Module
    ValueError : from the first ``backward`` of a shape, if the net's results do not depend on its
        input through cyconv's operations alone, so that a repetition of these gives other values.
        Where the net branches it takes the way of the first batch

    >>> import cyconv as cc
    >>> net = cc.nn.models.lenet()
    >>> forward = cc.compile_training(net)
    >>> with cc.record():
    ...     out = forward(cc.ones(8, 1, 28, 28))
    >>> out.backward()
    >>> out.shape, forward.net is net
    ((8, 10), True)
    """
    return CompiledTraining(module_in("compile_training: net", net))


def is_own(net: Module) -> bool:
    """True if every layer is one of cyconv's, whose forward does nothing but to call operations."""
    return all(
        type(module).__module__.startswith(f"{nn.__name__}.") and "forward" not in vars(module)
        for module in net.modules()
    )


class _State:
    """What a net's programs depend on besides the input's shape."""

    def __init__(self, net: Module):
        # the things are kept, so that no other object can take the place of one of them
        self._held = [(place, tuple(place), whole) for place, whole in _places(net)]
        self.tensors = _tensors(net)
        self._data = [(t.data, t._grad_mode) for t in self.tensors]

    def holds(self) -> bool:
        for place, things, whole in self._held:
            grown = len(place) - len(things)
            if grown < 0 or (grown and whole) or not all(map(operator.is_, place, things)):
                return False
        return all(
            t.data is data and t._grad_mode == mode
            for t, (data, mode) in zip(self.tensors, self._data)
        )


def _places(net: Module) -> list[tuple[Any, bool]]:
    """The attributes of all modules, lists and dicts in there, however deep, as what they hold now.

    And whether all of it matters; to a list without modules and tensors more may be added, as to a
    record of losses.
    """
    found: dict[int, tuple[Any, bool]] = {}

    def look(thing: Any) -> None:
        is_module = isinstance(thing, Module)
        place = vars(thing).values() if is_module else thing
        place = place.values() if isinstance(place, dict) else place
        whole = is_module or any(isinstance(inner, (Module, Tensor)) for inner in place)
        found[id(thing)] = place, whole
        for inner in tuple(place):
            if isinstance(inner, (Module, list, tuple, dict)) and id(inner) not in found:
                look(inner)

    look(net)
    return list(found.values())


def _tensors(net: Module) -> list[Tensor]:
    """All in there, those under private names, too."""
    tensors = {id(t): t for place, _ in _places(net) for t in place if isinstance(t, Tensor)}
    return list(tensors.values())


class _Pass(Op):
    """One batch on its way through the programs."""

    any_layout = True

    def __init__(self, passes: _Passes, graph: Tensor | None):
        self.passes = passes
        self.graph = graph  # of the first batch: the net's output, recorded

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        return self.passes.backward(dout, self.graph)


class _Passes:
    """The programs of one shape of batches, on their own memory."""

    def __init__(self, net: Module):
        self.ready = False
        self._net = net
        self._training = autograd.is_training()
        self._trace = Trace(Capture(frozen=False))
        self._now: Any = None  # weakly, the _Pass that needs the memory as it is

    def __del__(self) -> None:
        # parameters keep the last gradients, which keep the arena, but not what else is in there
        self._trace.capture.arena.close()

    @property
    def busy(self) -> bool:
        return self._now is not None and self._now() is not None

    def hold(self) -> bool:
        return self.ready and self._state.holds()

    def forward(self, x: Tensor) -> Any:
        graph = None
        if self.ready:
            self._copy(x.data, self._input)
            self._forward()
        else:
            graph = self._first_forward(x)
            if not isinstance(graph, Tensor) or autograd.source_of(graph) is None:
                return graph  # nothing to train
        current = _Pass(self, graph)
        self._now = weakref.ref(current)
        out = Tensor(self._output.copy(order="K"))
        out._node = Node(current, tuple(self._leaves), self._uses)
        return out

    def backward(self, dout: Array, graph: Tensor | None) -> tuple[Array | None, ...]:
        try:
            self._copy(dout, self._head)
            if graph is not None:
                return self._first_backward(graph)
            self._backward()
            return self._grads
        finally:  # until then another thread finds it busy
            self._now = None

    # ------------------------------------------------------------------ the first batch

    def _first_forward(self, x: Tensor) -> Any:
        backend = backends.backend_of(x.data)
        self._copy = backend.copy_batch_last
        self._random, self._kept = _random_state(), _buffers(self._net)
        with capturing(self._trace.capture):
            self._input = backend.empty(x.shape, x.dtype)
            self._copy(x.data, self._input)
            with autograd.traced_by(self._trace):
                out = self._net(Tensor(self._input))
            if not isinstance(out, Tensor) or autograd.source_of(out) is None:
                return out
            self._output = out.data
            self._head = backend.empty(out.shape, out.dtype)
        self._forward = self._trace.take()
        self._leaves, self._state = autograd.leaves_of(out), _State(self._net)
        # the net's tensors that must not be written to before backward
        kept = autograd.uses_of(out) | {leaf._uses for leaf in self._leaves}
        own = {t._uses: None for t in (*self._leaves, *self._state.tensors)}
        self._uses = [uses for uses in own if uses in kept]
        return out

    def _first_backward(self, graph: Tensor) -> tuple[Array | None, ...]:
        with capturing(self._trace.capture), autograd.traced_by(self._trace):
            grads = autograd.gradients_of(graph, self._head)
        self._backward = self._trace.take()
        self._grads = tuple([grads.get(leaf) for leaf in self._leaves])
        first = tuple([None if grad is None else grad.copy(order="K") for grad in self._grads])
        self._check()
        self._state = _State(self._net)  # the net may keep something of each batch
        self.ready = True
        return first

    def _check(self) -> None:
        """Stop unless programs and net agree on an input other than the first one."""
        after, dout = (_random_state(), _buffers(self._net)), self._head.copy(order="K")
        try:
            agree = agrees(lambda x: self._both(Tensor(x), dout), self._input)
        finally:
            _restore(*after)
        if not agree:
            raise ValueError(
                "compile_training: the net computes something outside of cyconv's operations, or "
                "takes another way for other values: its programs give other results"
            )

    def _both(self, x: Tensor, dout: Array) -> tuple[list[Array | None], list[Array | None]]:
        """Output, gradients and buffers by the programs, and by the net."""
        _restore(self._random, self._kept)
        self._copy(x.data, self._input)
        self._forward()
        self._copy(dout, self._head)  # where forward may have written
        self._backward()
        found = [self._output, *self._grads, *(array for _, array in _buffers(self._net))]
        _restore(self._random, self._kept)
        with memory_from(self._trace.capture.arena):  # which has enough for another batch
            with autograd.record(train=self._training):
                out = self._net(x)
            grads = autograd.gradients_of(out, dout)
            expected = [out.data, *map(grads.get, self._leaves)]
            expected += [array for _, array in _buffers(self._net)]
            return found, expected


def _random_state() -> Any:
    return random.generator().bit_generator.state


def _buffers(net: Module) -> list[tuple[Tensor, Array]]:
    tensors = [t for t in _tensors(net) if not isinstance(t, Parameter)]
    return [(tensor, tensor.data.copy()) for tensor in tensors]


def _restore(state: Any, buffers: list[tuple[Tensor, Array]]) -> None:
    random.generator().bit_generator.state = state
    for tensor, array in buffers:
        tensor.data[...] = array
