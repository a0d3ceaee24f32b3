"""Training: ``fit``, ``evaluate`` and ``predict``, for any net and any batches::

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
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backends, ops
from .arguments import ABOVE_0, flag, integer, number
from .autograd import predict_mode, record
from .compiled import frozen
from .compiled_training import compile_training, is_own
from .data import DataLoader
from .data.loader import batch_last
from .data.prefetch import on_device
from .history import Epoch, Evaluation, History, Progress, check_finite
from .nn import Module
from .nn.containers import module_in
from .optim import clip_grad_norm
from .progress import Bar
from .tensor import FLOATS, Tensor

if TYPE_CHECKING:
    from .optim import Optimizer
    from .schedules import Schedule

__all__ = ["Epoch", "Evaluation", "History", "Progress", "evaluate", "fit", "predict"]

Loader = Iterable[tuple[Any, Any]]
Loss = Callable[[Any, Any], Tensor]

EVALUATION_BATCH = 256  # images; without gradients larger batches fit in the cache


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
    compile: bool | None = None,
    clip_norm: float | None = None,
) -> History:
    """Train a net: one step of the optimiser per batch; after each epoch measure the accuracy.

    A net on a GPU is trained there: batches are copied ahead, and losses read when they are shown.
    The train accuracy is that of the net as it is after the epoch, measured in a second pass over
    the training data (a ``DataLoader``'s without its augmentation, in larger batches).

    Parameters
    ----------
    net : a Module; its parameters are those that the optimiser was given
    train_loader : batches (x, y), x (N, C, H, W) of the net's dtype, or uint8, which is divided by
        255; ``y`` are labels (N,) or what else the loss takes. Where the loader has ``set_epoch``
        it is told the number of each epoch
    test_loader : batches to measure the test accuracy with, if given
    optimizer : an ``Optimizer``
    loss : function (net(x), y) -> the mean loss of the batch; or one loss per image (N,), whose sum
        then is what ``backward`` starts from, so that gradients are N times as large
    schedule : its ``step`` is called after every batch
    epochs : how many, those before ``start`` included
    progress : show a bar while training and print a line after each epoch
    callbacks : each is called with the ``Progress`` after every batch and after every epoch
    start : go on from here, in the middle of an epoch, too: ``train_loader`` must then give the
        same batches in the same order again, and net, optimiser and schedule be as they were
    compile : whether the net runs through ``compile_training``, faster and with the same results.
        If not given it does so where all its layers are cyconv's: a ``forward`` of another's may
        do other things than calling operations, which would happen for the first batch only
    clip_norm : before each step make the gradients of the optimiser's parameters together at most
        so long (``optim.clip_grad_norm``); None leaves them

    Returns
    -------
    A ``History``.

    Raises
    ------
    FloatingPointError : the loss became NaN or infinite; the parameters are then those before that
        batch (on a GPU those when the loss was read)
    TypeError : an argument is something else, a loader cannot be iterated again and again or does
        not give pairs (x, y), or the loss gives no tensor
    ValueError : there is no batch, or epochs is below 0; the optimiser has none of the net's
        parameters, or the schedule another optimiser; from ``compile_training`` where that is on

    >>> import cyconv as cc
    >>> digits = cc.data.MNIST.built_in(train=False)
    >>> net = cc.nn.Sequential(cc.nn.Flatten(), cc.nn.Linear(784, 10))
    >>> optimizer = cc.optim.SGD(net.parameters(), lr=0.05)
    >>> loader = cc.data.DataLoader(digits, batch_size=50, shuffle=True)
    >>> history = cc.train.fit(net, loader, optimizer=optimizer, epochs=2, progress=False)
    >>> len(history.losses), history.rows[-1].train_accuracy > 0.7
    (80, True)
    """
    epochs = integer("fit: epochs", epochs, 0)
    module_in("fit: net", net)
    _check_loader("fit: train_loader", train_loader, again=True)
    if test_loader is not None:
        _check_loader("fit: test_loader", test_loader, again=True)
    if clip_norm is not None:
        clip_norm = number("fit: clip_norm", clip_norm, ABOVE_0)
    callbacks = _checked(net, optimizer, loss, schedule, callbacks, start)
    now = Progress() if start is None else start
    now.stop = False
    device = device_of(net)
    shown = flag("fit: progress", progress)
    compiled = is_own(net) if compile is None else flag("fit: compile", compile)
    forward = compile_training(net) if compiled else net
    with Bar(epochs, _length(train_loader), shown=shown) as bar:
        while now.epoch < epochs and not now.stop:
            began = time.perf_counter() - now.seconds
            batches = _pairs("fit", _batches(train_loader, now), dtype_of(net))
            for x, y in on_device(batches, device):
                with record():
                    losses = _tensor("fit", loss(forward(x), y))
                mean: Any = losses.mean()
                if device == "cpu":
                    mean = float(mean.item())
                    check_finite(mean, f"epoch {now.epoch}, batch {now.batch}", optimizer.lr)
                losses.backward()
                if clip_norm is not None:
                    clip_grad_norm(optimizer.params, clip_norm)
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
            for callback in callbacks:
                callback(now)
            bar.print(describe(row))  # the last: nobody may be there to read it any more
    return now.history


def evaluate(net: Module, loader: Loader, *, loss: Loss = ops.cross_entropy) -> Evaluation:
    """The share of right answers of a net over batches (x, y), and its mean loss.

    The answer is the class with the largest output. Nothing is recorded, and training mode is off.
    Batches of several times 64 images run as a program, as by ``compile``, if all layers are
    cyconv's.

    Parameters
    ----------
    net : a Module
    loader : batches (x, y), x (N, C, H, W) of the net's dtype
    loss : function (net(x), y) -> the mean loss of the batch, or one loss per image (N,)

    Returns
    -------
    ``Evaluation``: (accuracy, loss). The accuracy is None where the labels are not class numbers
    (N,), or the net does not give one tensor (N, K). Both are NaN if there is no image.

    Raises
    ------
    TypeError : net is no Module, loader does not give pairs (x, y), or the loss gives no tensor
    TypeError, ValueError : from the net or the loss, if a batch does not fit

    >>> import cyconv as cc
    >>> digits = cc.data.MNIST.built_in(train=False)
    >>> accuracy, loss = cc.train.evaluate(cc.nn.models.lenet(), cc.data.DataLoader(digits))
    >>> 0 <= accuracy <= 1, loss > 0
    (True, True)
    """
    module_in("evaluate: net", net)
    _check_loader("evaluate: loader", loader)
    _check_loss("evaluate", loss)
    images, right, total, classes = 0, 0, 0.0, True
    forward = frozen(net)
    with predict_mode():
        for x, y in on_device(_pairs("evaluate", loader, dtype_of(net)), device_of(net)):
            out = forward(x)
            losses = _tensor("evaluate", loss(out, y))
            total += losses.mean().item() * len(x)
            images += len(x)
            labels = _in_numpy(y)
            logits = isinstance(out, Tensor) and out.ndim == 2
            classes = classes and logits and labels.ndim == 1 and labels.dtype.kind in "iu"
            if classes:
                right += int((backends.to_numpy(out.data).argmax(axis=1) == labels).sum())
    if not images:
        return Evaluation(math.nan, math.nan)
    return Evaluation(right / images if classes else None, total / images)


def predict(net: Module, images: Any, *, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
    """The probability of each class, for images: the softmax of net(images), up to rounding.

    Parameters
    ----------
    net : a Module from images to logits (n, K)
    images : (n, C, H, W), tensor or array, uint8, float32 or float64; uint8 pixels are divided by
        255, as ``DataLoader`` does
    batch_size : how many images go through the net at a time, at least 1; 256 if not given

    Returns
    -------
    A NumPy array (n, K) of the net's dtype.

    Raises
    ------
    TypeError : net is no Module; images of another dtype; batch_size is no integer
    ValueError : images of a shape that the net does not take; a net that does not give (n, K);
        batch_size below 1

    >>> import cyconv as cc
    >>> digits = cc.data.MNIST.built_in(train=False)
    >>> probabilities = cc.train.predict(cc.nn.models.lenet(), digits.images[:5])
    >>> probabilities.shape, probabilities.sum(axis=1).round(3)
    ((5, 10), array([1., 1., 1., 1., 1.], dtype=float32))
    """
    module_in("predict: net", net)
    size = integer("predict: batch_size", batch_size, 1)
    array = _in_numpy(images)
    if array.dtype.name not in ("uint8", *FLOATS):
        raise TypeError(f"predict: images must be uint8, float32 or float64, got {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"predict: images must have shape (n, C, H, W), got {array.shape}")
    dtype, device = dtype_of(net), device_of(net)
    probabilities, forward = [], frozen(net)
    with predict_mode():
        for at in range(0, max(len(array), 1), size):  # no image at all is one empty batch
            x = Tensor(batch_last(array[at : at + size], dtype)).to(device)
            try:
                out = forward(x)
            except ValueError as error:
                shape = f"of images of shape {array.shape}, the first axis counts them"
                raise ValueError(f"predict: {shape}: {error}") from error
            if np.ndim(out) != 2 or len(out) != len(x):
                raise ValueError(
                    f"predict: the net must give one row (n, K) for each of {len(x)} images, "
                    f"got shape {np.shape(out)}"
                )
            probabilities.append(backends.to_numpy(ops.softmax(out).data))
    return np.concatenate(probabilities)


def describe(row: Epoch) -> str:
    """An epoch in one line, as the notebook prints it."""
    line = f"Epoch {row.epoch}. Loss: {row.loss:#.4g}"
    if row.train_accuracy is not None:
        line += f", Train_acc {row.train_accuracy:.4f}"
    if row.test_accuracy is not None:
        line += f", Test_acc {row.test_accuracy:.4f}"
    return line


def _check_loader(where: str, loader: Any, *, again: bool = False) -> None:
    if not isinstance(loader, Iterable):
        raise TypeError(f"{where} must be iterable, got {type(loader).__name__}")
    if again and isinstance(loader, Iterator):  # it would be used up after one pass
        raise TypeError(
            f"{where} must be iterable again and again, as a DataLoader or a list is; "
            f"got {type(loader).__name__}"
        )


def _check_loss(where: str, loss: Any) -> None:
    if not callable(loss):
        raise TypeError(f"{where}: loss must be a function, got {loss!r}")


def _tensor(where: str, losses: Any) -> Tensor:
    """What a loss gave."""
    if not isinstance(losses, Tensor):
        raise TypeError(f"{where}: loss must return a tensor, got {type(losses).__name__}")
    return losses


def _pairs(where: str, loader: Iterable[Any], dtype: np.dtype) -> Iterator[tuple[Any, Any]]:
    """The batches of a loader, uint8 images as floats; TypeError for one that is no pair."""
    for batch in loader:
        try:
            x, y = batch
        except (TypeError, ValueError):
            raise TypeError(
                f"{where}: a loader must give batches (x, y), got {type(batch).__name__}"
            ) from None
        if getattr(x, "dtype", None) == np.uint8:
            x = batch_last(_in_numpy(x), dtype)
        yield x, y


def _checked(
    net: Module, optimizer: Any, loss: Any, schedule: Any, callbacks: Any, start: Any
) -> tuple[Callable[[Progress], object], ...]:
    """The callbacks, after a look at what else a user may have mixed up."""
    _check_loss("fit", loss)
    if not (hasattr(schedule, "step") or schedule is None):
        raise TypeError(f"fit: schedule must be a Schedule, got {type(schedule).__name__}")
    if not (isinstance(start, Progress) or start is None):
        raise TypeError(f"fit: start must be a Progress, got {type(start).__name__}")
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "lr")):
        raise TypeError(f"fit: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    known, own = getattr(optimizer, "params", None), map(id, net.parameters())
    if known is not None and {*map(id, known)}.isdisjoint(own):
        raise ValueError("fit: the optimizer was given none of the net's parameters")
    if getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise ValueError("fit: the schedule was made for another optimizer")
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
    if type(loader) is DataLoader:  # it starts in the middle without making the others
        return loader.iterate(now.batch)
    return (batch for batch in islice(loader, now.batch, None))


def _until_stop(loader: Loader, now: Progress) -> Iterator[tuple[Any, Any]]:
    for batch in loader:
        if now.stop:
            return
        yield batch


def _for_evaluation(loader: Loader) -> Loader:
    """The same images as they are, quickly."""
    if type(loader) is not DataLoader:  # others may give other batches
        return loader
    return DataLoader(
        loader.dataset,
        max(loader.batch_size, EVALUATION_BATCH),
        transform=loader.transform,
        batch_transform=loader.batch_transform,
        dtype=loader.dtype,
        prefetch=loader.prefetch,
    )


def _in_numpy(values: Any) -> np.ndarray:
    """A tensor, a list or an array of any library in the computer's own memory."""
    array = values.data if isinstance(values, Tensor) else backends.as_array(values)
    return backends.to_numpy(array)


def dtype_of(net: Module) -> np.dtype:
    """The dtype of the net's parameters; float32 if it has none."""
    return next((parameter.dtype for parameter in net.parameters()), np.dtype("float32"))


def device_of(net: Module) -> str:
    """Where the net's parameters are: "cpu" or "cuda"."""
    return next((parameter.device for parameter in net.parameters()), "cpu")
