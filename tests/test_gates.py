"""Pooling does the work of a ReLU before it on the way back, if nothing else used its result.

Where something else did, the sum of the gradients does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv.backends import backend_of
from cyconv.geometry import pool2d_geometry

X = np.random.default_rng(0).integers(-3, 4, (9, 4, 7, 6)).astype(np.float32)
W = np.random.default_rng(1).integers(-2, 3, (4, 4, 3, 3)).astype(np.float32)

RECTIFIED: dict[str, Callable[[Any], Any]] = {
    "relu": cc.ops.relu,
    "conv2d": lambda x: cc.ops.conv2d(x, W, padding=1, activation="relu"),
    "add": lambda x: cc.ops.add(x, x, activation="relu"),
    "batch_norm": lambda x: cc.ops.batch_norm(x, activation="relu"),
    "batch_norm and a sum": lambda x: cc.ops.batch_norm(x, residual=x, activation="relu"),
}
POOLED: dict[str, Callable[[Any], Any]] = {
    "max": lambda x: cc.ops.max_pool2d(x, 2),
    "overlapping max": lambda x: cc.ops.max_pool2d(x, 3, stride=2, padding=1),
    "mean": lambda x: cc.ops.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "global mean": lambda x: cc.ops.avg_pool2d(x, (7, 6)),
}


def gradient(function: Callable[[Any], Any], x: np.ndarray = X) -> np.ndarray:
    tensor = cc.tensor(x).attach_grad()
    with cc.record():
        out = function(tensor)
    out.backward(np.arange(out.size, dtype=x.dtype).reshape(out.shape) % 7 - 3)
    return tensor.grad.numpy()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every gradient of a ReLU that is a pass of its own."""
    seen: list[str] = []
    backend = backend_of(X)
    original = backend.relu_backward

    def counted(dout: Any, out: Any) -> Any:
        seen.append("relu_backward")
        return original(dout, out)

    monkeypatch.setattr(backend, "relu_backward", counted)
    return seen


@pytest.mark.parametrize("pooled", POOLED)
@pytest.mark.parametrize("rectified", RECTIFIED)
def test_the_same_gradient(rectified: str, pooled: str) -> None:
    """As with a view between the two, behind which pooling does not see the ReLU."""
    relu, pool = RECTIFIED[rectified], POOLED[pooled]
    apart = gradient(lambda x: pool(relu(x).reshape(X.shape)))
    assert np.any(apart != 0)
    np.testing.assert_array_equal(gradient(lambda x: pool(relu(x))), apart)


@pytest.mark.parametrize("pooled", POOLED)
def test_no_pass_of_its_own(pooled: str, passes: list[str]) -> None:
    gradient(lambda x: POOLED[pooled](cc.ops.relu(x)))
    expected = 0 if cc.backends.backend_name() == "cython" else 1  # NumPy calls it in pooling
    assert len(passes) == expected


def test_a_result_with_two_uses(passes: list[str]) -> None:
    def function(x: Any) -> Any:
        y = cc.ops.relu(x)
        return cc.ops.max_pool2d(y, 2) * y.sum()

    def plain(x: np.ndarray) -> np.ndarray:
        """By hand: each use adds its share, and the ReLU lets it through once."""
        y = np.maximum(x, 0)
        rows = y[:, :, :6].reshape(9, 4, 3, 2, 3, 2).transpose(0, 1, 2, 4, 3, 5)
        rows = rows.reshape(9, 4, 3, 3, 4)
        head = np.arange(rows[..., 0].size).reshape(rows.shape[:-1]) % 7 - 3
        dy = np.full(x.shape, (rows.max(-1) * head).sum())
        first = rows.argmax(-1)
        for n, c, i, j in np.ndindex(*first.shape):
            k = first[n, c, i, j]
            dy[n, c, 2 * i + k // 2, 2 * j + k % 2] += head[n, c, i, j] * y.sum()
        return dy * (y > 0)

    np.testing.assert_array_equal(gradient(function), plain(X))
    apart = cc.backends.backend_name() == "numpy"  # which has no kernel to add and gate in one pass
    assert len(passes) == apart


def test_nan_passes() -> None:
    x = X.copy()
    x[0, 0, 0, 0] = np.nan
    for pool in POOLED.values():
        found = gradient(lambda x, pool=pool: pool(cc.ops.relu(x)), x)
        apart = gradient(lambda x, pool=pool: pool(cc.ops.relu(x).reshape(X.shape)), x)
        np.testing.assert_array_equal(found, apart)


def test_a_kernel_takes_no_gate_of_another_shape() -> None:
    if cc.backends.backend_name() != "cython":
        pytest.skip("for the compiled kernels")
    g = pool2d_geometry("avg_pool2d", X.shape, 2)
    backend = backend_of(X)
    dout = backend.empty(g.out_shape, np.float32)
    with pytest.raises(ValueError, match="kernel"):
        backend.avg_pool2d_backward(dout, g, backend.empty((9, 4, 7, 5), np.float32))
