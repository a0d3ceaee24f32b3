"""Layers that normalise, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..arguments import ABOVE_0, flag, integer, number
from ..creation import zeros
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


class _BatchNorm(Module):
    """``weight`` starts at one, ``bias`` at zero; without ``affine`` both are None."""

    image_axes: tuple[str, ...] = ()  # the input's axes after N and C

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ):
        layer = type(self).__name__
        self.num_features = integer(f"{layer}: num_features", num_features, 1)
        self.eps = number(f"{layer}: eps", eps, ABOVE_0)
        self.momentum = number(f"{layer}: momentum", momentum, 0, 1)
        self.affine = flag(f"{layer}: affine", affine)
        self.weight, self.bias = _scale_and_shift((self.num_features,), self.affine)
        self.running_mean = zeros(self.num_features)
        self.running_var = init.ones_(zeros(self.num_features))

    def forward(self, x: Any, activation: str | None = None, residual: Any = None) -> Tensor:
        shape = np.shape(x)
        if len(shape) != 2 + len(self.image_axes) or shape[1] != self.num_features:
            axes = ", ".join(["N", str(self.num_features), *self.image_axes])
            raise ValueError(f"{type(self).__name__}: input must have shape ({axes}), got {shape}")
        return ops.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            momentum=self.momentum,
            eps=self.eps,
            residual=residual,
            activation=activation,
        )


class BatchNorm2d(_BatchNorm):
    """Batch norm of images (N, C, H, W), which keep their shape; see ``ops.batch_norm``.

    ``weight`` (num_features,) starts at one and ``bias`` at zero. The buffers ``running_mean`` and
    ``running_var`` (num_features,) move in training and are used outside of it.

    Parameters
    ----------
    num_features : C, at least 1
    eps : added to the variance, above 0
    momentum : the share of the newest batch in the running statistics, from 0 to 1
    affine : whether there are weight and bias

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range; when it is called, an input of another shape

    Source: Ioffe and Szegedy, "Batch normalization", 2015.

    >>> import cyconv as cc
    >>> norm = cc.nn.BatchNorm2d(3)
    >>> with cc.record():
    ...     out = norm(cc.randn(8, 3, 5, 5) + 2.0)
    >>> bool(abs(out.mean()) < 1e-5), norm.running_mean.numpy().round(1)
    (True, array([0.2, 0.2, 0.2], dtype=float32))
    """

    image_axes = ("H", "W")


class BatchNorm1d(_BatchNorm):
    """Batch norm of features (N, C), otherwise as ``BatchNorm2d``; see ``ops.batch_norm``.

    Parameters
    ----------
    num_features : C, at least 1
    eps, momentum, affine : as in ``BatchNorm2d``

    Raises
    ------
    TypeError, ValueError : as in ``BatchNorm2d``

    >>> import cyconv as cc
    >>> norm = cc.nn.BatchNorm1d(2)
    >>> with cc.record():
    ...     norm([[1.0, 5.0], [3.0, 9.0]]).numpy().round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """


class LayerNorm(Module):
    """Normalises each sample over its last axes and keeps the shape; see ``ops.layer_norm``.

    ``weight`` and ``bias`` have the shape of those axes and start at one and zero.

    Parameters
    ----------
    normalized_shape : the sizes of those axes, an int or a tuple of ints, at least 1
    eps : added to the variance, above 0
    affine : whether there are weight and bias

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range; when it is called, an input that ends in another shape

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016.

    >>> import cyconv as cc
    >>> cc.nn.LayerNorm(2)([[1.0, 3.0], [10.0, 30.0]]).numpy().round(3)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: Any, eps: float = 1e-5, affine: bool = True):
        where = "LayerNorm: normalized_shape"
        sizes = (
            normalized_shape if isinstance(normalized_shape, (tuple, list)) else [normalized_shape]
        )
        shape = tuple(integer(where, size, 1) for size in sizes)
        if not shape:
            raise ValueError(f"{where} must name at least one axis, got {normalized_shape!r}")
        self.normalized_shape = normalized_shape
        self.eps = number("LayerNorm: eps", eps, ABOVE_0)
        self.affine = flag("LayerNorm: affine", affine)
        self.weight, self.bias = _scale_and_shift(shape, self.affine)

    def forward(self, x: Any) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)


class GroupNorm(Module):
    """Normalises each sample (N, C, ...) over groups of channels; see ``ops.group_norm``.

    The shape is kept. ``weight`` (num_channels,) starts at one and ``bias`` at zero.

    Parameters
    ----------
    num_groups, num_channels : int, at least 1; C = num_channels is a multiple of num_groups
    eps : added to the variance, above 0
    affine : whether there are weight and bias

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range; when it is called, an input of other channels

    Source: Wu and He, "Group normalization", 2018.

    >>> import cyconv as cc
    >>> cc.nn.GroupNorm(2, 4)([[1.0, 3.0, 10.0, 30.0]]).numpy().round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        self.num_groups = integer("GroupNorm: num_groups", num_groups, 1)
        self.num_channels = integer("GroupNorm: num_channels", num_channels, 1)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: {num_channels} channels do not split into num_groups={num_groups}"
            )
        self.eps = number("GroupNorm: eps", eps, ABOVE_0)
        self.affine = flag("GroupNorm: affine", affine)
        self.weight, self.bias = _scale_and_shift((self.num_channels,), self.affine)

    def forward(self, x: Any) -> Tensor:
        shape = np.shape(x)
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ValueError(
                f"GroupNorm: input must have shape (N, {self.num_channels}, ...), got {shape}"
            )
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)


class Dropout(Module):
    """In training sets elements to 0 at random and scales the others up; see ``ops.dropout``.

    The input has any shape. Outside of training it is returned as it is.

    Parameters
    ----------
    p : the probability of a 0, from 0 to 1

    Raises
    ------
    TypeError : p is no number
    ValueError : it is out of that range

    >>> import cyconv as cc
    >>> drop = cc.nn.Dropout(0.5)
    >>> x = cc.ones(1000)
    >>> with cc.record():
    ...     bool(300 < drop(x).sum() / 2 < 700)  # half of them are left, doubled
    True
    >>> bool((drop(x) == x).numpy().all())
    True
    """

    def __init__(self, p: float = 0.5):
        self.p = number("Dropout: p", p, 0, 1)

    def forward(self, x: Any) -> Tensor:
        return ops.dropout(x, self.p)


def _scale_and_shift(
    shape: tuple[int, ...], affine: bool
) -> tuple[Parameter | None, Parameter | None]:
    if not affine:
        return None, None
    scale = Parameter(zeros(shape))
    init.ones_(scale)
    return scale, Parameter(zeros(shape))
