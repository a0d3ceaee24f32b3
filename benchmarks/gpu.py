"""Measuring on a GPU: by CUDA events, and beside what the card could do at most."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from cyconv.backends import gpu_device, use_gpu

from .layers import Layer

# float32 units of a multiprocessor, by compute capability
UNITS = {"60": 64, "70": 64, "72": 64, "75": 64, "80": 64}
OTHER_UNITS = 128


def missing() -> str:
    """Why nothing can be measured; empty if it can."""
    return gpu_device.why_not()


def backend() -> Any:
    use_gpu()
    from cyconv.backends import gpu_cupy

    return gpu_cupy


def best_seconds(run: Callable[[], Any], repeats: int = 30) -> float:
    """The best of several times between two CUDA events, without what starting it costs."""
    from cupyx.profiler import benchmark

    return float(benchmark(run, n_repeat=repeats, n_warmup=3).gpu_times.min())


def waited_for(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same, and then wait for the GPU: what a clock can measure."""
    import cupy

    def call() -> Any:
        result = run()
        cupy.cuda.get_current_stream().synchronize()
        return result

    return call


@cache
def peaks() -> tuple[float, float]:
    """The card's float32 operations per second outside its tensor cores, and bytes per second."""
    import cupy

    device = cupy.cuda.Device()
    facts = device.attributes
    units = UNITS.get(device.compute_capability, OTHER_UNITS) * facts["MultiProcessorCount"]
    bandwidth = 2 * facts["MemoryClockRate"] * 1e3 * facts["GlobalMemoryBusWidth"] / 8
    return 2.0 * units * facts["ClockRate"] * 1e3, bandwidth


def facts_of(run: Callable[[], Any], moved: int, macs: int) -> dict[str, Any]:
    """What is recorded of a row: ``moved`` are the bytes of all arrays read and written once."""
    seconds, (operations, bandwidth) = best_seconds(run), peaks()
    found: dict[str, Any] = {
        "device": gpu_device.describe(),
        "gpu_ms": seconds * 1e3,
        "bytes_moved": moved,
        "share_of_bandwidth": round(moved / seconds / bandwidth, 4),
    }
    if macs:
        found["gpu_gflops"] = round(2e-9 * macs / seconds, 1)
        found["share_of_peak"] = round(2 * macs / seconds / operations, 4)
    return found


def layer_run(layer: Layer, direction: str, algo: str = "auto") -> tuple[Callable[[], Any], int]:
    """A convolution on the GPU, and the bytes of its arrays."""
    b = backend()
    x, w, dout = (gpu_device.to_gpu(a) for a in (layer.x, layer.w, layer.dout))
    x, dout, g = b.as_batch_last(x), b.as_batch_last(dout), layer.g
    runs: dict[str, Callable[[], Any]] = {
        "forward": lambda: b.conv2d(x, w, None, g, algo),
        "input_grad": lambda: b.conv2d_input_grad(dout, w, g, algo),
        "weight_grad": lambda: b.conv2d_weight_grad(x, dout, g, algo),
    }
    return runs[direction], x.nbytes + w.nbytes + dout.nbytes


def brought_back(run: Callable[[], Any]) -> Callable[[], np.ndarray]:
    """The same with its result in the computer's memory."""
    return lambda: gpu_device.to_host(run())
