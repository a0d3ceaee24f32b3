"""``gluon.data``: data sets and mini-batches of NDArrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cyconv.arguments import integer
from cyconv.random import generator

from ...ndarray import WIDER, NDArray, array
from ...ndarray.array import together
from . import vision  # noqa: F401


class ArrayDataset:
    """Arrays of one length; sample i is a tuple of their elements, or of one array the element."""

    def __init__(self, *arrays: Any):
        if len({len(a) for a in arrays}) != 1:
            raise ValueError(f"ArrayDataset: lengths must be equal, got {[len(a) for a in arrays]}")
        # samples that are one number are NumPy's
        self._arrays = [np.asarray(a) if np.ndim(a) == 1 else a for a in arrays]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: Any) -> Any:
        sample = tuple(a[index] for a in self._arrays)
        return sample if len(sample) > 1 else sample[0]


def _batch(samples: Any) -> Any:
    """Arrays along a new first axis; of tuples a list of such batches."""
    if isinstance(samples[0], (tuple, list)):
        return [_batch(column) for column in zip(*samples)]
    if isinstance(samples[0], NDArray):
        return together(samples)
    values = np.asarray(samples)
    return array(values, dtype=WIDER.get(values.dtype.name, values.dtype))


class DataLoader:
    """Mini-batches; each ``for`` loop is an epoch. ``mx.random.seed`` restarts the order, too.

    ``last_batch``: "keep" a smaller last one, "discard" it, or "rollover" it to the next epoch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = False,
        last_batch: str = "keep",
        num_workers: int = 0,
    ):
        if last_batch not in ("keep", "discard", "rollover"):
            raise ValueError(f"DataLoader: unknown {last_batch=}")
        self._dataset, self._size = dataset, integer("DataLoader: batch_size", batch_size, 1)
        self._shuffle, self._last_batch, self._left = shuffle, last_batch, np.arange(0)

    def __len__(self) -> int:
        full, rest = divmod(len(self._left) + len(self._dataset), self._size)
        return full + (rest > 0 and self._last_batch == "keep")

    def __iter__(self) -> Iterator[Any]:
        n, end = len(self._dataset), len(self) * self._size
        order = generator().permutation(n) if self._shuffle else np.arange(n)
        order = np.concatenate([self._left, order])
        self._left = order[end:] if self._last_batch == "rollover" else order[:0]
        for start in range(0, end, self._size):
            yield _batch([self._dataset[i] for i in order[start : start + self._size].tolist()])
