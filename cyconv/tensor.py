"""Tensor: an array that can be recorded. Operators and methods are one line each, into ``ops``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partialmethod
from typing import Any

import numpy as np

from . import autograd, backends
from .autograd import Array, Node, Op, Uses

FLOATS: tuple[str, ...] = ("float32", "float64")


class Tensor:
    """An n-dimensional array with a place for its gradient.

    Made by ``tensor``, ``zeros``, ``ones`` or ``randn``, or by an op. ``data`` is the array itself
    (NumPy on the CPU, CuPy on a GPU), ``grad`` the gradient that ``backward`` left, or None. Images
    have shape (N, C, H, W) but lie in memory as (C, H, W, N), so that one vector register holds the
    same pixel of several images. ``+ - * / ** @ abs``, comparisons and NumPy's indexing are there.

    >>> import cyconv as cc
    >>> t = cc.tensor([[1, 2], [3, 4]]).to("cpu").astype("float64").copy().attach_grad()
    >>> t.shape, t.ndim, t.size, t.dtype.name, t.device, t[0, 1].item(), t.detach().numpy()[1]
    ((2, 2), 2, 4, 'float64', 'cpu', 2.0, array([3., 4.]))
    >>> with cc.record():
    ...     (t * t.T).sum().backward()
    >>> t.grad.tolist()
    [[2.0, 6.0], [4.0, 8.0]]
    """

    __slots__ = ("__weakref__", "_grad_mode", "_node", "_uses", "data", "grad")
    __array_priority__ = 100  # ndarray + Tensor is a Tensor

    def __init__(self, data: Array):
        self.data = data
        self.grad: Tensor | None = None
        self._grad_mode: str | None = None
        self._node: Node | None = None
        self._uses = Uses()

    # -------------------------------------------------------------- facts

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, as (N, C, H, W); () for a single number."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """How many axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """How many elements."""
        return self.data.size

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return backends.device_of(self.data)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order, as ``transpose()``."""
        return self.transpose()

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor of shape ()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use .numpy()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __repr__(self) -> str:
        body = np.array2string(
            backends.to_numpy(self.data), separator=", ", prefix="tensor(", threshold=200
        )
        extra = "" if self.size or self.ndim == 1 else f", shape={self.shape}"
        extra += "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        extra += "" if self.device == "cpu" else f", device={self.device}"
        return f"tensor({body}{extra})"

    # -------------------------------------------------------------- to and from arrays

    def numpy(self) -> np.ndarray:
        """A read-only NumPy array that shares this tensor's memory (a GPU's is copied).

        A write behind the recording's back would give wrong gradients: use ``t[...] = values``.
        """
        view = backends.to_numpy(self.data).view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The one value of a tensor of size 1, as a Python number; ValueError for other sizes."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of size 1, got shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.data.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if autograd.is_recording() and autograd.source_of(self) is not None:
            raise TypeError(
                "NumPy would make an array of a recorded tensor, through which no gradient flows; "
                "use cyconv.ops, or numpy() if that is meant"
            )
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a tensor of {self.dtype} needs a copy for {np.dtype(dtype)}")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def detach(self) -> Tensor:
        """The same memory, cut off from the recorded graph."""
        return _view_of(self, self.data)

    def copy(self) -> Tensor:
        """A copy in new memory, cut off from the recorded graph."""
        return Tensor(self.data.copy(order="K"))

    def to(self, device: str) -> Tensor:
        """This tensor on "cpu" or "cuda"; itself if there. ValueError for another ``device``."""
        array = backends.to_device(self.data, device)
        return self if array is self.data else Tensor(array)

    def astype(self, dtype: Any) -> Tensor:
        """A copy cut off from the graph; TypeError for a ``dtype`` that ``tensor`` refuses, too."""
        return Tensor(self.data.astype(valid_dtype("astype", dtype), order="K"))

    # -------------------------------------------------------------- gradients

    def attach_grad(self, mode: str = "write") -> Tensor:
        """Ask for the gradient by this tensor, of float32 or float64 (else TypeError); returns it.

        ``mode="write"`` overwrites ``grad`` at each backward, ``"add"`` adds to it; ValueError for
        others. ``grad`` starts as zeros. What computed this tensor is not differentiated.
        """
        if not isinstance(mode, str) or mode not in ("write", "add"):
            raise ValueError(f"attach_grad: mode must be 'write' or 'add', got {mode!r}")
        if self.dtype.name not in FLOATS:
            raise TypeError(f"attach_grad: only float tensors have gradients, got {self.dtype}")
        self._node = None
        self._grad_mode = mode
        self.grad = Tensor(backends.namespace_of(self.data).zeros_like(self.data))
        return self

    def backward(self, grad: Any = None) -> None:
        """Compute the gradient of the sum of ``self * grad`` by every tensor with attach_grad.

        ``grad`` has this tensor's shape (else ValueError) and dtype (else TypeError); ones if not
        given. Frees the graph; RuntimeError if nothing was recorded or it was already used.
        """
        if grad is None:
            head = backends.namespace_of(self.data).ones_like(self.data)
        else:
            given = tensor_in("backward", "grad", grad, self.dtype)
            names = {"the tensor": self, "grad": grad}
            head = on_one_device("backward", names, [self, given])[1].data
            if head.shape != self.shape:
                raise ValueError(
                    f"backward: grad has shape {head.shape} but the tensor has shape {self.shape}"
                )
            if head.dtype != self.dtype:
                raise TypeError(f"backward: grad is {head.dtype} but the tensor is {self.dtype}")
        with np.errstate(all="ignore"):
            autograd.backward(self, head)

    def _store_grad(self, grad: Array) -> None:
        if self._grad_mode == "add":  # in memory of its own: programs write again into theirs
            grad = grad.copy(order="K") if self.grad is None else self.grad.data + grad
        self.grad = Tensor(np.asarray(grad) if isinstance(grad, np.generic) else grad)

    # -------------------------------------------------------------- in place

    def _write(self) -> Array:
        """The array, for writing; RuntimeError while a recorded graph still needs its values.

        Also for a recorded result before backward: inputs would get a gradient for what is written.
        """
        if self._uses.count or (self._node is not None and self._node.op is not None):
            raise RuntimeError(
                f"in-place write to a tensor of shape {self.shape} that a recorded graph still "
                "needs; call backward() first, or write to a copy"
            )
        if not backends.is_writeable(self.data):
            self.data = self.data.copy(order="K")
        return self.data

    def __setitem__(self, index: Any, value: Any) -> None:
        _, value = comparables("assignment", self, value)
        target = self._write()
        try:
            target[index_in(index, self)] = value
        except (ValueError, IndexError) as error:
            raise type(error)(
                f"cannot write values of shape {np.shape(value)} into {index!r} of a tensor of "
                f"shape {self.shape}: {error}"
            ) from None

    def _in_place(self, name: str, other: Any) -> Tensor:
        """Inside record() ``t += x`` makes a new tensor, so that it can be differentiated.

        Integers stay integers, as in NumPy: TypeError if the result is none.
        """
        if self.dtype.name not in FLOATS:
            _, value = comparables(f"in-place {name}", self, other)
            getattr(self._write(), f"__i{name}__")(value)
            return self
        result = getattr(self, f"__{name}__")(other)
        if autograd.is_recording():
            return result
        self[...] = result
        return self

    __iadd__ = partialmethod(_in_place, "add")
    __isub__ = partialmethod(_in_place, "sub")
    __imul__ = partialmethod(_in_place, "mul")
    __itruediv__ = partialmethod(_in_place, "truediv")
    __ipow__ = partialmethod(_in_place, "pow")

    # -------------------------------------------------------------- operators and methods: into ops

    __hash__ = object.__hash__  # by identity: == compares elements

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __pow__(self, exponent: Any) -> Tensor:
        return ops.pow(self, exponent)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def _compared(self, relation: str, other: Any) -> Tensor:
        return ops.compare(relation, self, other)

    __eq__ = partialmethod(_compared, "equal")
    __ne__ = partialmethod(_compared, "not_equal")
    __lt__ = partialmethod(_compared, "less")
    __le__ = partialmethod(_compared, "less_equal")
    __gt__ = partialmethod(_compared, "greater")
    __ge__ = partialmethod(_compared, "greater_equal")

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over all elements, an axis or several; see ``ops.sum``."""
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The mean over all elements, an axis or several; see ``ops.mean``."""
        return ops.mean(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The largest element over all, an axis or several; see ``ops.max``."""
        return ops.max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The smallest element over all, an axis or several; see ``ops.min``."""
        return ops.min(self, axis, keepdims)

    def argmin(self, axis: int | None = None) -> Tensor:
        """The index of the smallest element; see ``ops.argmin``."""
        return ops.argmin(self, axis)

    def argmax(self, axis: int | None = None) -> Tensor:
        """The index of the largest element; see ``ops.argmax``."""
        return ops.argmax(self, axis)

    def exp(self) -> Tensor:
        """e to the power of each element; see ``ops.exp``."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """The natural logarithm of each element; see ``ops.log``."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """The square root of each element; see ``ops.sqrt``."""
        return ops.sqrt(self)

    def reshape(self, *shape: Any) -> Tensor:
        """In another ``shape``: ``reshape(2, -1)`` or ``reshape((2, -1))``; see ``ops.reshape``."""
        return ops.reshape(self, shape[0] if len(shape) == 1 and np.ndim(shape[0]) else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """The ``axes`` in another order: ``transpose(0, 2, 3, 1)``; see ``ops.transpose``."""
        return ops.transpose(self, axes[0] if len(axes) == 1 and np.ndim(axes[0]) else axes or None)

    def flatten(self) -> Tensor:
        """All axes but the first become one; see ``ops.flatten``."""
        return ops.flatten(self)


# ------------------------------------------------------------------ running ops


def apply(op: Op, *inputs: Tensor) -> Tensor:
    """Run an op on tensors, and record it if recording is on and a gradient is wanted."""
    arrays = [t.data for t in inputs]
    if not op.any_layout:
        arrays = [backends.in_one_order(a) for a in arrays]
    array = _computed(op, arrays)
    out = Tensor(np.asarray(array) if isinstance(array, np.generic) else array)
    if op.is_view:
        out._uses = inputs[0]._uses
    if autograd._state.recording:
        sources = tuple([autograd.source_of(t) for t in inputs])
        op.needs = tuple([source is not None for source in sources])
        if any(op.needs):
            kept = [t._uses for t in (*inputs, out)] if op.keeps_inputs else []
            out._node = Node(op, sources, kept)
    if autograd._state.trace is not None:
        autograd._state.trace.note(op, inputs, out)
    return out


@np.errstate(all="ignore")  # infinities and NaN are values like others
def _computed(op: Op, arrays: list[Array]) -> Array:
    return op.forward(*arrays)


def _view_of(tensor: Tensor, array: Array) -> Tensor:
    view = Tensor(array)
    view._uses = tensor._uses
    return view


from . import ops  # noqa: E402  (ops builds on Tensor, and Tensor's methods call ops)
from .creation import valid_dtype  # noqa: E402
from .ops.inputs import comparables, index_in, on_one_device, tensor_in  # noqa: E402
