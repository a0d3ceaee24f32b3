"""What is recorded beside each timing."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import kernels

from . import gpu

PEERS = ("torch", "torch channels_last")
COMPILED = (
    "cython",
    "compiled",
    "auto",
    "direct",
    "im2col",
    "winograd",
)  # cyconv's kernels, or one algorithm


@cache
def commit() -> str:
    """The commit that was measured; "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


@cache
def peak_gflops() -> float:
    """What the multiply-add units do at most in float32, measured; 0 without compiled kernels."""
    if cc.backends.backend_name() != "cython":
        return 0.0
    kernel, threads, rounds = (
        kernels.Kernels(kernels.choose())["f"].peak,
        cc.get_num_threads(),
        10**6,
    )
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        result = kernel.multiply_adds(rounds, threads)
        seconds.append(time.perf_counter() - start)
        assert result == 2.0 * kernel.sums * kernel.lanes * threads
    return 2e-9 * rounds * kernel.sums * kernel.lanes * threads / min(seconds)


def skip_if_missing(who: str) -> None:
    """Skip the row of a peer that is not installed, or of kernels that are not compiled."""
    if who in PEERS:
        if not importlib.util.find_spec("torch"):
            pytest.skip("PyTorch is not installed")
        import torch

        torch.set_num_threads(cc.get_num_threads())
    elif who == "cupy":
        if reason := gpu.missing():
            pytest.skip(f"no GPU: {reason}")
    elif who in COMPILED and cc.backends.backend_name() != "cython":
        pytest.skip("the kernels are not compiled")


def as_array(result: Any) -> np.ndarray:
    """What a run returned, to be checked: the first one of several arrays."""
    if isinstance(result, tuple):
        result = result[0]
    return np.asarray(cc.backends.to_numpy(result))


def record(benchmark: Any, who: str, shape: Any, macs: int) -> None:
    """Fill in ``extra_info``; ``macs`` are multiply-adds, 0 if nobody counts them."""
    compiled = who in COMPILED
    benchmark.extra_info.update(
        shape=str(shape),
        algorithm=who if compiled and who not in ("cython", "compiled") else "auto",
        backend="cython" if compiled else who,
        threads=cc.get_num_threads(),
        instruction_set=dict(cc.config.describe())["instruction set"] if compiled else "",
        commit=commit(),
    )
    if benchmark.stats is not None and macs:  # there are no stats in an untimed run
        gflops = 2 * macs / benchmark.stats.stats.min / 1e9
        benchmark.extra_info["gflops"] = round(gflops, 1)
        if peak_gflops():
            benchmark.extra_info["share_of_peak"] = round(gflops / peak_gflops(), 3)
