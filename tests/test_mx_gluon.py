"""`cyconv.mx.gluon`: what random numbers keep from being recorded, the data sets, and memory."""

from __future__ import annotations

import gc
import struct
import subprocess
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv import data
from cyconv.mx import autograd, gluon, nd
from cyconv.mx.gluon import nn
from cyconv.mx.ndarray.array import Sample


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the package, 100 of them."""
    monkeypatch.setenv("CYCONV_BOOK_LIMIT", "100")
    monkeypatch.setattr(gluon.data.vision.MNIST, "source", staticmethod(data.MNIST.built_in))


def raw() -> tuple[np.ndarray, np.ndarray]:
    built_in = data.MNIST.built_in()
    return built_in.images[:100].transpose(0, 2, 3, 1), built_in.labels[:100]


def notebook(data: nd.NDArray, label: Any) -> Any:
    return nd.transpose(data.astype(np.float32), (2, 0, 1)) / 255, label.astype(np.float32)


class Changing:
    """A transform that does another thing each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: nd.NDArray, label: Any) -> Any:
        self.calls += 1
        return data.astype("float32") * self.calls, label


def peeking(data: nd.NDArray, label: Any) -> Any:
    bright = data.asnumpy().mean() > 30
    return (data.astype(np.float32) if bright else data.astype(np.float32) / 2), label


def writing(data: nd.NDArray, label: Any) -> Any:
    changed = data.astype(np.float32) - 1
    changed[0, 0] = label
    return changed, label


def floored(data: nd.NDArray, label: Any) -> Any:
    return nd.floor(data / 128).astype(np.float32).reshape((784,)), label


def signed(data: nd.NDArray, label: Any) -> Any:
    return data.astype(np.float32) * (0.0 if label % 2 else -0.0), label


def turned(data: nd.NDArray, label: Any) -> Any:
    return nd.transpose(data, (-1, 0, 1)).astype("float64") + 0.5, label


TRANSFORMS = [notebook, peeking, writing, floored, signed, turned]


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_batch_is_what_the_transform_makes_of_each_picture(transform: Any) -> None:
    images, labels = raw()
    loader = gluon.data.DataLoader(gluon.data.vision.MNIST(transform=transform), 32)
    assert len(loader) == 4
    start = 0
    for x, y in loader:
        # plain arrays know nothing of batches
        pairs = zip(images[start : start + 32], labels[start : start + 32].astype(np.int32))
        alone = [transform(nd.array(image, dtype="uint8"), label) for image, label in pairs]
        expected = np.stack([one.asnumpy() for one, _ in alone])
        assert x.asnumpy().tobytes() == expected.tobytes()
        assert x.dtype == expected.dtype
        np.testing.assert_array_equal(y.asnumpy(), labels[start : start + 32])
        start += 32
    assert start == 128


@pytest.mark.usefixtures("small_mnist")
def test_a_transform_is_called_for_each_picture_in_turn() -> None:
    images, _ = raw()
    transform = Changing()
    dataset = gluon.data.vision.MNIST(transform=transform)
    for _ in range(2):
        for x, _ in gluon.data.DataLoader(dataset, 50):
            first = transform.calls - 50
            factors = np.arange(first + 1, first + 51, dtype=np.float32).reshape(-1, 1, 1, 1)
            place = first % 100
            np.testing.assert_array_equal(x.asnumpy(), images[place : place + 50] * factors)


@pytest.mark.usefixtures("small_mnist")
def test_a_data_set_gives_pictures_as_mxnet_does() -> None:
    images, labels = raw()
    dataset = gluon.data.vision.MNIST(train=True)
    picture, label = dataset[7]
    assert len(dataset) == 100
    assert (picture.shape, picture.dtype) == ((28, 28, 1), np.uint8)
    assert (int(label), type(label)) == (labels[7], np.int32)
    np.testing.assert_array_equal(picture.asnumpy(), images[7])
    assert sum(1 for _ in dataset) == 100
    with pytest.raises(IndexError):
        dataset[100][0].asnumpy()
    (x, y) = next(iter(gluon.data.DataLoader(dataset, 10)))
    assert (x.shape, x.dtype, y.dtype) == ((10, 28, 28, 1), np.uint8, np.int32)


