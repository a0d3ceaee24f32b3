"""Losses as modules; the functions are ``ops.cross_entropy`` and its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..geometry import integer, number
from ..ops.loss import REDUCTIONS
from ..tensor import Tensor
from .module import Module, bounded


class CrossEntropyLoss(Module):
    """Of logits (N, K) and labels (N,); see ``ops.cross_entropy``.

    ``weight`` (K,) is a tuple of numbers, which take the dtype of the logits, or None.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int = -100,
    ):
        name = "CrossEntropyLoss: ignore_index"
        self.ignore_index = integer(name, ignore_index, -(2**63), 2**63 - 1)
        self.weight = None if weight is None else _numbers("CrossEntropyLoss: weight", weight)
        self.label_smoothing = bounded("CrossEntropyLoss: label_smoothing", label_smoothing, 0, 1)
        self.reduction = _reduction("CrossEntropyLoss", reduction)

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return ops.cross_entropy(
            logits,
            labels,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )


class MSELoss(Module):
    """(input - target)**2; see ``ops.mse_loss``."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = _reduction("MSELoss", reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.mse_loss(input, target, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """Binary cross-entropy of logits; see ``ops.binary_cross_entropy_with_logits``."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = _reduction("BCEWithLogitsLoss", reduction)

    def forward(self, logits: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(logits, target, reduction=self.reduction)


def _numbers(where: str, values: Any) -> tuple[float, ...]:
    if np.ndim(values) != 1:
        raise ValueError(f"{where} must be a number for each class, got {values!r}")
    return tuple(number(where, value) for value in np.asarray(values))


def _reduction(loss: str, reduction: Any) -> str:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{loss}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction
