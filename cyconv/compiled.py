"""A trained net as a flat list of kernel calls on buffers that are planned once: ``compile``.

The net runs once on an example, which makes a program (``program.py``) with its weights of then.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from . import autograd, backends
from .autograd import Array, Op
from .backends.capture import Capture, capturing
from .compiled_training import is_own
from .creation import as_tensor
from .nn import Module
from .nn.containers import module_in
from .nn.fold import fold_batch_norm
from .program import Trace, agrees, forward, is_view, lock_of, not_pickled
from .tensor import Tensor

# Of a larger batch: what so many read and write stays in the cache from layer to layer, and they
# fill whole vectors.
IMAGES = 64


class Compiled:
    """What ``compile`` returns: call it with images like the example's.

    It has its own buffers, and a copy of the weights as they were. Several threads may call it;
    they take turns. ``shape`` and ``dtype`` are those of the input, ``kernel_calls`` counts the
    kernel calls. ValueError for an input of another shape or dtype.

    >>> import cyconv as cc
    >>> run = cc.compile(cc.nn.Conv2d(1, 2, 3), cc.zeros(4, 1, 5, 5))
    >>> run.shape, run.dtype.name, run(cc.ones(4, 1, 5, 5)).shape
    ((4, 1, 5, 5), 'float32', (4, 2, 3, 3))
    >>> run.steps
    1
    """

    def __init__(self, net: Callable[[Tensor], Any], example: Tensor, images: int | None = None):
        self.shape, self.dtype = example.shape, example.dtype
        self._images = images  # that go through the net at a time; None: all
        self._lock = lock_of(self)
        backend = backends.backend_of(example.data)
        self._copy = backend.copy_batch_last
        trace = _Trace(Capture(frozen=True))
        self._capture = trace.capture  # has the memory
        with autograd.pause(train=False), capturing(self._capture):
            some = example.data if images is None else example.data[:images]
            self._input = backend.empty(some.shape, self.dtype)
            self._input[...] = some
            with autograd.traced_by(trace):
                out = net(trace.input(Tensor(self._input)))
        if not isinstance(out, Tensor):
            raise TypeError(f"compile: the net must return one tensor, got {type(out).__name__}")
        self._output, self._empty = out.data, backend.empty
        if images is not None and out.shape[:1] != (images,):
            raise ValueError(f"compile: {images} images gave an output of shape {out.shape}")
        self.program = trace.take()
        self.kernel_calls = self.program.kernel_calls

    __reduce__ = not_pickled

    @property
    def steps(self) -> int:
        """How many pieces the program has: kernel calls that follow each other are one."""
        return len(self.program.steps)

    def __call__(self, x: Any) -> Tensor:
        """The net's answer to x, of the example's shape and dtype, as a new tensor."""
        array = x.data if isinstance(x, Tensor) else as_tensor(x, self.dtype).data
        array = backends.beside(array, self._input)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"compiled for shape {self.shape} and {self.dtype}, got shape {array.shape} and "
                f"{array.dtype}"
            )
        with self._lock:
            if self._images is None:
                self._run(array)
                return Tensor(self._output.copy(order="K"))
            out = self._empty((len(array), *self._output.shape[1:]), self._output.dtype)
            for first in range(0, len(array), self._images):
                self._run(array[first : first + self._images])
                out[first : first + self._images] = self._output
            return Tensor(out)

    def _run(self, array: Array) -> None:
        self._copy(array, self._input)
        self.program()


def compile(net: Module, example: Any) -> Compiled:
    """Prepare a net for inference on inputs of one shape, without the interpreter between layers.

    Parameters
    ----------
    net : a Module; batch norm after a Conv2d or Linear of a Sequential goes into its weights
    example : a tensor or array of the shape and dtype of the inputs to come

    Returns
    -------
    ``Compiled``: a callable from such an input to the net's output as outside of training, equal up
    to rounding. Weights are those of now, and so is the way that the net takes where it
    branches. ReLUs run with the layer before them; buffers are used again as soon as they are free.
    Of a batch of several times 64, 64 go through a net of kernels alone at a time.

    Raises
    ------
    TypeError : net is no Module or returns something else than one tensor; example holds no
        numbers, or its dtype does not fit the net's
    ValueError : example's shape does not fit, or the net's output does not depend on its input
        through cyconv's operations alone, so that a repetition of these would give wrong results

    >>> import cyconv as cc
    >>> net = cc.nn.models.lenet()
    >>> run = cc.compile(net, cc.zeros(1, 1, 28, 28))
    >>> run(cc.ones(1, 1, 28, 28)).shape
    (1, 10)
    """
    module_in("compile: net", net)
    sample = as_tensor(example)
    if not isinstance(example, Tensor):  # goes where the net is, as when it is called
        sample = sample.to(next((p.device for p in net.parameters()), "cpu"))
    with autograd.pause(train=False):
        net(sample)  # what a layer refuses it refuses here: not all of them are in the program
    folded = fold_batch_norm(net)
    compiled = _in_parts(folded, sample, check=True)
    if compiled is None:
        compiled = Compiled(folded, sample)
        _check(folded, compiled, sample)
    return compiled


def frozen(net: Module) -> Callable[[Tensor], Any]:
    """A net outside of training, as it is now: for many batches, with its results up to rounding.

    If all its layers are cyconv's it is compiled for the first large batch; others go through the
    net itself, which is fast enough for a few images and tells what is wrong with them.
    """
    if not is_own(net):
        return net
    folded = fold_batch_norm(net)
    programs: dict[Any, Compiled | None] = {}  # one, for batches of that shape and dtype

    def forward(x: Tensor) -> Any:
        key = x.shape, x.dtype
        if not programs and _has_parts(x) and backends.runs_kernels(x.data):
            programs[key] = _in_parts(folded, x, check=False)
        program = programs.get(key)
        return net(x) if program is None else program(x)

    return forward


def _has_parts(batch: Tensor) -> bool:
    n = batch.shape[0] if batch.ndim and batch.device == "cpu" else 0
    return n > IMAGES and n % IMAGES == 0


def _in_parts(net: Module, example: Tensor, *, check: bool) -> Compiled | None:
    """A program for some images of a large batch at a time, if the net lets them go alone."""
    if not _has_parts(example):
        return None
    try:
        compiled = Compiled(net, example, IMAGES)
        # kernels and views treat each image alone; other steps, statistics say, may look at all
        if not compiled.program.only_kernels:
            return None
        if check:
            _check(net, compiled, example)
        return compiled
    except Exception:  # a net for so many images; an error of its own comes again with all of them
        return None


def _check(net: Module, compiled: Compiled, example: Tensor) -> None:
    """Stop unless net and program agree on an input other than the example."""

    def both(values: Array) -> tuple[list[Array | None], list[Array | None]]:
        x = Tensor(backends.to_device(values, example.device))
        with autograd.pause(train=False):
            expected = net(x)
        return [backends.to_numpy(compiled(x).data)], [backends.to_numpy(expected.data)]

    if not agrees(both, example.data):
        raise ValueError(
            "compile: the net computes something outside of cyconv's operations, or takes another "
            "way for other values: its program gives another result"
        )


class _Trace(Trace):
    """Of a net whose weights stay: what does not depend on its input is computed once."""

    def __init__(self, capture: Capture):
        super().__init__(capture)
        self._variable: dict[int, weakref.ref[Tensor]] = {}  # tensors that depend on the input

    def input(self, tensor: Tensor) -> Tensor:
        self._variable[id(tensor)] = weakref.ref(tensor)
        return tensor

    def _varies(self, tensor: Tensor) -> bool:
        known = self._variable.get(id(tensor))
        return known is not None and known() is tensor

    def note(self, op: Op, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        tasks = self.capture.take()
        varying = [self._varies(tensor) for tensor in inputs]
        if not any(varying):
            self.capture.constants.append(out.data)
            return
        self._variable[id(out)] = weakref.ref(out)
        if is_view(op, inputs, out):
            return
        count = op.kernel_inputs
        if count and tasks and varying == [True] * count + [False] * (len(inputs) - count):
            self._pieces += tasks
        else:
            arrays = [t.data if varies else t.data.copy() for t, varies in zip(inputs, varying)]
            self._pieces.append(forward(op, arrays, out))
