"""How far Winograd's F(4x4, 3x3) and F(3x3, 5x5), and those for the weights, may be off.

Each step of Y = At (sum over c of (G w Gt) (Bt x B)) A is a short sum of products, so the error is
at most n * eps times the same formula with every number replaced by its absolute value, where n
counts the roundings along the longest path (Higham 2002, section 3.1; for this algorithm
Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution", 2020).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from bounds import eps
from numpy.typing import NDArray

Array = NDArray[Any]

# points but infinity, by the side of the kernels, and the side of the outputs' tiles; two taps are
# those of 3x3 kernels with stride 2 that meet every second row, four those of 7x7 ones
SEVEN = (1, -1, 2, -2, 0.5, -0.5)
POINTS = {2: (0, 1, -1, 2), 3: (0, 1, -1, 2, -2), 4: SEVEN, 5: SEVEN}
SIDES = {3: 4, 4: 4, 5: 3}


def evaluate(kernel: int, count: int) -> Array:
    """G (points, count): row i holds the powers of point i, over its distances from the others."""
    points = POINTS[kernel]
    rows = [
        [p**k / np.prod([p - q for q in points if q != p]) for k in range(count)] for p in points
    ]
    return np.array([*rows, [0.0] * (count - 1) + [1.0]])


def interpolate(kernel: int, count: int) -> Array:
    """At (count, points): column i holds the powers of point i."""
    columns = [[float(p) ** k for k in range(count)] for p in POINTS[kernel]]
    return np.array([*columns, [0.0] * (count - 1) + [1.0]]).T


def transform(kernel: int) -> Array:
    """Bt (points, points): row i is the polynomial that is 0 at all points but point i."""
    points = POINTS[kernel]
    rows = [[*np.poly([q for q in points if q != p])[::-1], 0.0] for p in points]
    return np.array([*rows, np.poly(points)[::-1]])


TRANSFORMS = 30  # roundings of the three transforms, both passes each
OVERLAPS = 9  # tiles that a number is the sum of at most


def window(a: Array, padding: tuple[int, int], rows: int, columns: int) -> Array:
    """|a| as float64, moved by (top, left), in zeros of this many rows and columns."""
    moved = np.zeros((*a.shape[:2], rows, columns))
    top, left = padding
    for i in range(rows):
        for j in range(columns):
            if 0 <= i - top < a.shape[2] and 0 <= j - left < a.shape[3]:
                moved[:, :, i, j] = abs(a[:, :, i - top, j - left].astype(np.float64))
    return moved


def matrices(kernel: int, stride: int, transposed: bool) -> tuple[Array, Array, Array, int]:
    """At, G, Bt, and how far apart the tiles read."""
    if stride == 1:
        side = SIDES[kernel]
        return interpolate(kernel, side), evaluate(kernel, kernel), transform(kernel), side
    four = np.eye(4)
    g, bt, at = np.zeros((9, 3)), np.zeros((9, 5 if transposed else 9)), np.zeros((4, 9))
    g[:5, ::2], g[5:, 1] = evaluate(2, 2), 1
    at[:, :5] = interpolate(2, 4)
    if transposed:
        bt[:5], bt[5:, :4] = transform(2), four
        return np.stack([np.hstack([np.zeros((4, 5)), four]), at], 1).reshape(8, 9), g, bt, 4
    bt[:5, ::2], bt[5:, 1::2] = transform(2), four
    at[:, 5:] = four
    return at, g, bt, 8


def magnitude(
    x: Array,
    w: Array,
    padding: tuple[int, int],
    size: tuple[int, int],
    stride: int = 1,
    transposed: bool = False,
) -> Array:
    """The formula in absolute values: (N, F, OH, OW) of this size, from (top, left) padding."""
    if stride == 2 and w.shape[2] > 3:  # every second row and column, of both
        rows, columns = (2 * length + w.shape[2] + 1 for length in size)
        padded = window(x, padding, rows, columns), np.pad(w, ((0, 0), (0, 0), (0, 1), (0, 1)))
        x, w = (
            np.concatenate([a[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1) for a in padded
        )
        return magnitude(x, w, (0, 0), size)
    *transforms, step = matrices(w.shape[2], stride, transposed)
    at, g, bt = (abs(a) for a in transforms)
    side, along = len(at), bt.shape[1]
    rows, columns = (-(-length // side) for length in size)
    padded = window(x, padding, rows * step + along, columns * step + along)
    u = np.einsum("pk,fckl,ql->fcpq", g, abs(w.astype(np.float64)), g)
    out = np.zeros((len(x), len(w), rows * side, columns * side))
    for i in range(rows):
        for j in range(columns):
            tile = padded[:, :, i * step : i * step + along, j * step : j * step + along]
            v = np.einsum("pk,nckl,ql->ncpq", bt, tile, bt)
            m = np.einsum("fcpq,ncpq->nfpq", u, v)
            y = np.einsum("ip,nfpq,jq->nfij", at, m, at)
            out[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side] = y
    return out[:, :, : size[0], : size[1]]


def spread_magnitude(
    dout: Array, w: Array, padding: tuple[int, int], size: tuple[int, int]
) -> Array:
    """The formula of overlapping tiles, read backwards, in absolute values: (N, C, H, W)."""
    kernel, (top, left) = w.shape[2], padding
    side, along = SIDES[kernel], SIDES[kernel] + kernel - 1
    g, a = abs(evaluate(kernel, side)), abs(interpolate(kernel, kernel)).T
    bt = abs(transform(kernel))
    rows, columns = (-(-length // side) * side for length in dout.shape[2:])
    grads = window(dout, (0, 0), rows, columns)
    u = np.einsum("pk,fckl,ql->fcpq", a, abs(w.astype(np.float64)), a)
    dx = np.zeros((len(dout), w.shape[1], top + size[0] + rows, left + size[1] + columns))
    for i in range(0, rows, side):
        for j in range(0, columns, side):
            d = np.einsum("pk,nfkl,ql->nfpq", g, grads[:, :, i : i + side, j : j + side], g)
            m = np.einsum("fcpq,nfpq->ncpq", u, d)
            dx[:, :, i : i + along, j : j + along] += np.einsum("pi,ncpq,qj->ncij", bt, m, bt)
    return dx[:, :, top : top + size[0], left : left + size[1]]


def weight_magnitude(x: Array, dout: Array, padding: tuple[int, int], kernel: int) -> Array:
    """The weight gradient's formula in absolute values: (F, C, kernel, kernel)."""
    side, along = SIDES[kernel], SIDES[kernel] + kernel - 1
    g, at = abs(evaluate(kernel, side)), abs(interpolate(kernel, kernel))
    bt = abs(transform(kernel))
    rows, columns = (-(-length // side) * side for length in dout.shape[2:])
    padded = window(x, padding, rows + kernel - 1, columns + kernel - 1)
    grads = window(dout, (0, 0), rows, columns)
    m = np.zeros((dout.shape[1], x.shape[1], along, along))
    for i in range(0, rows, side):
        for j in range(0, columns, side):
            tile = padded[:, :, i : i + along, j : j + along]
            grad = grads[:, :, i : i + side, j : j + side]
            v = np.einsum("pk,nckl,ql->ncpq", bt, tile, bt)
            d = np.einsum("pk,nfkl,ql->nfpq", g, grad, g)
            m += np.einsum("nfpq,ncpq->fcpq", d, v)
    return np.einsum("ip,fcpq,jq->fcij", at, m, at)


def out(x: Array, w: Array, b: Array | None, dout: Array, options: dict[str, Any]) -> Array:
    """The bound of conv2d, with stride 1 or 2."""
    (top, _), (left, _) = oracle.sides(options.get("padding", 0))
    stride = options.get("stride", 1)
    shift = 0.0 if b is None else abs(b.astype(np.float64))[:, None, None]
    terms = w.shape[1] * (4 if stride == 2 and w.shape[2] > 3 else 1)
    size = magnitude(x, w, (top, left), dout.shape[2:], stride) + shift
    return (terms + TRANSFORMS) * eps(x) * size


def input_grad(x: Array, w: Array, dout: Array, options: dict[str, Any], spread: bool) -> Array:
    """The bound of the gradient by x, with stride 1, or 2 and 3x3 kernels.

    ``spread``: it takes tiles of dout, which overlap, and not of dx.
    """
    (top, _), (left, _) = oracle.sides(options.get("padding", 0))
    stride, kernel = options.get("stride", 1), w.shape[2]
    if spread:
        size = spread_magnitude(dout, w, (top, left), x.shape[2:])
    else:
        back = (kernel - stride - top) // stride, (kernel - stride - left) // stride
        turned = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        size = magnitude(dout, turned, back, x.shape[2:], stride, True)
    return (w.shape[0] + TRANSFORMS + OVERLAPS) * eps(x) * size


def weight_grad(x: Array, w: Array, dout: Array, options: dict[str, Any]) -> Array:
    """The bound of the gradient by w, with stride 1."""
    (top, _), (left, _) = oracle.sides(options.get("padding", 0))
    kernel, side = w.shape[2], SIDES[w.shape[2]]
    tiles = -(-dout.shape[2] // side) * -(-dout.shape[3] // side)
    size = weight_magnitude(x, dout, (top, left), kernel)
    return (len(x) * tiles + TRANSFORMS) * eps(x) * size
