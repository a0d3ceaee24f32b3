"""Convolutions and their gradients: which algorithm and scratch memory; the kernels loop."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..geometry import Conv2dGeometry
from .algorithm import choose_width, spreads_output_tiles
from .capture import call, constant, constant_empty
from .cpu_cython_arrays import Array, all_kernels, images, isa, narrower, sets, sliding, threads_for
from .memory import aligned_empty, empty, flat, flat_or_none


def plan_conv2d(g: Conv2dGeometry, dtype: Any, algo: str = "auto") -> tuple[str, str, int]:
    """Which algorithm the forward pass runs, why, and its scratch memory in bytes."""
    dtype = np.dtype(dtype)
    chosen, name, reason = _choose(g, dtype.char, algo, "forward")
    size = _scratch_size(chosen, name, g, dtype.char, False, threads_for(g.macs))
    return name, reason, size * dtype.itemsize


@lru_cache(maxsize=4096)
def _choose(g: Conv2dGeometry, char: str, algo: str, direction: str) -> tuple[str, str, str]:
    """The instruction set, the algorithm and why that."""
    if algo != "auto":
        return isa, algo, "it was asked for"
    vector = all_kernels[char].conv.lanes // 2
    by_lanes = {vector: isa} | ({vector // 2: narrower} if narrower else {})
    lanes, name, reason = choose_width(g, char, tuple(by_lanes), direction)
    return by_lanes[lanes], name, reason


@lru_cache(maxsize=4096)
def _scratch_size(
    chosen: str, name: str, g: Conv2dGeometry, char: str, transposed: bool, threads: int
) -> int:
    """Numbers of scratch memory."""
    kernels = sets[chosen][char]
    if name == "dense":
        return 0
    window = g.window
    read, written = (g.out_shape, g.x_shape) if transposed else (g.x_shape, g.out_shape)
    if name == "depthwise":
        options = (*sliding(window), transposed, threads)
        return kernels.depthwise.scratch_size(read, written, *options)
    if name == "winograd":
        sizes = (g.n, read[1], *written[1:], window.kernel[0])
        return kernels.winograd.scratch_size(*sizes) * threads
    options = (g.groups, *sliding(window), transposed, name == "direct", threads)
    return kernels.conv.scratch_size(read, written, *options)


def conv2d(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str = "auto", relu: bool = False
) -> Array:
    """x (N, C, H, W) and w (F, C/G, KH, KW) -> out (N, F, OH, OW); with ``relu``, max(out, 0)."""
    return _correlate(x, w, b, g, algo, relu, transposed=False)


def conv2d_input_grad(dout: Array, w: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dout (N, F, OH, OW) and w (F, C/G, KH, KW) -> dx (N, C, H, W)."""
    return _correlate(dout, w, None, g, algo, False, transposed=True)


def _correlate(
    x: Array,
    w: Array,
    b: Array | None,
    g: Conv2dGeometry,
    algo: str,
    relu: bool,
    transposed: bool,
) -> Array:
    x, w = images(x), flat(w)
    dtype = x.dtype
    window = g.window
    taps = window.kernel[0] * window.kernel[1]
    read, written = g.c // g.groups, g.f // g.groups
    if transposed:
        read, written = written, read
    out = empty(g.x_shape if transposed else g.out_shape, dtype)
    if not out.size:
        return out
    if not x.size:
        out[...] = 0 if b is None else b[:, None, None]
        return np.maximum(out, 0) if relu else out
    threads = threads_for(g.macs)
    direction = "input_grad" if transposed else "forward"
    chosen, name, _ = _choose(g, dtype.char, algo, direction)
    kernels = sets[chosen][dtype.char]
    conv = kernels.conv
    if name == "dense":
        w, bias = constant(w), constant(flat_or_none(b))
        ends = (relu, threads)
        call(kernels.dense.dense, flat(x), w, bias, out.reshape(-1), *ends, constants=(w, bias))
        return out
    if name == "winograd":
        _in_tiles(chosen, x, w, b, out, g, relu, transposed)
        return out
    scratch = aligned_empty(
        (_scratch_size(chosen, name, g, dtype.char, transposed, threads),), dtype
    )
    bias = flat_or_none(b)
    packed = constant_empty(conv.packed_size(g.groups, written, read * taps)[:1], dtype)
    sizes = (g.groups, written, read, taps)
    by_tap = conv.by_tap(transposed, name == "direct", window.stride)
    conv.pack_weights(w, bias, packed, *sizes, transposed, by_tap, threads_for(w.size))
    arrays, how = (x, packed, out, scratch), (*sliding(window), transposed)
    if name == "depthwise":
        call(kernels.depthwise.correlate, *arrays, *how, relu, threads, constants=(packed,))
        return out
    options = (g.groups, *how, name == "direct", relu, threads)
    call(conv.correlate, *arrays, *options, constants=(packed,))
    return out


