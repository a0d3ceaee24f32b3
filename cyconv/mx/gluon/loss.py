"""``gluon.loss``: losses, one value for each sample, the mean over its other axes."""

from typing import Any

from ..ndarray import NDArray, clip, log_softmax, mean, one_hot, square, sum
from .nn import Layer


def L2Loss(weight: float = 1.0) -> Layer:
    def losses(pred: Any, label: NDArray) -> NDArray:
        return mean(square(pred - label.reshape(pred.shape)) * (weight / 2), axis=0, exclude=True)

    return Layer(f"L2Loss(batch_axis=0, w={weight})", losses)


def SoftmaxCrossEntropyLoss(sparse_label: bool = True) -> Layer:
    """-log softmax(pred)[label]; with ``sparse_label=False`` label holds probabilities.

    A label beyond the classes is the nearest one.
    """

    def losses(p: NDArray, y: NDArray) -> NDArray:
        if sparse_label:
            y = one_hot(clip(y.reshape(p.shape[:-1]), 0, p.shape[-1] - 1), p.shape[-1])
        return mean(sum(-log_softmax(p) * y.astype(p.dtype), axis=-1), axis=0, exclude=True)

    return Layer("SoftmaxCrossEntropyLoss(batch_axis=0, w=None)", losses)
