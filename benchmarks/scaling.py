"""How cost grows, and what whole processes take: ``python -m benchmarks.scaling [tables]``.

Prints Markdown with the machine on top, as ``benchmarks.compare`` does, of which this is the
rest. ``threads``: training steps on one thread and on all. ``cost``: convolutions as one size
grows at a time. ``memory``: the peak of training steps. ``process``: ``cyconv train --epochs 1``
from start to end. ``small``: layers of 1 and 8 images. All of them take some ten minutes; by
``--seconds``, ``--rounds``, ``--most-macs`` and ``--limit`` they take less.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cyconv as cc
from cyconv import kernels
from cyconv.data import mnist
from cyconv.data.fetch import Location

from .compare import REST, best_times, check, installed, layer_table, libraries, must_agree, prepare
from .deep import NOTEBOOK, step_of
from .layers import DIRECTIONS, Layer
from .memory import COMPILED, STATUS
from .reference import convolution

ROOT = Path(__file__).parents[1]
TABLES = ("threads", "cost", "memory", "process", "small")

# ------------------------------------------------------------------ threads


IN_REGISTERS = "multiply-adds in registers"


def on_threads(name: str, batch: int, threads: int) -> Callable[[], float]:
    """A training step of a net, or so many multiply-adds without memory on all threads together."""
    if name == IN_REGISTERS:
        kernel = kernels.Kernels(kernels.choose())["f"].peak
        return lambda: float(kernel.multiply_adds(2**22 // threads, threads)) / threads
    step = step_of(COMPILED, name, batch)

    def switched() -> float:
        cc.set_num_threads(threads)
        return step()

    return switched


def thread_table(batch: int, threads: int, seconds: float) -> None:
    compiled = cc.backends.backend_name() == "cython"
    rows = [NOTEBOOK, "VGG", *([IN_REGISTERS] if compiled else [])]
    print(f"| training step, batch {batch} | 1 thread, ms | {threads} threads, ms | times faster |")
    print("| --- | ---: | ---: | ---: |")
    for name in rows:
        found = {str(t): on_threads(name, batch, t) for t in dict.fromkeys((1, threads))}
        check(found, 0)  # the bits do not depend on the number of threads
        best = best_times(found, seconds / len(rows))[0]
        one, all_of_them = best["1"], best[str(threads)]
        times = f"{one * 1e3:.2f} | {all_of_them * 1e3:.2f} | {one / all_of_them:.2f}"
        print(f"| {name} | {times} |", flush=True)
    cc.set_num_threads(threads)
    print("\nThe last row is what the cores have to give.\n" if compiled else "")


# ------------------------------------------------------------------ cost

KERNELS = (3, 1)
LEAST_MACS = 10_000_000  # smaller layers cost more for the call and the threads' start
SMALL_BATCH = 16  # fewer images do not fill the vectors
ALLOWED, ALLOWED_SMALL = 1.5, 2.5  # times the median


def grown() -> Iterator[tuple[int, int, int]]:
    """Batch, channels (as many are read as written), image; at most 2 GB with all arrays."""
    for batch in (1, 2, 3, 4, 8, 16, 17, 32, 63, 64, 65, 128, 256, 512, 1024):
        yield batch, 64, 32
    for image in (8, 14, 16, 28, 32, 56, 112, 224):
        yield 32, 32, image
    for channels in (4, 8, 16, 32):
        yield 64, channels, 112
    for channels in (32, 64, 128, 256, 512):
        yield 64, channels, 16


def some_of(layer: Layer, direction: str) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """A part of the result by NumPy, and the function that takes this part of the whole.

    Of the first and the last image, or for the weights of the first and the last channels.
    """
    ends, g = [0, -1], layer.g
    x, w, dout = layer.x, layer.w, layer.dout
    kernel = g.window.kernel[0]
    sizes = (g.c, g.f, kernel, g.window.in_size[0], 1, kernel // 2, 1)
    if direction == "weight_grad":
        part = Layer((2, 2, *sizes[2:]), g.n).g
        x, w, dout = x[:, ends], w[ends][:, ends], dout[:, ends]
        return convolution(direction, x, w, dout, part), lambda dw: dw[ends][:, ends]
    part = Layer(sizes, 2).g
    return convolution(direction, x[ends], w, dout[ends], part), lambda out: out[ends]


def cost_of(
    size: tuple[int, int, int], kernel: int, most: int, seconds: float, known: bool
) -> list[float]:
    """Seconds per multiply-add in each direction; NaN where there are too few or too many.

    Unless the results are ``known`` to be right they are checked.
    """
    batch, channels, image = size
    macs = batch * (channels * kernel * image) ** 2
    if not LEAST_MACS < macs <= most:
        return [float("nan")] * len(DIRECTIONS)
    layer = Layer((channels, channels, kernel, image, 1, kernel // 2, 1), batch)
    backend, found = cc.backends.backend_of(layer.x), []
    for direction in DIRECTIONS:
        run = layer.cyconv(backend, direction)
        if not known:
            expected, part = some_of(layer, direction)
            must_agree({"NumPy": expected, "cyconv": part(run())}, 1e-4)
            time.sleep(5 * REST)  # the threads of NumPy's matrix product wait in a busy loop, too
        found.append(best_times({"cyconv": run}, seconds, rest=0)[0]["cyconv"] / macs)
    return found


def cost_table(most: int, rounds: int, seconds: float) -> None:
    sizes = list(grown())
    titles = [f"{k}x{k} {direction}" for k in KERNELS for direction in DIRECTIONS]
    costs = np.full((len(sizes), len(titles)), np.nan)
    for done in range(rounds):  # through all sizes: a slow moment is then not one size's alone
        for i, size in enumerate(sizes):
            found = [cost_of(size, k, most, seconds / rounds, known=done > 0) for k in KERNELS]
            costs[i] = np.fmin(costs[i], np.concatenate(found))
    measured = ~np.isnan(costs).all(1)
    if not measured.any():
        raise SystemExit(f"no layer has from {LEAST_MACS:,} to {most:,} multiply-adds")
    columns = ~np.isnan(costs).all(0)
    medians = np.full(len(titles), np.nan)
    medians[columns] = np.nanmedian(costs[:, columns], 0)
    relative = costs / medians
    print("| batch, channels, image |", " | ".join(titles), "|")
    print("| --- |" + " ---: |" * len(titles))
    beyond = []
    for size, row in zip(sizes, relative):
        allowed = ALLOWED_SMALL if size[0] < SMALL_BATCH else ALLOWED
        cells = ["" if np.isnan(value) else f"{value:.2f}" for value in row]
        for k in np.flatnonzero(row > allowed):
            cells[k] = f"**{cells[k]}**"
            beyond.append(", ".join(map(str, size)))
        if any(cells):
            print(f"| {', '.join(map(str, size))} |", " | ".join(cells), "|")
    picoseconds = ["" if np.isnan(m) else f"{m * 1e12:.2f}" for m in medians]
    print("| median, picoseconds |", " | ".join(picoseconds), "|\n")
    small = np.array([size[0] < SMALL_BATCH for size in sizes])
    worst = [
        f"{np.nanmax(rows):.2f} {which}"
        for which, rows in (("from 16 images on", relative[~small]), ("below", relative[small]))
        if not np.isnan(rows).all()
    ]
    where = f", in {'; '.join(dict.fromkeys(beyond))}" if beyond else ""
    print(
        f"Time per multiply-add, in medians of its column, of layers over {LEAST_MACS:,}. "
        f"At worst {', '.join(worst)}.\n{len(beyond)} of {np.isfinite(relative).sum()} are beyond "
        f"{ALLOWED} ({ALLOWED_SMALL} below {SMALL_BATCH} images){where}. "
        f"Best of {rounds} rounds.\n",
        flush=True,
    )


# ------------------------------------------------------------------ whole processes


def output_of(*arguments: Any) -> str:
    """What a Python process with these arguments prints."""
    command = [sys.executable, *map(str, arguments)]
    # modules of an installed package are compiled once, those of a checkout shall be, too
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def memory_table(batch: int, threads: int) -> None:
    if not STATUS.exists():
        print(f"Memory is not measured here: there is no {STATUS}.\n")
        return
    columns = " | ".join(f"{library}, MB" for library in libraries())
    print(f"| peak memory of training steps, batch {batch} | {columns} |")
    print("| --- |" + " ---: |" * len(libraries()))
    for name in (NOTEBOOK, "ResNet-20", "VGG"):
        found = {
            library: json.loads(output_of("-m", "benchmarks.memory", library, name, batch, threads))
            for library in libraries()
        }
        must_agree({library: facts["losses"] for library, facts in found.items()}, 1e-3)
        others = [facts["steps"] for name, facts in found.items() if name.startswith("PyTorch")]
        cells = []
        for library, facts in found.items():
            steps, imports = facts["steps"], facts["imports"]
            cells.append(f"{steps / 1e6:.0f} ({(imports + steps) / 1e6:.0f})")
            if others and library.startswith("cyconv"):
                cells[-1] += f", {steps / min(others):.2f}x"
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    print("\nIn brackets: with what the library takes once it is imported.")
    print("The factor is to PyTorch's better layout.\n" if installed("torch") else "")


def mnist_files() -> tuple[list[Path], bool]:
    """Where the images and labels lie, to train and to test; and whether they are all of MNIST."""
    place = Location("MNIST", "mnist", (), None, download=False)
    names = [known.name for known in (*mnist.MNIST_TRAIN, *mnist.MNIST_TEST)]
    found = [place.find(name, f"{name}.gz") for name in names]
    paths = [path for path in found if path is not None]
    if len(paths) == len(names):
        return paths, True
    built_in = (*mnist.BUILT_IN_TRAIN, *mnist.BUILT_IN_TEST)
    return [Path(mnist.__file__).parent / f"{known.name}.gz" for known in built_in], False


# The command as it is, but that it does not look for a network.
ON_BUILT_IN = """
import sys
from cyconv import cli, cli_train, data
cli_train.DATASETS["mnist"] = lambda train, root: data.MNIST.built_in(train)
sys.exit(cli.main(sys.argv[1:]))
"""


def trainings(
    files: list[Path], full: bool, options: list[Any]
) -> dict[str, Callable[[Path], float]]:
    """Each trains in a process of its own and tells the test accuracy; wants an empty folder."""

    def ours(*more: str) -> Callable[[Path], float]:
        def run(folder: Path) -> float:
            start = ("-m", "cyconv") if full else ("-c", ON_BUILT_IN)
            out = folder / "run"
            output_of(*start, "train", "--epochs", 1, "--out", out, *options, *more)
            with open(out / "history.csv", newline="") as file:
                return float(list(csv.DictReader(file))[-1]["test_accuracy"])

        return run

    def torch(*more: str) -> Callable[[Path], float]:
        def run(folder: Path) -> float:
            out = ("--out", folder / "net.pt")
            text = output_of("-m", "benchmarks.torch_train", *files, *out, *options, *more)
            return float(text.split()[-1])

        return run

    found = {"cyconv train": ours(), "cyconv train --no-plots": ours("--no-plots")}
    if installed("torch"):
        for more in ((), ("--train-accuracy",)):
            accuracy = ", with the train accuracy" if more else ""
            found[f"PyTorch{accuracy}"] = torch(*more)
            found[f"PyTorch, channels_last{accuracy}"] = torch("--channels-last", *more)
    return found


def process_table(threads: int, limit: int | None, rounds: int) -> None:
    files, full = mnist_files()
    images = min(limit or 60_000, 60_000 if full else 10_000)
    options = ["--threads", threads, *(("--limit", limit) if limit else ())]
    found = trainings(files, full, options)
    best, accuracies = dict.fromkeys(found, float("inf")), dict.fromkeys(found, 0.0)
    for _ in range(rounds):
        for name, run in found.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                accuracies[name] = run(Path(folder))
                best[name] = min(best[name], time.perf_counter() - start)
        # what chance leaves to accuracies is 0.01 for all of MNIST, and more for fewer images
        must_agree(accuracies, max(0.01, 600 / images))
    if not full:
        print("MNIST is not here (CYCONV_DATA_DIR): these are the images in the package.\n")
    print(f"| one epoch of {images:,} images, whole process | s | against | test accuracy |")
    print("| --- | ---: | ---: | ---: |")
    reference = best["cyconv train"]
    for name, value in best.items():
        print(f"| {name} | {value:.2f} | {value / reference:.2f} | {accuracies[name]:.4f} |")
    print(
        f"\nBest of {rounds} rounds. Each measures the accuracy on the test images; "
        "`cyconv train`, as the last two, also that on the training images.\n",
        flush=True,
    )


# ------------------------------------------------------------------ the command


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--most-macs", type=float, default=5e10, help="the largest layer of the table cost")
    add("--limit", type=int, help="how many images the table process trains on")
    add("--rounds", type=int, default=3, help="of the tables cost and process")
    options = prepare(parser, TABLES, "all")
    wanted, threads, seconds = options.tables, options.threads, options.seconds
    if "threads" in wanted:
        thread_table(options.batch_size, threads, seconds)
    if "cost" in wanted:
        cost_table(int(options.most_macs), options.rounds, seconds / 100)
    if "memory" in wanted:
        memory_table(options.batch_size, threads)
    if "process" in wanted:
        process_table(threads, options.limit, options.rounds)
    if "small" in wanted:
        for batch in (1, 8):
            layer_table(batch, seconds / 20, ["forward"])


if __name__ == "__main__":
    main()
