"""Files: a net with its architecture, or named arrays, in the safetensors format.

A file holds numbers and text only; reading one never runs code. It is written whole or not at
all, as ``atomic`` says.

In the header's metadata stands "cyconv", JSON text with "crc32", a checksum of what follows it and
of all arrays, "config", the net's ``config()``, and the user's "metadata". It is one entry because
the format does not keep the order of several: equal contents give equal bytes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import nn
from .atomic import FilePath, path_in, write_file
from .nn import init
from .nn.containers import module_in

__all__ = ["load", "load_arrays", "load_metadata", "save", "save_arrays"]

DTYPES = (
    *("float64", "float32", "float16", "bool"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
)
MOST_HEADER_BYTES = 100_000_000  # the format's own limit


def save(path: FilePath, net: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a net, its architecture and weights, so that ``load`` needs nothing else.

    Parameters
    ----------
    path : a file in a folder that exists; it is replaced whole or not at all
    net : a Module of classes of ``cyconv.nn`` only
    metadata : a dict of anything JSON can hold, which ``load_metadata`` reads

    Raises
    ------
    TypeError : net is no Module or has classes from elsewhere (save its ``state_dict()`` by
        ``save_arrays``); metadata that JSON cannot hold; path is neither str nor Path
    OSError : the file cannot be written; FileNotFoundError if there is no such folder

    >>> import os, tempfile
    >>> import cyconv as cc
    >>> net = cc.nn.Sequential(cc.nn.Flatten(), cc.nn.Linear(784, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.safetensors")
    ...     cc.save(path, net, {"epochs": 3})
    ...     cc.checkpoint.load_metadata(path)
    ...     cc.load(path)
    {'epochs': 3}
    Sequential(
      (0): Flatten()
      (1): Linear(784, 10)
    )
    """
    module_in("save: net", net)
    for name, module in net.named_modules():
        kind = type(module)
        if getattr(nn, kind.__name__, None) is not kind:
            raise TypeError(
                f"save: {name or 'the net'} is a {kind.__name__}, not a class of cyconv.nn, so "
                "load could not rebuild it; save net.state_dict() by checkpoint.save_arrays"
            )
    _write("save", path, net.state_dict(), net.config(), metadata)


def load(path: FilePath) -> nn.Module:
    """The net that ``save`` wrote. Runs no code from the file.

    Parameters
    ----------
    path : a file

    Returns
    -------
    A Module of classes of ``cyconv.nn``, on the CPU, in the dtype that it had.

    Raises
    ------
    TypeError : path is neither str nor Path
    ValueError : the file is damaged, no safetensors file, or holds no net of cyconv
    OSError : it cannot be read; FileNotFoundError if there is none

    >>> import cyconv as cc
    >>> cc.load("no such file")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no such file'
    """
    arrays, content = _read("load", path)
    if content.get("config") is None:
        raise ValueError(f"load: {path} holds no cyconv net; read its arrays by load_arrays")
    try:
        with init.skipped():
            net = nn.from_config(content["config"])
        for name, tensor in net._named_tensors():
            if name in arrays and arrays[name].dtype == np.float64:
                tensor.data = tensor.data.astype(np.float64)
        net.load_state_dict(arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"load: {path}: {error}") from None
    return net


def load_metadata(path: FilePath) -> dict[str, Any]:
    """The ``metadata`` that ``save`` or ``save_arrays`` was given.

    Parameters
    ----------
    path : a file

    Returns
    -------
    A dict; {} if there was none.

    Raises
    ------
    TypeError : path is neither str nor Path
    ValueError : the file is damaged or no safetensors file
    OSError : it cannot be read; FileNotFoundError if there is none

    >>> import os, tempfile
    >>> import cyconv as cc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights.safetensors")
    ...     cc.checkpoint.save_arrays(path, {"w": [1.0, 2.0]}, {"by": "hand"})
    ...     cc.checkpoint.load_metadata(path)
    {'by': 'hand'}
    """
    return _read("load_metadata", path)[1].get("metadata") or {}


