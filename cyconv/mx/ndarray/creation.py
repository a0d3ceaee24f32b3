"""New arrays: of given values, of constants, of random numbers."""

from typing import Any

import numpy as np

import cyconv
from cyconv import random
from cyconv.nn import init
from cyconv.tensor import Tensor

from .ndarray import NDArray, dtype_of


def _sizes(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)


def array(source_array: Any, ctx: Any = None, dtype: Any = None) -> NDArray:
    """A copy of numbers, lists or arrays: float32, or an NDArray's own dtype, if none is given."""
    if isinstance(source_array, NDArray):
        source_array, dtype = source_array.asnumpy(), dtype or source_array.dtype
    return NDArray(cyconv.tensor(np.asarray(source_array, order="C"), dtype_of(dtype)))


def zeros(shape: Any, ctx: Any = None, dtype: Any = None) -> NDArray:
    """Zeros, in float32 if no dtype is given."""
    return NDArray(cyconv.zeros(_sizes(shape), dtype=dtype_of(dtype)))


empty = zeros  # what lies in memory by chance would make no two runs alike


def ones(shape: Any, ctx: Any = None, dtype: Any = None) -> NDArray:
    """Ones, in float32 if no dtype is given."""
    return NDArray(cyconv.ones(_sizes(shape), dtype=dtype_of(dtype)))


def zeros_like(data: NDArray) -> NDArray:
    """Zeros in the shape and dtype of ``data``: one number, until it is written to."""
    return NDArray(Tensor(np.broadcast_to(data.dtype(0), data.shape)))


def ones_like(data: NDArray) -> NDArray:
    """Ones in the shape and dtype of ``data``."""
    return ones(data.shape, dtype=data.dtype)


NDArray.zeros_like, NDArray.ones_like = zeros_like, ones_like  # type: ignore[attr-defined]


def arange(
    start: float, stop: Any = None, step: float = 1, ctx: Any = None, dtype: Any = None
) -> NDArray:
    """Numbers from ``start`` to before ``stop``, or from 0 to before ``start``."""
    values = np.arange(start) if stop is None else np.arange(start, stop, step)
    return array(values, dtype=dtype)


def eye(N: int, M: int = 0, k: int = 0, ctx: Any = None, dtype: Any = None) -> NDArray:
    """N rows and M (or N) columns with ones on the diagonal ``k`` places right of the main one."""
    return array(np.eye(N, M or N, k), dtype=dtype)


def random_normal(
    loc: float = 0, scale: float = 1, shape: Any = 1, ctx: Any = None, dtype: Any = None
) -> NDArray:
    """Normal random numbers of mean ``loc`` and standard deviation ``scale``."""
    return NDArray(init.normal_(zeros(shape, ctx, dtype).tensor, scale, loc))


def random_uniform(
    low: float = 0, high: float = 1, shape: Any = 1, ctx: Any = None, dtype: Any = None
) -> NDArray:
    """Uniform random numbers from ``low`` to ``high``."""
    return NDArray(init.uniform_(zeros(shape, ctx, dtype).tensor, low, high))


def sample_multinomial(data: NDArray, shape: Any = (), dtype: Any = "int32") -> NDArray:
    """Numbers 0 to k - 1 drawn with the probabilities ``data`` (k,), or of each row of (n, k)."""
    rows = data.asnumpy(np.float64).reshape(-1, data.shape[-1]).cumsum(axis=1)
    each = _sizes(shape)
    drawn = random.generator().random((len(rows), *each))
    found = [np.searchsorted(row, u * row[-1], "right") for row, u in zip(rows, drawn)]
    return array(np.reshape(found, (*data.shape[:-1], *each) or 1), dtype=dtype)
