"""Single convolutions, each direction, in cyconv and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cyconv.backends.memory import empty
from cyconv.geometry import Conv2dGeometry, conv2d_geometry

Sizes = tuple[int, int, int, int, int, int, int]
LAYERS: dict[str, Sizes] = {  # C, F, kernel, image, stride, padding, groups
    "1-20-3x3-28": (1, 20, 3, 28, 1, 0, 1),
    "20-50-5x5-13": (20, 50, 5, 13, 1, 0, 1),
    "800-128-linear": (800, 128, 1, 1, 1, 0, 1),
    "16-16-3x3-32": (16, 16, 3, 32, 1, 1, 1),
    "32-32-3x3-32": (32, 32, 3, 32, 1, 1, 1),
    "64-64-3x3-32": (64, 64, 3, 32, 1, 1, 1),
    "128-128-3x3-16": (128, 128, 3, 16, 1, 1, 1),
    "256-256-3x3-8": (256, 256, 3, 8, 1, 1, 1),
    "3-64-3x3-32": (3, 64, 3, 32, 1, 1, 1),
    "64-128-3x3-32-stride2": (64, 128, 3, 32, 2, 1, 1),
    "64-256-1x1-16": (64, 256, 1, 16, 1, 0, 1),
    "3-64-7x7-64-stride2": (3, 64, 7, 64, 2, 3, 1),
    "96-256-5x5-13": (96, 256, 5, 13, 1, 2, 1),
    "128-depthwise-3x3-16": (128, 128, 3, 16, 1, 1, 128),
}
DIRECTIONS = ("forward", "input_grad", "weight_grad")
BATCH = 16


def whole_numbers(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """An array of the shape (N, C, H, W) that lies in memory as in the middle of a net."""
    array = empty(shape, np.float32)
    numbers = rng.integers(-2, 3, (*shape[1:], shape[0]), np.int8)
    array[...] = np.moveaxis(numbers, -1, 0)  # (C, H, W, N) -> (N, C, H, W)
    return array


class Layer:
    """Arrays of one layer; whole numbers, so that every exact algorithm gives the same bits."""

    def __init__(self, layer: str | Sizes, batch: int = BATCH):
        c, f, k, size, stride, padding, groups = LAYERS[layer] if isinstance(layer, str) else layer
        rng = np.random.default_rng(0)
        shapes = (batch, c, size, size), (f, c // groups, k, k)
        self.g: Conv2dGeometry = conv2d_geometry(*shapes, stride, padding, 1, groups)
        self.x, self.dout = (whole_numbers(rng, a) for a in (shapes[0], self.g.out_shape))
        self.w = rng.integers(-2, 3, shapes[1]).astype(np.float32)

    def cyconv(self, backend: Any, direction: str, algo: str = "auto") -> Callable[[], Any]:
        return {
            "forward": lambda: backend.conv2d(self.x, self.w, None, self.g, algo),
            "input_grad": lambda: backend.conv2d_input_grad(self.dout, self.w, self.g, algo),
            "weight_grad": lambda: backend.conv2d_weight_grad(self.x, self.dout, self.g, algo),
        }[direction]

    def torch(self, direction: str, channels_last: bool) -> Callable[[], Any]:
        import torch

        layout = torch.channels_last if channels_last else torch.contiguous_format
        x, w, dout = (
            torch.tensor(a).contiguous(memory_format=layout) for a in (self.x, self.w, self.dout)
        )
        stride, padding = list(self.g.window.stride), list(self.g.window.padding[::2])

        def forward() -> Any:
            return torch.nn.functional.conv2d(x, w, None, stride, padding, 1, self.g.groups)

        def backward(*wanted: bool) -> Any:
            return torch.ops.aten.convolution_backward(
                dout, x, w, None, stride, padding, [1, 1], False, [0, 0], self.g.groups, wanted
            )

        return {
            "forward": forward,
            "input_grad": lambda: backward(True, False, False)[0],
            "weight_grad": lambda: backward(False, True, False)[1],
        }[direction]
