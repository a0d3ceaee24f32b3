"""Make the MNIST images that lie in the package, from the full MNIST.

    CYCONV_DATA_DIR=folder/with/mnist python tools/make_builtin_mnist.py

writes the first 10,000 training and the first 2,000 test images, with their labels, as gzipped
IDX files into cyconv/data, and prints their sizes and SHA-256 for cyconv/data/mnist.py. gzip and
not xz, which would save 0.3 MB of 1.9: Pythons built without liblzma are common, without zlib
unheard of.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cyconv.data.mnist import BUILT_IN_TEST, BUILT_IN_TRAIN, MNIST  # noqa: E402


def gzipped(content: bytes) -> bytes:
    """A gzip file of the content, with no time in it, packed as small as zlib can."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits=31, memLevel=9)
    return packer.compress(content) + packer.flush()


def idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def main() -> None:
    for train, files in ((True, BUILT_IN_TRAIN), (False, BUILT_IN_TEST)):
        full = MNIST(train, download=False)
        if len(full) != (60_000 if train else 10_000):
            sys.exit("the full MNIST is needed: set CYCONV_DATA_DIR to the folder it lies in")
        n = files[1].size - 8
        for known, array in zip(files, (full.images[:n, 0], full.labels[:n])):
            content = idx(array)
            packed = gzipped(content)
            (HERE.parent / "cyconv" / "data" / f"{known.name}.gz").write_bytes(packed)
            digest = hashlib.sha256(content).hexdigest()
            print(f"{known.name}: {len(content)} bytes, {len(packed)} gzipped, sha256 {digest}")


if __name__ == "__main__":
    main()
