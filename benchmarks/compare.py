"""Compare cyconv with its peers in one process: ``python -m benchmarks.compare``.

Prints Markdown with the machine on top. Each round runs every candidate once; a figure is the best
of all rounds, and a ratio is of two figures of the same run. Peers that are not installed have no
row. Before anything is timed, all candidates must give the same result.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import cyconv as cc

from . import deep, gpu, nets, peers
from .layers import DIRECTIONS, LAYERS, Layer
from .memory import COMPILED, LIBRARIES

Candidates = dict[str, Callable[[], Any]]
REST = 0.02  # seconds; PyTorch's and TensorFlow's threads wait for work in a busy loop for so long
# Seconds of a candidate's turn: its threads may all wake up on one processor, and the system needs
# a while to give each one of its own
WARM = 0.02
TIMED = 0.005  # and then, so that short calls are timed more than once


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


# ------------------------------------------------------------------ measuring


def best_times(
    candidates: Candidates, seconds: float, rest: float = REST
) -> tuple[dict[str, float], int]:
    """The best time of each, in seconds, alternating until the time is up; and the rounds."""
    best = dict.fromkeys(candidates, float("inf"))
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or not rounds:
        rounds += 1
        for name, run in candidates.items():
            time.sleep(rest)
            times_for(run, min(WARM, rest))
            best[name] = min(best[name], *times_for(run, TIMED))
    return best, rounds


def times_for(run: Callable[[], Any], seconds: float) -> list[float]:
    """Of calls one after the other, at least one, until so many seconds are over."""
    times: list[float] = []
    while sum(times) < seconds or not times:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def check(candidates: Candidates, tolerance: float) -> None:
    """Stop unless the first results of all candidates agree."""
    must_agree({name: run() for name, run in candidates.items()}, tolerance)


def must_agree(results: dict[str, Any], tolerance: float) -> None:
    """Stop unless all are the first one, up to ``tolerance`` times the largest number in it."""
    arrays = {name: np.asarray(result, dtype=np.float64) for name, result in results.items()}
    reference = next(iter(arrays.values()))
    scale = max(1.0, float(np.abs(reference).max()))
    for name, result in arrays.items():
        if not np.allclose(result, reference, rtol=0, atol=tolerance * scale):
            error = float(np.abs(result - reference).max())
            raise SystemExit(f"{name} does not compute the same: it is off by {error:.2g}")


def table(title: str, candidates: Candidates, seconds: float, tolerance: float = 1e-4) -> None:
    """Check, measure, and print one row for each candidate."""
    check(candidates, tolerance)
    best, rounds = best_times(candidates, seconds)
    reference = next(iter(best.values()))
    print(f"| {title} | ms | against |\n| --- | ---: | ---: |")
    for name, value in best.items():
        print(f"| {name} | {value * 1e3:.{2 if value < 0.1 else 1}f} | {value / reference:.2f} |")
    print(f"\nBest of {rounds} rounds.\n", flush=True)


# ------------------------------------------------------------------ what is compared


def on_backend(name: str, run: Callable[[], Any]) -> Callable[[], Any]:
    def switched() -> Any:
        cc.set_backend(name)
        return run()

    return switched


def backends() -> Iterator[tuple[str, str]]:
    """cyconv's backends that are here, and how a row calls them."""
    cc.set_backend("auto")
    if cc.backends.backend_name() == "cython":
        yield "cython", "cyconv"
    yield "numpy", "cyconv, NumPy backend"


def libraries() -> list[str]:
    """cyconv, and PyTorch with each memory layout if it is installed."""
    return [title for title, module in LIBRARIES.items() if installed(module)]


def steps(batch: int, threads: int) -> Candidates:
    found: Candidates = {}
    for name, title in list(backends()):
        if name == "cython":
            found[COMPILED] = on_backend(name, nets.cyconv_step(batch, compiled=True))
        found[title] = on_backend(name, nets.cyconv_step(batch))
    if installed("torch"):
        found["PyTorch"] = nets.torch_step(batch, channels_last=False)
        found["PyTorch, channels_last"] = nets.torch_step(batch, channels_last=True)
        if shutil.which("c++"):  # which it compiles with
            found["PyTorch, channels_last, torch.compile"] = nets.torch_step(
                batch, True, compiled=True
            )
    if installed("tensorflow"):
        found["TensorFlow, tf.function"] = peers.tensorflow_step(batch, threads)
    if installed("jax"):
        found["JAX, jit"] = peers.jax_step(batch)
    if installed("mygrad"):
        found["MyGrad"] = nets.mygrad_step(batch)
    return found


def inference(batch: int, threads: int) -> Candidates:
    cc.set_backend("auto")
    found: Candidates = {COMPILED: nets.cyconv_compiled(batch)}
    for name, title in list(backends()):
        found[title] = on_backend(name, nets.cyconv_inference(batch))
    if installed("torch"):
        found["PyTorch"] = nets.torch_inference(batch)
    if installed("torch") and installed("onnxruntime") and installed("onnx"):
        found["onnxruntime"] = peers.onnxruntime_inference(batch, threads)
    return found


def deep_steps(name: str, batch: int) -> Candidates:
    return {library: deep.step_of(library, name, batch) for library in libraries()}


