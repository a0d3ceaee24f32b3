"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in ten classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..arguments import flag
from .dataset import ArrayDataset
from .fetch import Location
from .idx import KnownFile, check_content, check_file, read_content, read_exactly

MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_SIZE = 170_052_171
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_FOLDER = "cifar-10-batches-bin"  # in the archive
_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, the green and the blue plane
_FILE_SIZE = 10_000 * _RECORD
TRAIN = (
    KnownFile(
        "data_batch_1.bin",
        _FILE_SIZE,
        sha256="cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    ),
    KnownFile(
        "data_batch_2.bin",
        _FILE_SIZE,
        sha256="a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    ),
    KnownFile(
        "data_batch_3.bin",
        _FILE_SIZE,
        sha256="bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    ),
    KnownFile(
        "data_batch_4.bin",
        _FILE_SIZE,
        sha256="014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    ),
    KnownFile(
        "data_batch_5.bin",
        _FILE_SIZE,
        sha256="755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    ),
)
TEST = (
    KnownFile(
        "test_batch.bin",
        _FILE_SIZE,
        sha256="8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ),
)
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class CIFAR10(ArrayDataset):
    """Photographs of animals and vehicles: 50,000 images to train with and 10,000 to test.

    ``images`` is uint8 (n, 3, 32, 32), red, green and blue; ``labels`` int64 (n,). Needed is the
    "binary version": ``cifar-10-binary.tar.gz``, or the ``.bin`` files in it. In each folder that
    is searched it may lie in ``cifar10``, in the folder itself, or in ``cifar-10-batches-bin`` in
    either.

    Parameters
    ----------
    train : the images to train with, else those to test
    root : the folder to search; if not given the one that CYCONV_DATA_DIR names, and the user's
        cache
    download : whether the archive (170 MB) may be downloaded

    Raises
    ------
    TypeError : train or download is no bool, or root neither str nor Path
    FileNotFoundError : it is nowhere; says where it belongs
    ValueError : it is damaged: it is checked by SHA-256

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> import cyconv as cc
    >>> try:
    ...     cc.data.CIFAR10(root="no such folder", download=False)
    ... except FileNotFoundError as error:
    ...     print(str(error)[:40])
    CIFAR10: there is no cifar-10-binary.tar
    """

    def __init__(
        self,
        train: bool = True,
        root: str | os.PathLike[str] | None = None,
        download: bool = True,
    ):
        files = TRAIN if flag("CIFAR10: train", train) else TEST
        location = Location("CIFAR10", "cifar10", MIRRORS, root, download)
        contents, source = _load(location, files)
        records = np.concatenate(
            [np.frombuffer(c, np.uint8).reshape(-1, _RECORD) for c in contents]
        )
        labels = records[:, 0].astype(np.int64)
        if labels.size and labels.max() >= len(CLASSES):
            raise ValueError(
                f"CIFAR10: the files in {source} are damaged: a label is {labels.max()}, expected "
                "0 to 9"
            )
        images = records[:, 1:].reshape(-1, 3, 32, 32)  # copied: rows without the label
        super().__init__(images, labels, classes=CLASSES, source=source)


def _load(location: Location, files: tuple[KnownFile, ...]) -> tuple[list[bytearray], str]:
    """The contents of the ``.bin`` files, and where they lie."""
    paths = [location.find(known.name, f"{_FOLDER}/{known.name}") for known in files]
    found = [path for path in paths if path is not None]
    if len(found) == len(files):
        return [_read_raw(path, known) for path, known in zip(found, files)], str(found[0].parent)

    def read(path: Path, label: str) -> list[bytearray]:
        return _read_archive(path, files, label)

    archive = location.find(ARCHIVE)
    if archive is not None:
        return read(archive, str(archive)), str(archive)
    return location.download(ARCHIVE, ARCHIVE_SIZE, read), str(location.target / ARCHIVE)


def _read_raw(path: Path, known: KnownFile) -> bytearray:
    content = read_content(path, known, str(path))
    check_content(content, known, str(path))
    return content


def _read_archive(path: Path, files: tuple[KnownFile, ...], label: str) -> list[bytearray]:
    """The wanted members of the archive, which is opened only if it is the published one."""
    import gzip
    import tarfile

    size = os.path.getsize(path)
    if size != ARCHIVE_SIZE:
        raise ValueError(f"{label}: expected {ARCHIVE_SIZE} bytes, found {size}")
    check_file(path, ARCHIVE_SHA256, label)
    contents = {}
    wanted = {f"{_FOLDER}/{known.name}": known for known in files}
    # Read as a stream: in any order, unpacked once.
    with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.name in wanted else None
            if stream is not None:
                contents[member.name] = read_exactly(stream, wanted[member.name].size, label)
    missing = sorted(set(wanted) - set(contents))
    if missing:
        raise ValueError(f"{label}: there is no {', '.join(missing)} in the archive")
    return [contents[name] for name in wanted]
