"""Drawings that one page needs: windows, pooling, receptive fields, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from figures import (
    BLUE,
    GREEN,
    GREY,
    HEAT,
    INK,
    NIGHT,
    ORANGE,
    PAPER,
    SIGNED,
    TIMES,
    VIOLET,
    WIDTH,
    Drawing,
    bare,
    frame,
    new,
    picture,
    show,
    spoken,
    values,
)
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from cyconv.history import SMOOTHING

# ------------------------------------------------------------------ the first page


def windows(size: int, kernel: int, cases: Sequence[Mapping[str, int]], caption: str) -> Drawing:
    """A row of pixels and every position of the window, for some paddings, strides, dilations."""
    figure, grid = new(3.2, 2, 2, height_ratios=(7, 5.2))
    for axes, case, depth in zip(grid.flat, cases, (5.4, 5.4, 3.5, 3.5)):
        stride, padding, dilation = (
            case.get(name, least)
            for name, least in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for place in range(-padding, size + padding):
            real = 0 <= place < size
            axes.add_patch(
                Rectangle(
                    (place - 0.42, -0.42),
                    0.84,
                    0.84,
                    facecolor=GREY if real else "none",
                    alpha=0.75 if real else 0.8,
                    edgecolor=GREY,
                    linestyle="-" if real else (0, (2, 2)),
                    linewidth=0.9,
                )
            )
        for o in range(out):
            left = o * stride - padding
            right = left + dilation * (kernel - 1)
            y = 1.15 + o * 0.62
            axes.plot([left, right], [y, y], color=BLUE, linewidth=1.2, alpha=0.6)
            for k in range(kernel):
                axes.add_patch(
                    Rectangle((left + k * dilation - 0.36, y - 0.18), 0.72, 0.36, color=BLUE)
                )
        words = ", ".join(f"{name} {value}" for name, value in case.items()) or "as it is"
        axes.set_title(f"{words}: {out} windows", fontsize=9)
        axes.set(xlim=(-1.7, size + 0.7), ylim=(depth, -0.7))
        axes.set_axis_off()
    return show(figure, "Positions of a window of three over seven pixels", caption)


def layer_matrix(matrix: Any, caption: str) -> Drawing:
    """A convolution's weights as those of a fully connected layer: outputs down, pixels across."""
    figure, axes = new(2.6)
    shown = np.where(matrix == 0, np.nan, matrix)
    picture(axes, shown, SIGNED, vmin=1, vmax=np.nanmax(shown))
    axes.set(xlabel="36 pixels, row after row", ylabel="16 outputs")
    for axis, size in ((axes.xaxis, matrix.shape[1]), (axes.yaxis, matrix.shape[0])):
        axis.set_ticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(True, which="minor")
    axes.tick_params(which="minor", length=0)
    return show(
        figure, "A matrix, mostly empty, in which nine weights come again in each row", caption
    )


def border(mean: Any, caption: str) -> Drawing:
    """What zeros around an image do to a mean, and how often each pixel is read without them."""
    figure, (left, right) = new(2.75, 1, 2)
    picture(left, mean, HEAT, vmin=0.2, vmax=1.15).set_title("padded with zeros")
    for (i, j), value in np.ndenumerate(mean):
        left.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=NIGHT)
    size = len(mean)
    reads = np.zeros((size, size), int)
    for i, j in np.ndindex(size - 2, size - 2):
        reads[i : i + 3, j : j + 3] += 1
    picture(right, reads, HEAT, vmin=-4, vmax=11).set_title("windows that read a pixel, unpadded")
    for (i, j), value in np.ndenumerate(reads):
        right.text(j, i, value, ha="center", va="center", fontsize=8.5, color=NIGHT)
    return show(figure, "Means of an image of ones, and how many windows read each pixel", caption)


def pooling(patch: Any, mean: Any, largest: Any, caption: str) -> Drawing:
    """Some pixels, and the mean and the largest of every 2 x 2 of them."""
    figure = Figure(figsize=(WIDTH, 2.15), layout="constrained")
    grid = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
    names = (
        f"{len(patch)} {TIMES} {len(patch)} pixels",
        f"mean of 2 {TIMES} 2",
        f"largest of 2 {TIMES} 2",
    )
    for axes, image, name in zip(grid, (patch, mean, largest), names):
        picture(axes, image, vmin=0, vmax=1).set_title(name)
        for (i, j), value in np.ndenumerate(np.asarray(image)):
            color = NIGHT if value > 0.55 else PAPER
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=color)
    for i, j in np.ndindex(3, 3):
        frame(grid[0], 2 * i, 2 * j, 2, 2, ORANGE, linewidth=1.2)
    return show(figure, "Pixels and what pooling leaves of them", caption)