def layer_table(batch: int, seconds: float, directions: Sequence[str] = DIRECTIONS) -> None:
    """GFLOP/s of each layer and direction, and the ratio to PyTorch's better layout."""
    ratios: dict[str, dict[str, float]] = {direction: {} for direction in directions}
    print(f"| layer, batch {batch} |", " | ".join(f"{d}, GFLOP/s" for d in directions), "|")
    print("| --- |" + " ---: |" * len(directions))
    for name in LAYERS:
        layer = Layer(name, batch)
        backend = cc.backends.backend_of(layer.x)
        cells = []
        for direction in directions:
            found: Candidates = {"cyconv": layer.cyconv(backend, direction)}
            if installed("torch"):
                found["PyTorch"] = layer.torch(direction, channels_last=False)
                found["channels_last"] = layer.torch(direction, channels_last=True)
            check(found, 1e-4)
            ours, *others = best_times(found, seconds)[0].values()
            cells.append(f"{2e-9 * layer.g.macs / ours:.0f}")
            if others:
                ratios[direction][name] = min(others) / ours
                cells[-1] += f" ({ratios[direction][name]:.2f}x)"
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    print()
    if not installed("torch"):
        return
    sums = []
    for direction, found_ratios in ratios.items():
        mean = np.exp(np.mean(np.log(list(found_ratios.values()))))
        worst = min(found_ratios, key=lambda name: found_ratios[name])
        sums.append(f"{direction} {mean:.2f}, at worst {found_ratios[worst]:.2f} ({worst})")
    print("In brackets: how many times PyTorch's better layout.")
    print(f"On geometric mean: {'; '.join(sums)}.\n", flush=True)


def gpu_table(batch: int, seconds: float) -> None:
    """The CPU against the GPU: the step in ms, each layer in GFLOP/s and its share of the peak."""
    if reason := gpu.missing():
        print(f"No GPU to compare with: {reason}.\n")
        return
    title = f"the notebook's network, training step, batch {batch}"
    on_cpu, on_gpu = nets.cyconv_step(batch), nets.cyconv_step(batch, "cuda")
    table(title, {"cyconv, CPU": on_cpu, "cyconv, GPU": on_gpu}, seconds, tolerance=1e-3)
    print(f"{gpu.gpu_device.describe()}\n")
    print(f"| layer, batch {batch} | direction | CPU, GFLOP/s | GPU, GFLOP/s | GPU/CPU | of peak |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in LAYERS:
        layer = Layer(name, batch)
        backend = cc.backends.backend_of(layer.x)
        for direction in DIRECTIONS:
            run = layer.cyconv(backend, direction)
            there, moved = gpu.layer_run(layer, direction)
            check({"CPU": run, "GPU": gpu.brought_back(there)}, 1e-4)
            cpu = 2e-9 * layer.g.macs / best_times({"CPU": run}, seconds / 20)[0]["CPU"]
            facts = gpu.facts_of(there, moved, layer.g.macs)
            share, speed = 100 * facts["share_of_peak"], facts["gpu_gflops"]
            cells = [name, direction, f"{cpu:.0f}", f"{speed:.0f}", f"{speed / cpu:.1f}"]
            print("|", " | ".join([*cells, f"{share:.0f} %"]), "|", flush=True)
    print()


# ------------------------------------------------------------------ the command


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine(threads: int) -> str:
    """What the figures depend on, in one line."""
    isa = dict(cc.config.describe()).get("instruction set", "not compiled").split()[0]
    names = {
        **{"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"},
        **{"onnxruntime": "onnxruntime", "mygrad": "MyGrad"},
    }
    found = []
    for module, title in names.items():
        if installed(module):
            package = "tensorflow_cpu" if module == "tensorflow" else module
            found.append(f"{title} {version(package)}")
    return (
        f"{processor()}, {threads} threads, float32; "
        f"cyconv {cc.__version__} ({isa}), {', '.join(found)}"
    )


TABLES = ("step", "inference", "deep", "layers", "gpu")


def prepare(
    parser: argparse.ArgumentParser, tables: Sequence[str], default: str
) -> argparse.Namespace:
    """Read the command line, set the threads and print the machine; ``tables`` are those wanted."""
    names = ", ".join(tables)
    parser.add_argument(
        "tables", nargs="*", help=f"{names} or all (default: {default})", default=[default]
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=cc.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure a table")
    options = parser.parse_args()
    if "all" in options.tables:
        options.tables = tables
    if unknown := set(options.tables) - set(tables):
        parser.error(f"there is no table {', '.join(sorted(unknown))}: {names} or all")
    cc.set_num_threads(options.threads)
    if installed("torch"):
        import torch

        torch.set_num_threads(options.threads)
    print(f"{machine(options.threads)}\n", flush=True)
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options = prepare(parser, TABLES, "step")
    wanted, threads = options.tables, options.threads
    batch, seconds = options.batch_size, options.seconds
    if "step" in wanted:
        title = f"the notebook's network, training step, batch {batch}"
        table(title, steps(batch, threads), seconds)
    if "inference" in wanted:
        for size in (1, 64, 256):
            title = f"the notebook's network, inference, batch {size}"
            table(title, inference(size, threads), seconds / 3)
    if "deep" in wanted:
        cc.set_backend("auto")
        for name in deep.NETS:
            title = f"{name}, training step, batch {batch}"
            table(title, deep_steps(name, batch), seconds, tolerance=1e-3)
    if "layers" in wanted:
        cc.set_backend("auto")
        layer_table(batch, seconds / 20)
    if "gpu" in wanted:
        cc.set_backend("auto")
        gpu_table(batch, seconds)


if __name__ == "__main__":
    main()
