"""Sums over many numbers keep float32's digits: they are added up in float64, or in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import ops

RNG = np.random.default_rng(0)
LONG = np.full((2, 3_000_000), 0.1, np.float32)
FAR = (RNG.standard_normal((3, 150_000)) + 100).astype(np.float32)
SCORES = RNG.standard_normal((2, 300_000)).astype(np.float32)


def normal(x: Any) -> Any:
    x = x.astype(np.float64)
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5)


def soft(x: Any) -> Any:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=1, keepdims=True)


CASES: dict[str, tuple[Callable[[], Any], Any, float]] = {
    "sum": (lambda: ops.sum(LONG, axis=1), 3e5 * np.float32(0.1) / 0.1, 1e-7),
    "mean": (lambda: ops.mean(LONG.reshape(2, 1, 1500, 2000), axis=(2, 3)), np.float32(0.1), 1e-7),
    "layer_norm": (lambda: ops.layer_norm(FAR, 150_000), normal(FAR), 2e-5),
    "group_norm": (lambda: ops.group_norm(FAR, 1), normal(FAR), 2e-5),
    "softmax": (lambda: ops.softmax(SCORES, 1), soft(SCORES), 1e-6),
    "log_softmax": (lambda: ops.log_softmax(SCORES, 1), np.log(soft(SCORES)), 1e-6),
}


@pytest.fixture(params=sorted({"numpy", cc.backends.backend_name()}), autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    before = cc.backends.backend_name()
    cc.set_backend(request.param)
    yield
    cc.set_backend(before)


@pytest.mark.parametrize("name", CASES)
def test_forward(name: str) -> None:
    compute, expected, error = CASES[name]
    found = compute().numpy().astype(np.float64)
    assert np.abs(found - expected).max() <= error * np.abs(expected).max()


def test_the_gradient_of_what_was_broadcast() -> None:
    shift = cc.tensor([[0.0], [0.0]]).attach_grad()
    with cc.record():
        y = shift + LONG
    y.backward(LONG)
    np.testing.assert_allclose(shift.grad.numpy(), 3e6 * float(LONG[0, 0]), rtol=1e-7)


@pytest.mark.parametrize("n", [1, 3, 70])
@pytest.mark.parametrize("size", [15, 16, 17, 300])
def test_the_mean_of_a_large_window(n: int, size: int) -> None:
    x = cc.tensor(np.full((n, 2, size, size), 0.1, np.float32)).attach_grad()
    with cc.record():
        y = ops.global_avg_pool2d(x)
    y.backward()
    np.testing.assert_allclose(y.numpy(), 0.1, rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), 1 / size**2, rtol=1e-6)


def test_large_windows_that_hang_over_the_edge() -> None:
    x = RNG.standard_normal((5, 2, 40, 37)).astype(np.float32)
    y = ops.avg_pool2d(x, (30, 18), stride=(9, 4), padding=(7, 9), count_include_pad=False)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (7, 7), (9, 9)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (30, 18), (2, 3))[:, :, ::9, ::4]
    np.testing.assert_allclose(y.numpy(), np.nanmean(windows, axis=(4, 5)), rtol=0, atol=1e-6)
