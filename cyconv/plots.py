"""Pictures of a training: how it went, what the first layer looks for, where the net is wrong.

Needs matplotlib. Each function returns a ``Figure``, which is drawn without a screen; ``save_all``
writes them as PNG files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from . import ops
from .data.loader import batch_last
from .nn import Conv2d, Module
from .runfolder import save_bytes
from .tensor import Tensor
from .train import History, predict

if TYPE_CHECKING:
    from .data import ArrayDataset

BLUE, ORANGE, GREY = "#1f6fb4", "#d1660e", "#666666"
FILTERS_PER_ROW = 10
MOST_FILTERS = 40
MISTAKES_PER_ROW = 4
MOST_MISTAKES = 20
PITCH = 1.25  # from image to image, in sides of one
LONGEST_NAME = 8  # of a class, beside a number


def save_all(
    folder: Path, net: Module, test: ArrayDataset, history: History, batches: int
) -> list[str]:
    """Write curves.png, filters.png and confusion.png into a run folder; returns their names.

    ``batches`` is the number of batches in an epoch. A net without a convolution has no filters.
    """
    probabilities = predict(net, test.images)
    figures = {
        "curves.png": curves(history, batches),
        "filters.png": filters(net, test.images[0]),
        "confusion.png": confusion(test.images, test.labels, probabilities, test.classes),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=110)
            save_bytes(folder / name, png.getvalue())
            written.append(name)
    return written


def curves(history: History, batches: int) -> Figure:
    """The moving loss by batch, and the accuracies after each epoch.

    Parameters
    ----------
    history : what ``train.fit`` returned
    batches : how many an epoch has, as ``len(loader)``
    """
    figure = Figure(figsize=(10, 4))  # fixed margins: to find them would take as long as to draw
    figure.subplots_adjust(left=0.06, right=0.985, bottom=0.13, top=0.91, wspace=0.22)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history.losses) + 1) / batches
    left.plot(epochs, history.losses, color=BLUE, linewidth=1.5)
    if min(history.losses, default=0) > 0:
        left.set_yscale("log")
        left.yaxis.set_major_formatter(_plain_number)
        left.yaxis.set_minor_formatter(_plain_number)
    left.set_title("Loss (moving average over the batches)", loc="left")
    for name, colour in (("train", BLUE), ("test", ORANGE)):
        values = [getattr(row, f"{name}_accuracy") for row in history.rows]
        if any(value is None for value in values):
            continue
        ends = np.arange(1, len(values) + 1)
        label = f"{name}: {100 * values[-1]:.2f} %" if values else name
        right.plot(ends, values, "o-", color=colour, markersize=4, label=label)
    right.set_title("Accuracy after each epoch", loc="left")
    right.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    if right.lines:
        right.legend(loc="lower right", frameon=False)
    for axes in (left, right):
        axes.set_xlabel("epochs")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0, max(1, len(history.losses) / batches) * 1.02)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def filters(net: Module, image: np.ndarray) -> Figure | None:
    """The kernels of the net's first convolution, and what each makes of an image (C, H, W).

    None for a net without a convolution. Grey kernels: red counts for, blue against. Kernels with
    three channels are shown in colour, each scaled to its own range.
    """
    conv = next((module for module in net.modules() if isinstance(module, Conv2d)), None)
    if conv is None:
        return None
    kernels = conv.weight.numpy()[:MOST_FILTERS]
    x = Tensor(batch_last(image[None], conv.weight.dtype)).to(conv.weight.device)
    answers = ops.relu(conv(x)).numpy()[0]
    rows = -(-len(kernels) // FILTERS_PER_ROW)
    columns = min(FILTERS_PER_ROW, len(kernels))
    height = 2.1 * rows + 0.6
    figure = Figure(figsize=(columns + 1.4, height))
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.03, top=1 - 0.4 / height)
    sheet = _Sheet(figure, 2 * rows, columns + 1)
    sheet.show(0, 0, image, "image")
    limit = np.abs(kernels).max() or 1.0
    for k, (kernel, answer) in enumerate(zip(kernels, answers)):
        row, column = 2 * (k // FILTERS_PER_ROW), k % FILTERS_PER_ROW + 1
        if len(kernel) == 3:
            sheet.show(row, column, _in_range(kernel))
        else:
            mean = kernel.mean(axis=0, keepdims=True)
            sheet.show(row, column, mean, cmap="RdBu_r", vmin=-limit, vmax=limit)
        sheet.show(row + 1, column, answer[None])
    shown = "" if len(kernels) == len(conv.weight) else f" {len(kernels)} of {len(conv.weight)}"
    colours = "" if kernels.shape[1] == 3 else " (red counts for, blue against)"
    figure.suptitle(
        f"First convolution:{shown} kernels{colours}, and what each makes of the image", fontsize=11
    )
    return figure


def confusion(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Figure:
    """How often each class was taken for which, and the mistakes made with most confidence.

    Parameters
    ----------
    images : (n, C, H, W)
    labels : class numbers (n,)
    probabilities : (n, K), as from ``train.predict``
    classes : K names
    """
    answers = probabilities.argmax(axis=1)
    k = probabilities.shape[1]
    counts = np.zeros((k, k), int)
    np.add.at(counts, (labels, answers), 1)
    figure = Figure(figsize=(12.5, 6.4), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = halves
    axes = left.subplots()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = counts - np.diag(np.diag(counts))
    axes.imshow(np.where(np.eye(k), share, np.nan), cmap="Blues", vmin=0, vmax=1.4)
    axes.imshow(
        np.where(np.eye(k), np.nan, mistakes), cmap="Oranges", vmin=0, vmax=1.5 * mistakes.max() + 1
    )
    for i, j in np.argwhere(counts):
        colour = "white" if i == j and share[i, i] > 0.5 else "black"
        size = 9 if k <= 10 else 6
        axes.text(j, i, counts[i, j], ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(k), classes, rotation=0 if _short(classes) else 45)
    axes.set_yticks(range(k), classes)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    wrong = np.flatnonzero(answers != labels)
    axes.set_title(
        f"{len(wrong):,} of {len(labels):,} test images are taken for another class", loc="left"
    )
    worst = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:MOST_MISTAKES]
    if not len(worst):
        return figure
    right.suptitle("The mistakes it was surest of", fontsize=11)
    sheet = _Sheet(right, MOST_MISTAKES // MISTAKES_PER_ROW, MISTAKES_PER_ROW)
    for k, i in enumerate(worst):
        truth, answer = (classes[c][:LONGEST_NAME] for c in (labels[i], answers[i]))
        sure = 100 * probabilities[i, answers[i]]
        title = f"{truth} \N{RIGHTWARDS ARROW} {answer} ({sure:.0f} %)"
        sheet.show(k // MISTAKES_PER_ROW, k % MISTAKES_PER_ROW, images[i], title)
    return figure


class _Sheet:
    """Images in rows and columns of one pair of axes, as a pair for each would take far longer."""

    def __init__(self, figure: Any, rows: int, columns: int):
        self._axes = figure.subplots()
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, columns * PITCH), ylim=(rows * PITCH, -0.2))

    def show(self, row: int, column: int, image: np.ndarray, title: str = "", **look: Any) -> None:
        """An image (C, H, W), in colour if C is 3, else grey unless ``look`` says otherwise."""
        top, left = row * PITCH, column * PITCH
        sides = np.array(image.shape[1:]) / max(image.shape[1:])
        (low, high), (first, last) = ((0.5 - s / 2, 0.5 + s / 2) for s in sides)
        place = (left + first, left + last, top + high, top + low)
        pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
        self._axes.imshow(pixels, extent=place, **{"cmap": "gray", **look})
        self._axes.text(left + 0.5, top - 0.04, title, ha="center", va="bottom", fontsize=8)


def _plain_number(value: float, position: int | None) -> str:
    """The label of a tick on a logarithmic axis: 0.2, not 2 x 10^-1; some have none."""
    first_digit = f"{value:e}"[0]
    return f"{value:g}" if first_digit in "125" else ""


def _in_range(values: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    spread = values.max() - values.min()
    return (values - values.min()) / (spread or 1.0)


def _short(classes: Sequence[str]) -> bool:
    return max(map(len, classes), default=0) <= 3
