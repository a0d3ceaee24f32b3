"""Wrong arguments of data sets, loaders and augmentations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusal import bad_integer, bad_number, refuses

import cyconv as cc

NO_FLAGS: list[Any] = ["a", "", "False", None, 2, -1, 1.0, math.nan, [], [True], {}, object, 1j]
NO_FLAGS += [np.zeros(2), np.zeros(0), np.array(["a"]), cc.ones(1)]


def digits() -> cc.data.ArrayDataset:
    return cc.data.ArrayDataset(np.zeros((6, 1, 4, 4), "uint8"), [0, 1, 2, 0, 1, 2])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Gives:
    """A data set of four samples, all the same."""

    def __init__(self, sample: Any):
        self.sample = sample

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.sample


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("name", ["shuffle", "drop_last", "prefetch"])
def test_a_loader_wants_flags(name: str, value: Any) -> None:
    refuses(cc.data.DataLoader, {"dataset": digits(), name: value}, ("DataLoader", name))


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST", "CIFAR10"])
def test_a_published_data_set_wants_flags(kind: str, value: Any) -> None:
    for name in ("train", "download"):
        given = {"root": "nowhere", "download": False, name: value}
        refuses(getattr(cc.data, kind), given, (kind, name, repr(value)))


@pytest.mark.parametrize("value", NO_FLAGS, ids=repr)
def test_the_built_in_digits_want_a_flag(value: Any) -> None:
    refuses(cc.data.MNIST.built_in, {"train": value}, ("built_in", "train"))


@pytest.mark.parametrize("root", ["", b"data", 0, 3, True, [], ["data"], {}, np.zeros(2)], ids=repr)
@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST", "CIFAR10"])
def test_a_root_is_a_path(kind: str, root: Any) -> None:
    refuses(getattr(cc.data, kind), {"root": root, "download": False}, (kind, "root"))


def test_a_root_may_be_a_path_object(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="CIFAR10"):
        cc.data.CIFAR10(root=tmp_path, download=False)


def test_no_augmentation_is_none_or_an_empty_list() -> None:
    for nothing in (None, (), []):
        loader = cc.data.DataLoader(digits(), 3, augment=nothing)
        assert [images.shape for images, _ in loader] == [(3, 1, 4, 4)] * 2


@pytest.mark.parametrize("dtype", ["int64", "a", "", None, 1, np.ones(2), np.array(1), [], len])
def test_a_loader_wants_a_float_dtype(dtype: Any) -> None:
    refuses(cc.data.DataLoader, {"dataset": digits(), "dtype": dtype}, ("DataLoader", "dtype"))


@pytest.mark.parametrize("augment", ["flip", [None], [1], 3], ids=repr)
def test_an_augmentation_can_be_called(augment: Any) -> None:
    refuses(cc.data.DataLoader, {"dataset": digits(), "augment": augment}, ("augment",))


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", object])
def test_an_augmentation_keeps_to_the_dtypes_of_images(dtype: Any) -> None:
    """int64 pixels would not be divided by 255, and a complex number would lose a part."""
    loader = cc.data.DataLoader(digits(), augment=lambda images, rng: images.astype(dtype))
    with pytest.raises(TypeError, match=f"augment made an array of dtype {np.dtype(dtype)}"):
        next(iter(loader))


NO_DATA: list[Any] = [None, 3, 1.5, {1}, (i for i in "ab"), np.array(1), cc.data.MNIST, digits]


@pytest.mark.parametrize("value", NO_DATA, ids=lambda value: type(value).__name__)
def test_a_data_set_has_a_length_and_an_index(value: Any) -> None:
    words = ("dataset", type(value).__name__)
    refuses(cc.data.DataLoader, {"dataset": value}, ("DataLoader", *words))
    refuses(cc.data.Subset, {"dataset": value, "indices": [0]}, ("Subset", *words))
    refuses(cc.data.random_split, {"dataset": value, "lengths": [1.0]}, ("random_split", *words))


@pytest.mark.parametrize("value", [None, 3, 0.5, len], ids=repr)
def test_indices_are_a_list(value: Any) -> None:
    refuses(cc.data.Subset, {"dataset": digits(), "indices": value}, ("indices", repr(value)))


@pytest.mark.parametrize("classes", [None, 3, 0.5, "cat", len], ids=repr)
def test_classes_are_a_list(classes: Any) -> None:
    given = {"images": np.zeros((1, 2)), "labels": [0], "classes": classes}
    refuses(cc.data.ArrayDataset, given, ("ArrayDataset", "classes", repr(classes)))


@pytest.mark.parametrize("sample", [None, 3, "abc", [], (1,), (1, 2, 3), np.zeros(3), {}], ids=repr)
def test_a_sample_is_a_pair(sample: Any) -> None:
    loader = cc.data.DataLoader(Gives(sample), 2)
    with pytest.raises(TypeError, match=r"pairs \(image, label\), got \w+ at index 0"):
        next(iter(loader))


@pytest.mark.parametrize("labels", [None, 3, "a", {}, np.array(1), [0], [0, 1, 2]], ids=repr)
def test_a_batch_transform_gives_as_many_labels(labels: Any) -> None:
    loader = cc.data.DataLoader(digits(), 2, batch_transform=lambda x, y: (x, labels))
    with pytest.raises(ValueError, match="batch_transform must return"):
        next(iter(loader))


@pytest.mark.parametrize(("changes", "words"), bad_number("p", (-0.1, 1.1, 2)), ids=repr)
def test_the_probability_of_a_flip(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refuses(cc.data.HorizontalFlip, changes, ("HorizontalFlip", *words))


@pytest.mark.parametrize(("changes", "words"), bad_integer("padding", 0), ids=repr)
def test_the_padding_of_a_crop(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refuses(cc.data.RandomCrop, changes, ("RandomCrop", *words))


AUGMENTATIONS: list[Callable[..., Any]] = [cc.data.RandomCrop(1), cc.data.HorizontalFlip(1)]


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=repr)
def test_an_augmentation_wants_a_batch_and_a_generator(augment: Callable[..., Any]) -> None:
    name = type(augment).__name__
    batch = np.zeros((2, 1, 4, 4))
    for images in (None, 3, "a", [], [[1.0]], cc.zeros(2, 1, 4, 4), np.zeros(3), batch[0]):
        refuses(augment, {"images": images, "rng": rng()}, (name, "images", "(N, C, H, W)"))
    for generator in (None, 0, 3, "a", np.random, np.random.RandomState(0), np.random.default_rng):
        refuses(augment, {"images": batch, "rng": generator}, (name, "rng", repr(generator)))
    assert augment(batch, rng()).shape == batch.shape
