"""Pooling: the largest or the mean value under a sliding window, channel by channel."""

from __future__ import annotations

from typing import Any

from ..autograd import Array, Op
from ..backends import backend_of
from ..geometry import Pool2dGeometry, image_shape, pool2d_geometry
from ..tensor import Tensor, apply
from .inputs import tensor_in


class MaxPool2d(Op):
    any_layout = True
    keeps_inputs = False  # backward reads only where the largest values were

    def __init__(self, geometry: Pool2dGeometry):
        self.geometry = geometry

    def forward(self, x: Array) -> Array:
        out, self.argmax = backend_of(x).max_pool2d(x, self.geometry)
        return out

    def backward(self, dout: Array) -> Array:
        return backend_of(dout).max_pool2d_backward(dout, self.argmax, self.geometry)


class AvgPool2d(Op):
    any_layout = True
    keeps_inputs = False

    def __init__(self, geometry: Pool2dGeometry):
        self.geometry = geometry

    def forward(self, x: Array) -> Array:
        return backend_of(x).avg_pool2d(x, self.geometry)

    def backward(self, dout: Array) -> Array:
        return backend_of(dout).avg_pool2d_backward(dout, self.geometry)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest value under each position of a window, channel by channel.

    Parameters
    ----------
    x : (N, C, H, W), float32 or float64
    kernel_size, stride, dilation : int or (rows, columns); stride is the kernel size if not given
    padding : rows and columns around the images that never win: int, (rows, columns) or
        ((top, bottom), (left, right)), at most half the kernel size
    ceil_mode : a last window that hangs over the edge counts too

    Returns
    -------
    (N, C, OH, OW), OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1, rounded up with
    ``ceil_mode``. NaN wins. The gradient goes to the winner, of equal values to the first.

    Raises
    ------
    ValueError : x has no four axes, sizes that do not fit, more padding than half the kernel
    TypeError : x holds no numbers, sizes that are no whole numbers

    >>> import cyconv as cc
    >>> cc.ops.max_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]], 2).tolist()
    [[[[4.0]]]]
    """
    tensor = tensor_in("max_pool2d", "input", x)
    geometry = pool2d_geometry(
        "max_pool2d", tensor.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    return apply(MaxPool2d(geometry), tensor)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean value under each position of a window, channel by channel.

    Parameters
    ----------
    x : (N, C, H, W), float32 or float64
    kernel_size, stride : int or (rows, columns); stride is the kernel size if not given
    padding : zeros around the images, as in ``max_pool2d``
    ceil_mode : a last window that hangs over the edge counts too
    count_include_pad : divide by all positions of the window, or only by those inside the image;
        what hangs over the padding's edge in ceil_mode is never counted

    Returns
    -------
    (N, C, OH, OW), sizes as in ``max_pool2d``.

    Raises
    ------
    ValueError, TypeError : as ``max_pool2d``

    >>> import cyconv as cc
    >>> cc.ops.avg_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]], 2).tolist()
    [[[[2.5]]]]
    """
    tensor = tensor_in("avg_pool2d", "input", x)
    geometry = pool2d_geometry(
        "avg_pool2d", tensor.shape, kernel_size, stride, padding, 1, ceil_mode, count_include_pad
    )
    return apply(AvgPool2d(geometry), tensor)


def global_avg_pool2d(x: Any) -> Tensor:
    """The mean of each channel's image (Lin, Chen and Yan 2013).

    Parameters
    ----------
    x : (N, C, H, W), float32 or float64

    Returns
    -------
    (N, C, 1, 1)

    Raises
    ------
    ValueError : x has no four axes, or images of no pixels
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.global_avg_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]])
    tensor([[[[2.5]]]])
    """
    tensor = tensor_in("global_avg_pool2d", "input", x)
    return apply(AvgPool2d(_whole_image("global_avg_pool2d", tensor)), tensor)


def global_max_pool2d(x: Any) -> Tensor:
    """The largest value of each channel's image.

    Parameters
    ----------
    x : (N, C, H, W), float32 or float64

    Returns
    -------
    (N, C, 1, 1)

    Raises
    ------
    ValueError : x has no four axes, or images of no pixels
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.global_max_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]])
    tensor([[[[4.]]]])
    """
    tensor = tensor_in("global_max_pool2d", "input", x)
    return apply(MaxPool2d(_whole_image("global_max_pool2d", tensor)), tensor)


def _whole_image(op: str, x: Tensor) -> Pool2dGeometry:
    """One window as large as the image."""
    _, _, h, w = image_shape(op, x.shape)
    return pool2d_geometry(op, x.shape, (max(h, 1), max(w, 1)))
