"""What every operation of cyconv means, written as plainly as possible.

Nothing here comes from cyconv or shares an idea with it: convolution and pooling are loops over
output pixels and window positions in float64. Slow, short, and the judge of every backend.
Normalisation, losses and activations are in `oracle_norm_loss.py`.

A forward function returns its output; the function with `_grads` in its name takes the gradient
of the output first and returns the gradients of the inputs. Letters: N C H W F KH KW OH OW as in
`cyconv.geometry`; ih, kh, oh are indices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]


def f64(a: ArrayLike) -> Array:
    """Any array as float64."""
    return np.asarray(a, dtype=np.float64)


def pair(value: int | Pair) -> Pair:
    """One number for both directions, or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def sides(padding: Any) -> tuple[Pair, Pair]:
    """Padding in any of its three forms as ((top, bottom), (left, right))."""
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    return pair(vertical), pair(horizontal)


# --- windows --------------------------------------------------------------------------


def out_length(
    length: int, kernel: int, stride: int, pad: Pair, dilation: int = 1, ceil: bool = False
) -> int:
    """How many windows start along one direction.

    With `ceil` the last one may hang over the padded end, but not start behind the input.
    """
    room = length + sum(pad) - dilation * (kernel - 1) - 1
    count = (math.ceil(room / stride) if ceil else math.floor(room / stride)) + 1
    if ceil and (count - 1) * stride >= length + pad[0]:
        count -= 1
    return count


def positions(
    out: int, kernel: int, length: int, stride: int, before: int, dilation: int
) -> list[list[tuple[int, int]]]:
    """For each output index, the (k, i): kernel index k reads input index i. No padding."""
    return [
        [(k, i) for k in range(kernel) if 0 <= (i := o * stride - before + k * dilation) < length]
        for o in range(out)
    ]


def out_size(
    size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any = 1, ceil: bool = False
) -> Pair:
    """(OH, OW) of a convolution or pooling."""
    s, p, d = pair(stride), sides(padding), pair(dilation)
    oh, ow = (out_length(size[i], kernel[i], s[i], p[i], d[i], ceil) for i in range(2))
    return oh, ow


