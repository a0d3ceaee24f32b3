"""What is known of a training: each epoch, each batch's loss, and where it stands.

Public in ``cyconv.train``, whose loop fills these in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from . import backends
from .tensor import Tensor

MOST_WAITING = 256  # losses that lie on a GPU, unread
SMOOTHING = 0.01  # the weight of the newest batch in the moving loss, as in the notebook


class Epoch(NamedTuple):
    """What is known of an epoch at its end: one line of ``history.csv``.

    Parameters
    ----------
    epoch : its number, from 0 on
    loss : the moving loss
    train_accuracy : from 0 to 1; None where there are no classes
    test_accuracy : the same; None without a test_loader, too
    learning_rate : of the last batch
    seconds : of training and evaluation
    images_per_second : in training

    >>> import cyconv as cc
    >>> cc.train.Epoch(0, 0.3, 0.9, None, 0.1, 2.0, 30000.0).train_accuracy
    0.9
    """

    epoch: int
    loss: float
    train_accuracy: float | None
    test_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float


class Evaluation(NamedTuple):
    """What ``evaluate`` found.

    Parameters
    ----------
    accuracy : from 0 to 1; None where there are no classes
    loss : the mean over the images

    >>> import cyconv as cc
    >>> cc.train.evaluate(cc.nn.Identity(), [(cc.tensor([[3.0, 0.0]]), [0])]).accuracy
    1.0
    >>> cc.train.Evaluation(accuracy=0.9, loss=0.3)
    Evaluation(accuracy=0.9, loss=0.3)
    """

    accuracy: float | None
    loss: float


class History:
    """What ``fit`` returns: ``rows``, one per epoch, and ``losses``, the moving loss by batch.

    Parameters
    ----------
    rows : an ``Epoch`` for each
    losses : floats; the moving loss is 0.99 times the one before and 0.01 times the batch's own

    >>> import cyconv as cc
    >>> history = cc.train.History()
    >>> history.add(2.0, "epoch 0, batch 0", lr=0.1)
    >>> history.add(1.0, "epoch 0, batch 1", lr=0.1)
    >>> history.losses
    [2.0, 1.99]
    """

    def __init__(self, rows: Iterable[Epoch] = (), losses: Iterable[float] = ()):
        self.rows = list(rows)
        self._losses = list(losses)
        self._waiting: list[tuple[Tensor, str, float]] = []  # loss, batch, learning rate

    @property
    def losses(self) -> list[float]:
        """The moving losses; FloatingPointError if one on a GPU, read now, is NaN or infinite."""
        self._read()
        return self._losses

    def _read(self) -> None:
        """Take note of the losses on the GPU, all in one wait."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            arrays = [loss.data.reshape(1) for loss, _, _ in waiting]
            values = backends.to_numpy(backends.namespace_of(arrays[0]).concatenate(arrays))
            for value, (_, where, lr) in zip(values.tolist(), waiting):
                check_finite(value, where, lr)
                self._append(value)

    def add(self, loss: float | Tensor, where: str, lr: float) -> None:
        """Note a batch's ``loss``, a number; a tensor of size 1, on a GPU, is read later.

        ``where`` is the batch in words and ``lr`` its learning rate, for the message if it is NaN.
        """
        if not isinstance(loss, Tensor):
            self._append(loss)
            return
        self._waiting.append((loss.detach(), where, lr))
        if len(self._waiting) >= MOST_WAITING:
            self._read()

    def _append(self, loss: float) -> None:
        before = self._losses[-1] if self._losses else loss
        self._losses.append((1 - SMOOTHING) * before + SMOOTHING * loss)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return (self.rows, self.losses) == (other.rows, other.losses)

    def __repr__(self) -> str:
        return f"History(rows={self.rows!r}, losses={self.losses!r})"


@dataclass
class Progress:
    """Where a training stands; callbacks get it after every batch and after every epoch.

    ``fit(..., start=progress)`` goes on from there. Losses on a GPU are read when somebody looks at
    ``history``, and after some batches: to read one the program has to wait until the GPU has
    computed it.

    Parameters
    ----------
    epoch : how many epochs are done
    batch : how many batches are done in the epoch after them; 0 right after an epoch
    images : how many were seen in this epoch
    seconds : of training in this epoch
    learning_rate : of the newest batch
    history : the ``History`` so far
    stop : a callback, or a signal handler, that sets it to True ends the training before the next
        batch

    >>> import cyconv as cc
    >>> now = cc.train.Progress()
    >>> now.count(2.0, images=64, learning_rate=0.1, seconds=0.5)
    >>> now.batch, now.images
    (1, 64)
    >>> row = now.end_epoch(cc.train.Evaluation(0.5, 1.9), cc.train.Evaluation(0.4, 2.0), 0.7)
    >>> row.train_accuracy, row.images_per_second, now.epoch, now.batch, len(now.history.rows)
    (0.5, 128.0, 1, 0, 1)
    """

    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    history: History = field(default_factory=History)
    stop: bool = False

    def count(
        self, loss: float | Tensor, images: int, learning_rate: float, seconds: float
    ) -> None:
        """Note a batch: its mean ``loss``, how many ``images`` it had, its ``learning_rate``.

        ``seconds`` are those of training in this epoch so far.
        """
        self.history.add(loss, f"epoch {self.epoch}, batch {self.batch}", learning_rate)
        self.batch += 1
        self.images += images
        self.learning_rate = learning_rate
        self.seconds = seconds

    def end_epoch(self, train: Evaluation, test: Evaluation, seconds: float) -> Epoch:
        """Note the end of an epoch that took ``seconds`` with its evaluation; return its row.

        ``train`` and ``test`` are what the evaluations found.
        """
        row = Epoch(
            self.epoch,
            self.history.losses[-1],
            train.accuracy,
            test.accuracy,
            self.learning_rate,
            seconds,
            self.images / self.seconds if self.seconds else 0.0,
        )
        self.history.rows.append(row)
        self.epoch, self.batch, self.images, self.seconds = self.epoch + 1, 0, 0, 0.0
        return row


def check_finite(loss: float, where: str, lr: float) -> None:
    """FloatingPointError for NaN or infinity; ``where`` is the batch, as "epoch 0, batch 3"."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss} in {where}; "
            f"try a learning rate smaller than {lr:g}, for instance {lr / 10:g}, "
            "unless the images or the weights are not finite themselves"
        )
