"""``gluon.loss``: losses, one value for each sample, the mean over its other axes or the sum."""

from typing import Any

from ..ndarray import NDArray, abs, clip, log, log_softmax, mean, one_hot, square, sum
from .nn import Layer


def _loss(words: str, losses: Any, over: Any = mean) -> Layer:
    return Layer(words, lambda p, y: over(losses(p, y), axis=0, exclude=True))


def _distance(name: str, function: Any, weight: Any, factor: float) -> Layer:
    words = f"{name}(batch_axis=0, w={weight})"
    return _loss(words, lambda p, y: function(p - y.reshape(p.shape)) * factor)


def L1Loss(weight: float | None = None) -> Layer:
    return _distance("L1Loss", abs, weight, 1 if weight is None else weight)


def L2Loss(weight: float = 1.0) -> Layer:
    return _distance("L2Loss", square, weight, weight / 2)


def KLDivLoss(from_logits: bool = True) -> Layer:
    """The sum of label * (log label - pred), where pred is log probabilities, or else scores."""

    def losses(p: Any, y: Any) -> Any:
        return y * (log(y + 1e-12) - (p if from_logits else log_softmax(p)))

    return _loss("KLDivLoss(batch_axis=0, w=None)", losses, sum)


def SoftmaxCrossEntropyLoss(sparse_label: bool = True) -> Layer:
    """-log softmax(pred)[label]; with ``sparse_label=False`` label holds probabilities.

    A label beyond the classes is the nearest one.
    """

    def losses(p: NDArray, y: NDArray) -> NDArray:
        if sparse_label:
            y = one_hot(clip(y.reshape(p.shape[:-1]), 0, p.shape[-1] - 1), p.shape[-1])
        return sum(-log_softmax(p) * y.astype(p.dtype), axis=-1)

    return _loss("SoftmaxCrossEntropyLoss(batch_axis=0, w=None)", losses)
