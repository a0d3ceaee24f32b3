"""Data sets, which are anything with ``len(d)`` and ``d[i] -> (image, label)``; parts of them."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

import numpy as np

from ..arguments import integer

D = TypeVar("D", "ArrayDataset", "Subset")

IMAGE_DTYPES = ("uint8", "float32", "float64")


class Dataset(Protocol):
    """What a loader needs: a length, and by index an image (C, H, W) and its label.

    Images are uint8 (pixels 0 to 255), float32 or float64. Any class with these two methods is one:

    >>> import numpy as np
    >>> import cyconv as cc
    >>> class Stripes:  # a cc.data.Dataset
    ...     def __len__(self):
    ...         return 100
    ...     def __getitem__(self, i):
    ...         return np.eye(8, dtype="float32")[None] * i, i % 2
    >>> images, labels = next(iter(cc.data.DataLoader(Stripes(), batch_size=16)))
    >>> images.shape, labels[:4]
    ((16, 1, 8, 8), array([0, 1, 0, 1]))
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...


class ArrayDataset:
    """Images and labels that lie in memory.

    ``d[i]`` is (image, label): a uint8 image becomes float32 in [0, 1], each pixel divided by 255;
    a float image stays as it is. The label is a number for labels of shape (n,).

    Parameters
    ----------
    images : (n, C, H, W), or (n, ...) of any other shape, of dtype uint8 (pixels 0 to 255), float32
        or float64; an array is not copied
    labels : (n,), or (n, ...) for other targets than classes; integers become int64, floats stay
    classes : the names of the labels, if they have some
    source : in words, where the data came from

    Raises
    ------
    TypeError : another dtype; classes is no list of names
    ValueError : another shape, or lengths that differ

    >>> import numpy as np
    >>> import cyconv as cc
    >>> d = cc.data.ArrayDataset(np.full((5, 1, 2, 2), 255, "uint8"), [3, 1, 4, 1, 5])
    >>> image, label = d[2]
    >>> len(d), image.tolist(), label
    (5, [[[1.0, 1.0], [1.0, 1.0]]], 4)
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        classes: Iterable[str] = (),
        source: str = "arrays",
    ):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype.name not in IMAGE_DTYPES:
            raise TypeError(
                f"ArrayDataset: images must be {', '.join(IMAGE_DTYPES)}, got {images.dtype}"
            )
        if labels.dtype.kind not in "iuf":
            raise TypeError(f"ArrayDataset: labels must be integers or floats, got {labels.dtype}")
        if images.ndim < 2 or labels.ndim < 1:
            raise ValueError(
                "ArrayDataset: expected images of shape (n, ...) and labels of shape (n,), "
                f"got {images.shape} and {labels.shape}"
            )
        if len(images) != len(labels):
            raise ValueError(
                f"ArrayDataset: {len(images)} images but {len(labels)} labels "
                f"(shapes {images.shape} and {labels.shape})"
            )
        if isinstance(classes, str) or not isinstance(classes, Iterable):
            raise TypeError(f"ArrayDataset: classes must be a list of names, got {classes!r}")
        kind = np.int64 if labels.dtype.kind in "iu" else labels.dtype.newbyteorder("=")
        self.images = images.astype(images.dtype.newbyteorder("="), copy=False)
        self.labels = labels.astype(kind, copy=False)
        self.classes = tuple(classes)
        self.source = source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        i = _position("ArrayDataset", index, len(self))
        label = self.labels[i]
        return as_float(self.images[i]), label.item() if self.labels.ndim == 1 else label

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} images of shape {self.images.shape[1:]}, "
            f"{self.images.dtype}, from {self.source})"
        )


class Subset:
    """The samples of ``dataset`` at ``indices``, in that order; ``Subset(d, range(1000))`` limits.

    Nothing is copied. ``images`` and ``labels`` are there if the data set has them, gathered anew
    at each use.

    Parameters
    ----------
    dataset : a ``Dataset``
    indices : integers from 0 to len(dataset) - 1, each as often as wanted

    Raises
    ------
    TypeError : an index is no integer; dataset has no length or no index
    ValueError : an index is out of that range, or indices are no flat list

    >>> import cyconv as cc
    >>> digits = cc.data.MNIST.built_in()
    >>> threes = cc.data.Subset(digits, (digits.labels == 3).nonzero()[0])
    >>> len(threes), threes.images.shape, set(threes.labels.tolist()), threes.classes[3]
    (1032, (1032, 1, 28, 28), {3}, '3')
    >>> threes.source
    'built-in first 10,000 of the 60,000 training images'
    """

    def __init__(self, dataset: Dataset, indices: Iterable[int] | np.ndarray):
        length = length_of("Subset", dataset)
        if not isinstance(indices, Iterable):
            raise TypeError(f"Subset: indices must be a list of integers, got {indices!r}")
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
        if chosen.ndim != 1:
            raise ValueError(
                f"Subset: indices must be a list of integers, got shape {chosen.shape}"
            )
        if chosen.size and chosen.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be integers, got {chosen.dtype}")
        outside = chosen[(chosen < 0) | (chosen >= length)]
        if outside.size:
            raise ValueError(
                f"Subset: index {outside[0]} is outside a data set of {length} samples"
            )
        self.dataset = dataset
        self.indices = chosen.astype(np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.dataset[int(self.indices[_position("Subset", index, len(self))])]

    @property
    def images(self) -> np.ndarray:
        """(n, C, H, W), copied; AttributeError if the data set has none."""
        return self._whole("images")[self.indices]

    @property
    def labels(self) -> np.ndarray:
        """(n,), copied; AttributeError if the data set has none."""
        return self._whole("labels")[self.indices]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, those of the whole data set; () if it has none."""
        return getattr(self.dataset, "classes", ())

    @property
    def source(self) -> str:
        """In words, where the whole data set came from; its class if it does not say."""
        return getattr(self.dataset, "source", type(self.dataset).__name__)

    def _whole(self, name: str) -> np.ndarray:
        values: np.ndarray = getattr(self.dataset, name)
        return values

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"


