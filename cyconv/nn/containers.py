"""Modules made of modules: a chain, and a chain with a shortcut around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import ops
from .activation import ReLU
from .conv import Conv2d, Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d

ADD_RESIDUAL = (BatchNorm1d, BatchNorm2d)  # their forward takes an activation and a residual, ...
APPLY_RELU = (Conv2d, Linear, *ADD_RESIDUAL)  # ... theirs an activation


class Sequential(Module):
    """Layers one after the other. Layer i is the attribute named "i", its weight "i.weight".

    ``net[i]`` is layer i and ``net[i:j]`` a Sequential of these layers, which share their weights
    with the net; ``len(net)`` counts the layers, and a loop over ``net`` runs through them. A ReLU
    after a convolution, Linear or batch norm is applied in that layer's own pass over its output.

    Parameters
    ----------
    layers : any number of Modules; the first takes the input, each other what the one before gives

    Raises
    ------
    TypeError : one of them is no Module
    ValueError : when it is called, from a layer that its input does not fit, with the layer's name

    >>> import cyconv as cc
    >>> net = cc.nn.Sequential(cc.nn.Linear(4, 3), cc.nn.ReLU(), cc.nn.Linear(3, 2))
    >>> net(cc.ones(5, 4)).shape, len(net), net[0], len(net.layers[1:])
    ((5, 2), 3, Linear(4, 3), 2)
    """

    def __init__(self, *layers: Module):
        for i, layer in enumerate(layers):
            setattr(self, str(i), module_in(f"Sequential: layer {i}", layer))

    @property
    def layers(self) -> tuple[Module, ...]:
        """The layers, in order."""
        return tuple(self.children())

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        """Layer ``index``, or for a slice a Sequential of those layers, weights shared.

        IndexError if there is none, TypeError if ``index`` is neither an integer nor a slice.
        """
        try:
            chosen = self.layers[index]
        except (IndexError, TypeError) as error:
            raise type(error)(
                f"Sequential: the index must be an integer below {len(self)} or a slice, "
                f"got {index!r}"
            ) from None
        return Sequential(*chosen) if isinstance(chosen, tuple) else chosen

    def forward(self, x: Any, *ending: Any) -> Any:
        # ending: what else the last layer's forward gets from a Residual
        if ending and not _adds_residual(self):
            raise TypeError(f"Sequential: forward takes one input, got {1 + len(ending)}")
        waiting = list(self.named_children())
        while waiting:
            name, layer = waiting.pop(0)
            if waiting and _applies_relu(layer, waiting[0][1]):
                waiting.pop(0)
                x = self.call_child(name, x, "relu")
            else:
                x = self.call_child(name, x, *(() if waiting else ending))
        return x


def _applies_relu(layer: Module, following: Module) -> bool:
    """True if ``layer`` can apply the ReLU that follows it in its own pass over its output."""
    return _is_plain(layer, *APPLY_RELU) and _is_plain(following, ReLU)


def _adds_residual(layer: Module) -> bool:
    """True if ``layer`` can add a residual, and apply a ReLU, in its own pass over its output."""
    if isinstance(layer, Sequential) and _is_plain(layer, Sequential):
        return len(layer) > 0 and _adds_residual(layer[-1])
    return _is_plain(layer, *ADD_RESIDUAL)


def _is_plain(layer: Module, *kinds: type[Module]) -> bool:
    """True for a layer of exactly one of these kinds that nobody watches."""
    # an attribute of the instance would hide the method
    return type(layer) in kinds and "forward" not in vars(layer)


class Residual(Module):
    """``activation(body(x) + shortcut(x))``: a residual block.

    Parameters
    ----------
    body : Module, from x to a tensor of the shape that the block gives
    shortcut : Module, from x to a tensor of the same shape; None is the identity
    activation : Module, for the sum; None applies nothing

    The addition and a ReLU behind it are one pass, ``ops.add``; or, if body ends with a batch norm,
    part of its pass.

    Raises
    ------
    TypeError : one of them is no Module
    ValueError : when it is called, if body and shortcut give different shapes

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016, figure 2.

    >>> import cyconv as cc
    >>> block = cc.nn.Residual(cc.nn.Conv2d(8, 8, 3, padding=1), activation=cc.nn.ReLU())
    >>> block(cc.zeros(2, 8, 5, 5)).shape
    (2, 8, 5, 5)
    """

    def __init__(
        self, body: Module, shortcut: Module | None = None, activation: Module | None = None
    ):
        self.body = module_in("Residual: body", body)
        self.shortcut = None if shortcut is None else module_in("Residual: shortcut", shortcut)
        self.activation = (
            None if activation is None else module_in("Residual: activation", activation)
        )

    def forward(self, x: Any) -> Any:
        around = x if self.shortcut is None else self.call_child("shortcut", x)
        last = self.activation
        fused = "relu" if last is not None and _is_plain(last, ReLU) else None
        if _adds_residual(self.body):
            out = self.call_child("body", x, fused, around)
        else:
            residual = self.call_child("body", x)
            if np.shape(residual) != np.shape(around):
                raise ValueError(
                    f"Residual: body gives shape {np.shape(residual)} but the shortcut "
                    f"{np.shape(around)}"
                )
            out = ops.add(residual, around, activation=fused)
        return out if fused or last is None else self.call_child("activation", out)


def module_in(where: str, value: Any) -> Module:
    """``value`` if it is a Module; ``where`` begins the message."""
    if not isinstance(value, Module):
        is_class = isinstance(value, type) and issubclass(value, Module)
        got = f"the class {value.__name__}, not a net" if is_class else type(value).__name__
        raise TypeError(f"{where} must be a Module, got {got}")
    return value
