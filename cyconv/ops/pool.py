"""Pooling: the largest or the mean value under a sliding window, channel by channel."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from ..arguments import LARGEST, flag, integer
from ..autograd import Array, Op
from ..backends import backend_of, beside, to_numpy
from ..geometry import Pool2dGeometry, image_shape, pool2d_geometry
from ..tensor import Tensor, apply
from .inputs import tensor_in
from .shape import one_image


class MaxPool2d(Op):
    any_layout = True
    kernel_inputs = 1
    kernel_backward = True
    keeps_inputs = False  # backward reads only where the largest values were
    gates = True

    def __init__(self, geometry: Pool2dGeometry):
        self.geometry = geometry

    def forward(self, x: Array) -> Array:
        out, self.argmax = backend_of(x).max_pool2d(x, self.geometry)
        return out

    def backward(self, dout: Array, rectified: Array | None = None) -> Array:
        arguments = (dout, self.argmax, self.geometry, rectified)
        return backend_of(dout).max_pool2d_backward(*arguments)


class AvgPool2d(Op):
    any_layout = True
    keeps_inputs = False
    gates = True

    def __init__(self, geometry: Pool2dGeometry, divisor: int | None = None):
        self.geometry, self.divisor = geometry, divisor
        self.kernel_inputs, self.kernel_backward = int(divisor is None), divisor is None

    def forward(self, x: Array) -> Array:
        return self._divided(backend_of(x).avg_pool2d(x, self.geometry))

    def backward(self, dout: Array, rectified: Array | None = None) -> Array:
        dout = self._divided(dout)
        return backend_of(dout).avg_pool2d_backward(dout, self.geometry, rectified)

    def _divided(self, means: Array) -> Array:
        """By ``divisor`` instead of the size of the window, by which they are divided already."""
        if self.divisor is None:
            return means
        sizes = self.geometry.counted().astype(means.dtype)
        return means * beside(sizes / means.dtype.type(self.divisor), means)


@overload
def max_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...
@overload
def max_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def max_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value under each position of a window, channel by channel.

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64
    kernel_size, stride, dilation : int or (rows, columns); stride is the kernel size if not given
    padding : rows and columns around the images that never win: int, (rows, columns) or
        ((top, bottom), (left, right)), at most half the kernel size
    ceil_mode : a last window that hangs over the edge counts too
    return_indices : return where the winners are, too: int64 (N, C, OH, OW) of h * W + w

    Returns
    -------
    (N, C, OH, OW), OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1, rounded up with
    ``ceil_mode``; or a pair with the indices. NaN wins. The gradient goes to the winner, of equal
    values to the first. A dilated window that meets padding only gives -inf and the index -1.

    Raises
    ------
    ValueError : x has not three or four axes, sizes that do not fit, more padding than half the
        kernel
    TypeError : x holds no numbers, sizes that are no whole numbers

    >>> import cyconv as cc
    >>> cc.ops.max_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]], 2).tolist()
    [[[[4.0]]]]
    """
    tensor = tensor_in("max_pool2d", "input", x)
    if tensor.ndim == 3:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        options |= {"ceil_mode": ceil_mode, "return_indices": return_indices}
        return one_image(max_pool2d, tensor, kernel_size, **options)
    geometry = pool2d_geometry(
        "max_pool2d", tensor.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    pool = MaxPool2d(geometry)
    if not flag("max_pool2d: return_indices", return_indices):
        return apply(pool, tensor)
    out = apply(pool, tensor)
    places = _winners(to_numpy(pool.argmax), geometry)
    return out, Tensor(beside(places, out.data))


def _winners(argmax: np.ndarray, g: Pool2dGeometry) -> np.ndarray:
    """From places in the window, kh * KW + kw, to places in the image, h * W + w; -1 in none."""
    w, (height, width) = g.window, g.window.in_size
    kh, kw = np.divmod(argmax.astype(np.int64), w.kernel[1])
    rows = np.arange(w.out_size[0])[:, None] * w.stride[0] - w.padding[0] + kh * w.dilation[0]
    columns = np.arange(w.out_size[1]) * w.stride[1] - w.padding[2] + kw * w.dilation[1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * width + columns, -1)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean value under each position of a window, channel by channel.

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64
    kernel_size, stride : int or (rows, columns); stride is the kernel size if not given
    padding : zeros around the images, as in ``max_pool2d``
    ceil_mode : a last window that hangs over the edge counts too
    count_include_pad : divide by all positions of the window, or only by those inside the image;
        what hangs over the padding's edge in ceil_mode is never counted
    divisor_override : divide by this number instead, not 0; 1 gives the sum

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
    if tensor.ndim == 3:
        options = {"stride": stride, "padding": padding, "count_include_pad": count_include_pad}
        options |= {"ceil_mode": ceil_mode, "divisor_override": divisor_override}
        return one_image(avg_pool2d, tensor, kernel_size, **options)
    geometry = pool2d_geometry(
        "avg_pool2d", tensor.shape, kernel_size, stride, padding, 1, ceil_mode, count_include_pad
    )
    divisor = divisor_override
    if divisor is not None:
        divisor = integer("avg_pool2d: divisor_override", divisor, -LARGEST)
        if not divisor:
            raise ValueError("avg_pool2d: divisor_override must not be 0")
    return apply(AvgPool2d(geometry, divisor), tensor)


def global_avg_pool2d(x: Any) -> Tensor:
    """The mean of each channel's image (Lin, Chen and Yan 2013).

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64

    Returns
    -------
    (N, C, 1, 1), of one image (C, 1, 1)

    Raises
    ------
    ValueError : x has not three or four axes, or images of no pixels
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.global_avg_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]])
    tensor([[[[2.5]]]])
    """
    tensor = tensor_in("global_avg_pool2d", "input", x)
    if tensor.ndim == 3:
        return one_image(global_avg_pool2d, tensor)
    return apply(AvgPool2d(_whole_image("global_avg_pool2d", tensor)), tensor)


def global_max_pool2d(x: Any) -> Tensor:
    """The largest value of each channel's image.

    Parameters
    ----------
    x : (N, C, H, W) or one image (C, H, W), float32 or float64

    Returns
    -------
    (N, C, 1, 1), of one image (C, 1, 1)

    Raises
    ------
    ValueError : x has not three or four axes, or images of no pixels
    TypeError : x holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> cc.ops.global_max_pool2d([[[[1.0, 2.0], [3.0, 4.0]]]])
    tensor([[[[4.]]]])
    """
    tensor = tensor_in("global_max_pool2d", "input", x)
    if tensor.ndim == 3:
        return one_image(global_max_pool2d, tensor)
    return apply(MaxPool2d(_whole_image("global_max_pool2d", tensor)), tensor)


def _whole_image(op: str, x: Tensor) -> Pool2dGeometry:
    """One window as large as the image."""
    _, _, h, w = image_shape(op, x.shape)
    return pool2d_geometry(op, x.shape, (max(h, 1), max(w, 1)))
