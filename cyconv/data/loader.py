"""Mini-batches: shuffled, changed, and delivered in the memory layout that the kernels want."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import flag, integer
from ..creation import float_dtype
from .dataset import IMAGE_DTYPES, Dataset, as_float, gather, in_memory, length_of, stack
from .prefetch import ahead

if TYPE_CHECKING:  # NumPy loads its random part, 10 ms, when it is first named
    from ..tensor import Tensor

    Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

Batch = tuple[np.ndarray, np.ndarray]

# What a random stream is for; part of its seed, so that the streams differ.
_ORDER, _AUGMENT = 0, 1
# Images turned at a time. With more, the pixels read side by side collide in the cache where the
# size of an image is a multiple of a large power of two (3 x 32 x 32 then takes 1.7 times as long).
_BLOCK = 32


class DataLoader:
    """Mini-batches of a data set; iterating gives (images, labels) over and over.

    images is a tensor (N, C, H, W) of ``dtype``, in memory (C, H, W, N); uint8 pixels are divided
    by 255. labels is an array (N,), int64 for integer labels. Each ``for`` loop over the loader is
    an epoch, from 0 on; ``len(loader)`` is the number of its batches.

    Parameters
    ----------
    dataset : a ``Dataset``; from an ``ArrayDataset`` or a ``Subset`` of one a batch is taken in one
        vectorised step
    batch_size : N, at least 1; the last batch is smaller if the length is no multiple
    shuffle : a new order each epoch, which depends on seed and the number of the epoch only
    seed : int, at least 0
    drop_last : leave a smaller last batch out
    augment : one or several functions (images (N, C, H, W), generator) -> images, or None, applied
        in turn to the pixels before they are scaled; the generator, NumPy's, depends on the seed,
        the epoch and the number of the batch only
    transform : function image -> image of one float image (C, H, W), applied to each
    batch_transform : function (images, labels) -> (images, labels) of a whole batch of float arrays
    prefetch : make the next batch in a thread while this one is in use, where it pays: if there is
        an augment, transform or batch_transform, or a data set that is not arrays; the batches are
        the same without
    dtype : float32 or float64

    Raises
    ------
    TypeError : a number that is no integer, a flag that is no bool, a dataset without length or
        index, a function that cannot be called, another dtype; while iterating, a data set or a
        function that gives something else
    ValueError : batch_size or seed out of its range; while iterating, shapes that do not fit

    >>> import cyconv as cc
    >>> loader = cc.data.DataLoader(cc.data.MNIST.built_in(), batch_size=64, shuffle=True)
    >>> for images, labels in loader:
    ...     pass
    >>> len(loader), images.shape, labels.shape  # 10,000 = 156 * 64 + 16
    (157, (16, 1, 28, 28), (16,))
    >>> loader.set_epoch(0)
    >>> again, _ = next(loader.iterate(156))
    >>> bool((again == images).numpy().all())
    True
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 64,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        augment: Augmentation | Sequence[Augmentation] | None = (),
        transform: Callable[[np.ndarray], Any] | None = None,
        batch_transform: Callable[[np.ndarray, np.ndarray], tuple[Any, Any]] | None = None,
        prefetch: bool = True,
        dtype: Any = "float32",
    ):
        length_of("DataLoader", dataset)
        if augment is None:
            augment = ()
        augment = tuple(augment) if isinstance(augment, Iterable) else (augment,)
        for name, function in [
            *(("augment", step) for step in augment),
            ("transform", transform),
            ("batch_transform", batch_transform),
        ]:
            if not callable(function) and (function is not None or name == "augment"):
                raise TypeError(f"DataLoader: {name} must be callable, got {function!r}")
        self.dataset = dataset
        self.batch_size = integer("DataLoader: batch_size", batch_size, 1)
        self.shuffle = flag("DataLoader: shuffle", shuffle)
        self.seed = integer("DataLoader: seed", seed, 0)
        self.drop_last = flag("DataLoader: drop_last", drop_last)
        self.augment = augment
        self.transform = transform
        self.batch_transform = batch_transform
        self.prefetch = flag("DataLoader: prefetch", prefetch)
        self.dtype = float_dtype("DataLoader", dtype)
        self.epoch = 0

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, on which the order and the augmentations depend.

        TypeError or ValueError unless ``epoch`` is an int of at least 0.
        """
        self.epoch = integer("DataLoader: epoch", epoch, 0)

    def __iter__(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        epoch = self.epoch
        self.epoch += 1
        return self._run(epoch, 0)

    def iterate(self, start_batch: int = 0) -> Iterator[tuple[Tensor, np.ndarray]]:
        """The batches of the epoch ``self.epoch`` from number ``start_batch`` (0 to len) on.

        The same as in a whole run through that epoch: a training that was interrupted goes on with
        ``loader.set_epoch(e)`` and ``loader.iterate(k)``. The number of the next epoch stays.
        """
        return self._run(self.epoch, integer("DataLoader: start_batch", start_batch, 0, len(self)))

    def _run(self, epoch: int, start_batch: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        from ..tensor import Tensor

        batches = self._batches(epoch, start_batch)
        if self.prefetch and self._pays():
            batches = ahead(batches)
        with closing(batches):
            for images, labels in batches:
                yield Tensor(images), labels

    def _pays(self) -> bool:
        """Whether a thread that works ahead gains more than handing over its batches costs.

        A batch that is only gathered takes 0.04 to 0.15 ms, less than what the thread costs.
        """
        changed = self.augment or self.transform or self.batch_transform
        return bool(changed) or not in_memory(self.dataset)

    def _batches(self, epoch: int, start_batch: int) -> Generator[Batch, None, None]:
        n = len(self.dataset)
        order = self._rng(epoch, _ORDER).permutation(n) if self.shuffle else np.arange(n)
        for k in range(start_batch, len(self)):
            indices = order[k * self.batch_size : (k + 1) * self.batch_size]
            images, labels = gather(self.dataset, indices)
            if self.augment:
                rng = self._rng(epoch, _AUGMENT, k)
                for step in self.augment:
                    images = np.asarray(step(images, rng))
                if images.shape[:1] != labels.shape[:1]:
                    raise ValueError(
                        f"DataLoader: augment made an array of shape {images.shape} of a batch of "
                        f"{len(labels)} images"
                    )
                if images.dtype.name not in IMAGE_DTYPES:  # int64 would not be scaled
                    raise TypeError(
                        f"DataLoader: augment made an array of dtype {images.dtype}; expected "
                        f"{', '.join(IMAGE_DTYPES)}"
                    )
            if self.transform is not None:
                floats = as_float(images, self.dtype)
                images = stack("transform", [self.transform(image) for image in floats])
            yield self._finish(images, labels)

    def _finish(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        images = batch_last(images, self.dtype)
        if self.batch_transform is not None:
            images, labels = _pair(self.batch_transform(images, labels))
            images = batch_last(images, self.dtype)
        if labels.dtype.kind in "iu":
            labels = labels.astype(np.int64, copy=False)
        return images, labels

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=stream))


def batch_last(images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Images (N, ...) as float ``dtype``, uint8 divided by 255, lying in memory as (..., N)."""
    n, size = len(images), math.prod(images.shape[1:])
    rows = images.reshape(n, size)
    turned = np.empty((size, n), rows.dtype)
    for start in range(0, n, _BLOCK):
        turned[:, start : start + _BLOCK] = rows[start : start + _BLOCK].T  # (N, P) -> (P, N)
    floats = as_float(turned, dtype).astype(dtype, copy=False)
    return np.moveaxis(floats.reshape(*images.shape[1:], n), -1, 0)


def _pair(result: Any) -> Batch:
    """What a batch transform returned, as arrays; a clear error if it is not a batch."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"DataLoader: batch_transform must return (images, labels), got {type(result).__name__}"
        )
    images, labels = np.asarray(result[0]), np.asarray(result[1])
    shapes_fit = images.ndim >= 2 and labels.shape[:1] == images.shape[:1]
    if not shapes_fit or images.dtype.kind != "f":
        raise ValueError(
            "DataLoader: batch_transform must return float images (N, ...) and as many labels, got "
            f"{images.dtype} images of shape {images.shape} and labels of shape {labels.shape}"
        )
    return images, labels
