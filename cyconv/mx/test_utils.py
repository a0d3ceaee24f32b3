"""``mxnet.test_utils``: what the book takes from it."""

import numpy as np

from cyconv import data

from .gluon.data import vision


def list_gpus() -> list[int]:
    """The numbers of the GPUs: there are none."""
    return []


def get_mnist() -> dict[str, np.ndarray]:
    """MNIST as float32 images (n, 1, 28, 28) from 0 to 1 and int8 labels, of training and test."""
    (x, y), (test_x, test_y) = (vision.load(data.MNIST, train) for train in (True, False))
    images, labels = ([x / np.float32(255), test_x / np.float32(255)], [y, test_y])
    return {
        "train_data": images[0],
        "train_label": labels[0].astype(np.int8),
        "test_data": images[1],
        "test_label": labels[1].astype(np.int8),
    }
