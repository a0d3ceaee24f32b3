"""Weight gradients of large images and few channels: slices of the rows are summed up apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv.backends import backend_of, cpu_numpy
from cyconv.geometry import conv2d_geometry

SIZES = {  # N, C, F, kernel, image, stride, padding, dilation, groups
    "pointwise": (32, 4, 8, 1, (40, 24), 1, 0, 1, 1),
    "pointwise with strides": (32, 5, 9, 1, (41, 30), 2, 0, 1, 1),
    "padded": (17, 3, 5, 3, (33, 20), 1, 1, 1, 1),
    "strided": (20, 3, 7, 3, (50, 21), 2, 1, 1, 1),
    "dilated": (16, 2, 4, (3, 2), (60, 19), 1, 2, 3, 1),
    "in groups": (24, 6, 4, 3, (30, 30), 1, 1, 1, 2),
    "few rows": (64, 2, 3, 3, (3, 400), 1, 1, 1, 1),
    "one row": (64, 1, 2, (1, 5), (1, 900), 1, 0, 1, 1),
    "one image": (1, 4, 6, 3, (130, 120), 1, 1, 1, 1),
    "more weights than are added at a time": (4, 32, 60, 3, (40, 40), 1, 1, 1, 1),
    "more taps than are in a job": (20, 45, 29, 3, (13, 12), 2, 1, 1, 1),
    "nothing but padding": (20, 3, 5, 3, (0, 2), 1, 2, 1, 1),
    "more images than are in a step": (3000, 2, 5, 3, (3, 4), 2, 1, 1, 1),
}


@pytest.mark.parametrize("algo", ["direct", "im2col"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SIZES)
def test_the_slices_add_up(name: str, dtype: Any, algo: str) -> None:
    n, c, f, kernel, size, *options = SIZES[name]
    kernels = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    rng = np.random.default_rng(0)
    g = conv2d_geometry((n, c, *size), (f, c // options[-1], *kernels), *options)
    x, dout = (rng.integers(-2, 3, shape).astype(dtype) for shape in (g.x_shape, g.out_shape))
    expected = cpu_numpy.conv2d_weight_grad(x, dout, g)
    before = cc.get_num_threads()
    try:
        for threads in (1, 2, 5):
            cc.set_num_threads(threads)
            found = backend_of(x).conv2d_weight_grad(x, dout, g, algo)
            np.testing.assert_array_equal(found, expected)
    finally:
        cc.set_num_threads(before)


@pytest.mark.skipif(cc.backends.backend_name() != "cython", reason="the kernels are not compiled")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, size", [(8, 20), (48, 16), (64, 9), (100, 12), (144, 6)])
def test_winograds_slices_add_up(channels: int, size: int, dtype: Any) -> None:
    """Whether each thread has products of its own, or all share those of two halves, or of all."""
    rng = np.random.default_rng(0)
    g = conv2d_geometry((20, channels, size, size), (channels, channels, 3, 3), 1, 1)
    x, dout = (rng.normal(size=shape).astype(dtype) for shape in (g.x_shape, g.out_shape))
    expected = cpu_numpy.conv2d_weight_grad(x, dout, g)
    before, found = cc.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 7):
            cc.set_num_threads(threads)
            found.append(backend_of(x).conv2d_weight_grad(x, dout, g, "winograd"))
    finally:
        cc.set_num_threads(before)
    for dw in found:
        np.testing.assert_array_equal(dw, found[0])
    bound = 4e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape, filters", [((17, 33, 9, 8), 35), ((64, 64, 16, 17), 40), ((1, 32, 40, 61), 48)]
)
def test_the_slices_of_a_product_add_up(shape: tuple[int, ...], filters: int, dtype: Any) -> None:
    """A 1x1 kernel's gradient is a product of matrices: of whole numbers, and always the same."""
    rng = np.random.default_rng(0)
    g = conv2d_geometry(shape, (filters, shape[1], 1, 1))
    whole = [rng.integers(-2, 3, s).astype(dtype) for s in (g.x_shape, g.out_shape)]
    others = [rng.normal(size=s).astype(dtype) for s in (g.x_shape, g.out_shape)]
    before, found = cc.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 20):
            cc.set_num_threads(threads)
            dw = backend_of(whole[0]).conv2d_weight_grad(*whole, g)
            np.testing.assert_array_equal(dw, cpu_numpy.conv2d_weight_grad(*whole, g))
            found.append(backend_of(others[0]).conv2d_weight_grad(*others, g))
    finally:
        cc.set_num_threads(before)
    for dw in found:
        np.testing.assert_array_equal(dw, found[0])
