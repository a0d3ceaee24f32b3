"""Convolution, its transpose, and the fully connected layer, which is a 1x1 convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import backends
from ..autograd import Array, Op
from ..backends import backend_of
from ..backends.algorithm import allows_winograd
from ..creation import float_dtype
from ..geometry import (
    Conv2dGeometry,
    Window,
    conv2d_geometry,
    conv_transpose2d_geometry,
    sizes,
)
from ..tensor import Tensor, apply
from .inputs import is_relu, tensors_in
from .shape import one_image, reshape

ALGORITHMS = ("auto", "direct", "im2col", "winograd")


class Conv2d(Op):
    any_layout = True
    kernel_inputs = 1
    kernel_backward = True

    def __init__(self, geometry: Conv2dGeometry, algo: str, relu: bool = False):
        self.geometry, self.algo, self.relu = geometry, algo, relu

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        backend = backend_of(x)
        self.x, self.w = backend.as_batch_last(x), w  # copied once, not by each kernel
        out = backend.conv2d(self.x, w, b, self.geometry, self.algo, self.relu)
        self.rectified = out if self.relu else None
        return out

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        backend, g, dout = backend_of(dout), self.geometry, self.before_relu(dout)
        dx = backend.conv2d_input_grad(dout, self.w, g, self.algo) if self.needs[0] else None
        dw = backend.conv2d_weight_grad(self.x, dout, g, self.algo) if self.needs[1] else None
        if len(self.needs) < 3:
            return dx, dw
        return dx, dw, backend.channel_sum(dout) if self.needs[2] else None


class ConvTranspose2d(Op):
    """The input gradient of the convolution that ``geometry`` describes, as a layer of its own."""

    any_layout = True

    def __init__(self, geometry: Conv2dGeometry):
        self.geometry = geometry

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.x, self.w = x, w
        out = backend_of(x).conv2d_input_grad(x, w, self.geometry)
        return out if b is None else out + b[:, None, None]

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        backend, g = backend_of(dout), self.geometry
        dx = backend.conv2d(dout, self.w, None, g) if self.needs[0] else None
        dw = backend.conv2d_weight_grad(dout, self.x, g) if self.needs[1] else None
        if len(self.needs) < 3:
            return dx, dw
        return dx, dw, backend.channel_sum(dout) if self.needs[2] else None


class Linear(Op):
    """x (N, C) with w (F, C): a convolution of N images of one pixel."""

    any_layout = True
    kernel_inputs = 1
    kernel_backward = True

    def __init__(self, relu: bool = False):
        self.relu = relu

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.x, self.w = x[:, :, None, None], w[:, :, None, None]
        self.geometry = one_pixel(*x.shape, len(w))
        out = backend_of(x).conv2d(self.x, self.w, b, self.geometry, relu=self.relu)[:, :, 0, 0]
        self.rectified = out if self.relu else None
        return out

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        backend, g, dout = backend_of(dout), self.geometry, self.before_relu(dout)
        dout = dout[:, :, None, None]
        dx = backend.conv2d_input_grad(dout, self.w, g)[:, :, 0, 0] if self.needs[0] else None
        dw = backend.conv2d_weight_grad(self.x, dout, g)[:, :, 0, 0] if self.needs[1] else None
        if len(self.needs) < 3:
            return dx, dw
        return dx, dw, backend.channel_sum(dout) if self.needs[2] else None


@lru_cache(maxsize=1024)
def one_pixel(n: int, c: int, f: int) -> Conv2dGeometry:
    """Of N images of one pixel with C channels, and F filters."""
    return Conv2dGeometry(n, c, f, 1, Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (1, 1)))


# ------------------------------------------------------------------ the functions


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algo: str = "auto",
    activation: str | None = None,
) -> Tensor:
    """Slide the filters ``w`` over the images ``x`` (a cross-correlation).

    out[n, f, i, j] = b[f] + sum over c, k, l of
    w[f, c, k, l] * x[n, c, i * stride - top + k * dilation, j * stride - left + l * dilation].

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64
    w : (F, C/groups, KH, KW), of the same dtype
    b : (F,) or None
    stride, dilation : int or (rows, columns), at least 1
    padding : zeros around the images: int, (rows, columns), ((top, bottom), (left, right)), "valid"
        (none) or "same" (OH = H and OW = W; stride 1 only)
    groups : the input channels are cut into so many groups, and so are the filters, each of which
        sees its own group; ``groups=C`` is a depthwise convolution
    algo : "auto", "direct", "im2col" or "winograd" (3x3 and 5x5 kernels of stride 1 or 2, 7x7 ones
        of stride 2; gradients that it does not give are computed as by "auto"); see
        ``explain_conv2d``. The first two are exact up to rounding; Winograd's error is up to
        about 50 times that, relative to the largest number that a tile (4x4 outputs, say) sees, and
        NaN or infinity there spreads over the whole tile. "auto" takes it only for float32
    activation : None or "relu", which is then applied in the same pass over the output

    Returns
    -------
    (N, F, OH, OW) with OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1, or
    (F, OH, OW) of one image.

    Raises
    ------
    ValueError, TypeError : shapes or dtypes that do not fit, naming them

    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.

    >>> import cyconv as cc
    >>> cc.ops.conv2d(cc.ones(1, 1, 3, 3), cc.ones(1, 1, 2, 2)).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    inputs = tensors_in("conv2d", input=x, weight=w, bias=b)
    if inputs[0].ndim == 3:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return one_image(conv2d, *inputs, algo=algo, activation=activation, **options)
    geometry = conv2d_geometry(inputs[0].shape, inputs[1].shape, stride, padding, dilation, groups)
    _check_bias("conv2d", inputs, geometry.f)
    relu = is_relu("conv2d", activation)
    return apply(Conv2d(geometry, _algorithm("conv2d", algo, geometry), relu), *inputs)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of ``conv2d``: every input pixel paints ``w`` times its value into the output.

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64
    w : (C, F/groups, KH, KW), of the same dtype
    b : (F,) or None
    stride, dilation : int or (rows, columns), at least 1
    padding : rows and columns cut off the output: int, (rows, columns) or ((top, bottom),
        (left, right))
    output_padding : rows and columns added at the bottom and right, less than stride or dilation
    groups : as in ``conv2d``

    Returns
    -------
    (N, F, OH, OW), OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + output_padding + 1.

    Raises
    ------
    ValueError, TypeError : shapes or dtypes that do not fit, naming them

    Source: Dumoulin and Visin 2016, section 4.

    >>> import cyconv as cc
    >>> cc.ops.conv_transpose2d([[[[1.0, 2.0]]]], cc.ones(1, 1, 1, 2), stride=2)
    tensor([[[[1., 1., 2., 2.]]]])
    """
    inputs = tensors_in("conv_transpose2d", input=x, weight=w, bias=b)
    if inputs[0].ndim == 3:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return one_image(conv_transpose2d, *inputs, output_padding=output_padding, **options)
    geometry = conv_transpose2d_geometry(
        inputs[0].shape, inputs[1].shape, stride, padding, output_padding, dilation, groups
    )
    _check_bias("conv_transpose2d", inputs, geometry.c)
    return apply(ConvTranspose2d(geometry), *inputs)


def linear(x: Any, w: Any, b: Any = None, *, activation: str | None = None) -> Tensor:
    """The fully connected layer: x @ w.T + b.

    Parameters
    ----------
    x : (N, C) or (..., C), float32 or float64
    w : (F, C), of the same dtype
    b : (F,) or None
    activation : None or "relu", which is then applied in the same pass over the output

    Returns
    -------
    (N, F) or (..., F)

    Raises
    ------
    ValueError : shapes that do not fit, another activation
    TypeError : dtypes that differ

    >>> import cyconv as cc
    >>> cc.ops.linear([[1.0, 2.0]], [[1.0, 1.0], [0.0, 3.0]], [0.0, 0.5])
    tensor([[3. , 6.5]])
    """
    inputs = tensors_in("linear", input=x, weight=w, bias=b)
    shape, w_shape = inputs[0].shape, inputs[1].shape
    if not shape:
        raise ValueError(f"linear: input must have shape (..., C), got {shape}")
    if len(w_shape) != 2 or min(w_shape) < 1:
        raise ValueError(f"linear: weight must have shape (F, C) with no size 0, got {w_shape}")
    if shape[-1] != w_shape[1]:
        raise ValueError(
            f"linear: input has {shape[-1]} features but weight {w_shape} expects {w_shape[1]}"
        )
    _check_bias("linear", inputs, w_shape[0])
    layer = Linear(is_relu("linear", activation))
    if len(shape) == 2:
        return apply(layer, *inputs)
    rows = reshape(inputs[0], (math.prod(shape[:-1]), shape[-1]))
    return reshape(apply(layer, rows, *inputs[1:]), (*shape[:-1], w_shape[0]))


def _check_bias(op: str, inputs: list[Tensor], channels: int) -> None:
    if len(inputs) == 3 and inputs[2].shape != (channels,):
        raise ValueError(f"{op}: bias must have shape ({channels},), got {inputs[2].shape}")


def check_algorithm(where: str, algo: Any) -> str:
    """``algo`` if it is one of ALGORITHMS; ``where`` begins the message."""
    if not isinstance(algo, str) or algo not in ALGORITHMS:
        raise ValueError(f"{where}: algo must be one of {', '.join(ALGORITHMS)}, got {algo!r}")
    return algo


def _algorithm(op: str, algo: str, g: Conv2dGeometry) -> str:
    check_algorithm(op, algo)
    if algo == "winograd" and not allows_winograd(g):
        raise ValueError(
            f"{op}: algo='winograd' needs 3x3 or 5x5 kernels of stride 1 or 2, or 7x7 ones of "
            f"stride 2, dilation 1 and groups=1, got weight {g.w_shape}, stride {g.window.stride}, "
            f"dilation {g.window.dilation} and groups={g.groups}"
        )
    return algo


@dataclass(frozen=True)
class ConvPlan:
    """What ``explain_conv2d`` found: it prints as one readable paragraph."""

    algo: str
    reason: str
    backend: str
    scratch_bytes: int
    macs: int
    out_shape: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.algo} on the {self.backend} backend: {self.reason}. "
            f"Output {self.out_shape}, {self.macs:,} multiply-adds, "
            f"{self.scratch_bytes:,} bytes of scratch memory."
        )


def explain_conv2d(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = "float32",
    algo: str = "auto",
) -> ConvPlan:
    """Say which algorithm ``conv2d`` runs for these arguments, why, and how much scratch it takes.

    Parameters
    ----------
    x_shape, w_shape : the shapes (N, C, H, W) and (F, C/groups, KH, KW)
    dtype : "float32" or "float64"
    stride, padding, dilation, groups, algo : as in ``conv2d``

    Returns
    -------
    A ``ConvPlan``, which prints as a sentence and has ``algo``, ``reason``, ``backend``,
    ``scratch_bytes``, ``macs`` (multiply-adds of the definition) and ``out_shape``.

    Raises
    ------
    ValueError, TypeError : what ``conv2d`` would refuse

    >>> import cyconv as cc
    >>> plan = cc.ops.explain_conv2d((64, 1, 28, 28), (20, 1, 3, 3))
    >>> plan.out_shape, plan.macs
    ((64, 20, 26, 26), 7787520)
    """
    op = "explain_conv2d"
    x_shape, w_shape = sizes(f"{op}: x_shape", x_shape), sizes(f"{op}: w_shape", w_shape)
    x_shape = (1, *x_shape) if len(x_shape) == 3 else x_shape
    g = conv2d_geometry(x_shape, w_shape, stride, padding, dilation, groups)
    wanted = float_dtype(op, dtype)
    backend = backends.backend_of(np.empty(0))
    name, reason, scratch = backend.plan_conv2d(g, wanted, _algorithm(op, algo, g))
    return ConvPlan(name, reason, backends.backend_name(), scratch, g.macs, g.out_shape)
