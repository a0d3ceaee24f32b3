"""The error function against the C library's, as Python's math.erf has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cyconv.ops.erf import NEAR, erf


def errors(x: Any) -> Any:
    """In units of the last digit."""
    exact = np.array([math.erf(float(value)) for value in x])
    unit = np.spacing(abs(exact).astype(x.dtype))
    return abs(erf(x).astype(np.float64) - exact) / unit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_the_last_digits(dtype: str) -> None:
    """Errors of the exponential and of two quotients: six units at most, mostly none."""
    near, far = np.linspace(-NEAR, NEAR, 5001), np.linspace(NEAR, 7, 5001)
    tiny = np.logspace(-30, 0, 1001)
    edge = np.nextafter(NEAR, 1, dtype=dtype) * np.ones(1)
    found = errors(np.concatenate([near, far, -far, tiny, -tiny, edge]).astype(dtype))
    assert found.max() <= 6 and np.median(found) <= 1
    assert errors(far[1000:].astype(dtype)).max() <= 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends(dtype: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 6.0, -1e30, 40.0], dtype)
    y = erf(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([0.0, -0.0, 1, -1, np.nan, 1, -1, 1], dtype))
    assert np.signbit(y[1]) and not np.signbit(y[0])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    assert np.shape(erf(np.zeros(shape, np.float32))) == shape


def test_the_argument_is_left_alone() -> None:
    x = np.linspace(-2, 2, 9)
    before = x.copy()
    erf(x)
    np.testing.assert_array_equal(x, before)
