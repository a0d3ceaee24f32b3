"""``gluon.loss``: losses, one value for each sample, the mean over its other axes."""

from typing import Any

from ..ndarray import NDArray, log_softmax, mean, one_hot, square, sum
from .nn import Layer


def L2Loss(weight: float = 1.0) -> Layer:
    def losses(pred: Any, label: NDArray) -> NDArray:
        return mean(square(pred - label.reshape(pred.shape)) * (weight / 2), axis=0, exclude=True)

    return Layer(f"L2Loss(batch_axis=0, w={weight})", losses)


def SoftmaxCrossEntropyLoss(sparse_label: bool = True) -> Layer:
    """-log softmax(pred)[label]; with ``sparse_label=False`` label holds probabilities."""

    def losses(pred: Any, label: Any) -> NDArray:
        if sparse_label:
            label = one_hot(label.reshape(pred.shape[:-1]), pred.shape[-1]).astype(pred.dtype)
        return mean(sum(-log_softmax(pred) * label, axis=-1), axis=0, exclude=True)

    return Layer("SoftmaxCrossEntropyLoss(batch_axis=0, w=None)", losses)
