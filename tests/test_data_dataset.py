"""Data sets in memory, their parts, and the augmentations."""

import numpy as np
import pytest

from cyconv.data import ArrayDataset, HorizontalFlip, RandomCrop, Subset, random_split
from cyconv.data.dataset import gather

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (10, 3, 5, 4), dtype=np.uint8)
LABELS = np.arange(10) % 3


def test_uint8_images_are_scaled_by_true_division():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    image, label = ArrayDataset(pixels, [7])[0]
    assert image.dtype == np.float32 and image.shape == (1, 16, 16)
    np.testing.assert_array_equal(image.ravel(), np.arange(256, dtype=np.float32) / np.float32(255))
    assert label == 7 and type(label) is int


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_float_images_are_kept(dtype):
    values = RNG.normal(size=(4, 2, 3, 3)).astype(dtype)
    data = ArrayDataset(values, np.zeros(4, np.int32))
    np.testing.assert_array_equal(data[1][0], values[1])
    assert data[1][0].dtype == np.dtype(dtype).newbyteorder("=")
    assert data.labels.dtype == np.int64


def test_native_arrays_are_not_copied():
    data = ArrayDataset(PIXELS, LABELS)
    assert np.shares_memory(data.images, PIXELS) and np.shares_memory(data.labels, LABELS)


def test_targets_that_are_no_classes():
    targets = RNG.normal(size=(10, 2)).astype(np.float32)
    data = ArrayDataset(PIXELS, targets)
    np.testing.assert_array_equal(data[3][1], targets[3])
    assert data.labels.dtype == np.float32
    assert ArrayDataset(PIXELS, targets[:, 0])[2][1] == targets[2, 0]


def test_index_counts_from_the_end_and_iteration_stops():
    data = ArrayDataset(PIXELS, LABELS)
    assert data[-1][1] == data[9][1] and len(list(data)) == 10
    for bad in (10, -11):
        with pytest.raises(IndexError, match=f"{bad} is outside a data set of 10"):
            data[bad]
    for bad in (slice(3), 1.0, [1, 2], None):
        with pytest.raises(TypeError, match="must be an integer"):
            data[bad]


@pytest.mark.parametrize(
    "images, labels, error, message",
    [
        (PIXELS, LABELS[:9], ValueError, "10 images but 9 labels"),
        (PIXELS, 3, ValueError, "labels of shape"),
        (PIXELS[0, 0, 0], LABELS[:4], ValueError, "images of shape"),
        (PIXELS.astype(np.int64), LABELS, TypeError, "got int64"),
        (PIXELS.astype(np.float16), LABELS, TypeError, "got float16"),
        (PIXELS > 3, LABELS, TypeError, "got bool"),
        (PIXELS, ["a"] * 10, TypeError, "labels must be"),
        (PIXELS, LABELS > 1, TypeError, "got bool"),
    ],
)
def test_arrays_that_do_not_fit(images, labels, error, message):
    with pytest.raises(error, match=f"ArrayDataset: .*{message}"):
        ArrayDataset(images, labels)


# ---------------------------------------------------------------- parts


def test_subset():
    data = ArrayDataset(PIXELS, LABELS, classes=("a", "b", "c"), source="here")
    part = Subset(data, [7, 2, 2])
    assert len(part) == 3 and part.classes == ("a", "b", "c") and part.source == "here"
    np.testing.assert_array_equal(part.images, PIXELS[[7, 2, 2]])
    np.testing.assert_array_equal(part.labels, LABELS[[7, 2, 2]])
    np.testing.assert_array_equal(part[0][0], data[7][0])
    np.testing.assert_array_equal(part[-1][0], data[2][0])
    nested = Subset(part, range(1))
    np.testing.assert_array_equal(gather(nested, np.array([0]))[0], PIXELS[[7]])
    assert len(Subset(data, [])) == 0 and len(Subset(data, range(10))) == 10
    with pytest.raises(IndexError):
        part[3]


@pytest.mark.parametrize(
    "indices, error",
    [
        ([10], ValueError),
        ([-1], ValueError),
        ([0.5], TypeError),
        ([True], TypeError),
        (np.zeros((2, 2), int), ValueError),
        (LABELS > 1, TypeError),
    ],
)
def test_subset_with_bad_indices(indices, error):
    with pytest.raises(error, match="Subset"):
        Subset(ArrayDataset(PIXELS, LABELS), indices)


