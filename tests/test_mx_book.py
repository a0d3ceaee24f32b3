"""Small programs with MXNet's names as the chapters of the book use them: they run and learn."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv import data
from cyconv.mx import autograd, gluon, nd
from cyconv.mx.gluon import nn

CTX = mx.cpu()


@pytest.fixture(autouse=True)
def seeded() -> None:
    mx.random.seed(1)
    random.seed(1)


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A loader of 500 digits, with the book's transform."""
    monkeypatch.setenv("CYCONV_BOOK_LIMIT", "500")
    monkeypatch.setattr(gluon.data.vision.MNIST, "source", staticmethod(data.MNIST.built_in))

    def transform(data: Any, label: Any) -> Any:
        return nd.transpose(data.astype(np.float32), (2, 0, 1)) / 255, label.astype(np.float32)

    return gluon.data.DataLoader(gluon.data.vision.MNIST(train=True, transform=transform), 50, True)


def evaluate_accuracy(loader: Any, net: Any) -> float:
    acc = mx.metric.Accuracy()
    for x, label in loader:
        predictions = nd.argmax(net(x.as_in_context(CTX)), axis=1)
        acc.update(preds=predictions, labels=label)
    return acc.get()[1]


def fit(loader: Any, net: Any, trainer: Any, epochs: int) -> float:
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    moving_loss = 0.0
    for e in range(epochs):
        for i, (x, label) in enumerate(loader):
            x, label = x.as_in_context(CTX), label.as_in_context(CTX)
            with autograd.record():
                loss = loss_of(net(x), label)
            loss.backward()
            trainer.step(x.shape[0])
            now = nd.mean(loss).asscalar()
            moving_loss = now if i == 0 and e == 0 else 0.9 * moving_loss + 0.1 * now
    return float(moving_loss)


def fake_line(n: int) -> tuple[nd.NDArray, nd.NDArray]:
    X = nd.random_normal(scale=1, shape=(n, 2))
    y = 2 * X[:, 0] - 3.4 * X[:, 1] + 4.2
    y += 0.01 * nd.random_normal(scale=1, shape=y.shape)
    return X, y


# ------------------------------------------------------------------ chapters 1 and 2


def test_counting_digits_as_in_naive_bayes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCONV_BOOK_LIMIT", "500")
    monkeypatch.setattr(gluon.data.vision.MNIST, "source", staticmethod(data.MNIST.built_in))

    def transform(data: Any, label: Any) -> Any:
        return (nd.floor(data / 128)).astype(np.float32), label.astype(np.float32)

    xcount, ycount = nd.ones((784, 10)), nd.ones(10)
    for x, label in mx.gluon.data.vision.MNIST(train=True, transform=transform):
        y = int(label)
        ycount[y] += 1
        xcount[:, y] += x.reshape(784)
    for i in range(10):
        xcount[:, i] = xcount[:, i] / ycount[i]
    py = ycount / nd.sum(ycount)
    built_in = data.MNIST.built_in()
    counts = np.bincount(built_in.labels[:500], minlength=10)
    np.testing.assert_allclose(py.asnumpy(), (counts + 1) / 510, rtol=1e-6)
    bright = built_in.images[:500][built_in.labels[:500] == 3].reshape(-1, 784) >= 128
    expected = (bright.sum(axis=0) + 1) / (counts[3] + 1)
    np.testing.assert_allclose(xcount[:, 3].asnumpy(), expected, rtol=1e-6)
    logpx = nd.log(py).copy()
    for i in range(10):
        logpx[i] += nd.dot(nd.log(xcount[:, i]), x.reshape((784,)))
    logpx -= nd.max(logpx)
    assert nd.exp(logpx).asnumpy().max() == 1


def test_dice() -> None:
    rolls = nd.sample_multinomial(nd.ones(6) / 6, shape=(1000))
    counts, totals = nd.zeros((6, 1000)), nd.zeros(6)
    for i, roll in enumerate(rolls):
        totals[int(roll.asscalar())] += 1
        counts[:, i] = totals
    estimates = counts / (nd.arange(1000).reshape((1, 1000)) + 1)
    assert nd.sum(totals).asscalar() == 1000
    assert abs(estimates[:, 999].asnumpy() - 1 / 6).max() < 0.05


