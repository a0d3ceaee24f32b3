"""Every operation in plain NumPy: the reference to read, and what runs where nothing is compiled.

Arrays are handled as *planes*, the way they lie in memory: (N, C, H, W) as (C, H, W, N), (N, C) as
(C, N). A step of one pixel then is a step over all images of the batch, and a Python loop over
the few positions of the window, its *taps*, leaves NumPy long rows to work on.

Arguments were checked by the caller; only the steps of the optimisers write to theirs, and batch
norm to running statistics. The letters are those of `geometry`, and K = C/G * KH * KW. `backends`
lists what every backend has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from ..geometry import Conv2dGeometry, Pool2dGeometry, Window
from .cpu_numpy_steps import adam_step, move_running, sgd_step  # noqa: F401  (the contract)

Array = np.ndarray
Tile = tuple[slice, slice]  # rows and columns of the output
# kh, kw, rows and columns of the tile, rows and columns of the image
Tap = tuple[int, int, slice, slice, slice, slice]

SCRATCH_LIMIT = 8 * 2**20  # bytes of im2col columns at a time, which then are still in the cache


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """A new array of arbitrary values; shapes (N, C) and (N, C, H, W) lie batch-last."""
    if len(shape) not in (2, 4):
        return np.empty(shape, dtype)
    return np.empty((*shape[1:], shape[0]), dtype).transpose(-1, *range(len(shape) - 1))


def _filled(shape: tuple[int, ...], dtype: Any, value: float) -> Array:
    a = empty(shape, dtype)
    a[...] = value
    return a


def as_batch_last(a: Array) -> Array:
    """``a`` in native byte order, aligned and batch-last: the same object if it is so already.

    Planes of different channels may lie apart. Arrays that are not 2-d or 4-d come out in C order.
    """
    in_order = a.flags.c_contiguous
    if a.ndim in (2, 4):
        p = _planes(a)
        plane = p[0] if len(p) else p
        in_order = plane.flags.c_contiguous and (len(p) < 2 or p.strides[0] >= plane.nbytes)
    if in_order and a.flags.aligned and a.dtype.isnative:
        return a
    copy = empty(a.shape, a.dtype.newbyteorder("="))
    copy[...] = a
    return copy


def copy_batch_last(a: Array, out: Array) -> None:
    """Copy an array into a batch-last one of its shape, (N, C) or (N, C, H, W)."""
    out[...] = a


def _planes(a: Array) -> Array:
    """(N, C, H, W) -> (C, H, W, N) and (N, C) -> (C, N), a view."""
    return a.transpose(*range(1, a.ndim), 0)


def _rows(a: Array) -> Array:
    """(N, C, ...) -> (C, ...*N), one row a channel."""
    p = _planes(as_batch_last(a))
    return p.reshape(len(p), math.prod(p.shape[1:]))


def _from_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """(C, ...*N) -> (N, C, ...) of that shape, batch-last."""
    return np.moveaxis(rows.reshape(*shape[1:], shape[0]), -1, 0)


def _where(mask: Array, a: Array) -> Array:
    """``a`` where ``mask`` is set, else 0: np.where without branches, which cost it ten times."""
    kept = np.array(mask, f"i{a.itemsize}")  # 1 or 0
    np.negative(kept, out=kept)  # all bits set or none
    kept &= a.view(kept.dtype)
    return kept.view(a.dtype)


def _reach(window: Window, axis: int, outputs: slice) -> list[tuple[int, slice, slice]]:
    """Along one axis, for each tap: which of ``outputs`` find it in the image, and where."""
    size, kernel, stride = window.in_size[axis], window.kernel[axis], window.stride[axis]
    before, dilation = window.padding[2 * axis], window.dilation[axis]
    low, high = outputs.start, outputs.stop - 1
    first_tap = max(0, -((high * stride - before) // dilation))
    last_tap = min(kernel - 1, (size - 1 + before - low * stride) // dilation)
    found = []
    for tap in range(first_tap, last_tap + 1):
        offset = tap * dilation - before  # output o reads input o * stride + offset
        first, last = max(low, -(offset // stride)), min(high, (size - 1 - offset) // stride)
        if first <= last:
            inputs = slice(first * stride + offset, last * stride + offset + 1, stride)
            found.append((tap, slice(first - low, last - low + 1), inputs))
    return found


def _taps(window: Window, tile: Tile | None = None) -> Iterator[Tap]:
    """Every tap kh, kw, the rows and columns of the tile that find it in the image, and where.

    Rows and columns count from the tile's corner; without a tile they are those of the output.
    """
    rows, columns = tile or (slice(0, window.out_size[0]), slice(0, window.out_size[1]))
    across = _reach(window, 1, columns)
    for i, oy, iy in _reach(window, 0, rows):
        for j, ox, ix in across:
            yield i, j, oy, ox, iy, ix


# ------------------------------------------------------------------ convolution
# im2col: what the window sees at each output pixel becomes a column of a matrix, which BLAS
# multiplies by the weights (Chellapilla, Puri and Simard, "High Performance Convolutional Neural
# Networks for Document Processing", 2006). The product (F, OH*OW*N) is the planes of the output.


def conv2d(
    x: Array, w: Array, b: Array | None, g: Conv2dGeometry, algo: str = "auto", relu: bool = False
) -> Array:
    """out (N, F, OH, OW): x (N, C, H, W) under w (F, C/G, KH, KW), plus b (F,) or None.

    With ``relu``, max(out, 0).
    """
    weights = _weights(w, g)
    out = empty(g.out_shape, weights.dtype)
    for (rows, columns), cols in _im2col(x, g):
        tile = _by_group(_planes(out)[:, rows, columns], g)
        np.matmul(weights, cols, out=tile)
        if b is not None:
            tile += b.reshape(g.groups, -1, 1)
    return np.maximum(out, 0, out=out) if relu else out


def conv2d_weight_grad(x: Array, dout: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dw (F, C/G, KH, KW) from x (N, C, H, W) and dout (N, F, OH, OW)."""
    d = _planes(as_batch_last(dout))
    dw = np.zeros((g.groups, g.f // g.groups, math.prod(g.w_shape[1:])), d.dtype)
    for (rows, columns), cols in _im2col(x, g):
        dw += np.matmul(_by_group(d[:, rows, columns], g), cols.transpose(0, 2, 1))
    return dw.reshape(g.w_shape)


def conv2d_input_grad(dout: Array, w: Array, g: Conv2dGeometry, algo: str = "auto") -> Array:
    """dx (N, C, H, W) from dout (N, F, OH, OW) and w: columns of gradients, added at their taps."""
    weights = _weights(w, g).transpose(0, 2, 1)
    d = _planes(as_batch_last(dout))
    # BLAS is slow at a sum of one product, which is what depthwise filters have
    product = np.multiply if g.f == g.groups else np.matmul
    if g.window.is_pointwise and g.window.in_size == g.window.out_size:
        dx = empty(g.x_shape, d.dtype)
        product(weights, _by_group(d, g), out=_by_group(_planes(dx), g))
        return dx
    dx = _filled(g.x_shape, d.dtype, 0)
    for (rows, columns), cols in _tiles(g, d.dtype):
        product(weights, _by_group(d[:, rows, columns], g), out=_by_group(cols, g))
        for i, j, oy, ox, iy, ix in _taps(g.window, (rows, columns)):
            _planes(dx)[:, iy, ix] += cols[:, i, j, oy, ox]
    return dx


def plan_conv2d(g: Conv2dGeometry, dtype: Any, algo: str = "auto") -> tuple[str, str, int]:
    """(algorithm, why it, bytes of scratch): here always "im2col", whatever ``algo`` wishes."""
    if g.window.is_pointwise:
        return "im2col", "the images are the columns of a 1x1 window, with nothing to copy", 0
    scratch = math.prod(_tile_shape(g, dtype.itemsize)) * dtype.itemsize
    return "im2col", "the only algorithm of the NumPy backend", scratch


def _tile_shape(g: Conv2dGeometry, itemsize: int) -> tuple[int, ...]:
    """(C, KH, KW, rows, columns, N): full rows of the output if they fit, else part of one."""
    oh, ow = g.window.out_size
    pixels = SCRATCH_LIMIT // max(1, g.c * math.prod(g.window.kernel) * g.n * itemsize)
    size = (min(oh, pixels // ow), ow) if pixels >= ow else (1, max(1, pixels))
    return (g.c, *g.window.kernel, *size, g.n)


def _tiles(g: Conv2dGeometry, dtype: Any) -> Iterator[tuple[Tile, Array]]:
    """Cut the output into tiles; each comes with memory for its columns, the same one for all."""
    memory = np.empty(_tile_shape(g, dtype.itemsize), dtype)
    (oh, ow), (height, width) = g.window.out_size, memory.shape[3:5]
    for top in range(0, oh, height):
        for left in range(0, ow, width):
            tile = slice(top, min(top + height, oh)), slice(left, min(left + width, ow))
            yield tile, memory[:, :, :, : oh - top, : ow - left]


def _im2col(x: Array, g: Conv2dGeometry) -> Iterator[tuple[Tile, Array]]:
    """Tile by tile of the output, the columns (G, K, pixels*N) of x (N, C, H, W)."""
    p = _planes(as_batch_last(x))
    if g.window.is_pointwise:  # a fully connected layer, too
        rows, columns = map(slice, g.window.out_size)  # a transposed convolution may have more
        yield (rows, columns), _by_group(p[:, rows, columns], g)
        return
    for tile, cols in _tiles(g, p.dtype):
        if any(g.window.padding):
            cols[...] = 0
        for i, j, oy, ox, iy, ix in _taps(g.window, tile):
            cols[:, i, j, oy, ox] = p[:, iy, ix]
        yield tile, _by_group(cols, g)


def _by_group(a: Array, g: Conv2dGeometry) -> Array:
    """Planes (F, h, w, N) or columns (C, KH, KW, h, w, N) -> (G, ..., h*w*N).

    A view, so that BLAS can write to it: tiles are as wide as the image or one row high.
    """
    return a.reshape(g.groups, math.prod(a.shape[:-3]) // g.groups, math.prod(a.shape[-3:]))


def _weights(w: Array, g: Conv2dGeometry) -> Array:
    """(F, C/G, KH, KW) -> (G, F/G, K)."""
    w = np.require(w, w.dtype.newbyteorder("="), ["C", "A"])
    return w.reshape(g.groups, g.f // g.groups, math.prod(w.shape[1:]))


def channel_sum(a: Array) -> Array:
    """(C,): the sum of (N, C, ...) over all axes but the channels."""
    return _rows(a).sum(axis=1)


# ------------------------------------------------------------------ pooling


def max_pool2d(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """out (N, C, OH, OW) and, int32, the tap kh * KW + kw at which each maximum was found.

    As in PyTorch the first of equal taps wins, and NaN wins over all, the last one of several.
    """
    p = _planes(as_batch_last(x))
    out, argmax = _filled(g.out_shape, p.dtype, -np.inf), _filled(g.out_shape, np.int32, 0)
    o, a = _planes(out), _planes(argmax)
    o_bits, p_bits = o.view(f"i{o.itemsize}"), p.view(f"i{p.itemsize}")
    # from the last tap to the first: the first of equal ones wins, and a NaN that has won stays
    for i, j, oy, ox, iy, ix in reversed(list(_taps(g.window))):
        best = o[:, oy, ox]
        wins = ~(p[:, iy, ix] < best) & (best == best)
        o_bits[:, oy, ox] ^= _where(wins, o_bits[:, oy, ox] ^ p_bits[:, iy, ix])
        a[:, oy, ox] += _where(wins, i * g.window.kernel[1] + j - a[:, oy, ox])
    return out, argmax


def max_pool2d_backward(
    dout: Array, argmax: Array, g: Pool2dGeometry, rectified: Array | None = None
) -> Array:
    """dx (N, C, H, W): each dout (N, C, OH, OW) goes to the tap argmax.

    Where ``rectified`` (N, C, H, W) is not above 0, dx is 0, as before the ReLU that made it.
    """
    d, a = _planes(as_batch_last(dout)), _planes(as_batch_last(argmax))
    dx = _filled(g.x_shape, d.dtype, 0)
    for i, j, oy, ox, iy, ix in _taps(g.window):
        here = i * g.window.kernel[1] + j
        _planes(dx)[:, iy, ix] += _where(a[:, oy, ox] == here, d[:, oy, ox])
    return dx if rectified is None else relu_backward(dx, rectified)


def avg_pool2d(x: Array, g: Pool2dGeometry) -> Array:
    """out (N, C, OH, OW): the mean of each window."""
    p = _planes(as_batch_last(x))
    out = _filled(g.out_shape, p.dtype, 0)
    o = _planes(out)
    # row by row of the window, as float32 would lose digits over all of a large one
    for _, taps in groupby(_taps(g.window), key=itemgetter(0)):
        row = np.zeros_like(o)
        for _, _, oy, ox, iy, ix in taps:
            row[:, oy, ox] += p[:, iy, ix]
        o += row
    o /= g.counted().astype(p.dtype)[:, :, None]
    return out


def avg_pool2d_backward(dout: Array, g: Pool2dGeometry, rectified: Array | None = None) -> Array:
    """dx (N, C, H, W): an equal share of dout (N, C, OH, OW) goes to every tap.

    ``rectified`` as in ``max_pool2d_backward``.
    """
    d = _planes(as_batch_last(dout))
    share = d / g.counted().astype(d.dtype)[:, :, None]
    dx = _filled(g.x_shape, d.dtype, 0)
    for _, _, oy, ox, iy, ix in _taps(g.window):
        _planes(dx)[:, iy, ix] += share[:, oy, ox]
    return dx if rectified is None else relu_backward(dx, rectified)


def batch_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    relu: bool = False,
    running: tuple[Array, Array] | None = None,
    momentum: float | None = 0.0,
    residual: Array | None = None,
) -> tuple[Array, Array, Array, Array]:
    """out = (x - mean) * inv_std * gamma + beta; mean, biased var, 1 / sqrt(var + eps) (C,) each.

    An empty batch has mean and var 0. ``running`` mean and variance (C,) move by the share
    ``momentum`` towards the batch's, in place; if that is None they are used instead, and copied.
    ``residual`` is added to out, and with ``relu`` out then is max(out, 0). x and residual:
    (N, C, ...). Source: Ioffe and Szegedy, 2015.
    """
    p, used = _rows(x), running if momentum is None else None
    mean = used[0].copy() if used else p.sum(axis=1) / max(1, p.shape[1])
    out = p - mean[:, None]
    var = used[1].copy() if used else np.square(out).sum(axis=1) / max(1, p.shape[1])
    inv_std = 1 / np.sqrt(var + float(eps))
    out *= (inv_std if gamma is None else inv_std * gamma)[:, None]
    if beta is not None:
        out += beta[:, None]
    if residual is not None:
        out += _rows(residual)
    out = np.maximum(out, 0, out=out) if relu else out
    move_running(running, momentum, mean, var, p.shape[1])
    return _from_rows(out, x.shape), mean, var, inv_std


def batch_norm_backward(
    dout: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inv_std: Array,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """dx, dgamma (C,) and dbeta (C,); the last two also if there is no gamma and beta.

    ``gamma`` and ``beta`` are ``batch_norm``'s, and ``out`` is what it made, if with ``relu``.
    """
    dout = dout if out is None else relu_backward(dout, out)
    d, normalised = _rows(dout), (_rows(x) - mean[:, None]) * inv_std[:, None]
    dgamma, dbeta, count = (d * normalised).sum(axis=1), d.sum(axis=1), max(1, d.shape[1])
    dx = d - (dbeta / count)[:, None] - normalised * (dgamma / count)[:, None]
    dx *= (inv_std if gamma is None else inv_std * gamma)[:, None]
    return _from_rows(dx, x.shape), dgamma, dbeta


def cross_entropy(logits: Array, target: Array, label_smoothing: float) -> tuple[Array, Array]:
    """losses (N,) of logits (N, K) against classes target (N,), and log-softmax(logits) (N, K).

    A smoothed target is 1 - label_smoothing at its class plus label_smoothing / K at every class
    (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015).
    """
    smoothing = float(label_smoothing)
    log_probs = empty(logits.shape, logits.dtype.newbyteorder("="))
    p = _planes(log_probs)
    np.subtract(logits.T, logits.max(axis=1), out=p)  # so that exp cannot overflow
    p -= np.log(np.exp(p).sum(axis=0))
    losses = -p[target, np.arange(len(target))]
    if smoothing:
        losses = (1 - smoothing) * losses - (smoothing / len(p)) * p.sum(axis=0)
    return losses, log_probs


def cross_entropy_backward(
    dlosses: Array, log_probs: Array, target: Array, label_smoothing: float
) -> Array:
    """dlogits (N, K) = dlosses (N,) * (softmax - smoothed target)."""
    smoothing = float(label_smoothing)
    dlogits = np.exp(as_batch_last(log_probs))
    dlogits -= smoothing / dlogits.shape[1]
    dlogits[np.arange(len(target)), target] -= 1 - smoothing
    dlogits *= dlosses[:, None]
    return dlogits


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.maximum(as_batch_last(x), 0)


def relu_and_search(x: Array) -> tuple[Array, bool]:
    """max(x, 0), and whether one of the numbers is 0: it has no derivative there."""
    return relu(x), not x.all()


def relu_backward(dout: Array, out: Array) -> Array:
    """dx: dout where the output is positive or NaN, else 0."""
    return _where(~(as_batch_last(out) <= 0), as_batch_last(dout))


def add(a: Array, b: Array, relu: bool = False, gate: Array | None = None) -> Array:
    """a + b, broadcast; with ``relu``, max(a + b, 0), where NaN stays.

    With a ``gate`` 0 where that is at most 0.
    """
    out = np.asarray(a + b)  # of two numbers NumPy makes no array
    if gate is not None:
        return relu_backward(out, gate)
    return np.maximum(out, 0, out=out) if relu else out