def _in_tiles(
    chosen: str,
    x: Array,
    w: Array,
    b: Array | None,
    out: Array,
    g: Conv2dGeometry,
    relu: bool,
    transposed: bool,
) -> None:
    """Fill out by Winograd's method, with tiles of out or, for some gradients, of what is read."""
    winograd, side = sets[chosen][x.dtype.char].winograd, g.window.kernel[0]
    read, written, threads = x.shape[1], out.shape[1], threads_for(g.macs)
    spread = transposed and spreads_output_tiles(g)
    packed = constant_empty((winograd.packed_size(read, written, side),), x.dtype)
    winograd.pack_weights(w, packed, written, read, side, transposed, spread, threads_for(w.size))
    top, _, left, _ = g.window.padding
    if spread:
        size = winograd.spread_scratch_size(g.n, g.c, g.f, *g.window.out_size, side) * threads
        scratch, place = aligned_empty((size,), x.dtype), (top, left, side)
        call(winograd.input_grad, x, packed, out, scratch, *place, threads, constants=(packed,))
        return
    if transposed:  # a correlation with the turned kernel
        top, left = side - 1 - top, side - 1 - left
    size = _scratch_size(chosen, "winograd", g, x.dtype.char, transposed, threads)
    bias = constant(flat_or_none(b))
    scratch, place = aligned_empty((size,), x.dtype), (top, left, side)
    arrays = (x, packed, bias, out, scratch)
    call(winograd.correlate, *arrays, *place, relu, threads, constants=(packed, bias))


def conv2d_weight_grad(x: Array, dout: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """x (N, C, H, W) and dout (N, F, OH, OW) -> dw (F, C/G, KH, KW)."""
    dtype = x.dtype
    if not dout.size:
        return np.zeros(g.w_shape, dtype)
    window, threads = g.window, threads_for(g.macs)
    x, dout = images(x), images(dout)
    dw = np.empty(g.w_shape, dtype)
    chosen, name, _ = _choose(g, dtype.char, algo, "weight_grad")
    kernels = sets[chosen][dtype.char]
    if name == "dense":
        dense = kernels.dense
        scratch = aligned_empty((dense.scratch_size(x, dout),), dtype)
        dense.weight_grad(x, dout, dw.reshape(-1), scratch, threads)
        return dw
    if name == "winograd":
        winograd = kernels.winograd_weight_grad
        side = window.kernel[0]
        size = winograd.scratch_size(g.n, g.c, g.f, *window.out_size, side, threads)
        scratch = aligned_empty((size,), dtype)
        top, _, left, _ = window.padding
        winograd.weight_grad(x, dout, dw.reshape(-1), scratch, top, left, side, threads)
        return dw
    kernel = kernels.conv_weight_grad
    sizes = (g.groups, *sliding(window))
    scratch = aligned_empty((kernel.scratch_size(x, dout, *sizes) * threads,), dtype)
    kernel.weight_grad(x, dout, dw.reshape(-1), scratch, *sizes, threads)
    return dw
