"""``mxnet.metric``: accuracy."""

from typing import Any


class Accuracy:
    """The share of right predictions since ``reset``: class numbers, or scores of the classes."""

    def reset(self) -> None:
        self.right = self.count = 0

    __init__ = reset

    def update(self, labels: Any, preds: Any) -> None:
        batches = zip(labels, preds) if isinstance(labels, (list, tuple)) else [(labels, preds)]
        for label, pred in batches:
            truth, guess = label.asnumpy().astype(int), pred.asnumpy()
            guess = guess if guess.shape == truth.shape else guess.argmax(axis=1)
            if guess.size != truth.size:
                raise ValueError(f"Accuracy: {truth.size} labels but {guess.size} predictions")
            self.right += int((truth.ravel() == guess.ravel().astype(int)).sum())
            self.count += truth.size

    def get(self) -> tuple[str, float]:
        """("accuracy", the share), which is NaN before the first update."""
        return "accuracy", self.right / self.count if self.count else float("nan")