def save_arrays(
    path: FilePath, arrays: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write arrays by name, as those of a ``state_dict()``, as safely as ``save``.

    Parameters
    ----------
    path : a file in a folder that exists; it is replaced whole or not at all
    arrays : a dict from names to arrays, tensors or lists of any shape, of bools, integers, or
        floats of 16, 32 or 64 bits
    metadata : a dict of anything JSON can hold, which ``load_arrays`` returns

    Raises
    ------
    TypeError : arrays is no dict or holds other dtypes; metadata that JSON cannot hold; path is
        neither str nor Path
    ValueError : a name that is no string, or "__metadata__"
    OSError : the file cannot be written; FileNotFoundError if there is no such folder

    >>> import os, tempfile
    >>> import cyconv as cc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights.safetensors")
    ...     cc.checkpoint.save_arrays(path, {"w": cc.ones(2)}, {"by": "hand"})
    ...     cc.checkpoint.load_arrays(path)
    ({'w': array([1., 1.], dtype=float32)}, {'by': 'hand'})
    """
    _write("save_arrays", path, arrays, None, metadata)


def load_arrays(path: FilePath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of any safetensors file: what ``save``, ``save_arrays`` and other libraries wrote.

    Parameters
    ----------
    path : a file

    Returns
    -------
    (arrays, metadata): a dict from names to NumPy arrays, in any order, and the dict that ``save``
    or ``save_arrays`` was given, {} if it was none. Other libraries' metadata is left out.

    Raises
    ------
    TypeError : path is neither str nor Path
    ValueError : the file is damaged or no safetensors file
    OSError : it cannot be read; FileNotFoundError if there is none

    >>> import os, tempfile
    >>> import cyconv as cc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.safetensors")
    ...     cc.save(path, cc.nn.Linear(4, 2))
    ...     arrays, metadata = cc.checkpoint.load_arrays(path)
    >>> sorted(arrays), arrays["weight"].shape, metadata
    (['bias', 'weight'], (2, 4), {})
    """
    arrays, content = _read("load_arrays", path)
    return arrays, content.get("metadata") or {}


# ------------------------------------------------------------------ the format


def _write(
    where: str,
    path: FilePath,
    arrays: Mapping[str, Any],
    config: dict[str, Any] | None,
    metadata: Mapping[str, Any] | None,
) -> None:
    import json  # it and safetensors only here: importing cyconv is to be quick

    from safetensors import numpy as safetensors

    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"{where}: metadata must be a dict, got {type(metadata).__name__}")
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{where}: arrays must be a dict, got {type(arrays).__name__}")
    try:
        text = json.dumps({"config": config, "metadata": dict(metadata or {})})[1:]
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{where}: metadata must be what JSON can hold ({error})") from None
    ready = {name: _storable(where, name, value) for name, value in arrays.items()}
    text = f'{{"crc32": "{_checksum(text, ready)}", {text}'
    write_file(where, path, safetensors.save(ready, {"cyconv": text}))


def _storable(where: str, name: Any, value: Any) -> np.ndarray:
    """An array in C order and native bytes, which is what the format's writer expects."""
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"{where}: {name!r} cannot be the name of an array")
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"{where}: {name} has dtype {array.dtype}, which the file cannot hold")
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _read(where: str, path: FilePath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a safetensors file, and what stands under "cyconv" in its metadata."""
    import json

    from safetensors import SafetensorError
    from safetensors import numpy as safetensors

    data, header_size = _bytes_of(where, path)
    try:
        arrays = safetensors.load(data)
        header = json.loads(data[8 : 8 + header_size])
        texts = header.get("__metadata__") or {}
        content = json.loads(texts.get("cyconv", "{}"))
    except (SafetensorError, ValueError, KeyError, RecursionError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where}: {path} is damaged or no safetensors file ({reason})") from None
    if not isinstance(content, dict) or not isinstance(content.get("metadata", {}), dict):
        raise ValueError(f"{where}: {path} has unreadable metadata")
    if "crc32" in content:
        text = texts["cyconv"].partition('", ')[2]
        if content["crc32"] != _checksum(text, arrays):
            raise ValueError(f"{where}: {path} is damaged: its contents do not match its checksum")
    return arrays, content


def _bytes_of(where: str, path: FilePath) -> tuple[bytes, int]:
    """The whole file and its header's size; a file that cannot be safetensors is not read."""
    file_path = path_in(f"{where}: path", path)
    if file_path.exists() and not file_path.is_file():
        raise ValueError(f"{where}: {path} is not a regular file")
    with open(file_path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        header_size = int.from_bytes(start, "little")
        if not 2 <= header_size <= min(size - 8, MOST_HEADER_BYTES):
            raise ValueError(
                f"{where}: {path} is damaged or no safetensors file ({size} bytes, header of "
                f"{header_size})"
            )
        return start + file.read(), header_size


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.tobytes(), crc)
    return f"{crc:08x}"
