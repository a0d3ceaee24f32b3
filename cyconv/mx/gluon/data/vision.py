"""``gluon.data.vision``: published data sets, from where ``cyconv.data`` finds or loads them."""

import os
from typing import Any

import numpy as np

from cyconv import data

from ...ndarray.array import Sample


def load(kind: Any, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (n, C, H, W) and int labels (n,), at most CYCONV_BOOK_LIMIT of them."""
    dataset, limit = kind(train=train), os.environ.get("CYCONV_BOOK_LIMIT") or None
    if limit and not limit.isdigit():
        raise ValueError(f"CYCONV_BOOK_LIMIT must be a number of images, got {limit!r}")
    part = slice(limit and int(limit))
    return dataset.images[part], dataset.labels[part]


class MNIST:
    """(image, label), uint8 (H, W, C) and NumPy's int32, or what ``transform`` makes of the two.

    ``root`` is not looked at: the files are found, or loaded, as those of the class in ``source``.
    """

    source: Any = data.MNIST

    def __init__(self, root: Any = None, train: bool = True, transform: Any = None):
        images, labels = load(self.source, train)
        self._images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self._labels, self._transform = labels.astype(np.int32), transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: Any) -> Any:
        image, label = Sample(self._images, index), self._labels[index]
        return self._transform(image, label) if self._transform else (image, label)


class FashionMNIST(MNIST):
    source = data.FashionMNIST


class CIFAR10(MNIST):
    source = data.CIFAR10
