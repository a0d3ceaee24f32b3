"""Making tensors: from data, of constants, of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backends, random
from .arguments import integer, number
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
    return result if result.isnative else result.newbyteorder("=")


def float_dtype(where: str, dtype: Any) -> np.dtype:
    """float32 or float64, given as for ``valid_dtype``."""
    result = valid_dtype(where, dtype)
    if result.name not in FLOATS:
        raise TypeError(f"{where}: dtype must be float32 or float64, got {dtype!r}")
    return result


def tensor(data: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor with a copy of ``data``.

    Parameters
    ----------
    data : a number, nested lists, an array of any library that NumPy understands, or a tensor
    dtype : float32, float64, int64, int32, uint8 or bool, as a name or as NumPy's; floats lose what
        is behind the point where it is an integer
    device : "cpu" or "cuda"

    Returns
    -------
    A tensor of the shape of data.

    Raises
    ------
    TypeError : data holds something else than numbers, or is not rectangular; another dtype
    ValueError : values beyond the range of an integer dtype; another device, or there is no GPU

    >>> import cyconv as cc
    >>> cc.tensor([[1, 2], [3, 4]])
    tensor([[1., 2.],
            [3., 4.]])
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

    Parameters
    ----------
    data : as for ``tensor``
    dtype : of what is neither a tensor nor a float32 or float64 array, which keep theirs; float32
        if not given

    Returns
    -------
    A tensor of the shape of data, which shares the memory of a float32 or float64 array.

    Raises
    ------
    TypeError, ValueError : as from ``tensor``

    >>> import numpy as np
    >>> import cyconv as cc
    >>> array = np.zeros(2)
    >>> t = cc.as_tensor(array)
    >>> array[0] = 5.0
    >>> t
    tensor([5., 0.], dtype=float64)
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, np.ndarray) and data.dtype.char in "fd":
        plain = np.asarray(data)  # a matrix or a masked array has operators of its own
        return Tensor(plain if data.dtype.isnative else plain.astype(data.dtype.newbyteorder("=")))
    if backends.is_gpu_array(data) and data.dtype.name in DTYPES:
        return Tensor(data)
    return tensor(data, np.float32 if dtype is None else dtype)


def _shape(where: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple(integer(f"{where}: size", size, 0, 2**62) for size in shape)


def zeros(*shape: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    Parameters
    ----------
    shape : sizes, or one tuple or list of them
    dtype, device : as in ``tensor``

    Returns
    -------
    A tensor of this shape; without a size one of shape ().

    Raises
    ------
    TypeError : a size is no integer; another dtype
    ValueError : a size below 0; another device, or there is no GPU

    >>> import cyconv as cc
    >>> cc.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return Tensor(
        backends.to_device(np.zeros(_shape("zeros", shape), valid_dtype("zeros", dtype)), device)
    )


def ones(*shape: Any, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """A tensor of ones: ``ones(2, 3)`` or ``ones((2, 3))``.

    Parameters
    ----------
    shape : sizes, or one tuple or list of them
    dtype, device : as in ``tensor``

    Returns
    -------
    A tensor of this shape; without a size one of shape ().

    Raises
    ------
    TypeError, ValueError : as from ``zeros``

    >>> import cyconv as cc
    >>> cc.ones(2, dtype="int64")
    tensor([1, 1], dtype=int64)
    """
    return Tensor(
        backends.to_device(np.ones(_shape("ones", shape), valid_dtype("ones", dtype)), device)
    )


def randn(*shape: Any, scale: float = 1.0, dtype: Any = "float32", device: str = "cpu") -> Tensor:
    """Normal random numbers of mean 0 and standard deviation ``scale``, from ``seed``'s stream.

    Parameters
    ----------
    shape : sizes, or one tuple or list of them
    scale : a finite number
    dtype : float32 or float64
    device : as in ``tensor``

    Returns
    -------
    A tensor of this shape; without a size one of shape ().

    Raises
    ------
    TypeError : a size is no integer, or scale no number; another dtype
    ValueError : a size below 0, or scale not finite; another device, or there is no GPU

    >>> import cyconv as cc
    >>> cc.randn(3, 4, scale=0.1).shape
    (3, 4)
    """
    wanted = float_dtype("randn", dtype)
    width = number("randn: scale", scale)
    values = random.generator().standard_normal(_shape("randn", shape)) * width
    return Tensor(backends.to_device(np.asarray(values, dtype=wanted), device))
