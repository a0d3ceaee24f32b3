"""Convolution, each direction: cyconv's algorithms, and PyTorch where it is installed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from cyconv import backends
from cyconv.backends import cpu_numpy
from cyconv.backends.algorithm import allows_winograd

from . import gpu
from .facts import PEERS, as_array, record, skip_if_missing
from .layers import DIRECTIONS, LAYERS, Layer
from .reference import convolution


@cache
def layer(name: str) -> Layer:
    return Layer(name)


@cache
def expected(name: str, direction: str) -> np.ndarray:
    arrays = layer(name)
    return convolution(direction, arrays.x, arrays.w, arrays.dout, arrays.g)


def rows() -> list[tuple[str, str, str]]:
    """Layer, direction, and who computes it: the algorithms that there are for it, and peers."""
    found = []
    for name in LAYERS:
        for direction in DIRECTIONS:
            algorithms = ["direct", "im2col", "winograd"]
            if direction == "weight_grad":
                algorithms.remove("im2col")
            if not allows_winograd(layer(name).g, direction):
                algorithms.remove("winograd")
            found += [(name, direction, who) for who in (*algorithms, "numpy", "cupy", *PEERS)]
    return found


@pytest.mark.parametrize(("name", "direction", "who"), rows())
def test_conv2d(benchmark: Any, name: str, direction: str, who: str) -> None:
    skip_if_missing(who)
    arrays = layer(name)
    moved = 0
    if who == "cupy":
        on_gpu, moved = gpu.layer_run(arrays, direction)
        run = gpu.waited_for(on_gpu)
    elif who in PEERS:
        run = arrays.torch(direction, channels_last=who != "torch")
    elif who == "numpy":
        run = arrays.cyconv(cpu_numpy, direction, "auto")
    else:
        run = arrays.cyconv(backends.backend_of(arrays.x), direction, who)
    wanted = expected(name, direction)
    # whole numbers are exact, but for algorithms (Winograd's, some of PyTorch's) that divide
    terms = arrays.g.macs / wanted.size if who in ("winograd", *PEERS) else 0
    np.testing.assert_allclose(as_array(run()), wanted, 0, 1e-5 * terms)
    benchmark.group = f"conv2d {name} {direction}"
    benchmark(run)
    record(benchmark, who, arrays.g.x_shape, arrays.g.macs)
    if who == "cupy":
        benchmark.extra_info.update(gpu.facts_of(on_gpu, moved, arrays.g.macs))
