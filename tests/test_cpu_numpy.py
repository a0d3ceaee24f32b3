"""The NumPy backend against loops over single numbers and against values worked out by hand.

Memory layouts and empty batches are in `test_cpu_numpy_layouts.py`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cyconv.backends import cpu_numpy as backend
from cyconv.geometry import (
    Conv2dGeometry,
    Pool2dGeometry,
    conv2d_geometry,
    conv_transpose2d_geometry,
    pool2d_geometry,
)

Array = NDArray[Any]

# x shape, w shape, stride, padding, dilation, groups
CONVOLUTIONS = {
    "plain": ((2, 3, 6, 5), (4, 3, 3, 2), 1, 0, 1, 1),
    "1x1": ((3, 4, 3, 2), (5, 4, 1, 1), 1, 0, 1, 1),
    "1x1, stride 2": ((3, 4, 3, 4), (5, 4, 1, 1), 2, 0, 1, 1),
    "one pixel": ((3, 4, 1, 1), (5, 4, 1, 1), 1, 0, 1, 1),
    "stride": ((2, 2, 7, 8), (3, 2, 3, 2), (2, 3), 0, 1, 1),
    "asymmetric padding": ((2, 2, 4, 5), (3, 2, 3, 3), 1, ((0, 2), (3, 1)), 1, 1),
    "dilation": ((2, 2, 8, 7), (3, 2, 3, 2), (1, 2), ((1, 0), (0, 2)), (2, 3), 1),
    "groups": ((2, 6, 5, 5), (4, 3, 2, 2), 1, 1, 1, 2),
    "1x1 in groups": ((2, 6, 2, 2), (4, 3, 1, 1), 1, 0, 1, 2),
    "depthwise": ((2, 3, 5, 5), (3, 1, 3, 3), 2, 1, 1, 3),
    "depthwise, 1x1": ((2, 3, 5, 5), (3, 1, 1, 1), 1, 0, 1, 3),
    "kernel larger than image": ((2, 2, 2, 3), (2, 2, 5, 4), 1, 3, 1, 1),
    "taps that see padding only": ((1, 1, 1, 1), (2, 1, 3, 3), 3, 4, 2, 1),
    "single image": ((1, 3, 6, 6), (4, 3, 3, 3), 1, 1, 1, 1),
}
# x shape, kernel, stride, padding, dilation (max only), ceil_mode, count_include_pad
POOLINGS = {
    "2x2": ((3, 2, 6, 4), 2, None, 0, 1, False, True),
    "rows left over": ((2, 2, 5, 7), 2, None, 0, 1, False, True),
    "overlapping": ((2, 2, 6, 6), 3, 1, 1, 1, False, True),
    "count only the image": ((2, 2, 6, 6), 3, 2, 1, 1, False, False),
    "asymmetric": ((2, 1, 7, 6), (3, 4), (2, 3), ((1, 0), (2, 1)), 1, False, True),
    "ceil_mode": ((2, 2, 6, 7), 3, 2, 0, 1, True, True),
    "ceil_mode, padding": ((2, 2, 6, 7), (3, 2), (4, 3), 1, 1, True, True),
    "ceil_mode, count only the image": ((2, 2, 6, 7), (3, 2), (4, 3), 1, 1, True, False),
    "dilation": ((2, 2, 7, 8), 3, 2, 1, 2, True, True),
    "gaps": ((2, 2, 8, 8), 2, 3, 0, 1, False, True),
    "whole image": ((2, 3, 4, 5), (4, 5), None, 0, 1, False, True),
}


def integers(shape: tuple[int, ...], seed: int = 0, dtype: str = "float64") -> Array:
    """Small integers, whose sums of products are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def conv_geometry(case: str) -> Conv2dGeometry:
    return conv2d_geometry(*CONVOLUTIONS[case])


def pool_geometry(case: str) -> Pool2dGeometry:
    x_shape, kernel, stride, padding, dilation, ceil, include = POOLINGS[case]
    return pool2d_geometry("pool", x_shape, kernel, stride, padding, dilation, ceil, include)


