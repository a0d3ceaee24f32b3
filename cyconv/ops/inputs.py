"""What an op accepts: arguments as tensors, of one float dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import integer, shown
from ..backends import as_array, beside
from ..creation import as_tensor
from ..tensor import Tensor

FLOAT_CHARS = "fd"  # the dtypes' characters, which are quicker to get than their names


def tensor_in(op: str, name: str, value: Any, dtype: Any = None) -> Tensor:
    """``value`` as a tensor of floats (arrays and numbers are constants of ``dtype``)."""
    if type(value) is not Tensor and not isinstance(value, Tensor):
        if value is None or isinstance(value, (str, bytes)):
            raise TypeError(f"{op}: {name} must be a tensor or an array, got {shown(value)}")
        try:
            value = as_tensor(value, dtype)
        except TypeError as error:
            raise TypeError(f"{op}: {name} must be an array of numbers: {error}") from None
    if value.dtype.char not in FLOAT_CHARS:
        raise TypeError(f"{op}: {name} must be float32 or float64, got {value.dtype}")
    return value


def tensors_in(op: str, *, bias: Any = None, **values: Any) -> list[Tensor]:
    """Several arguments as tensors of the first one's float dtype; the bias, if any, last."""
    result: list[Tensor] = []
    first, apart = "", False
    if bias is not None:
        values["bias"] = bias
    for name, value in values.items():
        tensor = tensor_in(op, name, value, result[0].dtype if result else None)
        if result and tensor.dtype != result[0].dtype:
            raise TypeError(f"{op}: {first} is {result[0].dtype} but {name} is {tensor.dtype}")
        first = first or name
        result.append(tensor)
        if type(tensor.data) is not type(result[0].data):
            apart = True
    return on_one_device(op, values, result) if apart else result


def on_one_device(op: str, values: dict[str, Any], tensors: list[Tensor]) -> list[Tensor]:
    """The tensors of these arguments; arrays and numbers are put where the tensors are.

    ValueError naming two arguments that are tensors on different devices.
    """
    places = {name: t for name, t in zip(values, tensors) if isinstance(values[name], Tensor)}
    if not places:  # arrays only, of two libraries: the first one's place
        places = dict(zip(values, tensors[:1]))
    (first, there), *others = places.items()
    for name, tensor in others:
        if tensor.device != there.device:
            raise ValueError(
                f"{op}: {first} is on {there.device} but {name} is on {tensor.device}; "
                "move one of them by to()"
            )
    return [t if t.device == there.device else Tensor(beside(t.data, there.data)) for t in tensors]


def is_relu(op: str, activation: Any) -> bool:
    """Whether an op that can apply a function to its output is to apply relu."""
    if activation is not None and (not isinstance(activation, str) or activation != "relu"):
        raise ValueError(f"{op}: activation must be 'relu' or None, got {activation!r}")
    return activation is not None


def operands(op: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two operands of one float dtype: a number or an array takes the dtype of the tensor."""
    if type(a) is type(b) is Tensor:  # the usual case, quickly
        first, second = a.data, b.data
        alike = type(first) is type(second) and first.dtype == second.dtype
        if alike and first.dtype.char in FLOAT_CHARS and _broadcast(first.shape, second.shape):
            return a, b
    dtypes = [t.dtype for kind in (Tensor, np.ndarray) for t in (a, b) if isinstance(t, kind)]
    char = next((d.char for d in dtypes if d.char in FLOAT_CHARS), "f")
    dtype = np.dtype(char)  # in native order, whatever the operand's
    x, y = (t if isinstance(t, Tensor) else Tensor(_constant(op, t, dtype)) for t in (a, b))
    if x.dtype.char not in FLOAT_CHARS or y.dtype.char not in FLOAT_CHARS:
        x, y = _integers_as_floats(op, x, y)
    if type(x.data) is not type(y.data):
        x, y = on_one_device(op, {"the first operand": a, "the second operand": b}, [x, y])
    if x.dtype != y.dtype:
        raise TypeError(f"{op}: operands are {x.dtype} and {y.dtype}; use astype on one of them")
    if op != "matmul" and not _broadcast(x.shape, y.shape):
        raise ValueError(f"{op}: shapes {x.shape} and {y.shape} do not broadcast")
    return x, y


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes do."""
    if a == b or not a or not b:
        return True
    return all(m == n or m == 1 or n == 1 for m, n in zip(reversed(a), reversed(b)))


def _constant(op: str, value: Any, dtype: Any = None) -> np.ndarray:
    """A number, list or array of numbers as an array, of ``dtype`` if given."""
    try:
        array = as_array(value)
        if array.dtype.kind in "biuf":
            return array if dtype is None else array.astype(dtype, order="K", copy=False)
    except ValueError:
        pass
    raise TypeError(f"{op}: operands must be tensors, arrays or numbers, got {shown(value)}")


def _integers_as_floats(op: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Tensors of integers and bools take part as constants in the other operand's float dtype."""
    dtype = next((t.dtype for t in (x, y) if t.dtype.char in FLOAT_CHARS), np.dtype(np.float32))
    return tuple(t if t.dtype.char in FLOAT_CHARS else t.astype(dtype) for t in (x, y))  # type: ignore


def comparables(relation: str, a: Any, b: Any) -> list[Any]:
    """Two things to compare: arrays on one device, and Python numbers as they are."""
    x, y = (_comparable(relation, value) for value in (a, b))
    if type(x) is type(y) or isinstance(x, (int, float)) or isinstance(y, (int, float)):
        return [x, y]
    names = {"the first operand": a, "the second operand": b}
    return [t.data for t in on_one_device(relation, names, [Tensor(x), Tensor(y)])]


def _comparable(relation: str, value: Any) -> Any:
    """A tensor's array, a Python number as it is (it takes the other's dtype), else an array."""
    if isinstance(value, Tensor):
        return value.data
    return value if isinstance(value, (bool, int, float)) else _constant(relation, value)


def axes_in(op: str, axis: Any, ndim: int) -> Any:
    """``axis`` as None, an int or a tuple of different ints, each within the dimensions."""
    if axis is None:
        return None
    if isinstance(axis, Sequence) and not isinstance(axis, (str, bytes)):
        axes = tuple(axis_in(op, a, ndim) for a in axis)
        if len(set(axes)) < len(axes):
            raise ValueError(f"{op}: axis {axis!r} names an axis twice")
        return axes
    return axis_in(op, axis, ndim)


def axis_in(op: str, axis: Any, ndim: int) -> int:
    """``axis`` as an int from 0 to ndim - 1."""
    if not ndim or not -ndim <= integer(f"{op}: axis", axis, -(2**31)) < ndim:
        raise ValueError(f"{op}: axis {axis!r} is not an axis of an input with {ndim} dimensions")
    return int(axis) % ndim


def index_in(index: Any, tensor: Tensor) -> Any:
    """An index with its tensors turned into arrays, and NumPy's arrays put beside the tensor."""
    if isinstance(index, tuple):
        return tuple(index_in(i, tensor) for i in index)
    if isinstance(index, Tensor):
        if index.device != tensor.device:
            raise ValueError(
                f"index: the tensor is on {tensor.device} but its index is on {index.device}; "
                "move one of them by to()"
            )
        return index.data
    return beside(index, tensor.data) if isinstance(index, np.ndarray) else index
