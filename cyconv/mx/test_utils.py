"""``mxnet.test_utils``: what the book takes from it."""

import numpy as np

from cyconv import data

from .gluon.data import vision

list_gpus = list  # of the numbers of GPUs: there are none


def get_mnist() -> dict[str, np.ndarray]:
    """MNIST as float32 images (n, 1, 28, 28) from 0 to 1 and int8 labels (n,)."""
    parts = {part: vision.load(data.MNIST, part == "train") for part in ("train", "test")}
    found = {f"{part}_data": images / np.float32(255) for part, (images, _) in parts.items()}
    return found | {f"{part}_label": y.astype(np.int8) for part, (_, y) in parts.items()}
