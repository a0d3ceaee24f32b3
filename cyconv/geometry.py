"""Sizes: the legend of letters, every output-size rule and every message about a wrong shape.

Letters, used with one meaning in the whole project::

    N  images in the batch          KH KW  rows and columns of the kernel (window)
    C  input channels               OH OW  rows and columns of the output
    F  output channels (filters)    G      groups
    H W  rows and columns of the input
    x out  an op's input and output;  dx dout dw db  the gradients of the loss by them

One rule ties them together. Along one axis, output position ``o`` and kernel position ``k`` meet
the input at ``i = o * stride - padding_before + k * dilation``; outside ``[0, size)`` lies padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .arguments import flag, integer, shown

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Window:
    """A window that slides over images of one size."""

    in_size: Pair
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    out_size: Pair

    @property
    def is_pointwise(self) -> bool:
        """True if each output position reads the input position at its own place, only."""
        one = self.kernel == self.stride == (1, 1) and self.padding == (0, 0, 0, 0)
        return one and self.in_size == self.out_size


@dataclass(frozen=True)
class Conv2dGeometry:
    """All sizes of a convolution of x (N, C, H, W) with w (F, C/groups, KH, KW)."""

    n: int
    c: int
    f: int
    groups: int
    window: Window

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, *self.window.in_size)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return (self.f, self.c // self.groups, *self.window.kernel)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.f, *self.window.out_size)

    @property
    def macs(self) -> int:
        """Multiply-adds of one pass, counting those that meet padding."""
        oh, ow = self.window.out_size
        kh, kw = self.window.kernel
        return self.n * self.f * oh * ow * (self.c // self.groups) * kh * kw


@dataclass(frozen=True)
class Pool2dGeometry:
    """All sizes of a pooling of x (N, C, H, W)."""

    n: int
    c: int
    window: Window
    count_include_pad: bool = True

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, *self.window.in_size)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, *self.window.out_size)

    def counted(self) -> np.ndarray:
        """(OH, OW): how many pixels each mean counts, none beyond the padding (ceil_mode)."""
        lengths = []
        for axis, size in enumerate(self.window.in_size):
            before, after = self.window.padding[2 * axis : 2 * axis + 2]
            start = np.arange(self.window.out_size[axis]) * self.window.stride[axis] - before
            stop = np.minimum(start + self.window.kernel[axis], size + after)
            if not self.count_include_pad:
                start, stop = np.maximum(start, 0), np.minimum(stop, size)
            lengths.append(stop - start)
        return np.multiply.outer(*lengths)


def pair(where: str, value: Any, least: int) -> Pair:
    """An int, alone or in a sequence, or a pair of ints, as (rows, columns)."""
    if _is_sequence(value):
        if len(value) not in (1, 2):
            raise ValueError(
                f"{where} must be an integer or a pair of integers, got {shown(value)}"
            )
        return integer(where, value[0], least), integer(where, value[-1], least)
    number = integer(where, value, least)
    return number, number


def padding4(where: str, value: Any) -> Padding:
    """An int, (rows, columns) or ((top, bottom), (left, right)) as (top, bottom, left, right)."""
    if _is_sequence(value, 2) and all(_is_sequence(side, 2) for side in value):
        top, bottom = pair(where, value[0], 0)
        left, right = pair(where, value[1], 0)
        return top, bottom, left, right
    if isinstance(value, str) or (_is_sequence(value) and any(map(_is_sequence, value))):
        words = "'same', 'valid', " if where.lower().startswith("conv2d:") else ""
        raise ValueError(
            f"{where} must be {words}an integer, a pair or ((top, bottom), (left, right)), "
            f"got {shown(value)}"
        )
    rows, columns = pair(where, value, 0)
    return rows, rows, columns, columns


def _is_sequence(value: Any, length: int | None = None) -> bool:
    if type(value) is not tuple and (  # which is one, and asked about most often
        not isinstance(value, Sequence) or isinstance(value, (str, bytes))
    ):
        return False
    return length in (None, len(value))


def sizes(where: str, value: Any) -> tuple[int, ...]:
    """A shape: a tuple or list of integers that are at least 0."""
    if not _is_sequence(value):
        raise TypeError(f"{where} must be a tuple of sizes, got {shown(value)}")
    return tuple(integer(where, size, 0) for size in value)


def channels_of(op: str, shape: Sequence[int]) -> int:
    """The number of channels C of an (N, C, ...) shape."""
    if len(shape) < 2:
        raise ValueError(f"{op}: input must have shape (N, C, ...), got {tuple(shape)}")
    return shape[1]


def image_shape(op: str, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Check that a shape is (N, C, H, W)."""
    if len(shape) != 4:
        shapes = "(N, C, H, W) or (C, H, W)"
        raise ValueError(f"{op}: input must have shape {shapes}, got {tuple(shape)}")
    n, c, h, w = shape
    return n, c, h, w


