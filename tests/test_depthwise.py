"""Depthwise convolution: one filter for each channel, against the NumPy backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import backends
from cyconv.backends import cpu_numpy
from cyconv.geometry import conv2d_geometry

Array = Any

# (N, C, H, W), (KH, KW), options; whole numbers, so that every order of a sum gives the same bits
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]] = {
    "one image": ((1, 5, 9, 11), (3, 3), {"padding": 1}),
    "a vector of images": ((8, 40, 7, 6), (3, 3), {"padding": 1}),
    "odd batch": ((17, 3, 8, 5), (5, 3), {"padding": (2, 0)}),
    "few channels, many rows": ((3, 2, 70, 4), (3, 3), {"padding": 1}),
    "no padding": ((4, 6, 8, 8), (3, 3), {}),
    "wide rows": ((2, 3, 4, 150), (1, 7), {"padding": (0, 3)}),
    "tall kernel": ((2, 3, 12, 4), (7, 1), {"padding": (3, 0)}),
    "stride": ((3, 4, 11, 12), (3, 3), {"padding": 1, "stride": 2}),
    "stride beyond the kernel": ((3, 4, 13, 14), (2, 2), {"stride": (3, 4)}),
    "dilation": ((5, 4, 12, 11), (3, 2), {"padding": (3, 2), "dilation": (3, 2)}),
    "both": ((2, 4, 15, 15), (3, 3), {"padding": 2, "dilation": 2, "stride": (2, 3)}),
    "one row of padding more than pixels": ((2, 4, 1, 1), (5, 5), {"padding": 4}),
    "huge padding": ((2, 3, 3, 3), (2, 2), {"padding": 6}),
    "steps far out of the image": ((64, 64, 3, 3), (2, 2), {"padding": 999, "stride": 1000}),
    "a stride far beyond the image": ((64, 500, 3, 3), (3, 3), {"stride": 1000}),
    "1x1": ((6, 4, 5, 5), (1, 1), {}),
}


def whole(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_numpy(name: str, threads: int) -> None:
    (n, c, h, w), kernel, options = SHAPES[name]
    rng = np.random.default_rng(0)
    x, weight, bias = whole(rng, n, c, h, w), whole(rng, c, 1, *kernel), whole(rng, c)
    how = {"stride": 1, "padding": 0, "dilation": 1, **options}
    g = conv2d_geometry(x.shape, weight.shape, *how.values(), c)
    dout = whole(rng, *g.out_shape)
    before = cc.get_num_threads()
    cc.set_num_threads(threads)
    try:
        backend = backends.backend_of(x)
        for relu in (False, True):
            found = backend.conv2d(x, weight, bias, g, relu=relu)
            expected = cpu_numpy.conv2d(x, weight, bias, g, relu=relu)
            np.testing.assert_array_equal(found, expected)
        found = backend.conv2d_input_grad(dout, weight, g)
        np.testing.assert_array_equal(found, cpu_numpy.conv2d_input_grad(dout, weight, g))
    finally:
        cc.set_num_threads(before)


@pytest.mark.skipif(backends.backend_name() != "cython", reason="needs the compiled kernels")
def test_what_is_chosen() -> None:
    def chosen(*w_shape: int, groups: int) -> str:
        return cc.ops.explain_conv2d((8, 4, 9, 9), w_shape, groups=groups).algo

    assert (
        cc.ops.explain_conv2d(
            (64, 64, 3, 3), (64, 1, 2, 2), groups=64, padding=999, stride=1000
        ).algo
        == "direct"
    )
    assert chosen(4, 1, 3, 3, groups=4) == "depthwise"
    assert "depthwise" not in (chosen(8, 1, 3, 3, groups=4), chosen(4, 2, 3, 3, groups=2))
