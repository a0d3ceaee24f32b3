"""Files of arrays in MXNet's own format (``.params``), read and written; all is little-endian.

A file is the magic 0x112 and a zero (8 bytes each), the number of arrays (8) and the arrays, the
number of names (8, 0 for a list) and for each its length (8) and its UTF-8 bytes. An array is a
magic (4), from V2 on the storage type (4, 0 for dense), the number of dimensions (4), each size
(8), the device's kind and number (4 each), the dtype's number (4) and the values in C order.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cyconv.atomic import FilePath, write_file
from cyconv.tensor import Tensor

from .ndarray import NDArray

MAGIC, V1, V2, V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")  # by number
WIDER = {"float16": "float32", "int8": "int32"}  # for those that cyconv does not have


def save(fname: FilePath, data: Any) -> None:
    """Write a list or a dict of NDArrays, or one, so that MXNet can read it."""
    values = list(data.values() if isinstance(data, Mapping) else data)
    values = [data] if isinstance(data, NDArray) else values
    if not all(isinstance(value, NDArray) for value in values):
        raise TypeError(f"save: data must be NDArrays, got {[type(v).__name__ for v in values]}")
    parts = [struct.pack("<QQQ", MAGIC, 0, len(values))]
    for array in map(NDArray.asnumpy, values):
        head = V2, 0, array.ndim, *array.shape, 1, 0, DTYPES.index(array.dtype.name)
        parts += [struct.pack(f"<IiI{array.ndim}qiii", *head), array.tobytes()]
    names = [str(name).encode() for name in data] if isinstance(data, Mapping) else []
    parts.append(struct.pack("<Q", len(names)))
    parts += [struct.pack("<Q", len(name)) + name for name in names]
    write_file("save", fname, b"".join(parts))


def load(fname: FilePath) -> Any:
    """The arrays of a file that ``save`` or MXNet wrote: a dict if they have names, else a list.

    float16 becomes float32 and int8 int32. ValueError if the file is damaged or something else.
    """
    content, place = Path(fname).read_bytes(), 0

    def take(count: int) -> bytes:
        nonlocal place
        place += count
        if place > len(content):
            raise ValueError(
                f"load: {fname} has {len(content)} bytes, but {place} or more belong to it"
            )
        return content[place - count : place]

    def numbers(layout: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", take(struct.calcsize(f"<{layout}")))

    def array() -> NDArray:
        (magic,) = numbers("I")
        (storage,) = numbers("i") if magic in (V2, V3) else (0,)
        # the oldest files begin with the number of dimensions, and their sizes have 4 bytes
        (ndim,), size = (numbers("I"), "q") if magic in (V1, V2, V3) else ((magic,), "I")
        if storage or ndim > 32:
            raise ValueError(f"load: {fname} has a sparse or damaged array")
        *shape, _, _, kind = numbers(f"{size * ndim}iii")
        spans = math.prod(filter(None, shape))  # NumPy has no empty array that spans too much
        if not 0 <= kind < len(DTYPES) or min(shape, default=0) < 0 or spans > 2**48:
            raise ValueError(f"load: {fname} has an array of shape {shape} and dtype {kind}")
        dtype = np.dtype(DTYPES[kind]).newbyteorder("<")
        values = np.frombuffer(take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        return NDArray(Tensor(values.astype(WIDER.get(DTYPES[kind], DTYPES[kind]))))

    magic, _, count = numbers("QQQ")
    if magic != MAGIC:
        raise ValueError(f"load: {fname} is no file of NDArrays: it begins with {magic:#x}")
    arrays = [array() for _ in range(count)]
    names = [take(*numbers("Q")) for _ in range(*numbers("Q"))]
    if names and len(names) != count:
        raise ValueError(f"load: {fname} has {count} arrays but {len(names)} names")
    try:
        return {name.decode(): value for name, value in zip(names, arrays)} if names else arrays
    except UnicodeDecodeError as error:
        raise ValueError(f"load: {fname} has a name that is no text: {error}") from None
