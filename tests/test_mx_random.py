"""Random numbers, initialisers and dropout by MXNet's names: what cannot be recorded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv.mx import autograd, gluon, nd
from cyconv.mx.gluon import nn


def test_random_numbers_have_the_moments_asked_for_and_repeat() -> None:
    for draw, mean, std in (
        (lambda: nd.random_normal(2, 3, (100, 1000)), 2, 3),
        (lambda: nd.random_uniform(-1, 3, (100, 1000)), 1, 4 / math.sqrt(12)),
    ):
        mx.random.seed(5)
        first = draw().asnumpy()
        mx.random.seed(5)
        np.testing.assert_array_equal(draw().asnumpy(), first)
        assert abs(first.mean() - mean) < 0.05
        assert abs(first.std() - std) < 0.05
        assert first.dtype == np.float32
    assert nd.random_normal(shape=3).shape == (3,)
    assert nd.random_uniform(0, 1, (2,), dtype="float64").dtype == np.float64


def test_multinomial_draws_by_the_probabilities() -> None:
    mx.random.seed(0)
    p = nd.array([0.1, 0.0, 0.6, 0.3])
    drawn = nd.sample_multinomial(p, shape=20000)
    assert (drawn.dtype, drawn.shape) == (np.int32, (20000,))
    counts = np.bincount(drawn.asnumpy(), minlength=4) / 20000
    np.testing.assert_allclose(counts, [0.1, 0, 0.6, 0.3], atol=0.015)
    assert nd.sample_multinomial(p).shape == (1,)
    assert nd.sample_multinomial(p, shape=(5, 2)).shape == (5, 2)
    rows = nd.sample_multinomial(nd.array([[1, 0], [0, 1]]), shape=4)
    np.testing.assert_array_equal(rows.asnumpy(), [[0] * 4, [1] * 4])
    assert nd.sample_multinomial(nd.array([[1, 0], [0, 1]])).shape == (2,)


@pytest.mark.parametrize(
    "init, width",
    [
        (mx.init.Xavier(), math.sqrt(3 / 250)),
        (mx.init.Xavier(magnitude=2.24), math.sqrt(2.24 / 250)),
        (mx.init.Uniform(0.5), 0.5),
        (mx.init.Uniform(), 0.07),
        (None, 0.07),
    ],
)
def test_uniform_weights_fill_their_range(init: Any, width: float) -> None:
    net = nn.Dense(200, in_units=300)
    net.initialize(init)
    w = net.weight.data().asnumpy()
    assert abs(w.max() - width) < 0.01 * width
    assert abs(w.min() + width) < 0.01 * width
    assert abs(w.std() - width / math.sqrt(3)) < 0.01 * width
    assert not net.bias.data().asnumpy().any()


@pytest.mark.parametrize(
    "init, std",
    [
        (mx.init.Normal(sigma=2.0), 2.0),
        (mx.init.Normal(), 0.01),
        ("normal", 0.01),
    ],
)
def test_normal_weights_have_their_width(init: Any, std: float) -> None:
    net = nn.Dense(200, in_units=300)
    net.collect_params().initialize(init, ctx=mx.cpu())
    assert abs(net.weight.data().asnumpy().std() - std) < 0.02 * std


def test_an_initializer_of_ones_own() -> None:
    class Fives(mx.init.Initializer):
        def _init_weight(self, name: str, arr: nd.NDArray) -> None:
            arr[:] = 5

    net = nn.Dense(2, in_units=2)
    net.initialize(Fives())
    assert net.weight.data().asnumpy().tolist() == [[5, 5], [5, 5]]
    net.initialize(mx.init.Constant(1))  # filled already: left as it is
    assert net.weight.data().asnumpy().tolist() == [[5, 5], [5, 5]]
    net.initialize(mx.init.Constant(1), force_reinit=True)
    assert net.weight.data().asnumpy().tolist() == [[1, 1], [1, 1]]


def test_dropout_drops_in_training_only() -> None:
    drop = nn.Dropout(0.25)
    x = nd.ones((100, 100))
    assert drop(x).sum().asscalar() == 10000
    with autograd.record():
        y = drop(x).asnumpy()
    assert set(np.unique(y)) == {0, np.float32(4 / 3)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    with autograd.record(train_mode=False):
        assert drop(x).sum().asscalar() == 10000
    with autograd.train_mode():
        assert (drop(x) == 0).sum().asscalar() > 0


def test_the_seed_repeats_the_order_and_leaves_numpys_stream_alone() -> None:
    loader = gluon.data.DataLoader(np.arange(20.0), 20, shuffle=True)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    orders = []
    for _ in range(2):
        mx.random.seed(1)
        orders += [next(iter(loader)).asnumpy().tolist() for _ in range(2)]
    assert orders[:2] == orders[2:]
    assert orders[0] != orders[1]  # each epoch has another one
    assert sorted(orders[0]) == list(range(20)) != orders[0]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
