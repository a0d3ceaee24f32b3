"""Losses as modules; the functions are ``ops.cross_entropy`` and its neighbours."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..ops.loss import REDUCTIONS
from ..tensor import Tensor
from .module import Module, bounded


class CrossEntropyLoss(Module):
    """Of logits (N, K) and labels (N,); see ``ops.cross_entropy``."""

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean"):
        self.label_smoothing = bounded("CrossEntropyLoss: label_smoothing", label_smoothing, 0, 1)
        self.reduction = _reduction("CrossEntropyLoss", reduction)

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return ops.cross_entropy(
            logits, labels, label_smoothing=self.label_smoothing, reduction=self.reduction
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


def _reduction(loss: str, reduction: Any) -> str:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{loss}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction
