"""``gluon.loss``: losses, one value for each sample."""

from typing import Any

from ..ndarray import NDArray, log_softmax, mean, one_hot, square, sum
from .block import Block


class L2Loss(Block):
    """weight / 2 * (pred - label)^2, the mean over each sample; label takes pred's shape."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self._weight = weight

    def forward(self, pred: Any, label: NDArray) -> NDArray:
        losses = square(pred - label.reshape(pred.shape)) * (self._weight / 2)
        return mean(losses, axis=0, exclude=True)


class SoftmaxCrossEntropyLoss(Block):
    """-log softmax(pred)[label]; with ``sparse_label=False`` label holds probabilities."""

    def __init__(self, sparse_label: bool = True):
        super().__init__()
        self._sparse_label = sparse_label

    def forward(self, pred: Any, label: Any) -> NDArray:
        if self._sparse_label:
            label = one_hot(label.reshape(pred.shape[:-1]), pred.shape[-1]).astype(pred.dtype)
        return mean(sum(-log_softmax(pred) * label, axis=-1), axis=0, exclude=True)