def windows(
    out: Any, kernel: Any, size: Any, stride: Any, padding: Any, dilation: Any = 1
) -> Iterator[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """For each pixel (oh, ow) of `out`, the (kh, kw, ih, iw) where its window meets the input."""
    s, p, d = pair(stride), sides(padding), pair(dilation)
    rows, columns = (positions(out[i], kernel[i], size[i], s[i], p[i][0], d[i]) for i in range(2))
    for oh, row in enumerate(rows):
        for ow, column in enumerate(columns):
            yield oh, ow, [(kh, kw, ih, iw) for kh, ih in row for kw, iw in column]


# --- convolution ----------------------------------------------------------------------


def group_slices(c: int, f: int, groups: int) -> list[tuple[slice, slice]]:
    """For each group, its input channels and its output channels."""
    cg, fg = c // groups, f // groups
    return [(slice(g * cg, (g + 1) * cg), slice(g * fg, (g + 1) * fg)) for g in range(groups)]


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """out[n, f, oh, ow] = b[f] + sum over c, kh, kw of x[n, c, ih, iw] * w[f, c, kh, kw]."""
    x, w = f64(x), f64(w)
    (n, c), (f, kernel) = x.shape[:2], (w.shape[0], w.shape[2:])
    size = out_size(x.shape[2:], kernel, stride, padding, dilation)
    out = np.zeros((n, f, *size))
    for oh, ow, taps in windows(size, kernel, x.shape[2:], stride, padding, dilation):
        for kh, kw, ih, iw in taps:
            for cs, fs in group_slices(c, f, groups):
                out[:, fs, oh, ow] += x[:, cs, ih, iw] @ w[fs, :, kh, kw].T
    return out if b is None else out + f64(b)[:, None, None]


def conv2d_grads(
    dout: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """(dx, dw, db): each product of the forward pass sends dout to both of its factors."""
    dout, x, w = f64(dout), f64(x), f64(w)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    size, kernel = x.shape[2:], w.shape[2:]
    for oh, ow, taps in windows(dout.shape[2:], kernel, size, stride, padding, dilation):
        for kh, kw, ih, iw in taps:
            for cs, fs in group_slices(x.shape[1], w.shape[0], groups):
                dx[:, cs, ih, iw] += dout[:, fs, oh, ow] @ w[fs, :, kh, kw]
                dw[fs, :, kh, kw] += dout[:, fs, oh, ow].T @ x[:, cs, ih, iw]
    return dx, dw, dout.sum(axis=(0, 2, 3))


def conv_transpose2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Every input pixel adds its value times the kernel, w (C, F/groups, KH, KW), to the output."""
    x, w = f64(x), f64(w)
    size = transposed_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    c, f = x.shape[1], w.shape[1] * groups
    out = np.zeros((x.shape[0], f, *size))
    # now the windows lie on the output, one for each input pixel
    for ih, iw, taps in windows(x.shape[2:], w.shape[2:], size, stride, padding, dilation):
        for kh, kw, oh, ow in taps:
            for cs, fs in group_slices(c, f, groups):
                out[:, fs, oh, ow] += x[:, cs, ih, iw] @ w[cs, :, kh, kw]
    return out if b is None else out + f64(b)[:, None, None]


def conv_transpose2d_grads(
    dout: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """(dx, dw, db) of `conv_transpose2d`."""
    dout, x, w = f64(dout), f64(x), f64(w)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    size, kernel = dout.shape[2:], w.shape[2:]
    for ih, iw, taps in windows(x.shape[2:], kernel, size, stride, padding, dilation):
        for kh, kw, oh, ow in taps:
            for cs, fs in group_slices(x.shape[1], dout.shape[1], groups):
                dx[:, cs, ih, iw] += dout[:, fs, oh, ow] @ w[cs, :, kh, kw].T
                dw[cs, :, kh, kw] += x[:, cs, ih, iw].T @ dout[:, fs, oh, ow]
    return dx, dw, dout.sum(axis=(0, 2, 3))


def transposed_size(
    size: Any, kernel: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any
) -> Pair:
    """(OH, OW) of a transposed convolution."""
    s, p, extra, d = pair(stride), sides(padding), pair(output_padding), pair(dilation)
    oh, ow = (
        (size[i] - 1) * s[i] - sum(p[i]) + d[i] * (kernel[i] - 1) + extra[i] + 1 for i in range(2)
    )
    return oh, ow


# --- pooling --------------------------------------------------------------------------


def max_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Array, NDArray[np.intp]]:
    """(out, where): the largest value of each window, and the (ih, iw) it came from.

    The first of equal values wins; NaN beats every number, and a later NaN an earlier one. A
    dilated window may step over the whole input: it gives -inf, from (-1, -1).
    """
    x, kernel = f64(x), pair(kernel_size)
    stride = kernel if stride is None else stride
    size = out_size(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    out = np.full((*x.shape[:2], *size), -np.inf)
    where = np.full((*out.shape, 2), -1)
    for oh, ow, taps in windows(size, kernel, x.shape[2:], stride, padding, dilation):
        for n, c in np.ndindex(x.shape[:2]):
            best = -np.inf
            for number, (_, _, ih, iw) in enumerate(taps):
                value = x[n, c, ih, iw]
                if number == 0 or value > best or np.isnan(value):
                    best = value
                    where[n, c, oh, ow] = (ih, iw)
            out[n, c, oh, ow] = best
    return out, where


def max_pool2d_grads(dout: ArrayLike, where: NDArray[np.intp], x: ArrayLike) -> Array:
    """dx: each output's gradient goes to the pixel that won."""
    dout, dx = f64(dout), np.zeros_like(f64(x))
    for n, c, oh, ow in np.ndindex(dout.shape):
        ih, iw = where[n, c, oh, ow]
        if ih >= 0:
            dx[n, c, ih, iw] += dout[n, c, oh, ow]
    return dx


def avg_pool_divisors(
    size: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Array:
    """How many pixels each window counts, (OH, OW): those of the input, or of input and padding.

    The part of a window that `ceil_mode` lets hang over the padded end never counts.
    """
    counts = []
    for d in range(2):
        length, pad, s = size[d], sides(padding)[d], pair(stride)[d]
        low, high = (-pad[0], length + pad[1]) if count_include_pad else (0, length)
        starts = [
            o * s - pad[0] for o in range(out_length(length, kernel[d], s, pad, 1, ceil_mode))
        ]
        counts.append([sum(low <= i < high for i in range(a, a + kernel[d])) for a in starts])
    return np.outer(counts[0], counts[1]).astype(np.float64)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The sum over each window divided by `avg_pool_divisors`."""
    x, kernel = f64(x), pair(kernel_size)
    stride = kernel if stride is None else stride
    size = out_size(x.shape[2:], kernel, stride, padding, 1, ceil_mode)
    out = np.zeros((*x.shape[:2], *size))
    for oh, ow, taps in windows(size, kernel, x.shape[2:], stride, padding):
        for _, _, ih, iw in taps:
            out[:, :, oh, ow] += x[:, :, ih, iw]
    return out / avg_pool_divisors(
        x.shape[2:], kernel, stride, padding, ceil_mode, count_include_pad
    )


def avg_pool2d_grads(
    dout: ArrayLike,
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """dx: every pixel of a window receives the same share."""
    x, kernel = f64(x), pair(kernel_size)
    stride = kernel if stride is None else stride
    share = f64(dout) / avg_pool_divisors(
        x.shape[2:], kernel, stride, padding, ceil_mode, count_include_pad
    )
    dx = np.zeros_like(x)
    for oh, ow, taps in windows(share.shape[2:], kernel, x.shape[2:], stride, padding):
        for _, _, ih, iw in taps:
            dx[:, :, ih, iw] += share[:, :, oh, ow]
    return dx


# --- fully connected ------------------------------------------------------------------


def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """x (N, in) times w (out, in) transposed, plus b (out,)."""
    out = f64(x) @ f64(w).T
    return out if b is None else out + f64(b)


def linear_grads(dout: ArrayLike, x: ArrayLike, w: ArrayLike) -> tuple[Array, Array, Array]:
    """(dx, dw, db)."""
    dout = f64(dout)
    return dout @ f64(w), dout.T @ f64(x), dout.sum(axis=0)
