"""The losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import integer, number, shown
from ..autograd import Array, Op
from ..backends import as_array, backend_of, beside, first_where, namespace_of, summed
from ..tensor import Tensor, apply
from .activation import _sigmoid
from .inputs import on_one_device, tensor_in, tensors_in
from .softmax import log_softmax

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Op):
    """One loss per sample, or their mean, from logits (N, K) and class numbers (N,)."""

    any_layout = True

    def __init__(self, labels: Array, label_smoothing: float, mean: bool):
        self.labels, self.smoothing, self.mean = labels, label_smoothing, mean

    def forward(self, logits: Array) -> Array:
        losses, self.log_probs = backend_of(logits).cross_entropy(
            logits, self.labels, self.smoothing
        )
        # the mean of nothing is NaN
        return losses.sum() / losses.dtype.type(len(losses)) if self.mean else losses

    def backward(self, dout: Array) -> Array:
        if self.mean:
            n, dtype = len(self.labels), self.log_probs.dtype
            dout = namespace_of(dout).ones(n, dtype) * (dout / dtype.type(n or 1))
        return backend_of(dout).cross_entropy_backward(
            dout, self.log_probs, self.labels, self.smoothing
        )


class WeightedCrossEntropy(Op):
    """As ``CrossEntropy`` times the weight (K,) of the class; 0 for samples that do not count (N,).

    loss = -sum over k of target[k] * log_probs[k], where the target is (1 - smoothing) *
    weight[label] at the label plus smoothing / K * weight everywhere.
    """

    def __init__(self, labels: Array, counts: Array, weight: Array, label_smoothing: float):
        self.labels, self.counts, self.smoothing = labels, counts, label_smoothing
        self.own = (1 - label_smoothing) * weight[labels]
        self.all = label_smoothing / len(weight) * weight

    def forward(self, logits: Array) -> Array:
        xp = namespace_of(logits)
        losses, self.log_probs = backend_of(logits).cross_entropy(logits, self.labels, 0.0)
        losses = losses * self.own
        if self.smoothing:
            losses = losses - (self.log_probs * self.all).sum(axis=1)
        return xp.where(self.counts, losses, losses.dtype.type(0))

    def backward(self, dout: Array) -> Array:
        xp = namespace_of(dout)
        dlogits = xp.exp(self.log_probs) * (self.own + self.all.sum())[:, None] - self.all
        dlogits[xp.arange(len(self.labels)), self.labels] -= self.own
        return xp.where(self.counts[:, None], dlogits * dout[:, None], dout.dtype.type(0))


class BCEWithLogits(Op):
    """max(z, 0) - z * t + log(1 + e^-|z|), the binary cross-entropy without overflow."""

    def forward(self, z: Array, t: Array) -> Array:
        self.z, self.t = z, t
        xp = namespace_of(z)
        return xp.maximum(z, 0) - z * t + xp.log1p(xp.exp(-xp.abs(z)))

    def backward(self, dout: Array) -> tuple[Array, ...]:
        return dout * (_sigmoid(self.z) - self.t), -dout * self.z


# ------------------------------------------------------------------ the functions


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """-log(softmax(logits)[label]): the negative log likelihood of the right class.

    Parameters
    ----------
    logits : (N, K), or (N, K, ...) with a label at each position, or (K,) of a single sample;
        float32 or float64; any size of the values is safe
    labels : whole numbers from 0 to K - 1 (an array, a tensor or a list) in the shape of the logits
        without K; or probabilities in the shape and dtype of the logits, the loss then being
        -sum over k of labels[k] * log(softmax(logits)[k]), with its gradient by the labels, too.
        Class numbers that lie on a GPU are not looked at, which would take waiting for it: a wrong
        one, or one to be ignored, makes the loss NaN
    weight : (K,) a factor for each class, or None
    ignore_index : samples with this label, which may lie outside of 0 to K - 1, do not count: their
        loss and gradient are 0
    label_smoothing : from 0 to 1; that share of the target is spread evenly over all K classes
        (Szegedy et al. 2015)
    reduction : "mean", "sum", or "none" for one loss per sample. The mean over class numbers is the
        sum divided by the weights of the labels that count, that over probabilities is over all

    Returns
    -------
    () or, with ``reduction="none"``, the shape of the logits without K. The mean of nothing is NaN.

    Raises
    ------
    ValueError : shapes that do not fit, a label outside 0 to K - 1, another reduction
    TypeError : logits that are no floats, labels that are no numbers

    >>> import cyconv as cc
    >>> round(cc.ops.cross_entropy([[0.0, 0.0]], [1]).item(), 4)
    0.6931
    """
    op = "cross_entropy"
    check_reduction(op, reduction)
    tensor = tensor_in(op, "logits", logits)
    axis = min(1, tensor.ndim - 1)
    if not tensor.ndim or not tensor.shape[axis]:
        shapes = "(N, K), (N, K, ...) or (K,) with K above 0"
        raise ValueError(f"{op}: logits must have shape {shapes}, got {tensor.shape}")
    smoothing = number(f"{op}: label_smoothing", label_smoothing, 0, 1)
    ignored = integer(f"{op}: ignore_index", ignore_index, -(2**63), 2**63 - 1)
    factors = None if weight is None else _class_weights(op, weight, tensor, axis)
    shape, rows = (*tensor.shape[:axis], *tensor.shape[axis + 1 :]), _rows(tensor, axis)
    target = _label_array(op, labels)
    if isinstance(labels, Tensor) and labels.device != tensor.device:
        on_one_device(op, {"logits": tensor, "labels": labels}, [tensor, labels])
    total: Any = None  # what the mean divides by, if not the number of losses
    if target.shape == tensor.shape and target.dtype.kind == "f":
        if ignored >= 0:
            raise ValueError(f"{op}: probabilities have no ignore_index, got {ignore_index!r}")
        targets = _rows(tensors_in(op, logits=tensor, labels=labels)[1], axis)
        losses = _soft_cross_entropy(rows, targets, factors, smoothing)
    else:
        numbers, counts = _class_numbers(op, target, tensor.shape, shape, ignored)
        numbers = beside(numbers, rows.data)
        if factors is None and counts is None:
            mean = reduction == "mean"
            losses = apply(CrossEntropy(numbers, smoothing, mean), rows)
            if mean:
                return losses
        else:
            counts = np.ones(numbers.shape, bool) if counts is None else counts
            factors = np.ones(rows.shape[1], rows.dtype) if factors is None else factors
            counts, factors = beside(counts, rows.data), beside(factors, rows.data)
            total = Tensor(namespace_of(factors).asarray(summed(factors[numbers] * counts)))
            losses = apply(WeightedCrossEntropy(numbers, counts, factors, smoothing), rows)
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "mean" and total is None:
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses.sum() / total


def _soft_cross_entropy(
    rows: Tensor, targets: Tensor, weight: Array | None, smoothing: float
) -> Tensor:
    """One loss per row (M, K) against probabilities (M, K)."""
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / rows.shape[1]
    if weight is not None:
        targets = targets * weight
    return -(log_softmax(rows, 1) * targets).sum(axis=1)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared difference, (input - target)**2.

    Parameters
    ----------
    input, target : any shape, the same for both; float32 or float64 like the other
    reduction : "mean" of all elements, "sum", or "none" for one loss per element

    Returns
    -------
    A tensor of shape (), or with ``reduction="none"`` of theirs.

    Raises
    ------
    ValueError : shapes that differ, or another reduction
    TypeError : dtypes that differ

    >>> import cyconv as cc
    >>> cc.ops.mse_loss([1.0, 2.0], [1.0, 4.0])
    tensor(2.)
    """
    check_reduction("mse_loss", reduction)
    difference = _same_shape("mse_loss", input, target)
    return _reduce((difference[0] - difference[1]) ** 2, reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """-(t log(p) + (1 - t) log(1 - p)) with p = sigmoid(input); any size of the input is safe.

    Parameters
    ----------
    input : any shape, float32 or float64
    target : t, of the same shape and dtype, from 0 to 1
    reduction : "mean" of all elements, "sum", or "none" for one loss per element

    Returns
    -------
    A tensor of shape (), or with ``reduction="none"`` of theirs.

    Raises
    ------
    ValueError : shapes that differ, or another reduction
    TypeError : dtypes that differ

    >>> import cyconv as cc
    >>> loss = cc.ops.binary_cross_entropy_with_logits([0.0, 1000.0], [1.0, 1.0])
    >>> round(loss.item(), 4)
    0.3466
    """
    op = "binary_cross_entropy_with_logits"
    check_reduction(op, reduction)
    return _reduce(apply(BCEWithLogits(), *_same_shape(op, input, target)), reduction)


def _rows(x: Tensor, axis: int) -> Tensor:
    """(N, K, ...) or (K,) as (M, K), a row for each label."""
    if x.ndim == 2:
        return x
    order = (*range(axis), *range(axis + 1, x.ndim), axis)
    return x.transpose(order).reshape(x.size // x.shape[axis], x.shape[axis])


def _class_weights(op: str, weight: Any, logits: Tensor, axis: int) -> Array:
    array = tensors_in(op, logits=logits, weight=weight)[1].data
    if array.shape != (logits.shape[axis],):
        raise ValueError(
            f"{op}: weight must have shape ({logits.shape[axis]},) for logits {logits.shape}, "
            f"got {array.shape}"
        )
    return array


def _label_array(op: str, labels: Any) -> Array:
    try:
        return labels.data if isinstance(labels, Tensor) else as_array(labels)
    except ValueError:
        raise ValueError(f"{op}: labels must be a number per sample, got {shown(labels)}") from None


def _class_numbers(
    op: str, array: Array, logits: tuple[int, ...], shape: tuple[int, ...], ignored: int
) -> tuple[Array, Array | None]:
    """Labels as int64 (M,) with every value in [0, K), and which of them count if not all do."""
    classes = logits[min(1, len(logits) - 1)]
    if array.shape != shape:
        raise ValueError(
            f"{op}: labels must have shape {shape} for logits {logits}, got {array.shape}"
        )
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{op}: labels must be whole numbers, got dtype {array.dtype}")
    array, counts = array.reshape(-1), None
    if isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.size:
        numbers = array.astype(np.int64)
        most = numbers.view(np.uint64).max()  # negative ones are beyond all others there
        if most < classes and not 0 <= ignored < classes:
            return numbers, None
    ignores = array == ignored
    if first_where(ignores, array) is not None:
        counts = ~ignores
        array = np.where(counts, array, array.dtype.type(0))
    worst = first_where(~((array >= 0) & (array < classes)), array)  # NaN is neither
    if worst is not None:
        raise ValueError(
            f"{op}: labels must be from 0 to {classes - 1}, got {worst} ({array.dtype})"
        )
    numbers = array.astype(np.int64)
    if array.dtype.kind == "f":
        worst = first_where(numbers != array, array)
        if worst is not None:
            raise ValueError(f"{op}: labels must be whole numbers, got {worst} ({array.dtype})")
    return numbers, counts


def _same_shape(op: str, input: Any, target: Any) -> list[Tensor]:
    tensors = tensors_in(op, input=input, target=target)
    if tensors[0].shape != tensors[1].shape:
        raise ValueError(
            f"{op}: input has shape {tensors[0].shape} but target has shape {tensors[1].shape}"
        )
    return tensors


def check_reduction(where: str, reduction: Any) -> str:
    """``reduction`` if it is one of REDUCTIONS; ``where`` begins the message."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"{where}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