def conv_by_loops(x: Array, w: Array, dout: Array, g: Conv2dGeometry) -> tuple[Array, Array, Array]:
    """out, dx and dw of a convolution without bias."""
    window, out, dx, dw = g.window, np.zeros(g.out_shape), np.zeros(g.x_shape), np.zeros(g.w_shape)
    filters, channels = g.f // g.groups, g.c // g.groups
    for n, f, oh, ow in np.ndindex(*g.out_shape):
        for c, kh, kw in np.ndindex(*g.w_shape[1:]):
            ih = oh * window.stride[0] - window.padding[0] + kh * window.dilation[0]
            iw = ow * window.stride[1] - window.padding[2] + kw * window.dilation[1]
            if 0 <= ih < window.in_size[0] and 0 <= iw < window.in_size[1]:
                ic = f // filters * channels + c
                out[n, f, oh, ow] += x[n, ic, ih, iw] * w[f, c, kh, kw]
                dx[n, ic, ih, iw] += dout[n, f, oh, ow] * w[f, c, kh, kw]
                dw[f, c, kh, kw] += dout[n, f, oh, ow] * x[n, ic, ih, iw]
    return out, dx, dw


def window_taps(g: Pool2dGeometry, oh: int, ow: int) -> list[tuple[int, int, int]]:
    """(tap, ih, iw) of a window's pixels inside the image, in order."""
    window = g.window
    taps = []
    for kh, kw in np.ndindex(*window.kernel):
        ih = oh * window.stride[0] - window.padding[0] + kh * window.dilation[0]
        iw = ow * window.stride[1] - window.padding[2] + kw * window.dilation[1]
        if 0 <= ih < window.in_size[0] and 0 <= iw < window.in_size[1]:
            taps.append((kh * window.kernel[1] + kw, ih, iw))
    return taps


def max_pool_by_loops(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    out, argmax = np.zeros(g.out_shape), np.zeros(g.out_shape, np.int32)
    for n, c, oh, ow in np.ndindex(*g.out_shape):
        taps = window_taps(g, oh, ow)
        best, winner = -math.inf, taps[0][0]
        for tap, ih, iw in taps:
            if x[n, c, ih, iw] > best or math.isnan(x[n, c, ih, iw]):
                best, winner = x[n, c, ih, iw], tap
        out[n, c, oh, ow], argmax[n, c, oh, ow] = best, winner
    return out, argmax


def pixels_counted(g: Pool2dGeometry, oh: int, ow: int) -> int:
    """The divisor of an average: the pixels inside the padded image, or the image."""
    if not g.count_include_pad:
        return len(window_taps(g, oh, ow))
    window, count = g.window, 0
    for kh, kw in np.ndindex(*window.kernel):
        row, column = oh * window.stride[0] + kh, ow * window.stride[1] + kw
        height = window.in_size[0] + window.padding[0] + window.padding[1]
        width = window.in_size[1] + window.padding[2] + window.padding[3]
        count += row < height and column < width
    return count


# --- convolution ----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3000, backend.SCRATCH_LIMIT])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_equals_loops_however_it_is_tiled(
    case: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "SCRATCH_LIMIT", limit)
    g = conv_geometry(case)
    x, w, b = integers(g.x_shape), integers(g.w_shape, 1), integers((g.f,), 2)
    dout = integers(g.out_shape, 3)
    out, dx, dw = conv_by_loops(x, w, dout, g)
    np.testing.assert_array_equal(backend.conv2d(x, w, None, g), out)
    np.testing.assert_array_equal(backend.conv2d(x, w, b, g), out + b[:, None, None])
    np.testing.assert_array_equal(backend.conv2d_input_grad(dout, w, g), dx)
    np.testing.assert_array_equal(backend.conv2d_weight_grad(x, dout, g), dw)
    np.testing.assert_array_equal(backend.channel_sum(dout), dout.sum(axis=(0, 2, 3)))


def test_image_larger_than_its_1x1_windows_reach() -> None:
    """Rows and columns that only output_padding of a transposed convolution brings in."""
    g = conv_transpose2d_geometry((2, 3, 4, 2), (3, 2, 1, 1), output_padding=(1, 2), dilation=3)
    assert (g.window.in_size, g.window.out_size) == ((5, 4), (4, 2))
    x, w, dout = integers(g.x_shape), integers(g.w_shape, 1), integers(g.out_shape, 2)
    out, dx, dw = conv_by_loops(x, w, dout, g)
    np.testing.assert_array_equal(backend.conv2d(x, w, None, g), out)
    np.testing.assert_array_equal(backend.conv2d_input_grad(dout, w, g), dx)
    np.testing.assert_array_equal(backend.conv2d_weight_grad(x, dout, g), dw)


