"""Files of arrays in MXNet's own format (``.params``), read and written; all is little-endian.

A file is the magic 0x112, a zero, the number of arrays, the arrays, the number of names (0 for a
list), and for each its length and UTF-8 bytes. An array is the magic of V2, the storage type, the
number of dimensions, the sizes, the device's kind and number, the dtype's number, and the values.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cyconv.atomic import FilePath, write_file
from cyconv.tensor import Tensor

from .array import NDArray

LIST, DENSE_V2 = 0x112, (0xF993FAC9, 0)
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")  # by number
WIDER = {"float16": "float32", "int8": "int32"}  # for those that cyconv does not have


def save(fname: FilePath, data: Any) -> None:
    """Write a list or a dict of NDArrays, or one, so that MXNet can read it."""
    names = [name.encode() for name in data] if isinstance(data, Mapping) else []
    values = list(data.values()) if names else [data] if isinstance(data, NDArray) else list(data)
    if not all(isinstance(value, NDArray) for value in values):
        raise TypeError(f"save: data must be NDArrays, got {[type(v).__name__ for v in values]}")
    parts = [struct.pack("<QQQ", LIST, 0, len(values))]
    for array in map(NDArray.asnumpy, values):
        head = *DENSE_V2, array.ndim, *array.shape, 1, 0, DTYPES.index(array.dtype.name)
        parts += [struct.pack(f"<IiI{array.ndim}qiii", *head), array.tobytes()]
    parts += [struct.pack("<Q", len(names)), *(struct.pack("<Q", len(n)) + n for n in names)]
    write_file("save", fname, b"".join(parts))


def load(fname: FilePath) -> Any:
    """A dict if the arrays have names, else a list; ValueError if the file is damaged."""
    content, place = Path(fname).read_bytes(), 0

    def take(kind: Any, count: int) -> np.ndarray:
        nonlocal place
        values = np.frombuffer(content, np.dtype(kind).newbyteorder("<"), count, place)
        place += values.nbytes
        return values

    def array() -> NDArray:
        if (*take("u4", 1), *take("i4", 1)) != DENSE_V2:
            raise ValueError("an array is not a dense one in the format V2")
        shape = take("i8", int(take("u4", 1)[0])).tolist()
        *_, kind = take("u4", 3).tolist()
        if kind >= len(DTYPES):
            raise ValueError(f"an array has the unknown dtype {kind}")
        values = take(DTYPES[kind], math.prod(shape)).reshape(shape)
        return NDArray(Tensor(values.astype(WIDER.get(DTYPES[kind], DTYPES[kind]))))

    try:
        magic, _, count = take("u8", 3).tolist()
        if magic != LIST:
            raise ValueError(f"it begins with {magic:#x}")
        arrays = [array() for _ in range(count)]
        lengths = (int(take("u8", 1)[0]) for _ in range(int(take("u8", 1)[0])))
        names = [take("u1", length).tobytes().decode() for length in lengths]
        return dict(zip(names, arrays, strict=True)) if names else arrays
    except (ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"load: {fname} is damaged or no file of NDArrays: {error}") from None
