"""Layers that shrink images: max, average and global average pooling."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..arguments import flag
from ..geometry import pair, pool2d_geometry
from ..tensor import Tensor
from .module import Module


class MaxPool2d(Module):
    """The largest value of each window: (N, C, H, W) -> (N, C, OH, OW); see ``ops.max_pool2d``.

    Parameters
    ----------
    kernel_size : (KH, KW), or one int for both
    stride : the same, or None for kernel_size: windows side by side
    padding, dilation, ceil_mode : as in ``ops.max_pool2d``

    Raises
    ------
    TypeError : a size is no integer, or ceil_mode no bool
    ValueError : a size out of its range; padding of more than half the kernel

    >>> import cyconv as cc
    >>> cc.nn.MaxPool2d(2)([[[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]])
    tensor([[[4., 8.]]])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ):
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = flag("MaxPool2d: ceil_mode", ceil_mode)
        _check("MaxPool2d", kernel_size, stride, padding, dilation)

    def forward(self, x: Any) -> Tensor:
        return ops.max_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )


class AvgPool2d(Module):
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW); see ``ops.avg_pool2d``.

    Parameters
    ----------
    kernel_size : (KH, KW), or one int for both
    stride : the same, or None for kernel_size: windows side by side
    padding, ceil_mode, count_include_pad, divisor_override : as in ``ops.avg_pool2d``

    Raises
    ------
    TypeError : a size is no integer, or a flag no bool
    ValueError : a size out of its range; padding of more than half the kernel; when it is called,
        a divisor_override of 0

    >>> import cyconv as cc
    >>> cc.nn.AvgPool2d(2)([[[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]]])
    tensor([[[2.5, 6.5]]])
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = flag("AvgPool2d: ceil_mode", ceil_mode)
        self.count_include_pad = flag("AvgPool2d: count_include_pad", count_include_pad)
        self.divisor_override = divisor_override
        _check("AvgPool2d", kernel_size, stride, padding, 1)

    def forward(self, x: Any) -> Tensor:
        return ops.avg_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )


class GlobalAvgPool2d(Module):
    """The mean of each channel: (N, C, H, W) -> (N, C, 1, 1); see ``ops.global_avg_pool2d``.

    >>> import cyconv as cc
    >>> cc.nn.GlobalAvgPool2d()(cc.ones(2, 3, 4, 4)).shape
    (2, 3, 1, 1)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.global_avg_pool2d(x)


class GlobalMaxPool2d(Module):
    """The largest of each channel: (N, C, H, W) -> (N, C, 1, 1); see ``ops.global_max_pool2d``.

    >>> import cyconv as cc
    >>> cc.nn.GlobalMaxPool2d()(cc.ones(2, 3, 4, 4)).shape
    (2, 3, 1, 1)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.global_max_pool2d(x)


def _check(layer: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> None:
    """Show a mistake in the arguments now, on the smallest image that they fit."""
    kernel = pair(f"{layer}: kernel_size", kernel_size, 1)
    dilations = pair(f"{layer}: dilation", dilation, 1)
    height, width = (d * (k - 1) + 1 for d, k in zip(dilations, kernel))
    pool2d_geometry(layer, (1, 1, height, width), kernel_size, stride, padding, dilation)
