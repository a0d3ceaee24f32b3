"""Files that stand in their place whole or not at all, whatever happens meanwhile.

What is written goes to a hidden temporary file in the same folder, is flushed to the disk, and
takes its place by a rename. After a crash or kill -9 at any moment the file is the old one or the
new one, and a hidden ``.*.tmp*`` may be left over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

FilePath = str | os.PathLike[str]


def path_in(where: str, path: Any) -> Path:
    """``path`` as a Path; ``where`` begins the message if it is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{where} must be a str or a Path, got {path!r}")
    if path == "":
        raise ValueError(f"{where} is empty")
    return Path(path)


class PartFile:
    """A temporary file, open as ``file``, which ``commit`` moves to its place."""

    def __init__(self, target: Path):
        self.target = Path(os.path.realpath(target))  # a link stays a link
        # the target's ending stays: it tells whether the file is gzipped
        name = f".{self.target.stem}.{os.urandom(4).hex()}.tmp{self.target.suffix}"
        self.name = self.target.with_name(name)
        self.file: IO[bytes] = open(self.name, "xb", buffering=0)  # noqa: SIM115

    def commit(self) -> None:
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.name, self.target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name must reach the disk too
            finally:
                os.close(folder)


def remove_left_over(target: Path) -> None:
    """Remove what processes left over that were killed while they wrote ``target``."""
    stem, suffix = re.escape(target.stem), re.escape(target.suffix)
    for path in target.parent.iterdir():
        if re.fullmatch(rf"\.{stem}\.[0-9a-f]{{8}}\.tmp{suffix}", path.name):
            with suppress(OSError):
                path.unlink()


@contextmanager
def atomic_file(target: Path) -> Iterator[PartFile]:
    """A new file to write into; it becomes ``target`` by ``commit``, and else leaves no trace."""
    part = PartFile(target)
    try:
        yield part
    finally:
        part.file.close()
        with suppress(OSError):  # there is none after a commit
            os.unlink(part.name)


def write_file(where: str, path: FilePath, data: bytes) -> None:
    """Write a whole file; OSError, naming ``where``, without its folder or if it is a folder."""
    target = path_in(f"{where}: path", path)
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{where}: folder {folder} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"{where}: {path} is a folder")
    with atomic_file(target) as part:
        rest = memoryview(data)
        while rest:
            rest = rest[part.file.write(rest) :]
        part.commit()