def test_a_class_that_changes_its_samples_is_asked_for_them():
    class Inverted(ArrayDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return 1 - image, label

    data = Inverted(PIXELS, LABELS)
    for d in (data, Subset(data, range(10))):
        images, _ = gather(d, np.array([4, 1]))
        np.testing.assert_array_equal(images, np.stack([data[4][0], data[1][0]]))


@pytest.mark.parametrize(
    "lengths, sizes",
    [
        ([7, 3], [7, 3]),
        ([10, 0], [10, 0]),
        ([0.7, 0.3], [7, 3]),
        ([0.5, 0.25, 0.25], [6, 2, 2]),
        ([1 / 3] * 3, [4, 3, 3]),
        ([1.0], [10]),
        (np.array([4, 6]), [4, 6]),
    ],
)
def test_random_split(lengths, sizes):
    data = ArrayDataset(PIXELS, LABELS)
    parts = random_split(data, lengths, seed=3)
    assert [len(p) for p in parts] == sizes
    together = np.concatenate([p.indices for p in parts])
    assert sorted(together) == list(range(10))
    again = np.concatenate([p.indices for p in random_split(data, lengths, seed=3)])
    other = np.concatenate([p.indices for p in random_split(data, lengths, seed=4)])
    np.testing.assert_array_equal(together, again)
    assert together.tolist() != list(range(10)) and together.tolist() != other.tolist()


@pytest.mark.parametrize(
    "lengths, error",
    [
        ([7, 4], ValueError),
        ([5.0, 5.0], ValueError),
        ([-1, 11], ValueError),
        ([0.5, 0.6], ValueError),
        ([float("nan"), 1.0], ValueError),
        ([float("inf")], ValueError),
        ([], ValueError),
        ("ab", TypeError),
        (5, TypeError),
        ([True], TypeError),
        ([None], TypeError),
    ],
)
def test_random_split_with_bad_lengths(lengths, error):
    with pytest.raises(error, match="random_split: length"):
        random_split(ArrayDataset(PIXELS, LABELS), lengths)


def test_random_split_with_a_bad_seed():
    with pytest.raises(ValueError, match="seed"):
        random_split(ArrayDataset(PIXELS, LABELS), [10], seed=-1)


# ---------------------------------------------------------------- augmentations


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_random_crop_equals_padding_and_cropping(dtype):
    images = RNG.integers(1, 256, (200, 2, 6, 5)).astype(dtype)
    before = images.copy()
    out = RandomCrop(2)(images, np.random.default_rng(5))
    assert out.shape == images.shape and out.dtype == images.dtype
    np.testing.assert_array_equal(images, before)
    seen = set()
    for image, got in zip(images, out):
        padded = np.zeros((2, 10, 9), dtype)
        padded[:, 2:8, 2:7] = image
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(padded[:, i : i + 6, j : j + 5], got)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25  # each shift occurs in 200 images
    np.testing.assert_array_equal(RandomCrop(0)(images, np.random.default_rng(5)), images)


def test_horizontal_flip():
    images = RNG.integers(0, 256, (1000, 1, 3, 4), dtype=np.uint8)
    before = images.copy()
    out = HorizontalFlip()(images, np.random.default_rng(6))
    np.testing.assert_array_equal(images, before)
    kept = (out == images).all(axis=(1, 2, 3))
    turned = (out == images[..., ::-1]).all(axis=(1, 2, 3))
    assert (kept | turned).all() and 400 < kept.sum() < 600
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(HorizontalFlip(0.0)(images, rng), images)
    np.testing.assert_array_equal(HorizontalFlip(1.0)(images, rng), images[..., ::-1])


@pytest.mark.parametrize("make", [lambda: RandomCrop(-1), lambda: HorizontalFlip(1.5)])
def test_bad_augmentations(make):
    with pytest.raises(ValueError, match="must be"):
        make()
    with pytest.raises(TypeError, match="RandomCrop: padding must be an integer"):
        RandomCrop(1.5)
