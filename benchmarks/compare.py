"""Compare cyconv with its peers in one process: ``python -m benchmarks.compare``.

Prints Markdown with the machine on top. Each round runs every candidate once; a figure is the best
of all rounds, and a ratio is of two figures of the same run. Peers that are not installed have no
row.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
from importlib.metadata import version
from pathlib import Path

import cyconv as cc

from .nets import Step, cyconv_step, mygrad_step, torch_step


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def with_backend(name: str, step: Step) -> Step:
    def on_backend() -> float:
        cc.set_backend(name)
        return step()

    return on_backend


def candidates(batch_size: int, threads: int) -> dict[str, Step]:
    found = {}
    if cc.backends.backend_name() == "cython":
        found["cyconv"] = with_backend("cython", cyconv_step(batch_size))
    found["cyconv, NumPy backend"] = with_backend("numpy", cyconv_step(batch_size))
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
        found["PyTorch"] = torch_step(batch_size, channels_last=False)
        found["PyTorch, channels_last"] = torch_step(batch_size, channels_last=True)
    if importlib.util.find_spec("mygrad"):
        found["MyGrad"] = mygrad_step(batch_size)
    return found


def best_times(steps: dict[str, Step], seconds: float) -> tuple[dict[str, float], int]:
    """The best time of each, in seconds, alternating until the time is up; and the rounds."""
    losses = {name: step() for name, step in steps.items()}
    spread = max(losses.values()) - min(losses.values())
    if spread > 1e-4:
        raise SystemExit(f"the candidates do not compute the same: {losses}")
    best = dict.fromkeys(steps, float("inf"))
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or not rounds:
        rounds += 1
        for name, step in steps.items():
            step()  # the one before left its data in the cache and its threads spinning
            start = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - start)
    return best, rounds


def machine(threads: int) -> str:
    """What the figures depend on, in one line."""
    isa = dict(cc.config.describe()).get("instruction set", "not compiled").split()[0]
    peers = [
        f"{title} {version(module)}"
        for module, title in (("numpy", "NumPy"), ("torch", "PyTorch"), ("mygrad", "MyGrad"))
        if importlib.util.find_spec(module)
    ]
    return (
        f"{processor()}, {threads} threads, float32; "
        f"cyconv {cc.__version__} ({isa}), {', '.join(peers)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=cc.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure")
    options = parser.parse_args()
    cc.set_num_threads(options.threads)
    header = machine(options.threads)
    best, rounds = best_times(candidates(options.batch_size, options.threads), options.seconds)
    reference = next(iter(best))
    print(f"{header}; best of {rounds} rounds\n")
    print(f"| the notebook's network, training step, batch {options.batch_size} | ms | against |")
    print("| --- | ---: | ---: |")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e3:.2f} | {seconds / best[reference]:.2f} |")


if __name__ == "__main__":
    main()
