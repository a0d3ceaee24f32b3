"""IDX, the file format of MNIST, and the reading of files that cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC_UBYTE = 0x08  # third byte of an IDX file: the elements are unsigned bytes


@dataclass(frozen=True)
class KnownFile:
    """A file of a published data set.

    ``size`` and ``sha256`` are those of the content, unpacked; ``gz_sha256`` is that of the gzip
    file as it is published. A hash that nobody published is "".
    """

    name: str
    size: int
    sha256: str = ""
    gz_sha256: str = ""


def gz_limit(size: int) -> int:
    """The most bytes that ``size`` bytes take, gzipped: deflate adds less than a thousandth."""
    return size + size // 1000 + 4096


def read_idx(
    path: Path, label: str = "", *, known: KnownFile, shape: tuple[int, ...]
) -> np.ndarray:
    """The uint8 array in an IDX file, raw or gzipped, that has to be the ``known`` one.

    Errors name ``label``, or the path. What the header says is compared with ``shape`` and believed
    in nothing. ValueError for content of another size, header or hash.
    """
    label = label or str(path)
    content = read_content(path, known, label)
    start = 4 + 4 * len(shape)
    header = bytes(content[:start])
    magic = bytes([0, 0, _MAGIC_UBYTE, len(shape)])
    if header[:4] != magic:
        raise ValueError(
            f"{label}: not an IDX file of {len(shape)}-dimensional bytes: it should begin with "
            f"{magic.hex()}, found {header[:4].hex()}"
        )
    found = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    if found != shape:
        raise ValueError(f"{label}: the header says shape {found}, expected {shape}")
    check_content(content, known, label)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_content(path: Path, known: KnownFile, label: str) -> bytearray:
    """The content of a raw or gzipped file: exactly ``known.size`` bytes, or ValueError."""
    import gzip  # here and below: reading is rare, and ``import cyconv`` should be quick
    import zlib

    with open(path, "rb") as file:
        if path.suffix != ".gz":
            return read_exactly(file, known.size, label)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                content = read_exactly(unpacked, known.size, label)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{label}: the gzip file is damaged or cut off ({error}); expected {known.size} "
                "bytes, gzipped"
            ) from None
    if known.gz_sha256 and not known.sha256:
        check_file(path, known.gz_sha256, label)
    return content


def read_exactly(stream: Any, size: int, label: str) -> bytearray:
    """All of a stream that has to hold ``size`` bytes; ValueError, and no more memory, if not."""
    content = bytearray(size)
    view = memoryview(content)
    filled = 0
    while filled < size:
        count = stream.readinto(view[filled:])
        if not count:
            raise ValueError(f"{label}: cut off: expected {size} bytes of content, found {filled}")
        filled += count
    if stream.read(1):
        raise ValueError(f"{label}: expected {size} bytes of content, found more")
    return content


def check_content(content: bytearray, known: KnownFile, label: str) -> None:
    """ValueError if the SHA-256 of the content is known and another one."""
    import hashlib

    _compare(hashlib.sha256(content).hexdigest(), known.sha256, "content", label)


def check_file(path: Path, sha256: str, label: str) -> None:
    """ValueError if the SHA-256 of the file itself is another one than ``sha256``."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    _compare(digest.hexdigest(), sha256, "file", label)


def _compare(found: str, expected: str, what: str, label: str) -> None:
    if expected and found != expected:
        raise ValueError(
            f"{label}: the {what} is damaged or another one: expected SHA-256 {expected}, "
            f"found {found}"
        )
