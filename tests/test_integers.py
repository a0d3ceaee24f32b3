"""With whole numbers every sum is exact: all algorithms must agree with the loops to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from numpy.typing import NDArray
from running import run
from strategies import Conv, Pool, convs, pools, transposed_convs

import cyconv as cc

Array = NDArray[Any]


def whole(seed: int, dtype: Any, *shapes: tuple[int, ...]) -> list[Array]:
    """Whole numbers from -4 to 4: sums of less than 2**20 products fit float32's 24 bits."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-4, 5, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("algo", ["direct", "im2col"])
@given(case=convs())
def test_conv2d(algo: str, case: Conv) -> None:
    options = {k: v for k, v in case.options.items() if k != "groups"}
    size = oracle.out_size(case.x_shape[2:], case.w_shape[2:], **options)
    shape = (case.x_shape[0], case.w_shape[0], *size)
    x, w, b, head = whole(
        case.seed, case.dtype, case.x_shape, case.w_shape, case.w_shape[:1], shape
    )
    out, grads = run("conv2d", {"x": x, "w": w, "b": b}, head, algo=algo, **case.options)
    np.testing.assert_array_equal(out, oracle.conv2d(x, w, b, **case.options))
    expected = oracle.conv2d_grads(head, x, w, **case.options)
    for name, grad in zip("xwb", expected, strict=True):
        np.testing.assert_array_equal(grads[name], grad, err_msg=name)


LARGER = [  # past every block that the kernels cut their work into
    ((64, 3, 30, 30), (5, 3, 3, 3), {}),
    ((33, 2, 41, 23), (3, 2, 5, 5), {"padding": 2, "stride": (2, 1)}),
    ((1, 3, 64, 64), (4, 3, 3, 3), {"padding": 1}),
    ((17, 40, 9, 9), (30, 40, 3, 3), {"padding": 1}),
    ((19, 1, 28, 28), (20, 1, 3, 3), {}),
    ((16, 64, 6, 6), (33, 64, 1, 1), {}),
    ((31, 24, 20, 20), (24, 1, 3, 3), {"groups": 24, "padding": 1}),
    ((64, 2, 6, 37), (3, 2, 3, 3), {"padding": 1}),
    ((64, 40, 19, 10), (3, 40, 3, 3), {"padding": 1}),
    # whole rows or columns that see nothing but padding, and so a gradient by the input
    ((64, 256, 2, 2), (1, 256, 1, 1), {"padding": 1}),
    ((64, 64, 4, 4), (1, 64, 3, 3), {"padding": ((3, 0), (0, 3))}),
    ((64, 8, 8, 8), (512, 8, 1, 1), {"stride": 2}),
]


PRODUCTS = [  # what "auto" computes as products of matrices, as far as these are large enough
    ((16, 64, 6, 6), (257, 64, 1, 1), {}),
    ((16, 64, 6, 6), (33, 64, 1, 1), {}),
    ((70, 17, 15, 15), (3, 17, 1, 1), {}),
    ((9, 24, 1, 1), (20, 24, 1, 1), {}),
]


@pytest.mark.parametrize(
    ("algo", "x_shape", "w_shape", "options"),
    [(algo, *sizes) for algo in ("direct", "im2col") for sizes in LARGER]
    + [("auto", *sizes) for sizes in PRODUCTS],
)
def test_larger_conv2d(algo: str, x_shape: Any, w_shape: Any, options: dict[str, Any]) -> None:
    x, w, b = whole(1, np.float32, x_shape, w_shape, w_shape[:1])
    expected = oracle.conv2d(x, w, b, **options)
    (head,) = whole(2, np.float32, expected.shape)
    out, grads = run("conv2d", {"x": x, "w": w, "b": b}, head, algo=algo, **options)
    np.testing.assert_array_equal(out, expected)
    for name, grad in zip("xwb", oracle.conv2d_grads(head, x, w, **options), strict=True):
        np.testing.assert_array_equal(grads[name], grad, err_msg=name)