@pytest.mark.usefixtures("small_mnist")
def test_a_picture_that_waits_shows_its_values_like_any_array() -> None:
    picture, _ = gluon.data.vision.MNIST()[0]
    scaled = picture.astype(np.float32) / 255
    assert isinstance(scaled, Sample)
    assert scaled.shape == (28, 28, 1)
    assert 0 < scaled.max().asscalar() <= 1
    assert "<NDArray 28x28x1 @cpu(0)>" in repr(scaled)
    scaled[:] = 0
    assert scaled.sum().asscalar() == 0


@pytest.mark.parametrize("limit", ["x", "-3"])
def test_a_wrong_limit(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCONV_BOOK_LIMIT", limit)
    monkeypatch.setattr(gluon.data.vision.MNIST, "source", staticmethod(data.MNIST.built_in))
    with pytest.raises(ValueError, match=f"must be a number of images, got '{limit}'"):
        gluon.data.vision.MNIST()


def test_get_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCONV_BOOK_LIMIT", "30")
    monkeypatch.setattr(data, "MNIST", lambda train: data.dataset.ArrayDataset(*BUILT_IN[train]))
    mnist = mx.test_utils.get_mnist()
    for part, train in (("train", True), ("test", False)):
        images, labels = mnist[f"{part}_data"], mnist[f"{part}_label"]
        assert (images.shape, images.dtype) == ((30, 1, 28, 28), np.float32)
        np.testing.assert_array_equal(images, BUILT_IN[train][0][:30].astype(np.float32) / 255)
        np.testing.assert_array_equal(labels, BUILT_IN[train][1][:30])


BUILT_IN = {
    train: (data.MNIST.built_in(train).images, data.MNIST.built_in(train).labels)
    for train in (True, False)
}


def test_colour_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = np.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32).astype(np.uint8)
    source = lambda train: data.ArrayDataset(planes, np.array([3, 1]))  # noqa: E731
    monkeypatch.setattr(gluon.data.vision.CIFAR10, "source", staticmethod(source))

    def transform(data: nd.NDArray, label: Any) -> Any:
        data = mx.image.imresize(data, 64, 64)
        return mx.nd.transpose(data, (2, 0, 1)).astype(np.float32), label

    dataset = gluon.data.vision.CIFAR10("./data", train=True, transform=transform)
    loader = gluon.data.DataLoader(dataset, batch_size=2, shuffle=True, last_batch="discard")
    for x, y in loader:
        assert (x.shape, x.dtype, y.dtype) == ((2, 3, 64, 64), np.float32, np.int32)
        middle = x.asnumpy()[:, :, 1::2, 1::2].astype(int)
        assert sorted(y.asnumpy()) == [1, 3]
        assert abs(middle - planes[[0, 1] if y.asnumpy()[0] == 3 else [1, 0]]).mean() < 64


def test_pictures_of_clothes_are_not_those_of_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels, labels = np.zeros((10_000, 784), np.uint8), np.arange(7, 10_007) % 10
    pixels[2] = np.arange(784) % 256
    for name, numbers in (("images-idx3", pixels), ("labels-idx1", labels.astype(np.uint8))):
        sizes = (28, 28) if numbers is pixels else ()
        head = struct.pack(f">{2 + len(sizes)}i", 0x801 + len(sizes), 10_000, *sizes)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + numbers.tobytes())
    monkeypatch.setenv("CYCONV_DATA_DIR", str(tmp_path))
    dataset = gluon.data.vision.FashionMNIST(train=False)
    assert [int(dataset[i][1]) for i in range(4)] == [7, 8, 9, 0]
    np.testing.assert_array_equal(dataset[2][0].asnumpy().ravel(), pixels[2])


# ------------------------------------------------------------------ memory, devices, names


