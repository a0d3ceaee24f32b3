"""Initial values: their distribution, their formula, and that the seed repeats them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn
from cyconv.nn import init

SHAPE = (60, 20, 5, 4)  # fan_in 400, fan_out 1200, 24,000 numbers
STDS = [
    (lambda t: init.normal_(t, 0.3), 0.3),
    (init.xavier_normal_, math.sqrt(2 / 1600)),
    (lambda t: init.xavier_normal_(t, gain=3.0), 3 * math.sqrt(2 / 1600)),
    (init.he_normal_, math.sqrt(2 / 400)),
    (lambda t: init.he_normal_(t, "fan_out"), math.sqrt(2 / 1200)),
]
BOUNDS = [
    (lambda t: init.uniform_(t, -0.5, 0.5), 0.5),
    (init.xavier_uniform_, math.sqrt(6 / 1600)),
    (lambda t: init.xavier_uniform_(t, gain=3.0), 3 * math.sqrt(6 / 1600)),
    (init.he_uniform_, math.sqrt(6 / 400)),
    (lambda t: init.he_uniform_(t, "fan_out"), math.sqrt(6 / 1200)),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    cc.seed(5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("fill", "std"), STDS)
def test_normal(fill: Any, std: float, dtype: str) -> None:
    t = cc.zeros(*SHAPE, dtype=dtype)
    array = t.data
    assert fill(t) is t
    assert t.data is array
    values = t.numpy().ravel().astype(np.float64) / std
    assert abs(values.mean()) < 4 / math.sqrt(values.size)
    assert abs(values.std() - 1) < 4 / math.sqrt(2 * values.size)
    # 4.55 % of a normal distribution lie beyond two standard deviations
    assert abs((np.abs(values) > 2).mean() - 0.0455) < 0.006


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("fill", "bound"), BOUNDS)
def test_uniform(fill: Any, bound: float, dtype: str) -> None:
    values = fill(cc.zeros(*SHAPE, dtype=dtype)).numpy().ravel().astype(np.float64) / bound
    assert -1 - 1e-6 <= values.min() < -0.999
    assert 0.999 < values.max() <= 1 + 1e-6
    assert abs(values.mean()) < 4 / math.sqrt(3 * values.size)
    assert abs((np.abs(values) > 0.5).mean() - 0.5) < 0.015


def test_normal_mean_and_constants() -> None:
    assert abs(init.normal_(cc.zeros(10_000), 1.0, mean=7.0).numpy().mean() - 7) < 0.04
    assert init.ones_(cc.zeros(2)).tolist() == [1, 1]
    assert init.zeros_(cc.ones(2)).tolist() == [0, 0]


def test_seed_repeats_a_net() -> None:
    states = []
    for seed in (1, 1, 2):
        cc.seed(seed)
        states.append(nn.models.lenet_bn().state_dict())
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    assert (states[0]["0.weight"] != states[2]["0.weight"]).any()


def test_layers_start_as_documented() -> None:
    conv = nn.Conv2d(30, 64, 5, groups=2)
    assert conv.weight.numpy().std() == pytest.approx(math.sqrt(2 / (15 * 25)), rel=0.03)
    linear = nn.Linear(300, 200)
    assert linear.weight.numpy().std() == pytest.approx(math.sqrt(2 / 300), rel=0.03)
    up = nn.ConvTranspose2d(64, 32, 4, stride=2)
    assert up.weight.numpy().std() == pytest.approx(math.sqrt(2 / (64 * 4)), rel=0.03)
    for layer in (conv, linear, up):
        assert not layer.bias.numpy().any()
    norm = nn.BatchNorm2d(3)
    assert norm.weight.tolist() == norm.running_var.tolist() == [1, 1, 1]
    assert norm.bias.tolist() == norm.running_mean.tolist() == [0, 0, 0]


def test_activations_keep_their_size_through_depth() -> None:
    layers = [m for _ in range(10) for m in (nn.Linear(256, 256), nn.ReLU())]
    out = nn.Sequential(*layers)(cc.randn(64, 256)).numpy()
    assert 0.3 < math.sqrt((out**2).mean()) < 3


def test_skipped_draws_nothing_and_ends() -> None:
    before = cc.random.generator().bit_generator.state
    with init.skipped():
        layer = nn.Linear(3, 3)
        norm = nn.BatchNorm2d(3)
    assert cc.random.generator().bit_generator.state == before
    assert not layer.weight.numpy().any()
    assert not norm.weight.numpy().any()
    assert nn.Linear(3, 3).weight.numpy().any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: init.he_normal_(cc.zeros(3)), r"he_normal_: fans need .* got shape \(3,\)"),
        (lambda: init.xavier_uniform_(None), "xavier_uniform_: fans need .* got None"),
        (lambda: init.he_uniform_(cc.zeros(3, 3), mode="in"), "mode must be 'fan_in'"),
        (lambda: init.normal_(cc.zeros(3), std=-1), "normal_: std must be at least 0, got -1"),
        (lambda: init.normal_(cc.zeros(3), mean="0"), "normal_: mean must be a number, got '0'"),
        (lambda: init.uniform_(cc.zeros(3), 1, 0), "low must be at most high, got 1.0 and 0.0"),
        (lambda: init.uniform_(cc.zeros(3), high=np.nan), "uniform_: high must be finite"),
        (lambda: init.xavier_normal_(cc.zeros(3, 3), np.inf), "xavier_normal_: gain must be fin"),
        (lambda: init.xavier_uniform_(cc.zeros(3, 3), -2), "gain must be at least 0, got -2"),
        (lambda: init.normal_(np.zeros(3)), "t must be a float32 or float64 tensor, got ndarray"),
        (lambda: init.ones_(cc.zeros(3, dtype="int64")), "float64 tensor, got int64"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_refuses_to_write_what_a_live_graph_needs() -> None:
    param = nn.Parameter(cc.ones(2, 2))
    with cc.record():
        loss = (param * param).sum()
    with pytest.raises(RuntimeError, match="graph still needs"):
        init.zeros_(param)
    loss.backward()
    init.zeros_(param)
