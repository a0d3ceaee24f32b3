"""Modules made of modules: a chain, and a chain with a shortcut around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .activation import ReLU
from .conv import Conv2d, Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d

APPLY_RELU = (Conv2d, Linear, BatchNorm1d, BatchNorm2d)  # their forward takes an activation


class Sequential(Module):
    """Layers one after the other. Layer i is the attribute named "i", its weight "i.weight"."""

    def __init__(self, *layers: Module):
        for i, layer in enumerate(layers):
            setattr(self, str(i), _module(f"Sequential: layer {i}", layer))

    @property
    def layers(self) -> tuple[Module, ...]:
        """The layers, in order."""
        return tuple(self.children())

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        """Layer ``index``, or for a slice a Sequential of those layers, weights shared."""
        chosen = self.layers[index]
        return Sequential(*chosen) if isinstance(chosen, tuple) else chosen

    def forward(self, x: Any) -> Any:
        waiting = list(self.named_children())
        while waiting:
            name, layer = waiting.pop(0)
            if waiting and _applies_relu(layer, waiting[0][1]):
                waiting.pop(0)
                x = self.call_child(name, x, "relu")
            else:
                x = self.call_child(name, x)
        return x


def _applies_relu(layer: Module, following: Module) -> bool:
    """True if ``layer`` can apply the ReLU that follows it in its own pass over its output."""
    usual = type(layer) in APPLY_RELU and type(following) is ReLU
    # an attribute of the instance hides the method: somebody watches each layer
    return usual and "forward" not in vars(layer) and "forward" not in vars(following)


class Residual(Module):
    """``activation(body(x) + shortcut(x))``: a residual block (He et al. 2016).

    ``shortcut=None`` is the identity, for a body that keeps the shape. ``activation=None`` applies
    nothing to the sum.
    """

    def __init__(
        self, body: Module, shortcut: Module | None = None, activation: Module | None = None
    ):
        self.body = _module("Residual: body", body)
        self.shortcut = None if shortcut is None else _module("Residual: shortcut", shortcut)
        self.activation = (
            None if activation is None else _module("Residual: activation", activation)
        )

    def forward(self, x: Any) -> Any:
        residual = self.call_child("body", x)
        around = x if self.shortcut is None else self.call_child("shortcut", x)
        if np.shape(residual) != np.shape(around):
            raise ValueError(
                f"Residual: body gives shape {np.shape(residual)} but the shortcut "
                f"{np.shape(around)}"
            )
        out = residual + around
        return out if self.activation is None else self.call_child("activation", out)


def _module(where: str, value: Any) -> Module:
    if not isinstance(value, Module):
        raise TypeError(f"{where} must be a Module, got {value!r}")
    return value
