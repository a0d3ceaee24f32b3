"""NDArray: MXNet's ways to index and to write, around a cyconv tensor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from cyconv import is_recording, ops
from cyconv.autograd import Node, Uses, source_of
from cyconv.creation import valid_dtype
from cyconv.tensor import Tensor

from .. import ndarray

_warn_once = cache(warnings.warn)


class Context(NamedTuple):
    """The CPU, the one device. As a context manager it changes nothing."""

    device_id: int = 0

    def __repr__(self) -> str:
        return f"cpu({self.device_id})"

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def gpu(device_id: int = 0) -> Context:
    """The CPU in place of a GPU, with one warning in a program's life."""
    _warn_once("gpu: there is no GPU, so cpu(0) is used", stacklevel=2)
    return Context()


class NDArray:
    """MXNet's array around a cyconv ``tensor``. ``nd`` adds its operators and more methods."""

    __slots__ = ("__weakref__", "_checked", "tensor")
    __array_ufunc__ = None  # numpy.float32(2) * x is x's business
    backwards = 0  # how many there were so far: they alone free graphs

    shape = property(lambda self: self.tensor.data.shape)
    size = property(lambda self: self.tensor.data.size)
    ndim = property(lambda self: self.tensor.data.ndim)
    dtype = property(lambda self: self.tensor.data.dtype.type)
    ctx = context = property(lambda self: Context())
    grad = property(lambda self: None if self.tensor.grad is None else NDArray(self.tensor.grad))

    def __init__(self, tensor: Tensor):
        self.tensor, self._checked = tensor, NDArray.backwards

    def live(self) -> Tensor:
        """The tensor; a constant if a backward has freed the graph that it was computed in, so that
        a value may be carried from one recording to the next and does not keep the old one."""
        if self.tensor._node is not None and self._checked != NDArray.backwards:
            self._checked = NDArray.backwards
            if _is_spent(self.tensor._node):
                self.tensor._node = None
        return self.tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __bool__(self) -> bool:
        return bool(self.size and self.asscalar())

    def __repr__(self) -> str:
        return f"\n{self.asnumpy()!s}\n<NDArray {'x'.join(map(str, self.shape))} @{self.context}>"

    def asnumpy(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.tensor.data, dtype, order="C")

    __array__ = asnumpy

    def asscalar(self) -> Any:
        if self.size != 1:
            raise ValueError(f"an NDArray of shape {self.shape} is no single number")
        return self.tensor.data.reshape(-1)[0]

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """A copy with another dtype, differentiable between floats."""
        tensor, wanted = self.live(), valid_dtype("astype", dtype)
        if is_recording() and wanted.kind == tensor.data.dtype.kind == "f":
            return NDArray(ops.cast(tensor, wanted))
        return NDArray(Tensor(tensor.data.astype(wanted, copy=copy)))

    def reshape(self, *sizes: Any, shape: Any = None) -> NDArray:
        """As ``nd.reshape``, but a view of the same memory where that lies in C order."""
        return ndarray.view(self._own(), shape or (sizes[0] if len(sizes) == 1 else sizes))

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Write into another NDArray, which is returned; or a copy, for a context."""
        if isinstance(other, Context):
            return ndarray.copy(self)
        other[:] = self
        return other

    def as_in_context(self, context: Context) -> NDArray:
        return self

    def detach(self) -> NDArray:
        return NDArray(self.tensor.detach())

    def attach_grad(self, grad_req: str = "write") -> None:
        self.tensor.attach_grad(grad_req)

    def backward(self, out_grad: NDArray | None = None) -> None:
        self.tensor.backward(None if out_grad is None else out_grad.tensor)
        NDArray.backwards += 1

    def __getitem__(self, key: Any) -> NDArray:
        piece = NDArray(ops.getitem(self._own().live(), _index(key, self.shape)))
        # A piece that is one stretch of memory is a view, anything else a copy.
        rows = isinstance(key, int) or (isinstance(key, slice) and key.step in (None, 1))
        return piece if rows or piece.tensor.data.flags.c_contiguous else ndarray.copy(piece)

    def __setitem__(self, key: Any, value: Any) -> None:
        value = value.live() if isinstance(value, NDArray) else value
        if not is_recording():
            self.leave_graphs()
        elif self.tensor._grad_mode or (isinstance(value, Tensor) and source_of(value) is not None):
            raise RuntimeError(
                f"in-place write to an NDArray of shape {self.shape} inside record(): backward "
                "would miss it; make a new array, or write after the recording"
            )
        self.tensor[_index(key, self.shape)] = value

    def _own(self) -> NDArray:
        """Memory of its own in place of one repeated number, before there are views of it."""
        if not self.tensor.data.flags.writeable:
            self.tensor.data = np.array(self.tensor.data, order="C")
        return self

    def leave_graphs(self) -> Tensor:
        """Leave the memory to the graphs that still need it, and go on in a copy."""
        here = self.tensor
        if here._uses.count or here._node is not None:
            here.data, here._uses, here._node = here.data.copy(order="K"), Uses(), None
        return here


def _is_spent(node: Node) -> bool:
    """Whether part of the graph below ``node`` was freed, so that nobody can go back through it."""
    seen, stack = {node}, [node]
    while stack:
        one = stack.pop()
        if one.op is None:
            return True
        below = {source for source in one.sources if isinstance(source, Node)} - seen
        seen |= below
        stack += below
    return False


def _index(key: Any, shape: tuple[int, ...]) -> Any:
    """``key`` for NumPy: NDArrays as integers, and one element as a slice of length 1."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [part.asnumpy("int64") if isinstance(part, NDArray) else part for part in parts]
    at = [part for part in parts if part is not Ellipsis]
    one = len(at) == len(shape) and all(isinstance(part, (int, np.integer)) for part in at)
    if one and -shape[-1] <= at[-1] < shape[-1]:
        return (*at[:-1], slice(at[-1], at[-1] + 1 or None))
    return tuple(parts)


class Sample(NDArray):
    """``images[at]`` after ``steps``, functions and their other argument, which are taken when the
    values are asked for, or for a whole batch at once: a call for each costs more than its sum."""

    def __init__(self, images: np.ndarray, at: int, steps: tuple[Any, ...] = ()):
        self.images, self.at, self.steps, self._checked = images, at, steps, 0

    @cached_property
    def tensor(self) -> Tensor:  # type: ignore[override]
        return _after(self.images[self.at], self.steps).tensor

    def then(self, function: Callable[..., NDArray], argument: Any) -> NDArray:
        """What the function gives; it waits if this does."""
        if "tensor" not in vars(self):
            return Sample(self.images, self.at, (*self.steps, (function, argument)))
        return function(NDArray(self.tensor), argument)

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        return self.then(NDArray.astype, dtype)


def _after(images: np.ndarray, steps: tuple[Any, ...], batch: bool = False) -> NDArray:
    x = NDArray(Tensor(images))
    for function, argument in steps:
        if batch and isinstance(argument, tuple):  # the axes of a transpose
            argument = (0, *(axis + (axis >= 0) for axis in argument))
        x = function(x, argument)
    return x


def together(samples: Sequence[Any]) -> NDArray:
    """The samples as a batch: (N, ...)."""
    first = samples[0]
    waiting = all(type(x) is Sample and "tensor" not in vars(x) for x in samples)
    if waiting and all(x.images is first.images and x.steps == first.steps for x in samples):
        return _after(first.images[[x.at for x in samples]], first.steps, batch=True)
    return NDArray(Tensor(np.array([x.tensor.data for x in samples])))