def test_scratch_memory_is_bounded() -> None:
    big = conv2d_geometry((64, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert 0 < backend.plan_conv2d(big, np.dtype("float32"))[2] <= backend.SCRATCH_LIMIT
    linear = conv2d_geometry((64, 800, 1, 1), (128, 800, 1, 1))
    assert backend.plan_conv2d(linear, np.dtype("float32"))[2] == 0
    # a row that does not fit is cut, down to a single pixel of the output
    wide = conv2d_geometry((4096, 64, 8, 8), (8, 64, 3, 3))
    assert backend.plan_conv2d(wide, np.dtype("float64"))[2] == 4096 * 64 * 9 * 8


# --- pooling --------------------------------------------------------------------------


@pytest.mark.parametrize("special", [0.0, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("case", POOLINGS)
def test_max_pool_equals_loops(case: str, special: float) -> None:
    g = pool_geometry(case)
    x, dout = integers(g.x_shape), integers(g.out_shape, 1)
    dice = np.random.default_rng(2).random(x.shape)
    x[dice < special] = -np.inf
    x[dice < special / 3] = np.nan
    x[dice < special / 10] = np.inf
    expected, winners = max_pool_by_loops(x, g)
    out, argmax = backend.max_pool2d(x, g)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(argmax, winners)
    assert argmax.dtype == np.int32
    dx = np.zeros(g.x_shape)
    for n, c, oh, ow in np.ndindex(*g.out_shape):
        for tap, ih, iw in window_taps(g, oh, ow):
            if tap == winners[n, c, oh, ow]:
                dx[n, c, ih, iw] += dout[n, c, oh, ow]
    np.testing.assert_array_equal(backend.max_pool2d_backward(dout, argmax, g), dx)


def test_max_pool_winners() -> None:
    nan, inf = np.nan, np.inf
    windows = [
        ([1, 3, 3, 2], 3, 1),  # the first of equal values
        ([1, nan, 9, 2], nan, 1),  # NaN wins over what comes after it
        ([nan, 1, nan, 2], nan, 2),  # the last NaN
        ([-inf, -inf, -inf, -inf], -inf, 0),
        ([-inf, -inf, 1, -inf], 1, 2),
        ([inf, nan, inf, inf], nan, 1),
        ([-0.0, 0.0, -0.0, 0.0], -0.0, 0),  # equal, so the first: it keeps its sign
    ]
    x = np.array([w[0] for w in windows], np.float32).reshape(-1, 1, 2, 2)
    out, argmax = backend.max_pool2d(x, pool2d_geometry("pool", x.shape, 2))
    np.testing.assert_array_equal(out.ravel(), np.array([w[1] for w in windows], np.float32))
    assert argmax.ravel().tolist() == [w[2] for w in windows]
    assert np.signbit(out[-1, 0, 0, 0])
    # of a window in the padding's corner only the pixel in the image can win
    x = np.full((1, 1, 2, 2), -inf)
    argmax = backend.max_pool2d(x, pool2d_geometry("pool", x.shape, 2, 2, 1))[1]
    assert argmax.ravel().tolist() == [3, 2, 1, 0]


def test_max_pool_gradient_keeps_infinities_to_the_winner() -> None:
    g = pool2d_geometry("pool", (1, 1, 1, 4), (1, 2))
    argmax = np.array([[[[1, 0]]]], np.int32)
    dx = backend.max_pool2d_backward(np.array([[[[np.inf, np.nan]]]]), argmax, g)
    np.testing.assert_array_equal(dx, [[[[0, np.inf, np.nan, 0]]]])


@pytest.mark.parametrize("case", [c for c in POOLINGS if c != "dilation"])
def test_avg_pool_equals_loops(case: str) -> None:
    g = pool_geometry(case)
    x, dout = integers(g.x_shape), integers(g.out_shape, 1)
    out, dx = np.zeros(g.out_shape), np.zeros(g.x_shape)
    for n, c, oh, ow in np.ndindex(*g.out_shape):
        size = pixels_counted(g, oh, ow)
        for _, ih, iw in window_taps(g, oh, ow):
            out[n, c, oh, ow] += x[n, c, ih, iw]
            dx[n, c, ih, iw] += dout[n, c, oh, ow] / size
        out[n, c, oh, ow] /= size
    np.testing.assert_array_equal(backend.avg_pool2d(x, g), out)
    np.testing.assert_allclose(backend.avg_pool2d_backward(dout, g), dx, rtol=1e-14, atol=1e-14)


def test_avg_pool_divisor_of_windows_over_the_edge() -> None:
    # 1 2 3 4 with one zero before and after; the last window hangs over by two positions
    x = np.array([[[[1.0, 2.0, 3.0, 4.0]]]])
    args = ("pool", x.shape, (1, 4), (1, 4), ((0, 0), (1, 1)), 1, True)
    with_padding = backend.avg_pool2d(x, pool2d_geometry(*args, True))
    assert with_padding.ravel().tolist() == [6 / 4, 4 / 2]
    assert backend.avg_pool2d(x, pool2d_geometry(*args, False)).ravel().tolist() == [6 / 3, 4]


# --- batch norm, cross-entropy, ReLU ----------------------------------------------------


def by_differences(f: Any, a: Array, step: float = 1e-5) -> Array:
    """The gradient of the number f(a) by central differences."""
    grad = np.zeros_like(a)
    for i in np.ndindex(*a.shape):
        up, down = a.copy(), a.copy()
        up[i] += step
        down[i] -= step
        grad[i] = (f(up) - f(down)) / (2 * step)
    return grad


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4), (2, 3, 2, 4), (2, 3, 2, 1, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal(shape) * 2 + 3, rng.standard_normal(shape)
    gamma, beta = (rng.standard_normal(3), rng.standard_normal(3)) if affine else (None, None)
    out, mean, var, inv_std = backend.batch_norm(x, gamma, beta, 1e-3)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(var + 1e-3), rtol=1e-12)
    for c in range(3):
        values = x[:, c].ravel().tolist()
        m = math.fsum(values) / len(values)
        s = 1 / math.sqrt(math.fsum((v - m) ** 2 for v in values) / len(values) + 1e-3)
        assert (mean[c], inv_std[c]) == pytest.approx((m, s), rel=1e-12)
        scale, shift = (1.0, 0.0) if gamma is None or beta is None else (gamma[c], beta[c])
        np.testing.assert_allclose(out[:, c], (x[:, c] - m) * s * scale + shift, rtol=1e-10)
    dx, dgamma, dbeta = backend.batch_norm_backward(dout, x, gamma, None, mean, inv_std)

    def total(x: Array, gamma: Array | None, beta: Array | None) -> float:
        return float((backend.batch_norm(x, gamma, beta, 1e-3)[0] * dout).sum())

    np.testing.assert_allclose(dx, by_differences(lambda v: total(v, gamma, beta), x), atol=1e-8)
    one, zero = (np.ones(3), np.zeros(3)) if gamma is None or beta is None else (gamma, beta)
    expected = by_differences(lambda v: total(x, v, zero), one)
    np.testing.assert_allclose(dgamma, expected, atol=1e-8)
    np.testing.assert_allclose(dbeta, by_differences(lambda v: total(x, one, v), zero), atol=1e-8)


def test_cross_entropy_values() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]))
    losses, log_probs = backend.cross_entropy(logits, np.array([2, 0]), 0.0)
    np.testing.assert_allclose(losses, [math.log(8 / 5), math.log(4)], rtol=1e-14)
    np.testing.assert_allclose(np.exp(log_probs), [[1 / 8, 2 / 8, 5 / 8], [1 / 4, 1 / 4, 2 / 4]])
    # 0.3 / 3 of the target lies at every class
    smoothed = backend.cross_entropy(logits, np.array([2, 0]), 0.3)[0]
    first = 0.1 * math.log(8) + 0.1 * math.log(8 / 2) + 0.8 * math.log(8 / 5)
    second = 0.8 * math.log(4) + 0.1 * math.log(4) + 0.1 * math.log(2)
    np.testing.assert_allclose(smoothed, [first, second], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_huge_logits_is_finite(dtype: str) -> None:
    logits = np.array([[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4]], dtype)
    target = np.array([0, 1, 1])
    losses, log_probs = backend.cross_entropy(logits, target, 0.0)
    np.testing.assert_allclose(losses, [0, 2e4, math.log(2)], rtol=1e-6)
    dlogits = backend.cross_entropy_backward(np.ones(3, dtype), log_probs, target, 0.0)
    np.testing.assert_array_equal(dlogits, [[0, 0], [1, -1], [0.5, -0.5]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_gradient(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, dlosses, target = rng.standard_normal((4, 5)), rng.standard_normal(4), [4, 0, 2, 2]
    classes = np.array(target, np.uint8)
    log_probs = backend.cross_entropy(logits, classes, smoothing)[1]
    expected = by_differences(
        lambda v: float((backend.cross_entropy(v, classes, smoothing)[0] * dlosses).sum()), logits
    )
    dlogits = backend.cross_entropy_backward(dlosses, log_probs, classes, smoothing)
    np.testing.assert_allclose(dlogits, expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (6,), (3, 2), (1, 2, 3), (3, 1, 2, 1)])
def test_relu(shape: tuple[int, ...]) -> None:
    values = itertools.cycle([-1.0, 0.0, 2.0, np.nan, np.inf, -np.inf])
    x = np.array([next(values) for _ in range(math.prod(shape))]).reshape(shape)
    out = backend.relu(x)
    np.testing.assert_array_equal(out, np.where(x < 0, 0, x))
    dout = np.full(shape, np.inf)
    np.testing.assert_array_equal(backend.relu_backward(dout, out), np.where(x <= 0, 0, dout))


# --- optimisers -----------------------------------------------------------------------


def test_sgd_follows_pytorch() -> None:
    w, grad = np.array([1.0]), np.array([0.5])
    backend.sgd_step([w], [grad], [None], 0.1, 0.0, 0.0, 0.0, False)
    np.testing.assert_allclose(w, [0.95])
    w, v = np.array([1.0]), np.zeros(1)
    backend.sgd_step([w], [grad], [v], 0.1, 0.9, 0.0, 0.2, False)  # 0.5 + 0.2 * 1
    np.testing.assert_allclose([w[0], v[0]], [0.93, 0.7])
    backend.sgd_step([w], [grad], [v], 0.1, 0.9, 0.5, 0.2, False)  # 0.9 * 0.7 + 0.5 * 0.686
    np.testing.assert_allclose([w[0], v[0]], [0.93 - 0.0973, 0.973])
    w, v = np.array([1.0]), np.zeros(1)
    backend.sgd_step([w], [grad], [v], 0.1, 0.9, 0.0, 0.0, True)  # 0.5 + 0.9 * 0.5
    np.testing.assert_allclose([w[0], v[0]], [0.905, 0.5])
    assert grad.tolist() == [0.5]


def test_adam_follows_pytorch() -> None:
    grad = np.array([0.5, -2.0])
    for decoupled, decay in ((False, 0.0), (True, 0.0), (True, 0.1), (False, 0.1)):
        w, m, v = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
        first = grad + (0 if decoupled else decay)
        backend.adam_step([w], [grad], [m], [v], 1, 0.01, 0.9, 0.99, 1e-8, decay, decoupled)
        np.testing.assert_allclose(m, 0.1 * first)
        np.testing.assert_allclose(v, 0.01 * first**2)
        # corrected for the start at zero, the first step is lr * sign(gradient)
        shrunk = 1 - 0.01 * decay if decoupled else 1
        np.testing.assert_allclose(w, shrunk - 0.01 * np.sign(first), rtol=1e-9)
    w, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    for step, g in ((1, 1.0), (2, 3.0)):
        backend.adam_step([w], [np.array([g])], [m], [v], step, 0.1, 0.5, 0.75, 0.0, 0.0, False)
    # m = 0.5 * 0.5 + 0.5 * 3 over 0.75; v = 0.75 * 0.25 + 0.25 * 9 over 0.4375
    np.testing.assert_allclose(w, 1 - 0.1 - 0.1 * (1.75 / 0.75) / math.sqrt(2.4375 / 0.4375))
