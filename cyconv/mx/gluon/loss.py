"""``gluon.loss``: losses, one value for each sample."""

from typing import Any

from cyconv import ops

from ..ndarray import NDArray, op
from .block import Block


class L2Loss(Block):
    """weight / 2 * (pred - label)^2, the mean over each sample; label takes pred's shape."""

    def __init__(self, weight: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self._weight = weight

    def forward(self, pred: NDArray, label: NDArray) -> NDArray:
        losses = op.square(pred - label.reshape(pred.shape)) * (self._weight / 2)
        return op.mean(losses, axis=0, exclude=True)


class SoftmaxCrossEntropyLoss(Block):
    """-log softmax(pred)[label]; with ``sparse_label=False`` label holds probabilities."""

    def __init__(self, axis: int = -1, sparse_label: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self._axis, self._sparse_label = axis, sparse_label

    def forward(self, pred: NDArray, label: NDArray) -> NDArray:
        if self._sparse_label and pred.ndim == 2:
            numbers = label.asnumpy().reshape(-1)
            return op.nd(lambda x: ops.cross_entropy(x, numbers, reduction="none"))(pred)
        p = op.one_hot(label, pred.shape[self._axis]) if self._sparse_label else label
        losses = -op.sum(op.log_softmax(pred, self._axis) * p, axis=self._axis, keepdims=True)
        return op.mean(losses, axis=0, exclude=True)
