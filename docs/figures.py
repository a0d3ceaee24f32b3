"""The style of every drawing on the pages, and the drawings that several pages use.

A figure becomes SVG inside the page. Its lines and letters have the colour of the text around it
(CSS ``currentColor``), so that it reads on a light page and on a dark one; colours that carry
meaning are mid-tones that stand out on both. Widths are those of a phone, magnified on a desk.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK = "#010203"  # a colour that nothing else has: becomes currentColor
BLUE, ORANGE, GREEN, VIOLET, GREY = "#3d84d6", "#e0762f", "#2f9f72", "#9a6fd0", "#8b9099"
NIGHT, PAPER = "#161b27", "#f7f3e8"  # the darkest and the lightest pixel of an image
TIMES = "\N{MULTIPLICATION SIGN}"
WIDTH = 5.2  # inches; in points about the width of a phone in pixels

PIXELS = LinearSegmentedColormap.from_list("pixels", [NIGHT, PAPER])
HEAT = LinearSegmentedColormap.from_list("heat", [NIGHT, "#2a5a9c", "#79b1e8", PAPER])
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#2368b4", "#8fb9e4", PAPER, "#eda877", "#cf5a13"]
)

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",  # letters stay letters
        "svg.hashsalt": "cyconv",  # the same figure gives the same text
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9.2,
        "ytick.labelsize": 9.2,
        "legend.fontsize": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.titlecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "grid.color": INK,
        "grid.alpha": 0.15,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
        "image.interpolation": "none",
        "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, VIOLET, GREY]),
    }
)


class Drawing:
    """SVG with a description for those who cannot see it, and a caption; notebooks show it."""

    def __init__(self, svg: str, alt: str, caption: str = "", width: float = 1.0):
        self.svg, self.alt, self.caption, self.width = svg, alt, caption, width

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{self.caption}</figcaption>" if self.caption else ""
        style = f' style="--share: {100 * self.width:.0f}%"' if self.width < 1 else ""
        return (
            f'<figure class="drawing"><div role="img" aria-label="{html.escape(self.alt)}"{style}>'
            f"{self.svg}</div>{caption}</figure>"
        )


def show(figure: Figure, alt: str, caption: str = "", width: float = 1.0) -> Drawing:
    """A matplotlib figure for the page; ``width`` is the share of the column that it takes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # such names would come twice on a page
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return Drawing(svg.replace(INK, "currentColor").strip(), alt, caption, width)


def spoken(series: Mapping[str, Iterable[float]], spec: str = ".3g") -> str:
    """The numbers of lines or bars, for those who cannot see them: "a: 1, 2; b: 3, 4"."""
    lists = {name: ", ".join(f"{v:{spec}}" for v in line) for name, line in series.items()}
    return "; ".join(f"{name}: {line}" for name, line in lists.items())


