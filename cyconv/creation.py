"""Making tensors: from data, of constants, of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backends, random
from .geometry import integer, number
from .tensor import FLOATS, Tensor

DTYPES = (*FLOATS, "int64", "int32", "uint8", "bool")
_NAMES = {*DTYPES, *(np.dtype(name).str[1:] for name in DTYPES)}  # "float32" and "f4"


def valid_dtype(where: str, dtype: Any) -> np.dtype:
    """One of DTYPES, given by its name or as NumPy's type or dtype."""
    # NumPy takes much else for a dtype: None for float64, some strings with a warning
    known = dtype in _NAMES if isinstance(dtype, str) else isinstance(dtype, (type, np.dtype))
    try:
        result = np.dtype(dtype if known else object)
    except TypeError:
        result = np.dtype(object)
    if result.name not in DTYPES:
        raise TypeError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return result.newbyteorder("=")


def tensor(data: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor with a copy of ``data``: numbers, nested lists, any array, or a tensor.

    TypeError for a dtype other than float32, float64, int64, int32, uint8 and bool, or for data
    that are no numbers; ValueError for values beyond the range of an integer dtype.
    """
    wanted = valid_dtype("tensor", dtype)
    if isinstance(data, Tensor):
        data = data.data
    try:
        source = backends.to_numpy(data) if backends.is_gpu_array(data) else np.asarray(data)
        if source.dtype.kind not in "biuf":
            raise TypeError(f"values of dtype {source.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(f"tensor: data must be numbers in a rectangular shape ({error})") from None
    if wanted.kind in "iu" and source.size:
        ends = source.min(), source.max()
        low, high = (float(end) if source.dtype.kind == "f" else end.item() for end in ends)
        limits = np.iinfo(wanted)
        if not (limits.min - 1 < low and high < limits.max + 1):  # NaN is not within either
            raise ValueError(f"tensor: values from {low} to {high} do not fit into {wanted}")
    return Tensor(backends.to_device(np.array(source, dtype=wanted, order="K"), device))


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """``data`` as a tensor without a copy where that is possible; a tensor is returned as it is.

    Float arrays keep their dtype, everything else becomes ``dtype`` (float32 if not given).
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray) and data.dtype.name in FLOATS:
        plain = np.asarray(data)  # a matrix or a masked array has operators of its own
        return Tensor(plain.astype(data.dtype.newbyteorder("="), order="K", copy=False))
    if backends.is_gpu_array(data) and data.dtype.name in DTYPES:
        return Tensor(data)
    return tensor(data, np.float32 if dtype is None else dtype)


def _shape(where: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple(integer(f"{where}: size", size, 0, 2**62) for size in shape)


def zeros(*shape: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return Tensor(
        backends.to_device(np.zeros(_shape("zeros", shape), valid_dtype("zeros", dtype)), device)
    )


def ones(*shape: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor of ones: ``ones(2, 3)`` or ``ones((2, 3))``."""
    return Tensor(
        backends.to_device(np.ones(_shape("ones", shape), valid_dtype("ones", dtype)), device)
    )


def randn(*shape: Any, scale: float = 1.0, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """Normal random numbers of mean 0 and standard deviation ``scale``, from ``seed``'s stream."""
    wanted = valid_dtype("randn", dtype)
    if wanted.name not in FLOATS:
        raise TypeError(f"randn: dtype must be float32 or float64, got {dtype!r}")
    width = number("randn: scale", scale)
    values = random.generator().standard_normal(_shape("randn", shape)) * width
    return Tensor(backends.to_device(np.asarray(values, dtype=wanted), device))
