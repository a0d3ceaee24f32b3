"""NDArray: MXNet's ways to index and to write, around a cyconv tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from cyconv import is_recording, ops
from cyconv.autograd import Node, Uses, source_of
from cyconv.creation import valid_dtype
from cyconv.tensor import Tensor

from ..context import Context, cpu

_backwards = [0]  # how many there were so far: they alone free graphs


@lru_cache
def dtype_of(dtype: Any) -> np.dtype:
    """The dtype of this name, NumPy type or dtype; None is float32."""
    return valid_dtype("dtype", "float32" if dtype is None else dtype)


def _method(name: str, swapped: bool = False, in_place: bool = False) -> Callable[..., NDArray]:
    """The method that calls the function of this name in ``op``."""

    def method(self: NDArray, *others: Any) -> NDArray:
        result = getattr(op, name)(*((*others, self) if swapped else (self, *others)))
        return result.copyto(self) if in_place else result

    return method


class NDArray:
    """MXNet's array around a cyconv ``tensor``. Many functions of ``nd`` are methods, too."""

    __slots__ = ("__weakref__", "_checked", "tensor")
    __array_ufunc__ = None  # numpy.float32(2) * x is x's business

    shape = property(lambda self: self.tensor.data.shape)
    size = property(lambda self: self.tensor.data.size)
    ndim = property(lambda self: self.tensor.data.ndim)
    dtype = property(lambda self: self.tensor.data.dtype.type)
    ctx = context = property(lambda self: cpu())
    grad = property(lambda self: None if self.tensor.grad is None else NDArray(self.tensor.grad))
    T = property(_method("transpose"))

    __hash__ = object.__hash__
    __add__ = __radd__ = _method("add")
    __mul__ = __rmul__ = _method("multiply")
    __sub__, __rsub__ = _method("subtract"), _method("subtract", swapped=True)
    __truediv__, __rtruediv__ = _method("divide"), _method("divide", swapped=True)
    __mod__, __rmod__ = _method("modulo"), _method("modulo", swapped=True)
    __pow__, __rpow__ = _method("power"), _method("power", swapped=True)
    __eq__, __ne__ = _method("equal"), _method("not_equal")  # type: ignore[assignment]
    __lt__, __le__ = _method("lesser"), _method("lesser_equal")
    __gt__, __ge__ = _method("greater"), _method("greater_equal")
    __neg__, __abs__ = _method("negative"), _method("abs")
    __iadd__, __isub__ = _method("add", in_place=True), _method("subtract", in_place=True)
    __imul__, __itruediv__ = _method("multiply", in_place=True), _method("divide", in_place=True)

    def __init__(self, tensor: Tensor):
        self.tensor, self._checked = tensor, _backwards[0]

    def live(self) -> Tensor:
        """The tensor; a constant if a backward has freed the graph that it was computed in, so that
        a value may be carried from one recording to the next and does not keep the old one."""
        if self.tensor._node is not None and self._checked != _backwards[0]:
            self._checked = _backwards[0]
            if _is_spent(self.tensor._node):
                self.tensor._node = None
        return self.tensor

    def later(self, function: Callable[..., NDArray], args: tuple[Any, ...]) -> NDArray | None:
        """The result, where it can be computed when it is asked for: see ``Sample``."""
        return None

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[NDArray]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.size and self.asscalar())

    def __repr__(self) -> str:
        return f"\n{self.asnumpy()!s}\n<NDArray {'x'.join(map(str, self.shape))} @{self.context}>"

    def asnumpy(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """A copy as a NumPy array."""
        return np.array(self.tensor.data, dtype, order="C")

    __array__ = asnumpy

    def asscalar(self) -> Any:
        """The one value as a NumPy number; ValueError unless the size is 1."""
        if self.size != 1:
            raise ValueError(f"an NDArray of shape {self.shape} is no single number")
        return self.tensor.data.reshape(-1)[0]

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """A copy with another dtype, differentiable between floats."""
        tensor, wanted = self.live(), dtype_of(dtype)
        if is_recording() and wanted.kind == tensor.data.dtype.kind == "f":
            return NDArray(ops.cast(tensor, wanted))
        return NDArray(Tensor(tensor.data.astype(wanted, copy=copy)))

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Write into another NDArray, which is returned; or a copy, for a context."""
        if isinstance(other, Context):
            return op.copy(self)
        other[:] = self
        return other

    def as_in_context(self, context: Context) -> NDArray:
        """The array itself: there is one device."""
        return self

    def detach(self) -> NDArray:
        """The same memory as a constant."""
        return NDArray(self.tensor.detach())

    def attach_grad(self, grad_req: str = "write") -> None:
        """Ask for the gradient: ``grad_req`` "write" overwrites ``grad``, "add" adds to it."""
        self.tensor.attach_grad(grad_req)

    def backward(self, out_grad: Any = None, retain_graph: bool = False) -> None:
        """Put the gradients of the sum (of products with ``out_grad``) into each ``grad``. Frees
        the graph: ``retain_graph=True`` raises ValueError, a second backward RuntimeError."""
        if retain_graph:
            raise ValueError("backward: retain_graph=True is not supported; record a second time")
        self.tensor.backward(None if out_grad is None else out_grad.tensor)
        _backwards[0] += 1

    def __getitem__(self, key: Any) -> NDArray:
        tensor = ops.getitem(self._unshared().live(), _index(key, self.shape))
        # A piece that is one stretch of memory is a view, anything else a copy.
        view = tensor.data.flags.c_contiguous or isinstance(key, (int, slice))
        return NDArray(tensor) if view else op.copy(NDArray(tensor))

    def __setitem__(self, key: Any, value: Any) -> None:
        values = value.live() if isinstance(value, NDArray) else value
        here = self._unshared().tensor
        if not is_recording():
            self.leave_graphs()
        elif here._grad_mode or (isinstance(values, Tensor) and source_of(values) is not None):
            raise RuntimeError(
                f"in-place write to an NDArray of shape {self.shape} inside record(): backward "
                "would miss it; make a new array, or write after the recording"
            )
        here[_index(key, self.shape)] = values

    def leave_graphs(self) -> NDArray:
        """Leave the memory to the graphs that still need it, and go on in a copy."""
        here = self.tensor
        if here._uses.count or here._node is not None:
            here.data, here._uses, here._node = here.data.copy(order="K"), Uses(), None
        return self

    def _unshared(self) -> NDArray:
        """Memory of its own for an array of one repeated number (``zeros_like``)."""
        if not self.tensor.data.flags.writeable:
            self.tensor.data = np.array(self.tensor.data, order="C")
        return self

    def reshape(self, *sizes: Any, shape: Any = None) -> NDArray:
        """As ``nd.reshape``, but a view of the same memory where that lies in C order."""
        return op.view(self._unshared(), shape or (sizes[0] if len(sizes) == 1 else sizes))


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
    parts = [_part(part) for part in (key if isinstance(key, tuple) else (key,))]
    one = len(parts) == len(shape) > 0 and all(isinstance(part, int) for part in parts)
    if one and -shape[-1] <= parts[-1] < shape[-1]:
        parts[-1] = slice(parts[-1], parts[-1] + 1 or None)
    return tuple(parts)


def _part(part: Any) -> Any:
    if isinstance(part, (NDArray, np.ndarray)):
        return np.asarray(part).astype(np.int64)
    if isinstance(part, (int, slice, list, np.integer, type(None), type(...))):
        return int(part) if isinstance(part, np.integer) else part
    raise TypeError(f"an NDArray cannot be indexed by {part!r}, a {type(part).__name__}")


from . import op  # noqa: E402  (op's functions take and return NDArrays, and its methods call them)