def test_a_perceptron_finds_a_line() -> None:
    X, Y = nd.zeros(shape=(40, 2)), nd.zeros(shape=(40))
    direction = nd.random_normal(shape=(2))
    direction = direction / nd.norm(direction)
    i = 0
    while i < 40:
        tmp = nd.random_normal(shape=(1, 2))
        margin = nd.dot(tmp, direction)
        if (nd.norm(tmp).asscalar() < 3) & (abs(margin.asscalar()) > 0.3):
            X[i, :] = tmp[0]
            Y[i] = 1 if margin.asscalar() > 0 else -1
            i += 1
    w, b = nd.zeros(shape=(2)), nd.zeros(shape=(1))
    for _ in range(20):
        for x, y in zip(X, Y):
            if (y * (nd.dot(w, x) + b)).asscalar() <= 0:
                w += y * x
                b += y
    assert all((y * (nd.dot(w, x) + b)).asscalar() > 0 for x, y in zip(X, Y))
    grid = nd.zeros(shape=(5, 4, 2))
    grid[:, :, 0] = nd.array(np.ones((5, 4)))
    assert nd.dot(grid, w).shape == (5, 4)


def test_a_line_from_scratch() -> None:
    X, y = fake_line(400)
    w, b = nd.random_normal(scale=1, shape=(2, 1)), nd.zeros(shape=(1,))
    params = [w, b]
    for param in params:
        param.attach_grad()
    indices = list(range(400))
    total = []
    for _ in range(3):
        random.shuffle(indices)
        for i in range(0, 400, 10):
            j = nd.array(indices[i : i + 10])
            with autograd.record():
                out = nd.dot(X.take(j), w) + b
                loss = (out - y.take(j).reshape(out.shape)) ** 2 / 2
            loss.backward()
            for param in params:
                param[:] = param - 0.1 * param.grad / 10
        total.append(np.mean(loss.asnumpy()))
    np.testing.assert_allclose(np.reshape(w.asnumpy(), (1, -1)), [[2, -3.4]], atol=0.01)
    assert abs(b.asnumpy()[0] - 4.2) < 0.01
    assert total[-1] < 1e-3


def test_logistic_regression() -> None:
    X = nd.random_normal(shape=(300, 5))
    Y = (nd.sign(nd.dot(X, nd.arange(5).reshape((5, 1)) - 2)) + 1) / 2
    net = gluon.nn.Dense(1)
    net.collect_params().initialize(mx.init.Normal(sigma=1.0), ctx=CTX)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})

    def logistic(z: nd.NDArray) -> nd.NDArray:
        return 1.0 / (1.0 + nd.exp(-z))

    for _ in range(60):
        with autograd.record():
            yhat = logistic(net(X))
            loss = -nd.nansum(Y * nd.log(yhat) + (1 - Y) * nd.log(1 - yhat))
        loss.backward()
        trainer.step(300)
    num_correct = 0.0
    num_correct += nd.sum((nd.sign(net(X)) + 1) / 2 == Y)
    assert num_correct.asscalar() / 300 > 0.95