@given(case=transposed_convs())
def test_conv_transpose2d(case: Conv) -> None:
    f = case.w_shape[1] * case.options["groups"]
    x, w, b = whole(case.seed, case.dtype, case.x_shape, case.w_shape, (f,))
    expected = oracle.conv_transpose2d(x, w, b, **case.options)
    (head,) = whole(case.seed + 1, case.dtype, expected.shape)
    out, grads = run("conv_transpose2d", {"x": x, "w": w, "b": b}, head, **case.options)
    np.testing.assert_array_equal(out, expected)
    gradients = oracle.conv_transpose2d_grads(head, x, w, **case.options)
    for name, grad in zip("xwb", gradients, strict=True):
        np.testing.assert_array_equal(grads[name], grad, err_msg=name)


@given(case=pools(dilated=True))
def test_max_pool2d(case: Pool) -> None:
    (x,) = whole(case.seed, case.dtype, case.x_shape)
    expected, where = oracle.max_pool2d(x, case.kernel_size, **case.options)
    (head,) = whole(case.seed + 1, case.dtype, expected.shape)
    out, grads = run("max_pool2d", {"x": x}, head, kernel_size=case.kernel_size, **case.options)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(grads["x"], oracle.max_pool2d_grads(head, where, x))


@pytest.mark.parametrize("kernel_size", [1, 2, 4, (2, 4), (1, 8)])
@pytest.mark.parametrize("n", [1, 16, 17, 33])
def test_avg_pool2d(kernel_size: Any, n: int) -> None:
    """The size of the window is a power of two, so the division is exact as well."""
    (x,) = whole(n, np.float32, (n, 3, 8, 9))
    expected = oracle.avg_pool2d(x, kernel_size, stride=1)
    (head,) = whole(5, np.float32, expected.shape)
    out, grads = run("avg_pool2d", {"x": x}, head, kernel_size=kernel_size, stride=1)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(
        grads["x"], oracle.avg_pool2d_grads(head, x, kernel_size, stride=1)
    )


@pytest.mark.parametrize("n", [1, 15, 16, 17, 64])
@pytest.mark.parametrize(("c", "f"), [(1, 1), (7, 13), (300, 25), (16, 128)])
def test_linear(n: int, c: int, f: int) -> None:
    x, w, b, head = whole(n, np.float32, (n, c), (f, c), (f,), (n, f))
    out, grads = run("linear", {"x": x, "w": w, "b": b}, head)
    np.testing.assert_array_equal(out, oracle.linear(x, w, b))
    for name, grad in zip("xwb", oracle.linear_grads(head, x, w), strict=True):
        np.testing.assert_array_equal(grads[name], grad, err_msg=name)


@pytest.mark.parametrize("shape", [(33, 3, 20, 20), (5, 2, 61, 61), (4099, 3), (1, 2, 90, 90)])
def test_sums_over_channels(shape: tuple[int, ...]) -> None:
    """Batch norm's sums over more numbers than one run of the kernels adds up: none is left out."""
    x, head = whole(4, np.float32, shape, shape)
    c, axes = shape[1], (0, *range(2, len(shape)))
    mean, var = cc.zeros(c), cc.ones(c)
    gamma, beta = cc.ones(c).attach_grad(), cc.zeros(c).attach_grad()
    with cc.record():
        y = cc.ops.batch_norm(x, gamma, beta, mean, var, momentum=1.0)
    y.backward(head)
    assert beta.grad is not None
    np.testing.assert_array_equal(beta.grad.numpy(), head.astype(float).sum(axis=axes))
    x64, few = x.astype(np.float64), 16 * float(np.finfo("float32").eps)
    np.testing.assert_allclose(mean.numpy(), x64.mean(axis=axes), rtol=few, atol=few)
    np.testing.assert_allclose(var.numpy(), x64.var(axis=axes, ddof=1), rtol=few)
