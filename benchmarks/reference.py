"""Convolution in a few lines of NumPy: what the benchmarks check the results of others with."""

from __future__ import annotations

import numpy as np

from cyconv.geometry import Conv2dGeometry

Array = np.ndarray


def convolution(direction: str, x: Array, w: Array, dout: Array, g: Conv2dGeometry) -> Array:
    """The output ("forward"), or the gradient by x ("input_grad") or w ("weight_grad")."""
    (sh, sw), (dh, dw), (oh, ow) = g.window.stride, g.window.dilation, g.window.out_size
    top, bottom, left, right = g.window.padding
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    # (N, C, H, W) -> (N, G, C/G, H, W)
    padded = padded.reshape(g.n, g.groups, -1, *padded.shape[2:])
    dout = dout.reshape(g.n, g.groups, -1, oh, ow)
    w = w.reshape(g.groups, -1, *w.shape[1:])
    out, dx, dweight = np.zeros_like(dout), np.zeros_like(padded), np.zeros_like(w)
    for k in np.ndindex(*g.window.kernel):
        rows = slice(k[0] * dh, k[0] * dh + sh * (oh - 1) + 1, sh)
        columns = slice(k[1] * dw, k[1] * dw + sw * (ow - 1) + 1, sw)
        seen, tap = padded[..., rows, columns], w[..., k[0], k[1]]
        if direction == "forward":
            out += np.einsum("ngcij,gfc->ngfij", seen, tap, optimize=True)
        elif direction == "input_grad":
            dx[..., rows, columns] += np.einsum("ngfij,gfc->ngcij", dout, tap, optimize=True)
        else:
            dweight[..., k[0], k[1]] = np.einsum("ngcij,ngfij->gfc", seen, dout, optimize=True)
    if direction == "forward":
        return out.reshape(g.out_shape)
    if direction == "weight_grad":
        return dweight.reshape(g.w_shape)
    height, width = x.shape[2:]
    return dx[..., top : top + height, left : left + width].reshape(x.shape)