def new(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of the usual width, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
    return figure, figure.subplots(rows, columns, **options)


def bare(axes: Axes) -> Axes:
    """Without ticks; the frame stays, faint."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.35, linewidth=0.6)
    return axes


def picture(axes: Axes, image: Any, cmap: Any = PIXELS, **options: Any) -> Axes:
    """An image (H, W) as squares, its pixel (i, j) centred at x = j, y = i."""
    axes.imshow(np.asarray(image), cmap=cmap, **options)
    return bare(axes)


def tiles(
    images: Sequence[Any],
    titles: Iterable[str] = (),
    *,
    columns: int,
    alt: str,
    caption: str = "",
    cmap: Any = PIXELS,
    each: bool = False,
    signed: bool = False,
) -> Drawing:
    """Small images side by side, on one scale, or with ``each`` on one of its own."""
    arrays = [np.asarray(image) for image in images]
    names = [*titles] or [""] * len(arrays)
    rows = -(-len(arrays) // columns)
    tall = max(a.shape[0] / a.shape[1] for a in arrays)
    lines = max(name.count("\n") + 1 if name else 0 for name in names)
    size = WIDTH / columns * tall * 0.94 + 0.17 * lines + 0.03
    figure, grid = new(size * rows, rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    largest = max(np.abs(a).max() for a in arrays)
    for axes, array, name in zip(grid.flat, arrays, names):
        axes.set_axis_on()
        high = (np.abs(array).max() if each else largest) or 1.0
        low = -high if signed else (array.min() if each else min(a.min() for a in arrays))
        picture(axes, array, SIGNED if signed else cmap, vmin=low, vmax=high)
        if name:
            axes.set_title(name, pad=3, fontsize=8.5)
    return show(figure, alt, caption)


def frame(
    axes: Axes, top: float, left: float, height: float, width: float, color: str, **options: Any
) -> None:
    """A frame around ``height`` x ``width`` pixels, from pixel (top, left) on."""
    options = {"linewidth": 1.6, "fill": False, **options}
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, edgecolor=color, **options))


def values(axes: Axes, array: Any, spec: str = ".2g", size: float = 8.5, **options: Any) -> None:
    """The numbers of an image (H, W), each in its square; a 0 has no sign and no digits."""
    for (i, j), value in np.ndenumerate(np.asarray(array)):
        axes.text(
            j,
            i,
            f"{value:{spec}}" if value else "0",
            ha="center",
            va="center",
            fontsize=size,
            **options,
        )


# ------------------------------------------------------------------ one kernel over one image


def sliding(image: Any, kernel: Any, out: Any, at: tuple[int, int], caption: str = "") -> Drawing:
    """An image (H, W), the kernel at one place of it, and the output, with that place marked."""
    image, kernel, out = map(np.asarray, (image, kernel, out))
    size, (i, j) = len(kernel), at
    figure = Figure(figsize=(WIDTH, 2.75), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.03)
    grid = figure.add_gridspec(2, 3, width_ratios=(2.1, 1, 2.1))
    left, right = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 2])
    patch, weights = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    picture(left, image, vmin=0, vmax=1).set_title(f"input, {len(image)} {TIMES} {image.shape[1]}")
    frame(left, i, j, size, size, ORANGE)
    window = image[i : i + size, j : j + size]
    picture(patch, window, vmin=0, vmax=1).set_title("the window")
    for (row, column), value in np.ndenumerate(window):
        color = NIGHT if value > 0.5 else PAPER
        patch.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=8.5)
    limit = np.abs(kernel).max()
    picture(weights, kernel, SIGNED, vmin=-limit, vmax=limit).set_title("the kernel")
    values(weights, kernel, "+.0f", color=NIGHT)
    for spine in patch.spines.values():
        spine.set(color=ORANGE, alpha=1, linewidth=1.6)
    limit = np.abs(out).max()
    picture(right, out, SIGNED, vmin=-limit, vmax=limit)
    right.set_title(f"output, {len(out)} {TIMES} {out.shape[1]}")
    frame(right, i, j, 1, 1, NIGHT, linewidth=1.4)
    right.annotate(
        f"{out[i, j]:+.2f}",
        (j, i),
        (j + 4.5, i - 3.5),
        color=NIGHT,
        fontsize=9,
        va="center",
        arrowprops={"arrowstyle": "-", "color": NIGHT, "linewidth": 0.8},
    )
    return show(figure, "A window on the image, the kernel, and the output it gives", caption)


# ------------------------------------------------------------------ how a training went


def curves(
    losses: Sequence[float],
    accuracies: dict[str, Sequence[float]],
    batches: int,
    alt: str,
    caption: str = "",
) -> Drawing:
    """The moving loss by batch, and the accuracies after each epoch."""
    figure, (left, right) = new(2.3, 1, 2)
    left.plot(np.arange(1, len(losses) + 1) / batches, losses, color=BLUE)
    left.set_yscale("log")
    left.yaxis.set_major_formatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "125" else "")
    left.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:e}"[0] in "25" else "")
    left.set_title("moving loss", loc="left")
    for (name, points), color in zip(accuracies.items(), (GREY, ORANGE, BLUE, GREEN)):
        ends = np.arange(1, len(points) + 1)
        right.plot(ends, 100 * np.asarray(points), "o-", color=color, markersize=3.5, label=name)
    right.set_title("accuracy, %", loc="left")
    right.legend(loc="best")
    for axes in (left, right):
        axes.set_xlabel("epochs")
        axes.grid(True)
        axes.xaxis.get_major_locator().set_params(integer=True)
    said = spoken({"loss, first and last": (losses[0], losses[-1]), **accuracies})
    return show(figure, f"{alt}. {said}", caption)


def confusion(counts: Any, names: Sequence[str], alt: str, caption: str = "") -> Drawing:
    """How often each class (row) was taken for which (column)."""
    counts = np.asarray(counts)
    figure, axes = new(4.6)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = np.where(np.eye(len(counts), dtype=bool), 0, share)
    for (i, j), value in np.ndenumerate(counts):
        strength = share[i, j] if i == j else off[i, j] / max(off.max(), 1e-9)
        color = BLUE if i == j else ORANGE
        alpha = 0.12 + 0.4 * strength if i == j else 0.85 * strength
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=color, alpha=alpha, linewidth=0))
        if value:
            axes.text(j, i, value, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(len(counts)), names)
    axes.set_yticks(range(len(counts)), names)
    axes.set(xlabel="the net's answer", ylabel="the truth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return show(figure, alt, caption, width=0.8)
