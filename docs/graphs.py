"""Draws what was recorded: the operations between parameters and loss, and how they are walked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from figures import BLUE, GREY, INK, ORANGE, WIDTH, Drawing, new, show
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from cyconv.autograd import Node, source_of


def graph(
    result: Any, names: Mapping[str, Any], caption: str, order: Mapping[Any, int] | None = None
) -> Drawing:
    """The recorded graph of a tensor, from the named tensors at the top to the result below.

    ``order`` numbers the nodes in the order in which a walk took them.
    """
    called = {id(tensor): name for name, tensor in names.items()}
    start = source_of(result)
    below: dict[Any, list[Any]] = {start: []}  # who uses it
    stack = [start]
    while stack:
        node = stack.pop()
        for source in _sources(node):
            if source not in below:
                below[source] = []
                stack.append(source)
            below[source].append(node)
    level: dict[Any, int] = {}
    waiting = {node: len(users) for node, users in below.items()}
    ready = [start]
    level[start] = 0
    while ready:  # the longest way to the result
        node = ready.pop()
        for source in _sources(node):
            level[source] = max(level.get(source, 0), level[node] + 1)
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    for node in level:  # parameters beside the operation that uses them
        if not isinstance(node, Node):
            level[node] = min(level[user] for user in below[node]) + 1
    rows: dict[int, list[Any]] = {}
    for node, depth in level.items():
        rows.setdefault(depth, []).append(node)
    place: dict[Any, float] = {}
    for depth in sorted(rows):
        nodes = sorted(rows[depth], key=lambda n: _mean_place(n, below, place))
        inner = [node for node in nodes if isinstance(node, Node)]
        if len(inner) == 1:  # in the middle of the parameters that are used beside it
            place[inner[0]] = _mean_place(inner[0], below, place)
            for i, node in enumerate(node for node in nodes if node is not inner[0]):
                place[node] = place[inner[0]] + (i // 2 + 1) * (-1) ** (i + 1)
        else:
            for i, node in enumerate(nodes):
                place[node] = i - (len(nodes) - 1) / 2
    top = max(rows)
    figure = Figure(figsize=(WIDTH, 0.52 * (top + 1) + 0.15))
    axes = figure.add_axes((0, 0, 1, 1))
    for node, users in below.items():
        for user in users:
            axes.annotate(
                "",
                (1.55 * place[user], -(top - level[user]) + 0.27),
                (1.55 * place[node], -(top - level[node]) - 0.27),
                arrowprops={"arrowstyle": "-|>", "color": INK, "alpha": 0.6, "linewidth": 0.9},
            )
    said: dict[int, list[str]] = {}
    for node in below:
        x, y = 1.55 * place[node], -(top - level[node])
        inner = isinstance(node, Node)
        color = BLUE if inner else ORANGE
        box = {"boxstyle": "round,pad=0,rounding_size=0.12", "facecolor": color, "alpha": 0.22}
        axes.add_patch(FancyBboxPatch((x - 0.62, y - 0.26), 1.24, 0.52, edgecolor=color, **box))
        text = type(node.op).__name__ if inner else called.get(id(node), "tensor")
        axes.text(x, y, text, ha="center", va="center", fontsize=9)
        if order and node in order:
            axes.text(x - 0.74, y, order[node], ha="right", va="center", fontsize=8.5, color=GREY)
        said.setdefault(level[node], []).append(text)
    wide = max(abs(x) for x in place.values()) * 1.55 + 1.0
    axes.set(xlim=(-max(wide, 2.4), max(wide, 2.4)), ylim=(-top - 0.45, 0.45))
    axes.set_axis_off()
    lines = [" and ".join(said[depth]) for depth in sorted(said, reverse=True)]
    alt = f"The recorded graph, row by row from the top: {'; '.join(lines)}"
    return show(figure, alt, caption, width=1.0 if wide > 2.4 else 0.75)


def _sources(node: Any) -> list[Any]:
    return [s for s in node.sources if s is not None] if isinstance(node, Node) else []


def _mean_place(node: Any, below: Mapping[Any, list[Any]], place: Mapping[Any, float]) -> float:
    users = [place[user] for user in below[node] if user in place]
    return float(np.mean(users)) if users else 0.0


def held(steps: list[int], labels: list[str], caption: str) -> Drawing:
    """How many bytes the graph still holds after each step of the walk."""
    figure, axes = new(2.7)
    axes.step(range(len(steps)), np.asarray(steps) / 2**20, where="post", color=BLUE)
    axes.fill_between(
        range(len(steps)), np.asarray(steps) / 2**20, step="post", color=BLUE, alpha=0.15
    )
    axes.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=55, ha="right", fontsize=8.5)
    axes.set(ylabel="MiB held by the graph", ylim=(0, None), xlim=(0, len(steps) - 1))
    axes.tick_params(axis="x", length=0)
    axes.grid(True, axis="y")
    said = ", ".join(f"{step / 2**20:.1f}" for step in steps)
    return show(
        figure, f"MiB that the graph holds before the walk and after each step: {said}", caption
    )
