"""Layers with a weight: convolution, transposed convolution, fully connected."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..arguments import flag, integer
from ..creation import zeros
from ..geometry import conv2d_geometry, conv_transpose2d_geometry, pair
from ..ops.conv import check_algorithm
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class Conv2d(Module):
    """Convolution: (N, in_channels, H, W) -> (N, out_channels, OH, OW); see ``ops.conv2d``.

    ``weight`` (out_channels, in_channels/groups, KH, KW) starts as He normal with
    fan_in = in_channels/groups * KH * KW (``init.he_normal_``), ``bias`` (out_channels,) at zero.
    One image (in_channels, H, W) gives one (out_channels, OH, OW).

    Parameters
    ----------
    in_channels, out_channels : int, at least 1, multiples of groups
    kernel_size : (KH, KW), or one int for both
    stride, padding, dilation, groups, algo : as in ``ops.conv2d``
    bias : whether there is one

    Raises
    ------
    TypeError : a size is no integer, or bias no bool
    ValueError : a size out of its range; sizes that do not fit together; another algo

    >>> import cyconv as cc
    >>> layer = cc.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
    >>> layer(cc.zeros(2, 3, 9, 9)).shape, layer.weight.shape, layer.bias.shape
    ((2, 8, 5, 5), (8, 3, 3, 3), (8,))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        algo: str = "auto",
    ):
        self.in_channels = integer("Conv2d: in_channels", in_channels, 1)
        self.out_channels = integer("Conv2d: out_channels", out_channels, 1)
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = _groups("Conv2d", groups, in_channels, out_channels)
        self.algo = check_algorithm("Conv2d", algo)
        kernel = pair("Conv2d: kernel_size", kernel_size, 1)
        shape = (self.out_channels, self.in_channels // self.groups, *kernel)
        # the smallest image that fits shows any mistake in the other arguments now
        reach = [d * (k - 1) + 1 for d, k in zip(pair("Conv2d: dilation", dilation, 1), kernel)]
        conv2d_geometry((1, self.in_channels, *reach), shape, stride, padding, dilation, groups)
        self.weight = init.he_normal_(Parameter(zeros(shape)))
        self.bias = _bias("Conv2d", bias, self.out_channels)

    def forward(self, x: Any, activation: str | None = None) -> Tensor:
        return ops.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            algo=self.algo,
            activation=activation,
        )

    def macs(self, x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(out_shape) * math.prod(self.weight.shape[1:])


class ConvTranspose2d(Module):
    """Transposed convolution, an upsampling: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    See ``ops.conv_transpose2d``. ``weight`` (in_channels, out_channels/groups, KH, KW) starts as
    normal with std = sqrt(2 / fan_in), fan_in = in_channels/groups * KH * KW / (SH * SW), as many
    inputs as one output sums over on average (He et al. 2015); ``bias`` (out_channels,) at zero.

    Parameters
    ----------
    in_channels, out_channels : int, at least 1, multiples of groups
    kernel_size : (KH, KW), or one int for both
    stride, padding, output_padding, groups, dilation : as in ``ops.conv_transpose2d``
    bias : whether there is one

    Raises
    ------
    TypeError : a size is no integer, or bias no bool
    ValueError : a size out of its range; sizes that do not fit together

    >>> import cyconv as cc
    >>> layer = cc.nn.ConvTranspose2d(8, 3, kernel_size=2, stride=2)
    >>> layer(cc.zeros(2, 8, 5, 5)).shape, layer.weight.shape
    ((2, 3, 10, 10), (8, 3, 2, 2))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
    ):
        self.in_channels = integer("ConvTranspose2d: in_channels", in_channels, 1)
        self.out_channels = integer("ConvTranspose2d: out_channels", out_channels, 1)
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.groups = _groups("ConvTranspose2d", groups, in_channels, out_channels)
        self.dilation = dilation
        kernel = pair("ConvTranspose2d: kernel_size", kernel_size, 1)
        shape = (self.in_channels, self.out_channels // self.groups, *kernel)
        image = (1, self.in_channels, 2**31, 2**31)  # large, so that no padding uses it up
        conv_transpose2d_geometry(image, shape, stride, padding, output_padding, dilation, groups)
        strides = pair("ConvTranspose2d: stride", stride, 1)
        fan_in = self.in_channels / self.groups * math.prod(kernel) / math.prod(strides)
        self.weight = init.normal_(Parameter(zeros(shape)), math.sqrt(2 / max(1, fan_in)))
        self.bias = _bias("ConvTranspose2d", bias, self.out_channels)

    def forward(self, x: Any) -> Tensor:
        return ops.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def macs(self, x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(x_shape) * math.prod(self.weight.shape[1:])


class Linear(Module):
    """Fully connected: (..., in_features) -> (..., out_features), x @ weight.T + bias.

    See ``ops.linear``. ``weight`` (out_features, in_features) starts as He normal with
    fan_in = in_features (``init.he_normal_``), ``bias`` (out_features,) at zero.

    Parameters
    ----------
    in_features, out_features : int, at least 1
    bias : whether there is one

    Raises
    ------
    TypeError : a size is no integer, or bias no bool
    ValueError : a size below 1

    >>> import cyconv as cc
    >>> layer = cc.nn.Linear(4, 2)
    >>> layer(cc.zeros(5, 4)).shape, layer.weight.shape
    ((5, 2), (2, 4))
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.in_features = integer("Linear: in_features", in_features, 1)
        self.out_features = integer("Linear: out_features", out_features, 1)
        shape = (self.out_features, self.in_features)
        self.weight = init.he_normal_(Parameter(zeros(shape)))
        self.bias = _bias("Linear", bias, self.out_features)

    def forward(self, x: Any, activation: str | None = None) -> Tensor:
        return ops.linear(x, self.weight, self.bias, activation=activation)

    def macs(self, x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        return math.prod(out_shape) * self.in_features


def _bias(layer: str, wanted: Any, size: int) -> Parameter | None:
    """A bias of zeros, or None."""
    return Parameter(zeros(size)) if flag(f"{layer}: bias", wanted) else None


def _groups(layer: str, groups: Any, in_channels: int, out_channels: int) -> int:
    count = integer(f"{layer}: groups", groups, 1)
    if in_channels % count or out_channels % count:
        raise ValueError(
            f"{layer}: in_channels {in_channels} and out_channels {out_channels} do not both split "
            f"into groups={count}"
        )
    return count
