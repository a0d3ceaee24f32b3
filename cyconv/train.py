"""Training: ``fit``, ``evaluate`` and ``predict``, for any net and any batches.

    net = cc.nn.models.lenet()
    optimizer = cc.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    history = cc.train.fit(net, train_loader, test_loader, optimizer=optimizer, epochs=2)
    print(history.rows[-1].test_accuracy)

A loader is anything that can be iterated again and again, each time giving batches (x, y): a
``data.DataLoader``, a list of pairs, another library's loader.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import backends, ops
from .autograd import predict_mode, record
from .data import DataLoader
from .data.loader import batch_last
from .data.prefetch import on_device
from .geometry import integer
from .nn import Module
from .progress import Bar
from .tensor import FLOATS, Tensor

if TYPE_CHECKING:
    from .optim import Optimizer
    from .schedules import Schedule

Loader = Iterable[tuple[Any, Any]]
Loss = Callable[[Any, Any], Tensor]

MOST_WAITING = 256  # losses that lie on a GPU, unread
SMOOTHING = 0.01  # the weight of the newest batch in the moving loss, as in the notebook
EVALUATION_BATCH = 256  # images; without gradients larger batches fit in the cache


class Epoch(NamedTuple):
    """What is known of an epoch at its end: one line of ``history.csv``."""

    epoch: int
    loss: float  # the moving loss
    train_accuracy: float | None  # from 0 to 1; None where there are no classes
    test_accuracy: float | None  # None without a test_loader, too
    learning_rate: float  # of the last batch
    seconds: float  # training and evaluation
    images_per_second: float  # in training


class Evaluation(NamedTuple):
    """What ``evaluate`` found."""

    accuracy: float | None  # from 0 to 1
    loss: float


class History:
    """What ``fit`` returns: ``rows``, one per epoch, and ``losses``, the moving loss by batch."""

    def __init__(self, rows: Iterable[Epoch] = (), losses: Iterable[float] = ()):
        self.rows = list(rows)
        self._losses = list(losses)
        self._waiting: list[tuple[Tensor, str, float]] = []  # loss, batch, learning rate

    @property
    def losses(self) -> list[float]:
        """FloatingPointError if a loss that had to be read for it is NaN or infinite."""
        self._read()
        return self._losses

    @losses.setter
    def losses(self, values: list[float]) -> None:
        self._losses, self._waiting = values, []

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
        """Note a batch's loss; one that is on a GPU is read later."""
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

    ``epoch`` counts the epochs done and ``batch`` the batches done in the one after them; right
    after an epoch ``batch`` is 0. A callback, or a signal handler, that sets ``stop`` ends the
    training before the next batch. ``fit(..., start=progress)`` goes on from there.

    Losses on a GPU are read when somebody looks at ``history``, and after some batches: to read
    one the program has to wait until the GPU has computed it.
    """

    epoch: int = 0
    batch: int = 0
    images: int = 0  # seen in this epoch
    seconds: float = 0.0  # of training in this epoch
    learning_rate: float = 0.0  # of the newest batch
    history: History = field(default_factory=History)
    stop: bool = False

    def count(
        self, loss: float | Tensor, images: int, learning_rate: float, seconds: float
    ) -> None:
        """Note a batch, its mean loss, and the seconds of training in this epoch."""
        self.history.add(loss, f"epoch {self.epoch}, batch {self.batch}", learning_rate)
        self.batch += 1
        self.images += images
        self.learning_rate = learning_rate
        self.seconds = seconds

    def end_epoch(self, train: Evaluation, test: Evaluation, seconds: float) -> Epoch:
        """Note the end of an epoch that took ``seconds`` with its evaluation."""
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


def fit(
    net: Module,
    train_loader: Loader,
    test_loader: Loader | None = None,
    *,
    optimizer: Optimizer,
    loss: Loss = ops.cross_entropy,
    schedule: Schedule | None = None,
    epochs: int = 1,
    progress: bool = True,
    callbacks: Iterable[Callable[[Progress], object]] = (),
    start: Progress | None = None,
) -> History:
    """Train a net: one step of the optimiser per batch; after each epoch measure the accuracy.

    Parameters
    ----------
    net : its parameters are those that the optimiser was given
    train_loader : batches (x, y); ``y`` are labels (N,) or what else the loss takes. Where the
        loader has ``set_epoch`` it is told the number of each epoch
    test_loader : batches to measure the test accuracy with, if given
    loss : function (net(x), y) -> the mean loss of the batch, or one loss per image (N,)
    schedule : its ``step`` is called after every batch
    epochs : how many, those before ``start`` included
    progress : show a bar while training and print a line after each epoch
    callbacks : each is called with the ``Progress`` after every batch and after every epoch
    start : go on from here, in the middle of an epoch, too: ``train_loader`` must then give the
        same batches in the same order again, and net, optimiser and schedule be as they were

    A net on a GPU is trained there: batches are copied ahead, and losses read when they are shown.

    The train accuracy is that of the net as it is after the epoch, measured in a second pass over
    the training data (a ``DataLoader``'s without its augmentation, in larger batches).

    Raises FloatingPointError when the loss becomes NaN or infinite; the parameters are then those
    before that batch (on a GPU those when the loss was read). ValueError if there is no batch.
    """
    epochs = integer("fit: epochs", epochs, 0)
    callbacks = _checked(train_loader, test_loader, optimizer, callbacks)
    now = Progress() if start is None else start
    now.stop = False
    device = device_of(net)
    with Bar(epochs, _length(train_loader), shown=progress) as bar:
        while now.epoch < epochs and not now.stop:
            began = time.perf_counter() - now.seconds
            for x, y in on_device(_batches(train_loader, now), device):
                with record():
                    losses = loss(net(x), y)
                mean: Any = losses.mean()
                if device == "cpu":
                    mean = float(mean.item())
                    check_finite(mean, f"epoch {now.epoch}, batch {now.batch}", optimizer.lr)
                losses.backward()
                optimizer.step()
                now.count(mean, len(x), optimizer.lr, time.perf_counter() - began)
                if schedule is not None:
                    schedule.step()
                for callback in (bar.update, *callbacks):
                    callback(now)
                if now.stop:
                    return now.history
            if not now.history.losses:  # reads those of a GPU, so the clock is right then, too
                raise ValueError("fit: train_loader has no batches")
            now.seconds = now.seconds if device == "cpu" else time.perf_counter() - began
            bar.say("measuring the accuracy")
            train = evaluate(net, _until_stop(_for_evaluation(train_loader), now), loss=loss)
            test = Evaluation(None, math.nan)
            if test_loader is not None:
                test = evaluate(net, _until_stop(test_loader, now), loss=loss)
            if now.stop:
                return now.history
            row = now.end_epoch(train, test, time.perf_counter() - began)
            bar.print(describe(row))
            for callback in callbacks:
                callback(now)
    return now.history


def evaluate(net: Module, loader: Loader, *, loss: Loss = ops.cross_entropy) -> Evaluation:
    """(accuracy, loss) of a net over batches (x, y): the share of right answers, the mean loss.

    The answer is the class with the largest output. The accuracy is None where the labels are not
    class numbers (N,). Both are NaN if there is no image.
    """
    images, right, total, classes = 0, 0, 0.0, True
    with predict_mode():
        for x, y in on_device(loader, device_of(net)):
            out = net(x)
            losses = loss(out, y)
            total += losses.mean().item() * len(x)
            images += len(x)
            labels = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
            classes = classes and out.ndim == 2 and labels.ndim == 1 and labels.dtype.kind in "iu"
            if classes:
                right += int((backends.to_numpy(out.data).argmax(axis=1) == labels).sum())
    if not images:
        return Evaluation(math.nan, math.nan)
    return Evaluation(right / images if classes else None, total / images)


def predict(net: Module, images: Any, *, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
    """The probability of each class, (n, K), for images (n, C, H, W): the softmax of net(images).

    uint8 pixels are divided by 255, as ``DataLoader`` does. The dtype is the net's.
    """
    size = integer("predict: batch_size", batch_size, 1)
    array = images.numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.dtype.name not in ("uint8", *FLOATS):
        raise TypeError(f"predict: images must be uint8, float32 or float64, got {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"predict: images must have shape (n, C, H, W), got {array.shape}")
    dtype = next((parameter.dtype for parameter in net.parameters()), np.dtype("float32"))
    device = device_of(net)
    probabilities = []
    with predict_mode():
        for at in range(0, max(len(array), 1), size):  # no image at all is one empty batch
            x = Tensor(batch_last(array[at : at + size], dtype)).to(device)
            probabilities.append(backends.to_numpy(ops.softmax(net(x)).data))
    return np.concatenate(probabilities)


def describe(row: Epoch) -> str:
    """An epoch in one line, as the notebook prints it."""
    line = f"Epoch {row.epoch}. Loss: {row.loss:#.4g}"
    if row.train_accuracy is not None:
        line += f", Train_acc {row.train_accuracy:.4f}"
    if row.test_accuracy is not None:
        line += f", Test_acc {row.test_accuracy:.4f}"
    return line


def _checked(
    train_loader: Any, test_loader: Any, optimizer: Any, callbacks: Any
) -> tuple[Callable[[Progress], object], ...]:
    """The callbacks, after a look at what else a user may have mixed up."""
    for name, loader in (("train_loader", train_loader), ("test_loader", test_loader)):
        if name == "test_loader" and loader is None:
            continue
        if not isinstance(loader, Iterable):
            raise TypeError(f"fit: {name} must be iterable, got {type(loader).__name__}")
        if isinstance(loader, Iterator):  # it would be used up after one pass
            raise TypeError(
                f"fit: {name} must be iterable again and again, as a DataLoader or a list is; "
                f"got {type(loader).__name__}"
            )
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "lr")):
        raise TypeError(f"fit: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    functions = tuple(callbacks) if isinstance(callbacks, Iterable) else (callbacks,)
    for function in functions:
        if not callable(function):
            raise TypeError(f"fit: callbacks must be functions, got {function!r}")
    return functions


def _length(loader: Any) -> int | None:
    return len(loader) if hasattr(loader, "__len__") else None


def _batches(loader: Any, now: Progress) -> Iterator[tuple[Any, Any]]:
    """The batches of this epoch that are still to do."""
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(now.epoch)
    if hasattr(loader, "iterate"):  # a DataLoader starts in the middle without making the others
        return loader.iterate(now.batch)
    return (batch for batch in islice(loader, now.batch, None))


def _until_stop(loader: Loader, now: Progress) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if now.stop:
            return
        yield batch


def _for_evaluation(loader: Loader) -> Loader:
    """The same images as they are, quickly."""
    if not isinstance(loader, DataLoader):
        return loader
    return DataLoader(
        loader.dataset,
        max(loader.batch_size, EVALUATION_BATCH),
        transform=loader.transform,
        batch_transform=loader.batch_transform,
        dtype=loader.dtype,
    )


def check_finite(loss: float, where: str, lr: float) -> None:
    """FloatingPointError for NaN or infinity; ``where`` is the batch, as "epoch 0, batch 3"."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss} in {where}; "
            f"try a learning rate smaller than {lr:g}, for instance {lr / 10:g}"
        )


def device_of(net: Module) -> str:
    """Where the net's parameters are: "cpu" or "cuda"."""
    return next((parameter.device for parameter in net.parameters()), "cpu")