def random_split(dataset: Dataset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Cut a data set at random into disjoint parts.

    Parameters
    ----------
    dataset : a ``Dataset``
    lengths : the numbers of samples, which sum to ``len(dataset)``, or fractions in [0, 1], which
        sum to 1; what rounding leaves over goes to the first parts, one sample each
    seed : int, at least 0; the same seed gives the same parts

    Returns
    -------
    A list of ``Subset``, one for each length.

    Raises
    ------
    TypeError : a length is no number, or seed no integer; dataset has no length or no index
    ValueError : lengths that do not sum up, or are below 0; no length; seed below 0

    >>> import cyconv as cc
    >>> train, test = cc.data.random_split(cc.data.MNIST.built_in(), [0.9, 0.1])
    >>> len(train), len(test)
    (9000, 1000)
    """
    total = length_of("random_split", dataset)
    if isinstance(lengths, (str, bytes)) or not isinstance(lengths, Iterable):
        raise TypeError(f"random_split: lengths must be a list of numbers, got {lengths!r}")
    parts = list(lengths)
    if not parts:
        raise ValueError("random_split: lengths is empty")
    if not all(isinstance(part, numbers.Real) and not isinstance(part, bool) for part in parts):
        raise TypeError(f"random_split: lengths must be numbers, got {parts}")
    if any(not 0 <= part < math.inf for part in parts):
        raise ValueError(f"random_split: lengths must be at least 0 and finite, got {parts}")
    if all(isinstance(part, numbers.Integral) for part in parts) and sum(parts) == total:
        sizes = [int(part) for part in parts]
    elif math.isclose(sum(parts), 1.0, abs_tol=1e-6):
        sizes = [math.floor(part / sum(parts) * total + 1e-9) for part in parts]
        for k in range(total - sum(sizes)):
            sizes[k % len(sizes)] += 1
    else:
        raise ValueError(
            f"random_split: lengths {parts} sum to {sum(parts)}, but must sum to the {total} "
            "samples or, as fractions, to 1"
        )
    order = np.random.default_rng(integer("random_split: seed", seed, 0)).permutation(total)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def gather(dataset: Dataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples at ``indices`` as images (N, C, H, W), not yet scaled if uint8, and labels (N,).

    One vectorised step for arrays and their subsets. A class that gives ``d[i]`` its own meaning is
    asked sample by sample.
    """
    if _is_plain(dataset, Subset):
        return gather(dataset.dataset, dataset.indices[indices])
    if _is_plain(dataset, ArrayDataset):
        return dataset.images.take(indices, axis=0), dataset.labels.take(indices, axis=0)
    samples = [_sample(dataset, int(i)) for i in indices]
    return stack("dataset", [image for image, _ in samples]), np.asarray([y for _, y in samples])


def _sample(dataset: Dataset, i: int) -> tuple[Any, Any]:
    sample = dataset[i]
    try:
        image, label = sample
    except (TypeError, ValueError):
        raise TypeError(
            f"DataLoader: the dataset must give pairs (image, label), got {type(sample).__name__} "
            f"at index {i}"
        ) from None
    return image, label


def length_of(where: str, dataset: Any) -> int:
    """The number of samples; TypeError for what is no data set."""
    try:
        if hasattr(dataset, "__getitem__"):
            return len(dataset)
    except TypeError:  # a class in place of its instance, or an array of shape ()
        pass
    raise TypeError(
        f"{where}: dataset must have a length and an index, got {type(dataset).__name__}"
    )


def in_memory(dataset: Dataset) -> bool:
    """Whether ``gather`` takes a batch from this data set in one step."""
    while _is_plain(dataset, Subset):
        dataset = dataset.dataset
    return _is_plain(dataset, ArrayDataset)


def stack(what: str, images: Sequence[Any]) -> np.ndarray:
    """Images of one shape (C, H, W) as one array (N, C, H, W)."""
    arrays = [np.asarray(image) for image in images]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"DataLoader: the {what} gave images of different shapes in one batch: "
                f"{arrays[0].shape} and, at place {i}, {array.shape}"
            )
        if array.dtype.name not in IMAGE_DTYPES:
            raise TypeError(
                f"DataLoader: the {what} gave an image of dtype {array.dtype}; "
                f"expected {', '.join(IMAGE_DTYPES)}"
            )
    return np.stack(arrays)


def as_float(images: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """uint8 pixels divided by 255, as ``dtype``; float images as they are."""
    if images.dtype != np.uint8:
        return images
    scaled: np.ndarray = np.divide(images, np.asarray(255, dtype), dtype=dtype)
    return scaled


def _is_plain(dataset: Any, kind: type[D]) -> TypeGuard[D]:
    """An instance of ``kind`` whose class did not give ``d[i]`` another meaning."""
    return isinstance(dataset, kind) and type(dataset).__getitem__ is kind.__getitem__


def _position(where: str, index: Any, length: int) -> int:
    try:
        i = operator.index(index)
    except TypeError:
        raise TypeError(
            f"{where}: the index must be an integer, got {index!r}; for a part use Subset"
        ) from None
    if not -length <= i < length:
        raise IndexError(f"{where}: index {i} is outside a data set of {length} samples")
    return i