def feature_maps(image: Any, stages: Mapping[str, Any], caption: str) -> Drawing:
    """An image, eight channels of each stage, and the vectors at the end."""
    names = [name for name, out in stages.items() if out.ndim == 4]
    side, label, gap, height = 0.54, 0.62, 0.03, 4.05  # inches
    figure = Figure(figsize=(WIDTH, height))

    def place(left: float, top: float, width: float, tall: float) -> Any:
        box = (left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height)
        return figure.add_axes(box)

    top = 0.05
    for name in names:
        maps = stages[name].numpy()[0]
        chosen = np.sort(np.argsort(-maps.std(axis=(1, 2)))[:8])  # channels that say something
        for column, channel in enumerate(chosen):
            axes = place(label + column * (side + gap), top, side, side)
            picture(axes, maps[channel], HEAT, vmin=0, vmax=maps.max())
        text = f"{name}\n{maps.shape[1]} {TIMES} {maps.shape[2]}"
        figure.text(0.01, 1 - (top + side / 2) / height, text, fontsize=8.5, va="center")
        top += side + gap
    dense = next(out for out in stages.values() if out.ndim == 2).numpy()
    axes = bare(place(label, top + 0.24, 8 * (side + gap) - gap, 0.24))
    axes.imshow(dense, cmap=HEAT, aspect="auto")
    axes.set_title(f"{dense.size} numbers of the first fully connected layer", fontsize=8.5, pad=3)
    picture(place(label, top + 0.78, 0.75, 0.75), image)
    logits = list(stages.values())[-1].numpy()[0]
    p = np.exp(logits - logits.max())
    p /= p.sum()
    axes = place(label + 1.25, top + 0.84, 8 * (side + gap) - gap - 1.25, 0.62)
    colors = [ORANGE if k == p.argmax() else GREY for k in range(10)]
    axes.bar(range(10), np.maximum(p, 0.01), color=colors)
    axes.set_xticks(range(10))
    axes.set_yticks([0, 1])
    axes.set_title(f"probabilities: {p.argmax()} with {100 * p.max():.1f} %", fontsize=8.5, pad=3)
    return show(figure, "Eight feature maps of each layer for one digit", caption)


def receptive_field(image: Any, fields: Mapping[str, int], gradient: Any, caption: str) -> Drawing:
    """Nested frames on an image, and the derivatives of a unit by the pixels."""
    figure, (left, right) = new(2.95, 1, 2)
    picture(left, image).set_title("fields of one unit")
    # unit (1, 2) of the last pooling begins at pixel (4, 8); the others are shown around its middle
    largest = max(fields.values())
    for (name, size), color in zip(fields.items(), (GREEN, VIOLET, BLUE, ORANGE)):
        top, side = 4 + (largest - size) // 2, 8 + (largest - size) // 2
        frame(left, top, side, size, size, color, linewidth=1.8)
        left.plot([], [], color=color, label=f"{name}: {size}")
    figure.legend(loc="outside lower center", ncols=4)
    picture(right, gradient, HEAT).set_title("size of the derivatives")
    frame(right, 4, 8, largest, largest, ORANGE)
    return show(figure, "The receptive field of each layer on a digit", caption)


def shifts(by: Sequence[int], results: Mapping[str, Sequence[float]], caption: str) -> Drawing:
    """Accuracy by how far the digits were moved."""
    figure, axes = new(2.5)
    for (name, scores), color in zip(results.items(), (BLUE, ORANGE)):
        axes.plot(by, 100 * np.asarray(scores), "o-", color=color, markersize=3.5, label=name)
    axes.set(xlabel="pixels to the right", ylabel="right answers, %", ylim=(0, 102))
    axes.grid(True)
    axes.legend(loc="lower center")
    said = (
        f"Share of right answers on digits moved by {by[0]} to {by[-1]} pixels. {spoken(results)}"
    )
    return show(figure, said, caption)


