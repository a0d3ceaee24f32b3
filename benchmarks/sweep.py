"""How right the choice of algorithm is: ``python -m benchmarks.sweep``.

Every algorithm computes every shape in every direction, taking turns; the table says how much
longer ``auto`` takes than the best of them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import cyconv as cc
from cyconv.backends.algorithm import allows_winograd

from .compare import best_times, check, machine
from .layers import DIRECTIONS, Layer

ENOUGH = 1.1  # auto over the best
MOST_MACS = 400_000_000  # of a shape: larger ones would take minutes


def shapes() -> Iterator[tuple[int, int, int, int, int, int]]:
    """Batch, C, F, kernel, image, stride."""
    channels = [(3, 16), (16, 16), (32, 32), (20, 50), (64, 64), (64, 128), (128, 128)]
    windows = [(1, 1), (3, 1), (3, 2), (5, 1), (7, 2)]
    for batch, (c, f), (kernel, stride) in itertools.product((1, 8, 64), channels, windows):
        image = 32 if c < 64 else 16
        if batch * c * f * (kernel * image // stride) ** 2 <= MOST_MACS:
            yield batch, c, f, kernel, image, stride


def candidates(layer: Layer, direction: str, backend: Any) -> dict[str, Callable[[], Any]]:
    algorithms = ["auto", "direct", "im2col", "winograd"]
    if not allows_winograd(layer.g, direction):
        algorithms.remove("winograd")
    return {algo: layer.cyconv(backend, direction, algo) for algo in algorithms}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="how long to measure a row")
    parser.add_argument("--directions", nargs="*", default=DIRECTIONS, choices=DIRECTIONS)
    options = parser.parse_args()
    backend = cc.backends.backend_of(np.empty(0))
    print(f"{machine(cc.get_num_threads())}\n")
    print("| N, C, F, kernel, image, stride | direction | best | ms | auto takes |")
    print("| --- | --- | --- | ---: | ---: |")
    ratios = []
    for shape, direction in itertools.product(shapes(), options.directions):
        n, c, f, kernel, image, stride = shape
        layer = Layer((c, f, kernel, image, stride, kernel // 2, 1), n)
        found = candidates(layer, direction, backend)
        check(found, 1e-4)
        times, _ = best_times(found, options.seconds, rest=0)
        auto = times.pop("auto")
        best = min(times, key=lambda name: times[name])
        # the same algorithm measured twice differs by chance only
        ratios.append(max(1.0, auto / times[best]))
        row = ", ".join(map(str, shape))
        print(
            f"| {row} | {direction} | {best} | {times[best] * 1e3:.3f} | {ratios[-1]:.2f} |",
            flush=True,
        )
    good = sum(ratio <= ENOUGH for ratio in ratios)
    print(
        f"\nauto is within {ENOUGH - 1:.0%} of the best in {good} of {len(ratios)} cases, "
        f"at worst {max(ratios):.2f} times, and on geometric mean "
        f"{np.exp(np.mean(np.log(ratios))):.3f} times."
    )


if __name__ == "__main__":
    main()
