"""The notebook's whole network: a training step and inference, in cyconv and in its peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cyconv as cc

from . import gpu, nets
from .facts import record, skip_if_missing

BATCH = 64
STEPS = ["compiled", "cython", "numpy", "cupy", "torch", "torch channels_last", "mygrad"]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The backend in use stays what it was."""
    before = cc.backends.backend_name()
    yield
    cc.set_backend(before)


@pytest.mark.parametrize("who", STEPS)
def test_training_step(benchmark: Any, who: str) -> None:
    """Forward, backward and SGD."""
    skip_if_missing(who)
    if who == "mygrad" and not importlib.util.find_spec("mygrad"):
        pytest.skip("MyGrad is not installed")
    if who == "mygrad":
        step = nets.mygrad_step(BATCH)
    elif who == "cupy":
        step = nets.cyconv_step(BATCH, "cuda")
    elif who == "compiled":
        cc.set_backend("cython")
        step = nets.cyconv_step(BATCH, compiled=True)
    elif who in ("cython", "numpy"):
        cc.set_backend(who)
        step = nets.cyconv_step(BATCH)
    else:
        step = nets.torch_step(BATCH, channels_last=who != "torch")
    losses = [step() for _ in range(3)]
    assert losses[0] == pytest.approx(nets.expected_loss(BATCH), abs=1e-5)
    assert losses == sorted(losses, reverse=True)  # the same batch again and again
    benchmark.group = f"training step, batch {BATCH}"
    benchmark(step)
    # every multiplication again for the gradient by the weights, and by the input but in layer 1
    macs = BATCH * (3 * sum(nets.MACS) - nets.MACS[0])
    record(benchmark, who, (BATCH, 1, 28, 28), macs)
    if who == "cupy":
        benchmark.extra_info.update(gpu.facts_of(step, nets.bytes_moved(BATCH), macs))


@pytest.mark.parametrize("batch", [1, 64, 256])
@pytest.mark.parametrize("who", ["compiled", "cython", "numpy", "cupy", "torch"])
def test_inference(benchmark: Any, who: str, batch: int) -> None:
    skip_if_missing(who)
    if who == "torch":
        run = nets.torch_inference(batch)
    elif who == "compiled":
        cc.set_backend("cython")
        run = nets.cyconv_compiled(batch)
    elif who == "cupy":
        run = nets.cyconv_inference(batch, "cuda")
    else:
        cc.set_backend(who)
        run = nets.cyconv_inference(batch)
    np.testing.assert_allclose(run(), nets.expected_logits(batch), rtol=1e-4, atol=1e-5)
    benchmark.group = f"inference, batch {batch}"
    benchmark(run)
    record(benchmark, who, (batch, 1, 28, 28), batch * sum(nets.MACS))
    if who == "cupy":
        facts = gpu.facts_of(run, nets.bytes_moved(batch), batch * sum(nets.MACS))
        benchmark.extra_info.update(facts)
