"""Pooling, normalisation, loss, and the notebook's whole training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv.backends import backend_of, cpu_numpy

from .facts import facts
from .nets import cyconv_step

SHAPE = (64, 20, 26, 26)


def case(name: str) -> Callable[[Any], Any]:
    """A function of the backend that runs one operation on fixed arrays."""
    rng = np.random.default_rng(0)
    x = cpu_numpy.as_batch_last(rng.standard_normal(SHAPE).astype(np.float32))
    logits, labels = rng.standard_normal((64, 10)), rng.integers(0, 10, 64)
    ones = np.ones(SHAPE[1], np.float32)
    from cyconv.geometry import pool2d_geometry

    g = pool2d_geometry("pool", SHAPE, 2)
    return {
        "max_pool2d": lambda b: b.max_pool2d(x, g)[0],
        "avg_pool2d": lambda b: b.avg_pool2d(x, g),
        "relu": lambda b: b.relu(x),
        "batch_norm": lambda b: b.batch_norm(x, ones, ones, 1e-5)[0],
        "cross_entropy": lambda b: b.cross_entropy(logits, labels, 0.0)[0],
    }[name]


@pytest.mark.parametrize(
    "name", ["max_pool2d", "avg_pool2d", "relu", "batch_norm", "cross_entropy"]
)
@pytest.mark.parametrize("who", ["cython", "numpy"])
def test_op(benchmark: Any, name: str, who: str) -> None:
    if who == "cython" and cc.backends.backend_name() != "cython":
        pytest.skip("the kernels are not compiled")
    run = case(name)
    backend = cpu_numpy if who == "numpy" else backend_of(None)
    np.testing.assert_allclose(run(backend), run(cpu_numpy), rtol=1e-5, atol=1e-5)
    benchmark.group = name
    benchmark(run, backend)
    benchmark.extra_info.update(facts(who, 0, benchmark), shape=str(SHAPE))


def test_training_step(benchmark: Any) -> None:
    """Forward, backward and SGD of the notebook's network, batch 64."""
    step = cyconv_step(64)
    first = step()
    assert np.isfinite(first)
    assert all(step() < first for _ in range(3))  # the same batch again: the loss must fall
    benchmark.group = "training step"
    benchmark(step)
    benchmark.extra_info.update(facts(cc.backends.backend_name(), 0, benchmark))