def test_values_carried_from_step_to_step_do_not_keep_old_graphs() -> None:
    x = nd.ones((10,))
    x.attach_grad()
    mean, state, first = nd.zeros(1), nd.zeros((10,)), []
    for _ in range(6):
        with autograd.record():
            state = state * 0.5 + x
            loss = (state * state).sum()
            mean = mean * 0.9 + nd.mean(state) * 0.1
        first.append(weakref.ref(mean.tensor._node.op if mean.tensor._node else mean.tensor))
        loss.backward()
    gc.collect()
    assert [one() is None for one in first] == [True] * 5 + [False]


def test_arrays_may_be_written_while_a_graph_that_was_never_used_is_around() -> None:
    net = nn.Dense(1, in_units=1)
    net.initialize(mx.init.Constant(2))
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1})
    x = nd.array([[1]])
    with autograd.record():
        unused = net(x) * net.weight.data()
    with autograd.record():
        loss = net(x)
    loss.backward()
    trainer.step(1)
    assert net.weight.data().asscalar() == 1
    net.weight.data()[:] = 7
    unused.backward()  # as it was recorded: (2 x + 0) * 2
    assert net.weight.grad().asscalar() == 4


def test_gpu_is_the_cpu_with_one_warning() -> None:
    code = """
import warnings
import cyconv.mx as mx
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    print(mx.gpu(), mx.gpu(1), len(seen), seen[0].message, mx.test_utils.list_gpus())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "cpu(0) cpu(0) 1 gpu: there is no GPU, so cpu(0) is used []\n"


def test_a_notebook_needs_no_edit_after_install() -> None:
    code = """
import sys
import cyconv
assert "cyconv.mx" not in sys.modules
import cyconv.mx
cyconv.mx.install()
cyconv.mx.install()
import mxnet as mx
import mxnet.gluon.nn
import mxnet.ndarray as ndarray
from mxnet import autograd, gluon, init, metric, nd, ndarray
from mxnet.gluon import Block, Trainer, data, loss, nn
from mxnet.gluon.data import DataLoader, vision
from mxnet.gluon.loss import L2Loss
from mxnet.ndarray import NDArray
from mxnet.test_utils import get_mnist
assert mx is cyconv.mx and nd is ndarray is mx.nd and nn is mx.gluon.nn
assert isinstance(nd.ones(2), NDArray) and mx.init.Xavier is init.Xavier
print("fine")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout == "fine\n", out.stderr


def test_install_gives_way_to_mxnet_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("mxnet")
    other.__file__ = "/somewhere/mxnet/__init__.py"
    monkeypatch.setitem(sys.modules, "mxnet", other)
    with pytest.raises(RuntimeError, match="mxnet is imported already, from /somewhere/mxnet"):
        mx.install()
    assert sys.modules["mxnet"] is other


def test_the_package_is_a_leaf() -> None:
    core = Path(mx.__file__).parents[1]
    for path in core.rglob("*.py"):
        if "mx" not in path.relative_to(core).parts:
            assert ".mx" not in path.read_text(), path


MESSAGES = [
    (lambda: nd.ones(2) + np.ones(2), "type ndarray is not supported; use nd.array"),
    (
        lambda: nd.ones(2) * nd.ones(2, dtype="float64"),
        "float.. and float.., use|float64 and|32 and",
    ),
    (lambda: nd.exp([1, 2]), "expected NDArrays of one dtype, got list"),
    (lambda: nd.ones((2, 3)).asscalar(), r"an NDArray of shape \(2, 3\) is no single number"),
    (lambda: nd.ones((2, 3)).reshape((7, 2)), r"shape \(2, 3\) does not fit into \(7, 2\)"),
    (lambda: nd.norm(nd.ones(2), ord=3), "ord must be 1 or 2, got 3"),
    (lambda: nd.Pooling(nd.ones((1, 1, 4, 4)), (2, 2), "min"), "unknown pool_type='min'"),
    (lambda: nn.Activation("step"), "must be 'relu', 'sigmoid' or 'tanh', got 'step'"),
    (lambda: nn.BatchNorm(axis=3), "axis must be 1, got 3"),
    (lambda: nn.Dense(2)(nd.ones((1, 2))), "_weight is not initialized; call initialize"),
    (lambda: gluon.data.DataLoader([1], 0), "batch_size must be at least 1, got 0"),
    (lambda: gluon.data.DataLoader([1], 1, last_batch="x"), "unknown last_batch='x'"),
    (lambda: gluon.Trainer([], "newton"), "no 'newton' with {}, only"),
]


