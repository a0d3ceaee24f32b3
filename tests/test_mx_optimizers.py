"""The optimisers of the book's chapter 6, from scratch and by name, find a line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv.mx import autograd, gluon, nd
from cyconv.mx import ndarray as F


@pytest.fixture(autouse=True)
def seeded() -> None:
    mx.random.seed(1)


def fake_line(n: int) -> tuple[nd.NDArray, nd.NDArray]:
    X = nd.random_normal(scale=1, shape=(n, 2))
    y = 2 * X[:, 0] - 3.4 * X[:, 1] + 4.2
    y += 0.01 * nd.random_normal(scale=1, shape=y.shape)
    return X, y


OPTIMIZERS = [
    ("sgd", {"learning_rate": 0.2}, 1),
    ("sgd", {"learning_rate": 0.2, "momentum": 0.9}, 0.2),
    ("adagrad", {"learning_rate": 0.9}, 1),
    ("rmsprop", {"learning_rate": 0.05, "gamma1": 0.9}, 1),
    ("adadelta", {"rho": 0.9999}, 1),
    ("adam", {"learning_rate": 0.1}, 1),
]


@pytest.mark.parametrize("name, settings, share", OPTIMIZERS)
def test_a_line_with_gluon(name: str, settings: dict[str, float], share: float) -> None:
    X, y = fake_line(1000)
    net = gluon.nn.Sequential()
    net.add(gluon.nn.Dense(1))
    net.collect_params().initialize(mx.init.Normal(sigma=1), force_reinit=True)
    settings = dict(settings)
    if "learning_rate" in settings:
        settings["learning_rate"] *= share
    trainer = gluon.Trainer(net.collect_params(), name, settings)
    loader = gluon.data.DataLoader(gluon.data.ArrayDataset(X, y), 10, shuffle=True)
    square_loss = gluon.loss.L2Loss()
    for epoch in range(1, 4):
        if epoch > 2:
            trainer.set_learning_rate(trainer.learning_rate * 0.1)
        for x, label in loader:
            with autograd.record():
                loss = square_loss(net(x), label)
            loss.backward()
            trainer.step(10)
    w = net[0].weight.data().asnumpy()
    np.testing.assert_allclose(np.reshape(w, (1, -1)), [[2, -3.4]], atol=0.05)
    assert abs(net[0].bias.data().asnumpy()[0] - 4.2) < 0.05
    assert np.mean(square_loss(net(X), y).asnumpy()) < 0.005


def step(name: str, params: Any, states: Any, t: int) -> None:
    """The updates as the chapter writes them, for a batch of 10."""
    for p, (s, d) in zip(params, states):
        g = p.grad / 10
        if name == "momentum":
            s[:] = 0.9 * s + 0.02 * g
            p[:] = p - s
        elif name == "adagrad":
            s[:] += nd.square(g)
            p[:] -= 0.9 * g / nd.sqrt(s + 1e-7)
        elif name == "rmsprop":
            s[:] = 0.9 * s + (1.0 - 0.9) * nd.square(g)
            p[:] -= 0.03 * g / nd.sqrt(s + 1e-8)
        elif name == "adadelta":
            s[:] = 0.9999 * s + (1.0 - 0.9999) * nd.square(g)
            change = nd.sqrt(d + 1e-5) / nd.sqrt(s + 1e-5) * g
            d[:] = 0.9999 * d + (1.0 - 0.9999) * change * change
            p[:] -= change
        else:
            s[:] = 0.9 * s + (1.0 - 0.9) * g
            d[:] = 0.999 * d + (1.0 - 0.999) * nd.square(g)
            p[:] = p - 0.1 * (s / (1.0 - 0.9**t)) / (nd.sqrt(d / (1.0 - 0.999**t)) + 1e-8)


@pytest.mark.parametrize("name", ["momentum", "adagrad", "rmsprop", "adadelta", "adam"])
def test_optimisers_from_scratch(name: str) -> None:
    X, y = fake_line(1000)
    w, b = F.random_normal(scale=1, shape=(2, 1)), F.zeros(shape=(1,))
    params = [w, b]
    states = [(p.zeros_like(), p.zeros_like()) for p in params]
    for p in params:
        p.attach_grad()
    for t in range(1, 301):
        i = t % 100 * 10
        with autograd.record():
            out = nd.dot(X[i : i + 10], w) + b
            loss = (out - y[i : i + 10].reshape(out.shape)) ** 2 / 2
        loss.backward()
        step(name, params, states, t)
    np.testing.assert_allclose(w.asnumpy().ravel(), [2, -3.4], atol=0.1)
    assert math.isclose(b.asscalar(), 4.2, abs_tol=0.1)


def test_adadelta_with_large_gradients_is_silent_and_as_mxnets() -> None:
    p = gluon.Parameter("p", shape=(2,))
    p.initialize(mx.init.Constant(0))
    trainer = gluon.Trainer([p], "adadelta", {"rho": 0.9999})
    with autograd.record():
        y = (p.data() * nd.array([3e19, 1])).sum()
    y.backward()
    trainer.step(1)
    np.testing.assert_allclose(p.data().asnumpy(), [-0.3162, -0.3015], rtol=2e-4)
    with autograd.record():
        y = (p.data() * nd.array([np.inf, 1])).sum()
    y.backward()
    trainer.step(1)  # warnings are errors here
    assert np.isnan(p.data().asnumpy()[0])