def recipes(losses: Mapping[str, Sequence[float]], batches: int, caption: str) -> Drawing:
    """The loss of several trainings, a mean of ten batches at a time, from their moving means."""
    figure, axes = new(2.5)
    means = {}
    for (name, moving), color in zip(losses.items(), (GREY, BLUE, ORANGE)):
        after, before = np.asarray(moving), np.append(moving[0], moving[:-1])
        single = (
            before + (after - before) / SMOOTHING
        )  # a moving mean hardly moves in so few batches
        means[name] = single[: len(single) // 10 * 10].reshape(-1, 10).mean(axis=1)
        places = (10 * np.arange(len(means[name])) + 5) / batches
        axes.plot(places, means[name], color=color, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "25" else "")
    axes.set(xlabel="epochs", ylabel="loss", xlim=(0, None))
    axes.grid(True)
    axes.legend()
    said = spoken({name: (mean[0], mean[-1]) for name, mean in means.items()}, ".2g")
    return show(figure, f"The loss of three trainings, at first and at last. {said}", caption)


def overfitting(rows: Mapping[str, Sequence[Any]], caption: str) -> Drawing:
    """Accuracy after each epoch, of images trained with (dashed) and of others."""
    figure, axes = new(2.6)
    for (name, epochs), color in zip(rows.items(), (BLUE, ORANGE)):
        numbers = range(1, len(epochs) + 1)
        trained = [100 * row.train_accuracy for row in epochs]
        others = [100 * row.test_accuracy for row in epochs]
        axes.plot(numbers, trained, "--", color=color, linewidth=1.2)
        axes.plot(numbers, others, "o-", color=color, markersize=3.5, label=name)
    axes.set(xlabel="epochs", ylabel="right answers, %")
    axes.grid(True)
    axes.legend(loc="lower right")
    last = {name: (e[-1].train_accuracy, e[-1].test_accuracy) for name, e in rows.items()}
    said = f"Accuracy by epoch; on the training images and on others, at the end. {spoken(last)}"
    return show(figure, said, caption)


# ------------------------------------------------------------------ gradients


def matrices(forward: Any, caption: str) -> Drawing:
    """A convolution of a row of pixels as a matrix, and its transpose."""
    figure, (left, right) = new(2.5, 1, 2, width_ratios=(1.25, 1))
    limit = np.abs(forward).max()
    for axes, matrix, name in (
        (left, forward, "out = M x"),
        (right, forward.T, "dx = Mᵀ dout"),
    ):
        shown = np.where(matrix == 0, np.nan, matrix)
        picture(axes, shown, SIGNED, vmin=-limit, vmax=limit).set_title(name)
        for (i, j), value in np.ndenumerate(matrix):
            if value:
                axes.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8.5, color=NIGHT)
        axes.set_xticks(np.arange(matrix.shape[1]) - 0.5, minor=True)
        axes.set_yticks(np.arange(matrix.shape[0]) - 0.5, minor=True)
        axes.grid(True, which="minor")
        axes.tick_params(which="minor", length=0)
    return show(figure, "The matrix of a one-dimensional convolution and its transpose", caption)


def meeting(size: int, kernel: int, pixel: int, weight: int, caption: str) -> Drawing:
    """Which outputs a pixel reaches, and which pairs of pixel and output a weight joins."""
    out = size - kernel + 1
    figure, (left, right) = new(2.5, 1, 2)
    shift = (size - out) / 2
    for axes, name in ((left, f"dx[{pixel}]: one pixel"), (right, f"dw[{weight}]: one weight")):
        for o in range(out):
            for k in range(kernel):
                chosen = o + k == pixel if axes is left else k == weight
                axes.plot(
                    [o + k, o + shift],
                    [0, 1],
                    color=(ORANGE if axes is left else BLUE) if chosen else GREY,
                    linewidth=2.2 if chosen else 0.7,
                    alpha=1 if chosen else 0.45,
                    zorder=2 if chosen else 1,
                )
                if chosen:
                    middle = 0.3 if axes is left else 0.5
                    y = 1 - middle
                    x = (o + k) * (1 - y) + (o + shift) * y
                    axes.text(
                        x + 0.14, y, f"w{k}", fontsize=8.5,
                        color=ORANGE if axes is left else BLUE, va="center",
                    )  # fmt: skip
        for count, y, start, label in ((size, 0, 0.0, "x"), (out, 1, shift, "out")):
            for i in range(count):
                axes.plot(i + start, y, "o", markersize=15, color=NIGHT, zorder=3)
                axes.text(
                    i + start, y, f"{label[0]}{i}", color=PAPER, ha="center", va="center",
                    fontsize=8.5, zorder=4,
                )  # fmt: skip
        axes.set(xlim=(-0.6, size - 0.4), ylim=(1.25, -0.25))
        axes.set_title(name)
        axes.set_axis_off()
    return show(figure, "Paths through a convolution from pixels to outputs", caption)