def _out_size(
    op: str,
    size: int,
    kernel: int,
    stride: int,
    before: int,
    after: int,
    dilation: int,
    ceil: bool = False,
) -> int:
    """floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1, at least 1.

    With ``ceil`` the division rounds up, and a last, partial window counts if it starts inside the
    input or the padding before it.
    """
    reach = dilation * (kernel - 1) + 1
    room = size + before + after - reach
    steps = -(-room // stride) if ceil else room // stride
    if ceil and steps * stride >= size + before:
        steps -= 1
    if steps < 0:
        raise ValueError(
            f"{op}: kernel size {kernel} with dilation {dilation} spans {reach} pixels but the "
            f"input has {size} and padding adds {before} + {after}"
        )
    return steps + 1


def _same_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    if stride != (1, 1):
        raise ValueError(f"conv2d: padding='same' needs stride 1, got stride {stride}")
    rows, columns = ((k - 1) * d for k, d in zip(kernel, dilation))
    return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2


def conv2d_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Conv2dGeometry:
    """The sizes of conv2d, or a ValueError/TypeError that says what does not fit."""
    return _conv2d_geometry(
        x_shape,
        w_shape,
        stride if type(stride) is int else pair("conv2d: stride", stride, 1),
        padding
        if type(padding) is int or (isinstance(padding, str) and padding in ("same", "valid"))
        else padding4("conv2d: padding", padding),
        dilation if type(dilation) is int else pair("conv2d: dilation", dilation, 1),
        groups if type(groups) is int else integer("conv2d: groups", groups, 1),
    )


@lru_cache(maxsize=1024)
def _conv2d_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Conv2dGeometry:
    n, c, h, w = image_shape("conv2d", x_shape)
    if len(w_shape) != 4:
        raise ValueError(f"conv2d: weight must have shape (F, C/groups, KH, KW), got {w_shape}")
    f, c_group, kh, kw = w_shape
    stride = pair("conv2d: stride", stride, 1)
    dilation = pair("conv2d: dilation", dilation, 1)
    groups = integer("conv2d: groups", groups, 1)
    if min(f, c_group, kh, kw) < 1:
        raise ValueError(f"conv2d: weight {w_shape} has a dimension of size 0")
    if c != c_group * groups:
        raise ValueError(
            f"conv2d: input has {c} channels but weight {w_shape} with groups={groups} "
            f"expects {c_group * groups}"
        )
    if f % groups:
        raise ValueError(
            f"conv2d: {f} output channels of weight {w_shape} do not split into groups={groups}"
        )
    if padding == "same":
        pads = _same_padding((kh, kw), stride, dilation)
    else:
        pads = (
            padding
            if isinstance(padding, tuple)
            else padding4("conv2d: padding", 0 if padding == "valid" else padding)
        )
    oh = _out_size("conv2d", h, kh, stride[0], pads[0], pads[1], dilation[0])
    ow = _out_size("conv2d", w, kw, stride[1], pads[2], pads[3], dilation[1])
    return Conv2dGeometry(
        n, c, f, groups, Window((h, w), (kh, kw), stride, pads, dilation, (oh, ow))
    )


def conv_transpose2d_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Conv2dGeometry:
    """The sizes of the convolution whose input gradient conv_transpose2d computes.

    x (N, C, H, W) takes the place of that convolution's output, so C is its number of filters; the
    weight is (C, F/groups, KH, KW);
    OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + output_padding + 1.
    """
    op = "conv_transpose2d"
    n, c, h, w = image_shape(op, x_shape)
    if len(w_shape) != 4:
        raise ValueError(f"{op}: weight must have shape (C, F/groups, KH, KW), got {w_shape}")
    c_weight, f_group, kh, kw = w_shape
    strides = pair(f"{op}: stride", stride, 1)
    pads = padding4(f"{op}: padding", padding)
    extra = pair(f"{op}: output_padding", output_padding, 0)
    dilations = pair(f"{op}: dilation", dilation, 1)
    groups = integer(f"{op}: groups", groups, 1)
    if min(c_weight, f_group, kh, kw) < 1:
        raise ValueError(f"{op}: weight {w_shape} has a dimension of size 0")
    if c != c_weight:
        raise ValueError(f"{op}: input has {c} channels but weight {w_shape} expects {c_weight}")
    if c % groups:
        raise ValueError(f"{op}: {c} input channels do not split into groups={groups}")
    out = []
    for axis, (size, kernel) in enumerate(((h, kh), (w, kw))):
        if extra[axis] >= max(strides[axis], dilations[axis]):
            raise ValueError(
                f"{op}: output_padding must be smaller than stride or dilation, got output_padding "
                f"{extra[axis]} with stride {strides[axis]} and dilation {dilations[axis]}"
            )
        if size < 1:
            raise ValueError(f"{op}: input {x_shape} has no pixels")
        length = (size - 1) * strides[axis] - pads[2 * axis] - pads[2 * axis + 1]
        length += dilations[axis] * (kernel - 1) + extra[axis] + 1
        if length < 1:
            raise ValueError(
                f"{op}: padding {pads[2 * axis]} + {pads[2 * axis + 1]} leaves an output of "
                f"{length} pixels for an input of {size} and kernel size {kernel}"
            )
        out.append(length)
    window = Window((out[0], out[1]), (kh, kw), strides, pads, dilations, (h, w))
    return Conv2dGeometry(n, f_group * groups, c, groups, window)


def pool2d_geometry(
    op: str,
    x_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Pool2dGeometry:
    """The sizes of a pooling op, or an error that says what does not fit."""
    return _pool2d_geometry(
        op,
        x_shape,
        kernel_size if type(kernel_size) is int else pair(f"{op}: kernel_size", kernel_size, 1),
        stride if stride is None or type(stride) is int else pair(f"{op}: stride", stride, 1),
        padding if type(padding) is int else padding4(f"{op}: padding", padding),
        dilation if type(dilation) is int else pair(f"{op}: dilation", dilation, 1),
        flag(f"{op}: ceil_mode", ceil_mode),
        flag(f"{op}: count_include_pad", count_include_pad),
    )


@lru_cache(maxsize=1024)
def _pool2d_geometry(
    op: str,
    x_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Pool2dGeometry:
    n, c, h, w = image_shape(op, x_shape)
    kernel = pair(f"{op}: kernel_size", kernel_size, 1)
    strides = kernel if stride is None else pair(f"{op}: stride", stride, 1)
    pads = padding if isinstance(padding, tuple) else padding4(f"{op}: padding", padding)
    dilations = pair(f"{op}: dilation", dilation, 1)
    if kernel[0] * kernel[1] >= 2**31:
        raise ValueError(f"{op}: kernel_size {kernel} has more than 2**31 - 1 positions")
    out = []
    for axis, size in enumerate((h, w)):
        before, after = pads[2 * axis], pads[2 * axis + 1]
        if max(before, after) > kernel[axis] // 2:
            raise ValueError(
                f"{op}: padding must be at most half the kernel size, got padding "
                f"{max(before, after)} with kernel size {kernel[axis]}"
            )
        if size < 1:
            raise ValueError(f"{op}: input {x_shape} has no pixels")
        length, step, apart = kernel[axis], strides[axis], dilations[axis]
        out.append(_out_size(op, size, length, step, before, after, apart, ceil_mode))
    window = Window((h, w), kernel, strides, pads, dilations, (out[0], out[1]))
    return Pool2dGeometry(n, c, window, count_include_pad)
