"""Convolution on the GPU: im2col and CuPy's matrix product, or a kernel where that is too much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..geometry import Conv2dGeometry
from .gpu_arrays import (
    LARGEST,
    add_up,
    chunks_for,
    empty,
    flat,
    lying,
    needs_wide,
    turned,
    window_sizes,
    xp,
)
from .gpu_device import launch

Array = Any

SCRATCH_LIMIT = 256 * 2**20  # bytes of im2col columns at a time
TILE = 4  # channels that a thread of a direct kernel makes, as in gpu_kernels.cu
# Products at each position and group, up to which the direct kernels are faster, on an H100;
# the gradient by the input looks for the outputs that a tap has, which costs divisions
FEW_PRODUCTS = {"forward": 1200, "input_grad": 600}
FEW_CHANNELS = 8  # of a group, up to which its weight gradient is too small for a matrix product


def plan_conv2d(g: Conv2dGeometry, dtype: Any, algo: str = "auto") -> tuple[str, str, int]:
    """(algorithm, why it, bytes of scratch); "winograd" is not made for the GPU: im2col runs."""
    terms = math.prod(g.w_shape[1:])
    name, reason = _choose(terms, g.f // g.groups, "forward", algo)
    if name == "direct" or g.window.is_pointwise:
        return name, reason, 0
    columns = g.groups * terms * np.dtype(dtype).itemsize
    positions = math.prod(g.window.out_size) * g.n
    return name, reason, min(positions, max(1, SCRATCH_LIMIT // columns)) * columns


def _choose(terms: int, channels: int, direction: str, algo: str) -> tuple[str, str]:
    """The algorithm for results that are sums of so many terms, with so many channels a group."""
    if algo in ("direct", "im2col"):
        return algo, "it was asked for"
    if algo == "winograd":
        return "im2col", "there is no Winograd kernel for the GPU"
    products = terms * -(-channels // TILE) * TILE
    if products <= FEW_PRODUCTS[direction]:
        return "direct", f"{products} products at a position are few for a matrix product"
    return "im2col", "matrix products are the fastest for sums of many terms"


def conv2d(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str = "auto", relu: bool = False
) -> Array:
    """out (N, F, OH, OW): x (N, C, H, W) under w (F, C/G, KH, KW), plus b (F,) or None.

    With ``relu``, max(out, 0).
    """
    p, window = lying(x), g.window
    positions, cg, fg = math.prod(window.out_size) * g.n, g.c // g.groups, g.f // g.groups
    if not positions:
        return empty(g.out_shape, x.dtype)
    if _choose(math.prod(g.w_shape[1:]), fg, "forward", algo)[0] == "direct":
        out = xp().empty((g.f, positions), x.dtype)
        count = g.groups * -(-fg // TILE) * positions
        wide = needs_wide(window, x.size, out.size, w.size)
        sizes = (g.n, cg, fg, *window_sizes(window))
        launch("conv_direct", x.dtype, wide, count, out, p, flat(w), flat(b), *sizes)
    else:
        weights, out = _weights(w, g), None
        for at, columns in _im2col(p, g):
            product = _product(weights, columns).reshape(g.f, at.stop - at.start)
            if product.shape[1] == positions:
                out = product
                continue
            if out is None:
                out = xp().empty((g.f, positions), x.dtype)
            out[:, at] = product
        if b is not None:
            out += b.reshape(-1, 1)
    if relu:
        xp().maximum(out, 0, out=out)
    return turned(out.reshape(g.f, *window.out_size, g.n))


def conv2d_input_grad(dout: Array, w: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dx (N, C, H, W) from dout (N, F, OH, OW) and w (F, C/G, KH, KW)."""
    window, cg, fg = g.window, g.c // g.groups, g.f // g.groups
    planes = (g.c, *window.in_size, g.n)
    if not dout.size:
        return turned(xp().zeros(planes, dout.dtype))
    d, pixels = lying(dout), math.prod(window.in_size) * g.n
    if _choose(fg * math.prod(window.kernel), cg, "input_grad", algo)[0] == "direct":
        dx = xp().empty(planes, d.dtype)
        count = g.groups * -(-cg // TILE) * pixels
        wide = needs_wide(window, dx.size, d.size, w.size)
        sizes = (g.n, cg, fg, *window_sizes(window))
        launch("conv_direct_input_grad", d.dtype, wide, count, dx, d, flat(w), *sizes)
        return turned(dx)
    weights = _weights(w, g).transpose(0, 2, 1)
    d = d.reshape(g.groups, fg, -1)
    if window.is_pointwise and d.shape[2] < LARGEST:
        return turned(_product(weights, d).reshape(planes))
    dx = xp().zeros(planes, d.dtype)
    for at in _tiles(g, d.dtype):
        columns = _product(weights, d[:, :, at])
        first, last = at.start // g.n // window.out_size[1], (at.stop - 1) // g.n
        top, (kh, _), (sh, _) = window.padding[0], window.kernel, window.stride
        row = max(0, first * sh - top)  # the rows of the image that this tile's windows see
        end = last // window.out_size[1] * sh - top + (kh - 1) * window.dilation[0] + 1
        rows = min(window.in_size[0], end) - row
        if rows > 0:
            count = g.c * rows * window.in_size[1] * g.n
            wide = needs_wide(window, dx.size, columns.size, d.size)
            part = (at.start, at.stop - at.start, row, rows)
            launch("col2im", d.dtype, wide, count, dx, columns, g.n, *window_sizes(window), *part)
    return turned(dx)


def conv2d_weight_grad(x: Array, dout: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dw (F, C/G, KH, KW) from x (N, C, H, W) and dout (N, F, OH, OW)."""
    if not dout.size or not x.size:
        return xp().zeros(g.w_shape, dout.dtype)
    p, d, fg = lying(x), lying(dout), g.f // g.groups
    direct = algo == "direct" or (algo == "auto" and g.groups > 1 and fg <= FEW_CHANNELS)
    if direct:
        weights, positions = math.prod(g.w_shape), d.size // g.f
        most = max(1, SCRATCH_LIMIT // (weights * d.dtype.itemsize))
        chunks = min(most, chunks_for(positions))
        partials = xp().empty((weights, chunks), d.dtype)
        wide = needs_wide(g.window, p.size, d.size, partials.size)
        sizes = (g.n, g.c // g.groups, fg, *window_sizes(g.window), chunks)
        launch("conv_direct_weight_grad", d.dtype, wide, partials.size, partials, p, d, *sizes)
        return add_up(partials).reshape(g.w_shape)
    d = d.reshape(g.groups, fg, -1)
    dw: Array = None
    for at, columns in _im2col(p, g):
        product = _product(d[:, :, at], columns.transpose(0, 2, 1))
        dw = product if dw is None else dw + product
    return dw.reshape(g.w_shape)


def _product(a: Array, b: Array) -> Array:
    """(G, m, k) times (G, k, n). A single one as 2-d: CuPy copies turned stacks, but no matrix."""
    return xp().matmul(a[0], b[0])[None] if len(a) == 1 else xp().matmul(a, b)


def _weights(w: Array, g: Conv2dGeometry) -> Array:
    """(F, C/G, KH, KW) -> (G, F/G, K)."""
    return xp().ascontiguousarray(w).reshape(g.groups, g.f // g.groups, -1)


def _tiles(g: Conv2dGeometry, dtype: Any) -> Iterator[slice]:
    """Cut the flat output (OH, OW, N) so that the columns of a tile fit into SCRATCH_LIMIT."""
    positions = math.prod(g.window.out_size) * g.n
    length = max(1, SCRATCH_LIMIT // (g.c * math.prod(g.window.kernel) * dtype.itemsize))
    for start in range(0, positions, length):
        yield slice(start, min(start + length, positions))


def _im2col(p: Array, g: Conv2dGeometry) -> Iterator[tuple[slice, Array]]:
    """Tile by tile, what the windows see: columns (G, K, length) of planes (C, H, W, N)."""
    positions = math.prod(g.window.out_size) * g.n
    if g.window.is_pointwise and positions < LARGEST:  # the image is the columns
        yield slice(0, positions), p.reshape(g.groups, g.c // g.groups, positions)
        return
    terms = g.c * math.prod(g.window.kernel)
    for at in _tiles(g, p.dtype):
        length = at.stop - at.start
        columns = xp().empty((g.groups, terms // g.groups, length), p.dtype)
        wide = needs_wide(g.window, p.size, columns.size, positions)
        sizes = (g.n, *window_sizes(g.window), at.start, length)
        launch("im2col", p.dtype, wide, columns.size, columns, p, *sizes)
        yield at, columns