def test_softmax_regression_with_a_penalty_from_scratch(digits: Any) -> None:
    W, b = nd.random_normal(shape=(784, 10)) * 0.01, nd.random_normal(shape=10)
    params = [W, b]
    for param in params:
        param.attach_grad()

    def softmax(y_linear: nd.NDArray) -> nd.NDArray:
        exp = nd.exp(y_linear - nd.max(y_linear, axis=1).reshape((-1, 1)))
        return exp / nd.sum(exp, axis=1).reshape((-1, 1))

    def l2_penalty(params: list[nd.NDArray]) -> nd.NDArray:
        penalty = nd.zeros(shape=1)
        for param in params:
            penalty = penalty + nd.sum(param**2)
        return penalty

    for _ in range(6):
        for x, label in digits:
            one_hot = nd.one_hot(label, 10)
            with autograd.record():
                yhat = softmax(nd.dot(x.reshape((-1, 784)), W) + b)
                loss = -nd.nansum(one_hot * nd.log(yhat + 1e-6), axis=0, exclude=True)
                total = nd.sum(loss) + 0.01 * l2_penalty(params)
            total.backward()
            for param in params:
                param[:] = param - 0.002 * param.grad
    numerator, denominator = 0.0, 0.0
    for x, label in digits:
        predictions = nd.argmax(softmax(nd.dot(x.reshape((-1, 784)), W) + b), axis=1)
        numerator += nd.sum(predictions == label)
        denominator += x.shape[0]
    assert (numerator / denominator).asscalar() > 0.8
    sample = nd.tile(nd.reshape(nd.transpose(x[0:10], (1, 2, 0, 3)), (28, 10 * 28, 1)), (1, 1, 3))
    assert sample.shape == (28, 280, 3)


# ------------------------------------------------------------------ chapters 3 and 4


class MLP(gluon.Block):
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense0 = nn.Dense(64)
            self.dense1 = nn.Dense(10)

    def forward(self, x: Any) -> Any:
        return self.dense1(nd.relu(self.dense0(x)))


def test_a_perceptron_of_two_layers_as_a_block(digits: Any, tmp_path: Path) -> None:
    net = MLP()
    net.collect_params().initialize(mx.init.Xavier(magnitude=2.24), ctx=CTX)
    with pytest.raises(gluon.DeferredInitializationError, match="pass one batch first"):
        net.dense0.weight.data()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.2})
    assert fit(digits, net, trainer, 5) < 0.6
    assert evaluate_accuracy(digits, net) > 0.88
    assert next(iter(net.collect_params())) == net.prefix + "dense0_weight"
    net.save_parameters(tmp_path / "mlp.params")
    other = MLP()
    other.load_parameters(tmp_path / "mlp.params", ctx=CTX)
    assert evaluate_accuracy(digits, other) == evaluate_accuracy(digits, net)


def test_dropout_from_scratch() -> None:
    def dropout(X: nd.NDArray, drop_probability: float) -> nd.NDArray:
        keep = 1 - drop_probability
        mask = nd.random_uniform(0, 1.0, X.shape, ctx=X.context) < keep
        return mask * X * (1 / keep if keep > 0 else 0.0)

    A = nd.arange(20).reshape((5, 4))
    assert (dropout(A, 0.0) == A).sum().asscalar() == 20
    assert dropout(A, 1.0).sum().asscalar() == 0
    half = dropout(A, 0.5)
    assert ((half == 0) + (half == 2 * A)).asnumpy().all()


def test_layers_of_ones_own(digits: Any) -> None:
    class Centered(gluon.Block):
        def forward(self, x: Any) -> Any:
            return x - nd.mean(x)

    class MyDense(gluon.Block):
        def __init__(self, units: int, in_units: int = 0, **kwargs: Any):
            super().__init__(**kwargs)
            with self.name_scope():
                xavier = mx.init.Xavier(magnitude=2.24)
                self.weight = self.params.get("weight", init=xavier, shape=(in_units, units))
                self.bias = self.params.get("bias", shape=(units,))

        def forward(self, x: Any) -> Any:
            with x.context:
                linear = nd.dot(x, self.weight.data()) + self.bias.data()
                return nd.maximum(linear, nd.zeros_like(linear))

    net = gluon.nn.Sequential()
    with net.name_scope():
        net.add(nn.Flatten(), MyDense(32, in_units=784), nn.Dense(10), Centered())
    net.collect_params().initialize(ctx=CTX)
    x, _ = next(iter(digits))
    assert abs(nd.mean(net(x)).asscalar()) < 1e-6
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    fit(digits, net, trainer, 3)
    assert evaluate_accuracy(digits, net) > 0.85
    param = gluon.Parameter("exciting_parameter_yay", grad_req="write", shape=(5, 5))
    param.initialize(mx.init.Xavier(magnitude=2.24), ctx=CTX)
    assert param.data(mx.cpu()).shape == param.grad().shape == (5, 5)
    assert repr(param).startswith("Parameter exciting_parameter_yay (shape=(5, 5), dtype=")


