"""Convolutions and their gradients: which algorithm and scratch memory; the kernels loop."""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import config
from ..geometry import Conv2dGeometry
from . import cpu_numpy
from .algorithm import allows_winograd, choose_width, lanes_are_tiles, spreads_output_tiles
from .capture import call, constant, constant_and_scratch, not_caught, prepare
from .cpu_cython_arrays import (
    Array,
    all_kernels,
    flat,
    flat_or_none,
    images,
    isa,
    narrower,
    sets,
    sliding,
    threads_for,
)
from .memory import aligned_empty, empty, scratch

MACS_EACH = 8  # multiply-adds that take about as long as reading or writing a number


def plan_conv2d(g: Conv2dGeometry, dtype: Any, algo: str = "auto") -> tuple[str, str, int]:
    """Which algorithm the forward pass runs, why, and its scratch memory in bytes."""
    dtype = np.dtype(dtype)
    _, name, reason = _choose(g, dtype.char, algo, "forward")
    plan = _plan(g, dtype.char, algo, "forward", config.get_num_threads())
    return name, reason, plan.scratch * dtype.itemsize


@lru_cache(maxsize=4096)
def _choose(g: Conv2dGeometry, char: str, algo: str, direction: str) -> tuple[str, str, str]:
    """The instruction set, the algorithm and why that."""
    if algo != "auto" and (algo != "winograd" or allows_winograd(g, direction)):
        return isa, algo, "it was asked for"
    vector = all_kernels[char].conv.lanes // 2
    by_lanes = {vector: isa} | ({vector // 2: narrower} if narrower else {})
    lanes, name, reason = choose_width(g, char, tuple(by_lanes), direction)
    return by_lanes[lanes], name, reason


@lru_cache(maxsize=4096)
def _plan(g: Conv2dGeometry, char: str, algo: str, direction: str, threads: int) -> Any:
    """How a convolution runs, with at most so many threads."""
    chosen, name, _ = _choose(g, char, algo, direction)
    kernels = sets[chosen][char]
    if direction == "weight_grad":
        if name == "winograd":
            return _TileProducts(kernels, g, threads)
        if name == "im2col" and g.groups == 1:
            return _Products(kernels.dense, (), g, threads)
        pixels = kernels.conv_weight_grad, (g.groups,), g
        if _Products(*pixels, 1).scratch > _most_scratch(g):
            return _Reference(g)
        return _Products(*pixels, threads)
    transposed = direction == "input_grad"
    if name == "dense":
        return _Dense(kernels, g, threads)
    if name == "winograd":
        spread = transposed and spreads_output_tiles(g, kernels.conv.lanes // 2)
        if spread:
            return _SpreadTiles(kernels, g, threads)
        return _Tiles(kernels, g, transposed, threads)
    return _Panels(kernels, g, transposed, name, threads)


def _numbers(g: Conv2dGeometry) -> int:
    return math.prod(g.x_shape) + math.prod(g.w_shape) + math.prod(g.out_shape)


def _threads(g: Conv2dGeometry, most: int) -> int:
    return threads_for(max(_numbers(g), g.macs // MACS_EACH), most)


def _most_scratch(g: Conv2dGeometry) -> int:
    """Numbers of scratch of one thread that are still in proportion to the work."""
    return 64 * _numbers(g) + 2**22


# ------------------------------------------------------------------ forward, and by the input


def conv2d(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str = "auto", relu: bool = False
) -> Array:
    """x (N, C, H, W) and w (F, C/G, KH, KW) -> out (N, F, OH, OW); with ``relu``, max(out, 0)."""
    return _correlate(x, w, b, g, algo, relu, "forward")


def conv2d_input_grad(dout: Array, w: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dout (N, F, OH, OW) and w (F, C/G, KH, KW) -> dx (N, C, H, W)."""
    return _correlate(dout, w, None, g, algo, False, "input_grad")


def _correlate(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str, relu: bool, direction: str
) -> Array:
    x = images(x)
    dtype = x.dtype
    out = empty(g.out_shape if direction == "forward" else g.x_shape, dtype)
    if not out.size:
        return out
    if not x.size:
        not_caught()
        out[...] = 0 if b is None else b[:, None, None]
        return np.maximum(out, 0) if relu else out
    plan = _plan(g, dtype.char, algo, direction, config.get_num_threads())
    plan.fill(x, flat(w), flat_or_none(b), out, relu)
    return out


class _Dense:
    """A single pixel: the weights are a matrix, and lanes are their rows."""

    scratch = 0

    def __init__(self, kernels: SimpleNamespace, g: Conv2dGeometry, threads: int):
        self.module, self.threads = kernels.dense, _threads(g, threads)

    def fill(self, x: Array, w: Array, b: Array | None, out: Array, relu: bool) -> None:
        w, b = constant(w), constant(b)
        ends = (relu, self.threads)
        call(self.module.dense, flat(x), w, b, out.reshape(-1), *ends)


class _Panels:
    """Lanes of images or pixels, read in place or from copies; a depthwise kernel's of all."""

    def __init__(
        self,
        kernels: SimpleNamespace,
        g: Conv2dGeometry,
        transposed: bool,
        name: str,
        threads: int,
    ):
        window, self.weights, self.threads = g.window, kernels.conv_weights, _threads(g, threads)
        taps, filters = math.prod(window.kernel), g.f // g.groups
        read, written = g.c // g.groups, filters
        shapes = g.x_shape, g.out_shape
        if transposed:
            read, written, shapes = written, read, shapes[::-1]
        direct = name == "direct"
        self.module = kernels.depthwise if name == "depthwise" else kernels.conv
        self.how = (*sliding(window), transposed)
        if name != "depthwise":
            self.how = (g.groups, *self.how, direct)
        self.scratch = self.module.scratch_size(*shapes, *self.how, self.threads)
        self.packed = self.weights.packed_size(g.groups, written, read * taps)
        by_tap = self.weights.by_tap(transposed, direct, window.stride)
        packers = threads_for(math.prod(g.w_shape), threads)
        self.layout = (g.groups, written, read, taps, transposed, by_tap, packers)

    def fill(self, x: Array, w: Array, b: Array | None, out: Array, relu: bool) -> None:
        packed, room = constant_and_scratch(self.packed, self.scratch, x.dtype)
        prepare(self.weights.pack_weights, w, b, packed, *self.layout)
        arrays, how = (x, packed, out, room), (*self.how, relu, self.threads)
        call(self.module.correlate, *arrays, *how)


class _Tiles:
    """Winograd's method, with tiles of what is written."""

    def __init__(self, kernels: SimpleNamespace, g: Conv2dGeometry, transposed: bool, threads: int):
        self.winograd, self.weights = kernels.winograd, kernels.winograd_weights
        self.threads = _threads(g, threads)
        side, stride, (top, _, left, _) = g.window.kernel[0], g.window.stride[0], g.window.padding
        read, written, size = g.c, g.f, g.window.out_size
        if transposed:  # a correlation with the turned kernel
            read, written, size = g.f, g.c, g.window.in_size
            top, left = ((side - stride - pad) // stride for pad in (top, left))
        method = side, stride, transposed
        self.tiles = lanes_are_tiles(g, kernels.conv.lanes // 2)
        sizes = (g.n, read, written, *size, *method)
        self.scratch = self.winograd.scratch_size(*sizes, self.tiles, self.threads)
        self.packed = self.weights.packed_size(read, written, side, stride)
        packers = threads_for(math.prod(g.w_shape), threads)
        self.layout = (written, read, side, stride, transposed, False, packers)
        self.how = (top, left, *method, self.tiles)

    def fill(self, x: Array, w: Array, b: Array | None, out: Array, relu: bool) -> None:
        packed, room = constant_and_scratch(self.packed, self.scratch, x.dtype)
        prepare(self.weights.pack_weights, w, packed, *self.layout)
        arrays, how = (x, packed, constant(b), out, room), (*self.how, relu, self.threads)
        call(self.winograd.correlate, *arrays, *how)


class _SpreadTiles:
    """Winograd's method for a gradient by the input, with tiles of dout."""

    def __init__(self, kernels: SimpleNamespace, g: Conv2dGeometry, threads: int):
        self.weights, self.module = kernels.winograd_weights, kernels.winograd_input_grad
        self.threads = _threads(g, threads)
        side, (top, _, left, _) = g.window.kernel[0], g.window.padding
        sizes = (g.n, g.c, g.f, *g.window.out_size, side, self.threads)
        self.scratch = self.module.scratch_size(*sizes)
        self.packed = self.weights.packed_size(g.f, g.c, side, 1)
        self.layout = (g.c, g.f, side, 1, True, True, threads_for(math.prod(g.w_shape), threads))
        self.place = top, left, side

    def fill(self, x: Array, w: Array, b: Array | None, out: Array, relu: bool) -> None:
        packed, room = constant_and_scratch(self.packed, self.scratch, x.dtype)
        prepare(self.weights.pack_weights, w, packed, *self.layout)
        arrays = x, packed, out, room
        call(self.module.input_grad, *arrays, *self.place, self.threads)


# ------------------------------------------------------------------ by the weights


def conv2d_weight_grad(x: Array, dout: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """x (N, C, H, W) and dout (N, F, OH, OW) -> dw (F, C/G, KH, KW)."""
    dtype = x.dtype
    if not dout.size:
        return np.zeros(g.w_shape, dtype)
    dw = aligned_empty(g.w_shape, dtype)
    plan = _plan(g, dtype.char, algo, "weight_grad", config.get_num_threads())
    plan.fill(images(x), images(dout), dw.reshape(-1))
    return dw


class _TileProducts:
    """Winograd's method: for each point of the tiles a product of two matrices."""

    def __init__(self, kernels: SimpleNamespace, g: Conv2dGeometry, threads: int):
        self.winograd, threads = kernels.winograd_weight_grad, _threads(g, threads)
        side, (top, _, left, _) = g.window.kernel[0], g.window.padding
        self.scratch = self.winograd.scratch_size(g.n, g.c, g.f, *g.window.out_size, side, threads)
        self.how = top, left, side, threads

    def fill(self, x: Array, dout: Array, dw: Array) -> None:
        (room,) = scratch((self.scratch,), x.dtype)
        call(self.winograd.weight_grad, x, dout, dw, room, *self.how)


class _Products:
    """Each output's gradient times what its taps read: lanes are pixels, or the taps."""

    def __init__(
        self, kernel: SimpleNamespace, groups: tuple[int, ...], g: Conv2dGeometry, threads: int
    ):
        self.kernel, self.threads = kernel, _threads(g, threads)
        self.how = (*groups, *sliding(g.window))
        self.scratch = self.kernel.scratch_size(g.x_shape, g.out_shape, *self.how, self.threads)

    def fill(self, x: Array, dout: Array, dw: Array) -> None:
        (room,) = scratch((self.scratch,), x.dtype)
        call(self.kernel.weight_grad, x, dout, dw, room, *self.how, self.threads)


class _Reference:
    """NumPy's way: where kernels reach far, the copy that lanes read would be out of proportion."""

    def __init__(self, g: Conv2dGeometry):
        self.g = g

    def fill(self, x: Array, dout: Array, dw: Array) -> None:
        not_caught()
        dw[...] = cpu_numpy.conv2d_weight_grad(x, dout, self.g).reshape(-1)
