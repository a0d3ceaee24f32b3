"""Batches that fill half a vector run on the kernels whose vectors are half as long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv.backends import cpu_numpy
from cyconv.backends.algorithm import choose_width
from cyconv.geometry import conv2d_geometry

if cc.backends.backend_name() != "cython":
    pytest.skip("for the compiled kernels", allow_module_level=True)

from cyconv import kernels
from cyconv.backends import cpu_cython, cpu_cython_arrays, cpu_cython_conv


@pytest.mark.parametrize(
    ("n", "sizes", "direction", "lanes", "algorithm"),
    [
        (8, (32, 64, 3, 1), "forward", 16, "winograd"),  # of tiles
        (8, (64, 64, 3, 1), "weight_grad", 8, "winograd"),
        (8, (24, 64, 3, 1), "weight_grad", 16, "direct"),  # too few channels for short vectors
        (12, (24, 64, 3, 1), "weight_grad", 16, "winograd"),
        (10, (24, 64, 3, 1), "weight_grad", 16, "direct"),  # too few for so many idle lanes
        (8, (24, 64, 3, 2), "weight_grad", 16, "im2col"),  # 64 filters share the copies
        (8, (24, 16, 3, 2), "weight_grad", 16, "direct"),  # too few for half of the lanes
        (8, (16, 16, 1, 2), "weight_grad", 16, "im2col"),
        (1, (16, 16, 1, 2), "weight_grad", 16, "direct"),  # too many idle lanes
        (64, (2, 64, 3, 2), "weight_grad", 16, "direct"),  # too few taps
        (10, (32, 64, 3, 1), "weight_grad", 16, "winograd"),
        (64, (64, 64, 3, 1), "forward", 16, "winograd"),
        (1, (64, 64, 3, 1), "forward", 16, "winograd"),  # lanes are tiles
        (1, (64, 64, 3, 2), "forward", 16, "im2col"),  # too few tiles
        (4, (64, 64, 3, 2), "forward", 16, "winograd"),
        (8, (16, 64, 3, 2), "forward", 16, "im2col"),  # too few channels
        (8, (64, 128, 3, 2), "forward", 16, "winograd"),
        (12, (64, 128, 3, 2), "forward", 16, "winograd"),  # of images
        (18, (64, 128, 3, 2), "forward", 16, "winograd"),
        (64, (16, 128, 3, 2), "forward", 16, "direct"),  # too few channels
        (2, (64, 128, 3, 2), "input_grad", 16, "winograd"),  # lanes are tiles
        (8, (16, 16, 3, 2), "input_grad", 16, "winograd"),  # although short vectors would be direct
        (1, (3, 64, 3, 1), "input_grad", 16, "winograd"),  # although few channels are written
        (1, (3, 64, 3, 1), "forward", 16, "im2col"),
        (8, (3, 128, 7, 2), "forward", 16, "winograd"),
        (8, (64, 128, 7, 1), "forward", 16, "im2col"),  # reads pixels in place
        (8, (64, 128, 7, 2), "input_grad", 8, "direct"),
        (4, (64, 128, 7, 2), "input_grad", 16, "im2col"),  # would fill half of a short vector
        (24, (64, 128, 7, 2), "input_grad", 16, "direct"),  # although a third idles
        (17, (16, 16, 3, 1), "forward", 16, "winograd"),
        (8, (64, 256, 1, 1), "input_grad", 16, "im2col"),
        (2, (64, 128, 7, 2), "input_grad", 16, "im2col"),  # short vectors would idle as well
    ],
)
def test_the_rule(
    n: int, sizes: tuple[int, int, int, int], direction: str, lanes: int, algorithm: str
) -> None:
    c, f, kernel, stride = sizes
    g = conv2d_geometry((n, c, 32, 32), (f, c, kernel, kernel), stride, kernel // 2, 1, 1)
    assert choose_width(g, "f", (16, 8), direction)[:2] == (lanes, algorithm)
    assert choose_width(g, "f", (8,), direction)[0] == 8


def test_short_vectors_take_the_fewer_tiles_of_a_gradient() -> None:
    g = conv2d_geometry((8, 20, 13, 13), (50, 20, 5, 5), 1, 0, 1, 1)
    assert choose_width(g, "f", (16, 8), "input_grad")[:2] == (8, "winograd")
    g = conv2d_geometry((8, 64, 14, 14), (128, 64, 5, 5), 1, 0, 1, 1)  # in more vectors
    assert choose_width(g, "f", (16, 8), "input_grad")[:2] == (16, "winograd")
    g = conv2d_geometry((8, 20, 13, 13), (4, 20, 5, 5), 1, 0, 1, 1)  # too few channels
    assert choose_width(g, "f", (16, 8), "input_grad")[:2] == (16, "im2col")
    g = conv2d_geometry((4, 20, 13, 13), (50, 20, 5, 5), 1, 0, 1, 1)
    assert choose_width(g, "d", (8, 4), "input_grad")[:2] == (8, "im2col")


def test_nothing_narrower_where_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "usable", lambda: ["avx512", "avx2"])
    monkeypatch.delenv("CYCONV_ISA", raising=False)
    assert kernels.narrower("avx512") == "avx2" and kernels.narrower("avx2") is None
    monkeypatch.setenv("CYCONV_ISA", "avx512")
    assert kernels.narrower("avx512") is None


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Some kernels here with vectors half as long take small batches; how many lanes they have."""
    usable = kernels.usable()
    lanes = {name: kernels.Kernels(name)["f"].conv.lanes // 2 for name in usable}
    mine = lanes[cpu_cython_arrays.isa]
    others = [name for name in usable if 2 * lanes[name] == mine]
    if not others:
        pytest.skip("no kernels with vectors half as long run here")
    monkeypatch.setattr(cpu_cython_conv, "narrower", others[0])
    monkeypatch.setitem(cpu_cython_arrays.sets, others[0], kernels.Kernels(others[0]))
    cpu_cython_conv._plan.cache_clear()
    yield mine // 2
    cpu_cython_conv._plan.cache_clear()


@pytest.mark.parametrize(
    ("c", "f", "kernel", "stride"), [(32, 40, 3, 1), (24, 40, 5, 1), (8, 12, 7, 2)]
)
def test_the_same_values(half: int, c: int, f: int, kernel: int, stride: int) -> None:
    """Small whole numbers: up to Winograd's rounding what NumPy computes."""
    rng = np.random.default_rng(0)
    x: Any = rng.integers(-2, 3, (half, c, 9, 8)).astype(np.float32)
    w = rng.integers(-2, 3, (f, c, kernel, kernel)).astype(np.float32)
    g = conv2d_geometry(x.shape, w.shape, stride, kernel // 2, 1, 1)
    dout = rng.integers(-2, 3, g.out_shape).astype(np.float32)
    directions = "forward", "input_grad", "weight_grad"
    chosen = {cpu_cython_conv._choose(g, "f", "auto", d)[0] for d in directions}
    assert cpu_cython_conv.narrower in chosen, "nothing ran there"
    calls: dict[str, tuple[Any, ...]] = {
        "conv2d": (x, w, None),
        "conv2d_input_grad": (dout, w),
        "conv2d_weight_grad": (x, dout),
    }
    for name, arrays in calls.items():
        found = getattr(cpu_cython, name)(*arrays, g)
        expected = getattr(cpu_numpy, name)(*arrays, g)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