def test_a_convolutional_net_with_batch_norm(digits: Any) -> None:
    net = gluon.nn.Sequential()
    with net.name_scope():
        net.add(gluon.nn.Conv2D(channels=8, kernel_size=5))
        net.add(gluon.nn.BatchNorm(axis=1, center=True, scale=True))
        net.add(gluon.nn.Activation(activation="relu"))
        net.add(gluon.nn.MaxPool2D(pool_size=2, strides=2))
        net.add(gluon.nn.Flatten())
        net.add(gluon.nn.Dense(32))
        net.add(gluon.nn.BatchNorm(axis=1, center=True, scale=True))
        net.add(gluon.nn.Activation(activation="relu"))
        net.add(gluon.nn.Dropout(0.1))
        net.add(gluon.nn.Dense(10))
    net.collect_params().initialize(mx.init.Xavier(magnitude=2.24), ctx=CTX)
    settings = {"learning_rate": 0.1, "momentum": 0.5, "wd": 1e-4}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
    fit(digits, net, trainer, 4)
    assert evaluate_accuracy(digits, net) > 0.93
    shown = repr(net).split("\n")
    assert shown[0] == "Sequential("
    assert shown[1] == "  (0): Conv2D(1 -> 8, kernel_size=(5, 5), stride=(1, 1))"
    assert shown[6] == "  (5): Dense(1152 -> 32, linear)"


def test_blocks_of_blocks() -> None:
    def vgg_block(num_convs: int, channels: int) -> Any:
        out = nn.Sequential()
        for _ in range(num_convs):
            out.add(nn.Conv2D(channels=channels, kernel_size=3, padding=1, activation="relu"))
        out.add(nn.MaxPool2D(pool_size=2, strides=2))
        return out

    net = nn.Sequential()
    with net.name_scope():
        for convs, channels in ((1, 4), (2, 8)):
            net.add(vgg_block(convs, channels))
        net.add(nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dropout(0.5), nn.Dense(10))
    net.initialize(mx.init.Xavier(magnitude=2.24), ctx=mx.cpu())
    assert net(nd.ones((2, 3, 16, 16))).shape == (2, 10)
    shapes = {tuple(p.shape) for p in net.collect_params(".*weight").values()}
    assert shapes == {(4, 3, 3, 3), (8, 4, 3, 3), (8, 8, 3, 3), (16, 128), (10, 16)}


def test_batch_norm_from_scratch() -> None:
    def pure_batch_norm(X: nd.NDArray, gamma: Any, beta: Any, eps: float = 1e-5) -> nd.NDArray:
        _, C, _, _ = X.shape
        mean = nd.mean(X, axis=(0, 2, 3))
        variance = nd.mean((X - mean.reshape((1, C, 1, 1))) ** 2, axis=(0, 2, 3))
        std = nd.sqrt(variance.reshape((1, C, 1, 1)) + eps)
        X_hat = (X - mean.reshape((1, C, 1, 1))) * 1.0 / std
        return gamma.reshape((1, C, 1, 1)) * X_hat + beta.reshape((1, C, 1, 1))

    values = [1, 6, 5, 7, 4, 3, 2, 5, 6, 3, 2, 4, 5, 3, 2, 5, 6]
    B = nd.array(values, ctx=CTX).reshape((2, 2, 2, 2))
    out = pure_batch_norm(B, nd.array([1, 1]), nd.array([0, 0])).asnumpy()
    images = np.array(values[:16], dtype=np.float64).reshape(2, 2, 2, 2)
    mean, var = (f(images, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
    np.testing.assert_allclose(out, (images - mean) / np.sqrt(var + 1e-5), rtol=1e-5, atol=1e-5)
