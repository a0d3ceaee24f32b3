"""Losses as modules; the functions are ``ops.cross_entropy`` and its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..arguments import integer, number
from ..ops.loss import check_reduction
from ..tensor import Tensor
from .module import Module


class CrossEntropyLoss(Module):
    """Cross-entropy of logits (N, K) and labels (N,); see ``ops.cross_entropy``.

    Parameters
    ----------
    label_smoothing, reduction, ignore_index : as in ``ops.cross_entropy``
    weight : K numbers, which take the dtype of the logits, or None

    Raises
    ------
    TypeError : label_smoothing or a weight is no number, or ignore_index no integer
    ValueError : label_smoothing outside [0, 1]; weight that is not (K,) or not finite; another
        reduction; when it is called, shapes or labels that do not fit

    >>> import cyconv as cc
    >>> loss = cc.nn.CrossEntropyLoss(weight=(1, 3))
    >>> round(loss([[2.0, 0.0], [2.0, 0.0]], [0, 1]).item(), 4)
    1.6269
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
        self.label_smoothing = number("CrossEntropyLoss: label_smoothing", label_smoothing, 0, 1)
        self.reduction = check_reduction("CrossEntropyLoss", reduction)

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
    """(input - target)^2, of two arrays of one shape; see ``ops.mse_loss``.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"

    Raises
    ------
    ValueError : another reduction; when it is called, two different shapes

    >>> import cyconv as cc
    >>> cc.nn.MSELoss()([1.0, 2.0], [1.0, 5.0])
    tensor(4.5)
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = check_reduction("MSELoss", reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        return ops.mse_loss(input, target, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """Binary cross-entropy of logits and targets from 0 to 1, two arrays of one shape.

    See ``ops.binary_cross_entropy_with_logits``.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"

    Raises
    ------
    ValueError : another reduction; when it is called, two different shapes

    >>> import cyconv as cc
    >>> cc.nn.BCEWithLogitsLoss("none")([0.0, 100.0], [1.0, 1.0]).numpy().round(4)
    array([0.6931, 0.    ], dtype=float32)
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = check_reduction("BCEWithLogitsLoss", reduction)

    def forward(self, logits: Any, target: Any) -> Tensor:
        return ops.binary_cross_entropy_with_logits(logits, target, reduction=self.reduction)


def _numbers(where: str, values: Any) -> tuple[float, ...]:
    if np.ndim(values) != 1:
        raise ValueError(f"{where} must be a number for each class, got {values!r}")
    return tuple(number(where, value) for value in np.asarray(values))
