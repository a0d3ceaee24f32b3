"""Max and average pooling against nested loops, over drawn geometry."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from running import run
from strategies import Pool, normal, pools

import cyconv as cc
from cyconv.backends import cpu_numpy
from cyconv.geometry import pool2d_geometry

Array = NDArray[Any]


def check_max(x: Array, kernel_size: Any, options: dict[str, Any]) -> None:
    """The output exactly, the gradient within the rounding error of its sums."""
    expected, where = oracle.max_pool2d(x, kernel_size, **options)
    (head,) = normal(9, x.dtype, expected.shape)
    out, grads = run("max_pool2d", {"x": x}, head, kernel_size=kernel_size, **options)
    assert out.dtype == x.dtype
    np.testing.assert_array_equal(out, expected)
    dx = oracle.max_pool2d_grads(head, where, x)
    bounds.check(grads["x"], dx, bounds.max_pool2d(head, where, x, kernel_size), "gradient")


def check_average(x: Array, kernel_size: Any, options: dict[str, Any]) -> None:
    """Output and gradient within the rounding error of sums."""
    expected = oracle.avg_pool2d(x, kernel_size, **options)
    (head,) = normal(9, x.dtype, expected.shape)
    out, grads = run("avg_pool2d", {"x": x}, head, kernel_size=kernel_size, **options)
    assert out.dtype == x.dtype
    allowed = bounds.avg_pool2d(x, head, kernel_size, options)
    bounds.check(out, expected, allowed["out"], "output")
    dx = oracle.avg_pool2d_grads(head, x, kernel_size, **options)
    bounds.check(grads["x"], dx, allowed["x"], "gradient")


def with_specials(seed: int, dtype: str, shape: tuple[int, ...]) -> Array:
    """Few different values, so ties abound, and some NaN and infinities."""
    rng = np.random.default_rng(seed)
    values = [-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, np.nan, np.inf, -np.inf]
    chances = [0.13, 0.13, 0.1, 0.1, 0.13, 0.13, 0.04, 0.04, 0.2]
    return rng.choice(values, shape, p=chances).astype(dtype)


@given(case=pools(dilated=True))
def test_max_pool2d(case: Pool) -> None:
    (x,) = normal(case.seed, case.dtype, case.x_shape)
    check_max(x, case.kernel_size, case.options)


@given(case=pools(dilated=True))
def test_max_pool2d_of_ties_nan_and_infinities(case: Pool) -> None:
    x = with_specials(case.seed, case.dtype, case.x_shape)
    check_max(x, case.kernel_size, case.options)


@given(case=pools(dilated=False))
def test_avg_pool2d(case: Pool) -> None:
    (x,) = normal(case.seed, case.dtype, case.x_shape)
    check_average(x, case.kernel_size, case.options)


EDGES = [
    # size, kernel_size, options
    ((1, 1), 1, {}),
    ((4, 4), 2, {}),
    ((5, 5), 2, {}),
    ((5, 5), 2, {"ceil_mode": True}),
    ((7, 7), 3, {"stride": 2, "padding": 1}),
    ((6, 6), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((3, 3), 2, {"stride": 5}),
    ((4, 4), 2, {"stride": 5, "padding": 1, "ceil_mode": True}),
    # a last window that would start behind the input is dropped
    ((3, 3), 2, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((4, 6), (1, 3), {"stride": (3, 1)}),
    ((5, 4), (4, 2), {"padding": ((2, 0), (0, 1))}),
    ((1, 1), 3, {"padding": 1}),
    ((2, 9), (2, 3), {"stride": 1, "padding": (1, 1), "ceil_mode": True}),
]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
@pytest.mark.parametrize(("size", "kernel_size", "options"), EDGES)
def test_pooling_at_the_edges(
    size: tuple[int, int], kernel_size: Any, options: dict[str, Any], n: int
) -> None:
    (x,) = normal(n, "float32", (n, 3, *size))
    check_max(x, kernel_size, options)
    for counted in (True, False):
        check_average(x, kernel_size, options | {"count_include_pad": counted})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel_size", "padding", "dilation"),
    [
        ((2, 2), 2, 1, 3),
        ((1, 6), 2, (1, 0), (2, 1)),
        ((4, 1), (4, 2), (2, 1), (1, 2)),
        ((2, 6), (2, 4), (1, 2), (3, 3)),
    ],
)
def test_dilated_windows_that_step_over_the_image(
    size: tuple[int, int], kernel_size: Any, padding: Any, dilation: Any, dtype: str
) -> None:
    """No tap of such a window meets a pixel: -inf as in PyTorch, and its gradient goes nowhere."""
    (x,) = normal(1, dtype, (3, 2, *size))
    check_max(x, kernel_size, {"stride": 1, "padding": padding, "dilation": dilation})


def test_huge_windows() -> None:
    """Valid, since padding may be half the window; its tap numbers just fit into 32 bits."""
    x = np.array([[[[1.0, 2.0], [4.0, 3.0]]]], np.float32)
    huge: dict[str, Any] = {"stride": 1, "padding": 23170, "kernel_size": 46340}
    out, grads = run("max_pool2d", {"x": x}, **huge)
    assert (out == 4).all() and out.shape == (1, 1, 3, 3)
    assert grads["x"].ravel().tolist() == [0, 0, 9, 0]
    out, grads = run("avg_pool2d", {"x": x}, **huge)
    np.testing.assert_allclose(out, np.full((1, 1, 3, 3), 10 / 46340**2), rtol=1e-6)
    np.testing.assert_allclose(grads["x"], np.full((1, 1, 2, 2), 9 / 46340**2), rtol=1e-6)


def test_windows_too_large_to_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_pool2d: kernel_size .46341, 46341."):
        cc.ops.max_pool2d(np.zeros((1, 1, 2, 2)), 46341, padding=23170)


def test_the_last_nan_of_a_window_wins() -> None:
    x = np.array([[[[np.nan, 1.0], [np.nan, 2.0]]]], np.float32)
    out, grads = run("max_pool2d", {"x": x}, kernel_size=2)
    assert np.isnan(out).all()
    assert grads["x"].ravel().tolist() == [0, 0, 1, 0]


def test_the_first_of_equal_values_wins() -> None:
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]], np.float32)
    assert run("max_pool2d", {"x": x}, kernel_size=2)[1]["x"].ravel().tolist() == [0, 1, 0, 0]
    x[...] = -np.inf
    out, grads = run("max_pool2d", {"x": x}, kernel_size=2)
    assert out.item() == -np.inf
    assert grads["x"].ravel().tolist() == [1, 0, 0, 0]


def test_padding_never_wins() -> None:
    x = np.full((2, 1, 2, 2), -5.0, np.float32)
    out, _ = run("max_pool2d", {"x": x}, kernel_size=2, stride=1, padding=1)
    assert (out == -5).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_average_of_specials(value: float) -> None:
    x = np.ones((17, 2, 4, 4), np.float32)
    x[3, 1, 1, 2] = value
    options: dict[str, Any] = {"stride": 1, "padding": 1}
    out, _ = run("avg_pool2d", {"x": x}, kernel_size=3, **options)
    np.testing.assert_array_equal(np.isfinite(out), np.isfinite(oracle.avg_pool2d(x, 3, **options)))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_global_pooling(shape: tuple[int, int, int, int], dtype: str, seed: int) -> None:
    x, head = normal(seed, dtype, shape, (*shape[:2], 1, 1))
    out, grads = run("global_avg_pool2d", {"x": x}, head)
    allowed = bounds.avg_pool2d(x, head, shape[2:], {})
    bounds.check(out, oracle.avg_pool2d(x, shape[2:]), allowed["out"], "output")
    bounds.check(grads["x"], oracle.avg_pool2d_grads(head, x, shape[2:]), allowed["x"], "gradient")
    expected, where = oracle.max_pool2d(x, shape[2:])
    out, grads = run("global_max_pool2d", {"x": x}, head)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(grads["x"], oracle.max_pool2d_grads(head, where, x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_indices_of_the_winners(dtype: Any) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 9, 8)).astype(dtype)
    options: dict[str, Any] = {"stride": (2, 3), "padding": ((0, 1), (1, 0)), "dilation": (2, 1)}
    out, indices = cc.ops.max_pool2d(x, 3, ceil_mode=True, return_indices=True, **options)
    np.testing.assert_array_equal(
        out.numpy(), cc.ops.max_pool2d(x, 3, ceil_mode=True, **options).numpy()
    )
    assert indices.dtype == np.int64 and indices.shape == out.shape
    flat = x.reshape(2, 3, -1)
    values = np.take_along_axis(flat, indices.numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(values.reshape(out.shape), out.numpy())


def test_the_indices_name_the_first_of_equals() -> None:
    gap = {"stride": 1, "padding": 1, "dilation": 2}
    out, indices = cc.ops.max_pool2d(np.ones((1, 1, 1, 1)), 2, return_indices=True, **gap)
    assert (out.tolist(), indices.tolist()) == ([[[[-np.inf]]]], [[[[-1]]]])
    _, indices = cc.ops.max_pool2d(np.ones((1, 1, 3, 3)), 2, stride=1, return_indices=True)
    assert indices.tolist() == [[[[0, 1], [3, 4]]]]


@pytest.mark.parametrize("divisor", [1, 3, -2])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_another_divisor(divisor: int, count_include_pad: bool) -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 7, 6))
    options = {"stride": 3, "ceil_mode": True, "padding": 1}
    out = cc.ops.avg_pool2d(
        x, 4, divisor_override=divisor, count_include_pad=count_include_pad, **options
    )
    padded = np.pad(x, ((0, 0), (0, 0), (1, 4), (1, 4)))  # with what hangs over the edge
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            total = padded[:, :, 3 * i : 3 * i + 4, 3 * j : 3 * j + 4].sum((2, 3))
            np.testing.assert_allclose(out.numpy()[:, :, i, j], total / divisor, rtol=1e-12)
    assert cc.gradcheck(
        lambda t: cc.ops.avg_pool2d(
            t, 4, divisor_override=divisor, count_include_pad=count_include_pad, **options
        ),
        [cc.tensor(x, "float64")],
    )


def test_the_layer_passes_the_divisor_on() -> None:
    assert cc.nn.AvgPool2d(2, divisor_override=1)(cc.ones(1, 1, 2, 2)).tolist() == [[[[4.0]]]]


@pytest.mark.parametrize("n", [1, 2, 17, 70])
@pytest.mark.parametrize(
    "size, kernel, padding, dilation",
    [((1, 4), (2, 4), (1, 1), (2, 1)), ((8, 3), (2, 2), (1, 1), (3, 4)), ((3, 6), 2, 1, (4, 3))],
)
def test_the_winner_of_a_window_in_padding_is_the_first_place(
    n: int, size: tuple[int, int], kernel: Any, padding: Any, dilation: tuple[int, int]
) -> None:
    kernels = pytest.importorskip("cyconv.backends.cpu_cython")
    g = pool2d_geometry("max_pool2d", (n, 2, *size), kernel, 3, padding, dilation)
    x = np.random.default_rng(0).integers(-2, 3, g.x_shape).astype(np.float32)
    out, argmax = kernels.max_pool2d(x, g)
    assert not np.isfinite(out).all()
    for found, expected in zip((out, argmax), cpu_numpy.max_pool2d(x, g)):
        np.testing.assert_array_equal(found, expected)
