"""The benchmarks' rows for a GPU run, and check what they time; over the emulation, untimed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import emulation
import host_kernels
import numpy as np
import pytest

import cyconv as cc

ROOT = Path(__file__).parents[1]
if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once: it does not use the kernels for the CPU", allow_module_level=True)
if not host_kernels.compiler():
    pytest.skip("no C compiler", allow_module_level=True)
if not (ROOT / "benchmarks").exists():
    pytest.skip("no benchmarks beside the tests", allow_module_level=True)


class Benchmark:
    """pytest-benchmark's fixture when it does not measure."""

    stats = None

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.group = ""

    def __call__(self, run: Callable[[], Any]) -> Any:
        return run()


def benchmark(run: Callable[[], Any], n_repeat: int, n_warmup: int) -> Any:
    """Stands for cupyx.profiler.benchmark: a millisecond, whatever it is."""
    run()
    return SimpleNamespace(gpu_times=np.full((1, n_repeat), 1e-3))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT))
    profiler: Any = ModuleType("cupyx.profiler")
    profiler.benchmark = benchmark
    monkeypatch.setitem(sys.modules, "cupyx", ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.profiler", profiler)
    from benchmarks import gpu

    gpu.peaks.cache_clear()
    with emulation.emulated():
        yield
    gpu.peaks.cache_clear()


def test_every_operation_has_a_row() -> None:
    from benchmarks import bench_ops

    for op in bench_ops.OPS:
        for direction in bench_ops.DIRECTIONS.get(op, ("forward", "backward")):
            emulation.launched.clear()
            row = Benchmark()
            bench_ops.test_op(row, op, direction, "cupy")
            assert emulation.launched and row.group == f"{op.__name__} {direction}"
            assert row.extra_info["backend"] == "cupy" and row.extra_info["gpu_ms"] == 1
            # 10**9 bytes a second times 256: two transfers a clock, 1024 bits wide
            share = row.extra_info["bytes_moved"] / 1e-3 / 256e9
            assert row.extra_info["share_of_bandwidth"] == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
def test_convolutions_have_a_row(direction: str) -> None:
    from benchmarks import bench_conv

    for name in ("1-20-3x3-28", "20-50-5x5-13", "800-128-linear"):
        assert (name, direction, "cupy") in bench_conv.rows()
        row = Benchmark()
        bench_conv.test_conv2d(row, name, direction, "cupy")
        macs = bench_conv.layer(name).g.macs
        assert row.extra_info["gpu_gflops"] == pytest.approx(2e-9 * macs / 1e-3, rel=0.1, abs=0.1)
        # 10 multiprocessors of 128 units, two operations each, 10**9 times a second
        share = 2 * macs / 1e-3 / 2560e9
        assert row.extra_info["share_of_peak"] == pytest.approx(share, abs=1e-4)


def test_the_net_has_rows() -> None:
    from benchmarks import bench_step

    row = Benchmark()
    bench_step.test_training_step(row, "cupy")
    bench_step.test_inference(row, "cupy", 1)
    assert row.extra_info["gpu_ms"] == 1 and "Emulation" in row.extra_info["device"]


def test_the_cpu_against_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import compare

    monkeypatch.setattr(compare, "LAYERS", ["1-20-3x3-28", "128-depthwise-3x3-16"])
    monkeypatch.setattr(sys, "argv", ["compare", "gpu", "--seconds", "0", "--batch-size", "2"])
    before = cc.get_num_threads()
    compare.main()
    cc.set_num_threads(before)
    printed = capsys.readouterr().out
    assert "| cyconv, CPU |" in printed and "| cyconv, GPU |" in printed
    assert printed.count("| 128-depthwise-3x3-16 |") == 3 and "of peak |" in printed


def test_without_a_gpu_the_reason_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import compare

    with emulation.installed(None):
        compare.gpu_table(2, 0)
    assert "No GPU to compare with: CuPy is not installed" in capsys.readouterr().out
