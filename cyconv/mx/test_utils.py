"""``mxnet.test_utils``: what the book takes from it."""

import numpy as np

from cyconv import data

from .gluon.data import vision


def list_gpus() -> list[int]:
    return []


def get_mnist() -> dict[str, np.ndarray]:
    """MNIST as float32 images (n, 1, 28, 28) from 0 to 1 and int8 labels (n,)."""
    found: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        images, labels = vision.load(data.MNIST, part == "train")
        found |= {f"{part}_data": images / np.float32(255), f"{part}_label": labels.astype(np.int8)}
    return found
