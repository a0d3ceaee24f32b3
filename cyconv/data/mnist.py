"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes each."""

from __future__ import annotations

import os
import sys
from functools import partial

import numpy as np

from ..arguments import flag
from .dataset import ArrayDataset
from .fetch import DataNotFound, Location
from .idx import KnownFile, gz_limit, read_idx

Files = tuple[KnownFile, KnownFile]  # images (n, 28, 28), labels (n,)
Loaded = tuple[np.ndarray, np.ndarray, str]  # images (n, 1, 28, 28), labels (n,), source

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_TRAIN = (
    KnownFile(
        "train-images-idx3-ubyte",
        16 + 60_000 * 784,
        sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    KnownFile(
        "train-labels-idx1-ubyte",
        8 + 60_000,
        sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
)
MNIST_TEST = (
    KnownFile(
        "t10k-images-idx3-ubyte",
        16 + 10_000 * 784,
        sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    KnownFile(
        "t10k-labels-idx1-ubyte",
        8 + 10_000,
        sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
# In the package, written by tools/make_builtin_mnist.py, which prints these hashes.
BUILT_IN_TRAIN = (
    KnownFile(
        "mnist-first-10000-train-images-idx3-ubyte",
        16 + 10_000 * 784,
        sha256="2889698e6bc3614913e76901316712919d1998fc2b44512451bfe65bc1e668b1",
    ),
    KnownFile(
        "mnist-first-10000-train-labels-idx1-ubyte",
        8 + 10_000,
        sha256="651e38e2ac0632f5113ec18f1df4977117f953197819034009971a6675a0df78",
    ),
)
BUILT_IN_TEST = (
    KnownFile(
        "mnist-first-2000-test-images-idx3-ubyte",
        16 + 2_000 * 784,
        sha256="3f6bd66dee48df299584c67669bceee490faa25f931496bd7473b42106d7daed",
    ),
    KnownFile(
        "mnist-first-2000-test-labels-idx1-ubyte",
        8 + 2_000,
        sha256="7b098e5f6a3065807cebeabf36fb1724a8aff19f2673ac08b4923e0e8c715bce",
    ),
)
DIGITS = tuple("0123456789")

FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
FASHION_TRAIN = (
    KnownFile(
        "train-images-idx3-ubyte",
        16 + 60_000 * 784,
        gz_sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    KnownFile(
        "train-labels-idx1-ubyte",
        8 + 60_000,
        gz_sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
)
FASHION_TEST = (
    KnownFile(
        "t10k-images-idx3-ubyte",
        16 + 10_000 * 784,
        gz_sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    KnownFile(
        "t10k-labels-idx1-ubyte",
        8 + 10_000,
        gz_sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

_said: set[str] = set()  # places whose lack of MNIST the user was told of


class MNIST(ArrayDataset):
    """Handwritten digits: 60,000 images to train with and 10,000 to test.

    ``images`` is uint8 (n, 1, 28, 28), ``labels`` int64 (n,). The files, raw or ``.gz``, may lie in
    ``mnist`` in a folder that is searched, or in the folder itself. Where there is neither file nor
    network, the first 10,000 and 2,000 images, which lie in the package, serve, and one line on
    stderr says so. ``source`` tells where the images came from.

    Parameters
    ----------
    train : the images to train with, else those to test
    root : the folder to search; if not given the one that CYCONV_DATA_DIR names, and the user's
        cache
    download : whether missing files may be downloaded

    Raises
    ------
    TypeError : train or download is no bool, or root neither str nor Path
    ValueError : a file is there but damaged: its content is checked by SHA-256

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998.

    >>> import cyconv as cc
    >>> test = cc.data.MNIST(train=False, download=False)
    >>> test.images.shape[1:], test.labels[:4], test.classes[7]
    ((1, 28, 28), array([7, 2, 1, 0]), '7')
    """

    def __init__(
        self,
        train: bool = True,
        root: str | os.PathLike[str] | None = None,
        download: bool = True,
    ):
        train = flag("MNIST: train", train)
        location = Location("MNIST", "mnist", MNIST_MIRRORS, root, download)
        try:
            images, labels, source = _load(location, MNIST_TRAIN if train else MNIST_TEST)
        except DataNotFound as error:
            images, labels, source = _load_built_in(train)
            places = ", ".join(map(str, location.bases))
            if places not in _said:  # the training and the test images are missing together
                _said.add(places)
                print(
                    f"cyconv: MNIST is not in {places}, and {error.reason}: using the built-in "
                    "first 10,000 training and 2,000 test images",
                    file=sys.stderr,
                )
        super().__init__(images, labels, classes=DIGITS, source=source)

    @staticmethod
    def built_in(train: bool = True) -> ArrayDataset:
        """The first 10,000 images to train with, or 2,000 to test, which lie in the package.

        TypeError if ``train`` is no bool.

        >>> import cyconv as cc
        >>> cc.data.MNIST.built_in(train=False).images.shape
        (2000, 1, 28, 28)
        """
        images, labels, source = _load_built_in(flag("MNIST.built_in: train", train))
        return ArrayDataset(images, labels, classes=DIGITS, source=source)


class FashionMNIST(ArrayDataset):
    """Pictures of clothes: 60,000 images to train with and 10,000 to test, sized as MNIST.

    ``images`` is uint8 (n, 1, 28, 28), ``labels`` int64 (n,). The files, raw or ``.gz``, have the
    names of MNIST's, so they must lie in a folder ``fashion-mnist``.

    Parameters
    ----------
    train : the images to train with, else those to test
    root : where that folder is, or that folder; if not given the folder that CYCONV_DATA_DIR names,
        and the user's cache
    download : whether missing files may be downloaded

    Raises
    ------
    TypeError : train or download is no bool, or root neither str nor Path
    FileNotFoundError : they are nowhere; says where they belong
    ValueError : one is damaged: gzipped files are checked by SHA-256; for unpacked ones no hash is
        published, so size, header and the number of images of each class are checked

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017, arXiv:1708.07747.

    >>> import cyconv as cc
    >>> try:
    ...     cc.data.FashionMNIST(root="no such folder", download=False)
    ... except FileNotFoundError as error:
    ...     print(str(error)[:46])
    FashionMNIST: there is no train-images-idx3-ub
    """

    def __init__(
        self,
        train: bool = True,
        root: str | os.PathLike[str] | None = None,
        download: bool = True,
    ):
        train = flag("FashionMNIST: train", train)
        location = Location(
            "FashionMNIST", "fashion-mnist", FASHION_MIRRORS, root, download, own_folder=True
        )
        images, labels, source = _load(location, FASHION_TRAIN if train else FASHION_TEST)
        counts = np.bincount(labels, minlength=10).tolist()
        if counts != [len(labels) // 10] * 10:
            raise ValueError(
                f"FashionMNIST: the labels in {source} are damaged: expected {len(labels) // 10} "
                f"images of each of the 10 classes, found {counts}"
            )
        super().__init__(images, labels, classes=CLOTHES, source=source)


def _load(location: Location, files: Files) -> Loaded:
    """Images, labels and the folder they lie in; DataNotFound if they cannot be had."""
    arrays, places = [], []
    for known, shape in zip(files, _shapes(files)):
        packed = f"{known.name}.gz"
        path = location.find(known.name, packed)
        if path is not None:
            arrays.append(read_idx(path, known=known, shape=shape))
            places.append(str(path.parent))
        else:
            check = partial(read_idx, known=known, shape=shape)
            arrays.append(location.download(packed, gz_limit(known.size), check))
            places.append(str(location.target))
    images, labels = arrays
    return images[:, None], labels, ", ".join(dict.fromkeys(places))


def _load_built_in(train: bool) -> Loaded:
    from importlib import resources

    files = BUILT_IN_TRAIN if train else BUILT_IN_TEST
    arrays = []
    for known, shape in zip(files, _shapes(files)):
        with resources.as_file(resources.files(__package__) / f"{known.name}.gz") as path:
            arrays.append(read_idx(path, known=known, shape=shape))
    images, labels = arrays
    kind = "60,000 training" if train else "10,000 test"
    return images[:, None], labels, f"built-in first {len(labels):,} of the {kind} images"


def _shapes(files: Files) -> tuple[tuple[int, int, int], tuple[int]]:
    """The shapes in the two files, from the size of the labels' file: a byte each after 8."""
    n = files[1].size - 8
    return (n, 28, 28), (n,)