def footprint(dout: Any, kernel: Any, padded: Any, dx: Any, caption: str) -> Drawing:
    """The input gradient as a convolution of the padded output gradient with the turned kernel."""
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    grid = figure.subplots(1, 3, width_ratios=(len(padded), len(kernel) + 1.6, len(dx)))
    size = len(kernel)
    limit = max(np.abs(dout).max(), 1e-9)
    picture(grid[0], padded, SIGNED, vmin=-limit, vmax=limit).set_title("dout, padded")
    frame(grid[0], size - 1, size - 1, *np.shape(dout), INK, linewidth=1.0)
    frame(grid[0], 1, 2, size, size, ORANGE, linewidth=2)
    limit = np.abs(kernel).max()
    picture(grid[1], kernel[::-1, ::-1], SIGNED, vmin=-limit, vmax=limit).set_title("w, turned")
    values(grid[1], kernel[::-1, ::-1], "+.1f", color=NIGHT)
    limit = np.abs(dx).max()
    picture(grid[2], dx, SIGNED, vmin=-limit, vmax=limit).set_title("dx")
    frame(grid[2], 1, 2, 1, 1, ORANGE, linewidth=2)
    return show(
        figure, "The padded output gradient, the turned kernel, the input gradient", caption
    )


def coverage(counts: Mapping[str, Any], caption: str) -> Drawing:
    """How many outputs each pixel of an image acts on."""
    figure, grid = new(2.2, 1, len(counts))
    for axes, (name, count) in zip(grid, counts.items()):
        picture(axes, count, HEAT, vmin=-0.35 * np.max(count)).set_title(name, fontsize=9)
        for (i, j), value in np.ndenumerate(np.asarray(count)):
            color = NIGHT if value > 0.25 * np.max(count) else PAPER
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    return show(figure, "How many outputs each pixel acts on", caption)


def steps(eps: Any, errors: Mapping[str, Any], caption: str) -> Drawing:
    """The error of difference quotients by the size of the step."""
    figure, axes = new(2.6)
    for (name, error), color in zip(errors.items(), (BLUE, ORANGE)):
        axes.loglog(eps, error, "o-", color=color, markersize=3, label=name)
    axes.set(xlabel="step", ylabel="relative error of the quotient")
    axes.grid(True)
    axes.legend(loc="lower right")
    said = f"Errors of difference quotients for steps from {eps[0]:.0e} to {eps[-1]:.0e}"
    return show(figure, f"{said}. {spoken(errors, '.0e')}", caption)


# ------------------------------------------------------------------ speed


def ladder(rates: Mapping[str, float], peaks: Mapping[str, float], caption: str) -> Drawing:
    """GFLOP/s of each rung on a logarithmic axis, and what the machine can do at most."""
    figure, axes = new(0.32 * len(rates) + 1.0)
    names = list(rates)
    for y, (name, rate) in enumerate(rates.items()):
        axes.barh(y, rate, color=ORANGE if "cyconv" in name else BLUE, height=0.62)
        text = f"{rate:.3g}" if rate >= 0.01 else f"{rate:.1g}"
        if rate > 100 * min(rates.values()):  # inside, where the line of the peak is not
            axes.text(rate / 1.15, y, text, va="center", ha="right", color=NIGHT, fontsize=8.5)
        else:
            axes.text(rate * 1.15, y, text, va="center", fontsize=8.5)
    if max(peaks.values(), default=0) < 1.5 * min(peaks.values(), default=0):
        peaks = {"the peak": max(peaks.values())}  # one line for peaks that are about the same
    sides = {"right": "{} ", "left": " {}"}  # of the line: the names must not collide
    for (name, peak), (side, text) in zip(peaks.items(), sides.items()):
        axes.axvline(peak, color=INK, linewidth=0.9, linestyle="--", alpha=0.45, zorder=0)
        axes.text(peak, -0.8, text.format(name), ha=side, va="bottom", fontsize=8.5)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -1.5)
    axes.set_xlim(min(rates.values()) / 3, max([*rates.values(), *peaks.values()]) * 4)
    axes.set_xlabel("GFLOP/s")
    axes.tick_params(axis="y", length=0)
    said = spoken({name: (rate,) for name, rate in {**rates, **peaks}.items()})
    return show(figure, f"Speed of each version of the convolution, in GFLOP/s. {said}", caption)


def lines(
    x: Sequence[Any], series: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, caption: str
) -> Drawing:
    """A few lines over few places, each place with a name."""
    figure, axes = new(2.6)
    for (name, y), color in zip(series.items(), (BLUE, ORANGE, GREEN, VIOLET)):
        axes.plot(range(len(x)), y, "o-", color=color, markersize=3.5, label=name)
    axes.set_xticks(range(len(x)), [str(place) for place in x])
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.grid(True)
    axes.legend(loc="best")
    said = f"{ylabel} by {xlabel}, which are {', '.join(map(str, x))}. {spoken(series)}"
    return show(figure, said, caption)


def arrow(axes: Any, start: Any, end: Any, color: str = INK, **options: Any) -> None:
    """An arrow between two points of the axes."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.1, **options}
    axes.add_patch(FancyArrowPatch(start, end, color=color, **style))