@pytest.mark.parametrize("mistake, message", MESSAGES)
def test_a_mistake_is_named_with_its_values(mistake: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        mistake()


def test_zeros_like_are_zeros_in_every_way() -> None:
    x = nd.array([-1, 0, 2])
    x.attach_grad()
    asked = nd.zeros_like(x)
    asked.attach_grad()
    with autograd.record():
        y = nd.maximum(x, asked)
    y.backward()
    assert (x.grad.asnumpy().tolist(), asked.grad.asnumpy().tolist()) == ([0, 1, 1], [1, 0, 0])
    block = nd.zeros_like(nd.ones((2, 3)))
    block[1][0] = 2
    block.reshape((3, 2))[0, 1] = 5
    assert block.asnumpy().tolist() == [[0, 5, 0], [2, 0, 0]]


def test_arguments_by_mxnets_names_and_places() -> None:
    x, y, out = nd.array([[1, 2]]), nd.array([[3], [4]]), nd.zeros((1, 1))
    assert nd.dot(lhs=x, rhs=y, out=out) is out
    assert out.asscalar() == 11
    assert nd.maximum(x, rhs=nd.array([[2, 1]])).asnumpy().tolist() == [[2, 2]]
    assert nd.zeros((2, 1), mx.cpu(), "int32").dtype == np.int32
    assert nd.softmax(data=x, axis=0).asnumpy().tolist() == [[1, 1]]
    assert nd.swapaxes(x, dim1=0, dim2=1).shape == nd.transpose(data=x, axes=(1, 0)).shape == (2, 1)
    with pytest.raises(TypeError, match="layout"):
        nd.Pooling(nd.ones((1, 1, 2, 2)), (2, 2), layout="NHWC")


def test_the_maximum_with_zeros_of_another_shape() -> None:
    row, block = nd.array([[-1, 2, 3]]), nd.ones((2, 3))
    larger = nd.maximum(row, nd.zeros_like(block))
    assert larger.asnumpy().tolist() == [[0, 2, 3], [0, 2, 3]]
    assert nd.maximum(nd.zeros((0, 3)), 0).shape == (0, 3)
    assert nd.exp(data=nd.zeros(1)).asscalar() == 1
    with pytest.raises(ValueError, match="must be one of zeros, ones, normal, xavier, got 'none'"):
        nn.Dense(1, in_units=1).initialize("none")


def test_a_parameter_is_not_shared_with_another_shape() -> None:
    params = gluon.ParameterDict()
    weight = params.get("w", shape=(2, 0))
    assert params.get("w") is params.get("w", shape=(0, 3)) is weight
    for shape in ((3, 0), (2,), (2, 3, 1)):
        with pytest.raises(ValueError, match="is asked for with shape"):
            params.get("w", shape=shape)


def test_how_gradients_are_kept_may_change() -> None:
    net = nn.Dense(1, in_units=2)
    net.initialize(mx.init.Constant(0.25))
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1})
    net.weight.grad_req, net.bias.grad_req = "add", "null"
    for _ in range(2):
        with autograd.record():
            y = net(nd.array([[1, 2]]))
        y.backward()
    trainer.step(1)
    assert net.weight.grad().asnumpy().tolist() == [[2, 4]]
    assert net.weight.data().asnumpy().tolist() == [[-1.75, -3.75]]
    assert net.bias.data().asscalar() == 0
    with pytest.raises(AttributeError, match="lr_mult"):
        net.weight.lr_mult = 2


def test_labels_of_eight_bits_come_in_batches() -> None:
    labels = np.array([3, -1, 7], np.int8)
    batches = list(gluon.data.DataLoader(gluon.data.ArrayDataset(labels), 2))
    assert [batch.asnumpy().tolist() for batch in batches] == [[3, -1], [7]]
    assert batches[0].dtype == np.int32
