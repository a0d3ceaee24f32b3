"""Batch norm made a part of the layer before it, for inference."""

from __future__ import annotations

from typing import Any

from .containers import Residual, Sequential, _is_plain
from .conv import Conv2d, Linear
from .module import Module, Parameter
from .norm import BatchNorm1d, BatchNorm2d


def fold_batch_norm(net: Module) -> Module:
    """A net that computes what ``net`` does outside of training, with fewer layers.

    Outside of training batch norm is a multiplication and an addition for each channel; where it
    follows a ``Conv2d`` or ``Linear`` in a ``Sequential``, they go into that layer's weight and
    bias.

    Parameters
    ----------
    net : a Module, which stays as it is

    Returns
    -------
    A Module; the layers that need not change are those of ``net`` themselves.

    >>> import cyconv as cc
    >>> from cyconv.nn.fold import fold_batch_norm
    >>> net = cc.nn.Sequential(cc.nn.Linear(4, 2, bias=False), cc.nn.BatchNorm1d(2))
    >>> fold_batch_norm(net)
    Sequential(
      (0): Linear(4, 2)
    )
    """
    if isinstance(net, Residual) and _is_plain(net, Residual):
        shortcut = None if net.shortcut is None else fold_batch_norm(net.shortcut)
        return Residual(fold_batch_norm(net.body), shortcut, net.activation)
    if not (isinstance(net, Sequential) and _is_plain(net, Sequential)):
        return net
    layers: dict[str, Module] = {}  # by the names that they have in the net, which errors tell
    last = ""
    for name, layer in net.named_children():
        if last and _folds(layers[last], layer):
            layers[last] = _folded(layers[last], layer)
        else:
            layers[name], last = fold_batch_norm(layer), name
    folded = Sequential()
    vars(folded).update(layers)
    return folded


def _folds(layer: Module, norm: Module) -> bool:
    pairs = ((Conv2d, BatchNorm2d), (Linear, BatchNorm1d))
    return any(_is_plain(layer, first) and _is_plain(norm, second) for first, second in pairs)


def _folded(layer: Any, norm: Any) -> Module:
    """gamma * (w x + b - mean) / std + beta = (w * scale) x + (b - mean) * scale + beta."""
    mean, var = norm.running_mean.data, norm.running_var.data
    scale = 1 / (var + var.dtype.type(norm.eps)) ** 0.5
    if norm.weight is not None:
        scale = scale * norm.weight.data
    shift = -mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias.data * scale
    if norm.bias is not None:
        shift = shift + norm.bias.data
    folded = object.__new__(type(layer))
    vars(folded).update(vars(layer))
    weight = layer.weight.data
    folded.weight = Parameter(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))
    folded.bias = Parameter(shift)
    return folded
