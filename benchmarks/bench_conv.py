"""Convolution, each direction: cyconv's algorithms, and PyTorch where it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from cyconv import backends
from cyconv.backends import cpu_numpy
from cyconv.geometry import Conv2dGeometry, conv2d_geometry

from .facts import facts

LAYERS = {  # C, F, kernel, image, stride, padding, groups
    "1-20-3x3-28": (1, 20, 3, 28, 1, 0, 1),
    "20-50-5x5-13": (20, 50, 5, 13, 1, 0, 1),
    "16-16-3x3-32": (16, 16, 3, 32, 1, 1, 1),
    "64-64-3x3-32": (64, 64, 3, 32, 1, 1, 1),
    "128-128-3x3-16": (128, 128, 3, 16, 1, 1, 1),
    "64-128-3x3-32-stride2": (64, 128, 3, 32, 2, 1, 1),
    "64-256-1x1-16": (64, 256, 1, 16, 1, 0, 1),
    "128-depthwise-3x3-16": (128, 128, 3, 16, 1, 1, 128),
}
DIRECTIONS = ("forward", "input_grad", "weight_grad")
BATCH = 16


class Layer:
    """Arrays of one layer, and the three directions of its convolution in one backend."""

    def __init__(self, name: str):
        c, f, k, size, stride, padding, groups = LAYERS[name]
        rng = np.random.default_rng(0)
        shapes = (BATCH, c, size, size), (f, c // groups, k, k)
        self.g: Conv2dGeometry = conv2d_geometry(*shapes, stride, padding, 1, groups)
        self.x, self.w, self.dout = (
            rng.integers(-2, 3, shape).astype(np.float32) for shape in (*shapes, self.g.out_shape)
        )

    def run(self, backend: Any, direction: str, algo: str = "auto") -> np.ndarray:
        x, dout = (backend.as_batch_last(a) for a in (self.x, self.dout))
        return {
            "forward": lambda: backend.conv2d(x, self.w, None, self.g, algo),
            "input_grad": lambda: backend.conv2d_input_grad(dout, self.w, self.g, algo),
            "weight_grad": lambda: backend.conv2d_weight_grad(x, dout, self.g, algo),
        }[direction]

    def torch(self, direction: str) -> Any:
        import torch

        x, w, dout = (torch.tensor(a) for a in (self.x, self.w, self.dout))
        stride, padding = list(self.g.window.stride), list(self.g.window.padding[::2])

        def backward(*wanted: bool) -> Any:
            return torch.ops.aten.convolution_backward(
                dout, x, w, None, stride, padding, [1, 1], False, [0, 0], self.g.groups, wanted
            )

        def forward() -> Any:
            return torch.nn.functional.conv2d(x, w, None, stride, padding, 1, self.g.groups)

        return {
            "forward": forward,
            "input_grad": lambda: backward(True, False, False)[0],
            "weight_grad": lambda: backward(False, True, False)[1],
        }[direction]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("who", ["direct", "im2col", "numpy", "torch"])
def test_conv2d(benchmark: Any, layer: str, direction: str, who: str) -> None:
    arrays = Layer(layer)
    expected = arrays.run(cpu_numpy, direction)()
    if who == "torch":
        if not importlib.util.find_spec("torch"):
            pytest.skip("PyTorch is not installed")
        run = arrays.torch(direction)
    elif who == "numpy":
        run = arrays.run(cpu_numpy, direction)
    else:
        if backends.backend_name() != "cython":
            pytest.skip("the kernels are not compiled")
        run = arrays.run(backends.backend_of(None), direction, who)
    # whole numbers: every exact algorithm gives the same bits
    np.testing.assert_array_equal(np.asarray(run()), expected)
    benchmark.group = f"conv2d {layer} {direction}"
    benchmark(run)
    benchmark.extra_info.update(
        facts(who, arrays.g.macs, benchmark), shape=str(arrays.g.x_shape), algorithm=who
    )
