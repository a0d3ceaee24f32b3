"""The activations against their formulas in float64."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_norm_loss import ACTIVATIONS
from running import run
from strategies import DTYPES, SEEDS, normal

import cyconv as cc

NAMES = sorted(ACTIVATIONS)


@pytest.mark.parametrize("name", NAMES)
@given(
    shape=st.one_of(st.tuples(*[st.integers(1, 5)] * 4), st.tuples(*[st.integers(1, 40)] * 2)),
    scale=st.sampled_from([1e-4, 1.0, 10.0, 100.0]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_activation(name: str, shape: tuple[int, ...], scale: float, dtype: str, seed: int) -> None:
    x, head = normal(seed, dtype, shape, shape)
    check(name, (x * scale).astype(dtype), head)


def check(name: str, x: Any, head: Any) -> None:
    """Value and derivative."""
    value, derivative = ACTIVATIONS[name]
    allowed = bounds.activation(name, x, head)
    out, grads = run(name, {"x": x}, head)
    assert out.dtype == x.dtype
    x = x.astype(np.float64)
    bounds.check(out, value(x), allowed["out"], name)
    bounds.check(grads["x"], derivative(x) * head, allowed["x"], f"gradient of {name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_over_the_whole_range(name: str, dtype: str) -> None:
    """From where exp underflows to where it overflows, in small steps."""
    x = np.concatenate([np.linspace(-120, 120, 4001), np.linspace(-6, 6, 4001), [0.0, -0.0]])
    x = x.astype(dtype).reshape(3, 1, -1, 1)
    check(name, x, np.ones_like(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 4), (2, 1, 3, 2, 2)])
def test_any_number_of_dimensions(name: str, shape: tuple[int, ...]) -> None:
    x, head = normal(4, "float32", shape, shape)
    check(name, x, head)


@given(scale=st.sampled_from([0.0, 0.1, 0.5, 1.0, -0.5, 2.0]), dtype=DTYPES, seed=SEEDS)
def test_parameters(scale: float, dtype: str, seed: int) -> None:
    """The slope of leaky_relu, the alpha of elu, the approximate gelu."""
    x, head = normal(seed, dtype, (5, 7), (5, 7))
    z, unit = x.astype(np.float64), bounds.CALL * bounds.eps(x)
    out, grads = run("leaky_relu", {"x": x}, head, negative_slope=scale)
    bounds.check(out, np.where(z > 0, z, scale * z), unit * abs(z), "leaky_relu")
    bounds.check(grads["x"], np.where(z > 0, head, scale * head), unit * abs(head), "gradient")
    out, grads = run("elu", {"x": x}, head, alpha=scale)
    expected = np.where(z > 0, z, scale * np.expm1(np.minimum(z, 0)))
    bounds.check(out, expected, unit * abs(z) * (1 + abs(scale)), "elu")
    expected = np.where(z > 0, head, scale * np.exp(np.minimum(z, 0)) * head)
    bounds.check(grads["x"], expected, unit * abs(head) * (1 + abs(scale)), "gradient")
    inner = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    t, slope = np.tanh(inner), np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    out, grads = run("gelu", {"x": x}, head, approximate="tanh")
    # tanh magnifies the rounding of its argument at most by the factor of that argument
    unit = unit * (1 + abs(inner))
    bounds.check(out, z * (1 + t) / 2, unit * abs(z), "gelu")
    expected = head * ((1 + t) / 2 + z * (1 - t**2) * slope / 2)
    bounds.check(grads["x"], expected, unit * abs(head) * (1 + abs(z) * slope), "gradient")


LIMITS = {  # name: (value at -1e4, value at 1e4, slope at -1e4, slope at 1e4)
    "relu": (0, 1e4, 0, 1),
    "leaky_relu": (-1e2, 1e4, 0.01, 1),
    "sigmoid": (0, 1, 0, 0),
    "tanh": (-1, 1, 0, 0),
    "gelu": (0, 1e4, 0, 1),
    "softplus": (0, 1e4, 0, 1),
    "silu": (0, 1e4, 0, 1),
    "elu": (-1, 1e4, 0, 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_far_out(name: str, dtype: str) -> None:
    x = np.array([[-1e4, 1e4]], dtype)
    out, grads = run(name, {"x": x})
    low, high, slope_low, slope_high = LIMITS[name]
    np.testing.assert_allclose(out, [[low, high]], rtol=1e-6)
    np.testing.assert_allclose(grads["x"], [[slope_low, slope_high]], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity(name: str) -> None:
    x = np.array([[np.nan, np.inf, 1.0]] * 20, np.float32)
    with np.errstate(invalid="ignore"):
        out, _ = run(name, {"x": x})
    assert np.isnan(out[:, 0]).all()
    bounded = {"sigmoid", "tanh"}
    assert (out[:, 1] == (1.0 if name in bounded else np.inf)).all()
    assert np.isfinite(out[:, 2]).all()


def test_relu_at_zero_and_nan() -> None:
    x = np.array([[-1.0, -0.0, 0.0, 1.0, np.nan]], np.float32)
    out, grads = run("relu", {"x": x}, np.full((1, 5), 3.0, np.float32))
    np.testing.assert_array_equal(out, [[0, 0, 0, 1, np.nan]])
    assert grads["x"][0, :4].tolist() == [0, 0, 0, 3]


def test_dropout_scales_what_it_keeps() -> None:
    cc.seed(1)
    x = cc.ones(50, 4, 5, 5).attach_grad()
    with cc.record():
        y = cc.ops.dropout(x, 0.25)
    y.backward()
    out = y.numpy()
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / out.size)  # five deviations
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), out)  # the same mask and factor


def test_dropout_outside_training_does_nothing() -> None:
    x = cc.ones(3, 4)
    np.testing.assert_array_equal(cc.ops.dropout(x, 0.9).numpy(), x.numpy())
    with cc.record(train=False):
        np.testing.assert_array_equal(cc.ops.dropout(x, 0.9).numpy(), x.numpy())
