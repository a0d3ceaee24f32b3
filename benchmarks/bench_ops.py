"""Pooling, ReLU, batch norm, loss and the optimiser, each direction, in the notebook's sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from cyconv.backends import backend_of, cpu_numpy
from cyconv.geometry import pool2d_geometry

from . import gpu
from .facts import as_array, record, skip_if_missing

Array = np.ndarray

SHAPE = N, C, H, W = 64, 20, 26, 26
EPS = 1e-5


class Case(NamedTuple):
    """One direction of an operation: by a backend, by torch and torch.ops.aten, and by NumPy.

    ``cyconv(b, on)`` is what to time for a backend; ``on`` puts an array where that computes.
    """

    cyconv: Callable[[Any, Any], Callable[[], Any]]
    torch: Callable[[Any, Any], Any] | None
    expected: Array


def normal(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@cache
def images() -> tuple[Array, Array]:
    """x, in which no number is there twice, and a gradient; in the memory order of a net."""
    values = np.linspace(-2, 2, math.prod(SHAPE), dtype=np.float32)
    x = np.random.default_rng(0).permutation(values).reshape(SHAPE)
    return cpu_numpy.as_batch_last(x), cpu_numpy.as_batch_last(normal(*SHAPE))


def squares(a: Array) -> Array:
    """(N, C, H, W) as (N, C, H/2, 2, W/2, 2)."""
    return a.reshape(N, C, H // 2, 2, W // 2, 2)


def twice(a: Array) -> Array:
    """Every pixel as a square of 2x2."""
    return a.repeat(2, axis=2).repeat(2, axis=3)


def as_torch(torch: Any, *arrays: Array) -> list[Any]:
    """Tensors in PyTorch's usual memory order."""
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


def max_pool2d() -> dict[str, Case]:
    x, _ = images()
    g = pool2d_geometry("max_pool2d", SHAPE, 2)
    largest, dout = squares(x).max((3, 5)), cpu_numpy.as_batch_last(normal(N, C, H // 2, W // 2))
    argmax = cpu_numpy.max_pool2d(x, g)[1]

    def forward(torch: Any, aten: Any) -> Any:
        (a,) = as_torch(torch, x)
        return lambda: torch.nn.functional.max_pool2d(a, 2)

    def backward(torch: Any, aten: Any) -> Any:
        a, d = as_torch(torch, x, dout)
        sizes = [2, 2], [2, 2], [0, 0], [1, 1], False
        indices = aten.max_pool2d_with_indices(a, *sizes)[1]
        return lambda: aten.max_pool2d_with_indices_backward(d, a, *sizes, indices)

    return {
        "forward": Case(lambda b, on: partial(b.max_pool2d, on(x), g), forward, largest),
        "backward": Case(
            lambda b, on: partial(b.max_pool2d_backward, on(dout), on(argmax), g),
            backward,
            twice(dout) * (x == twice(largest)),
        ),
    }


def avg_pool2d() -> dict[str, Case]:
    x, _ = images()
    g = pool2d_geometry("avg_pool2d", SHAPE, 2)
    dout = cpu_numpy.as_batch_last(normal(N, C, H // 2, W // 2))

    def forward(torch: Any, aten: Any) -> Any:
        (a,) = as_torch(torch, x)
        return lambda: torch.nn.functional.avg_pool2d(a, 2)

    def backward(torch: Any, aten: Any) -> Any:
        a, d = as_torch(torch, x, dout)
        options = [2, 2], [2, 2], [0, 0], False, True, None
        return lambda: aten.avg_pool2d_backward(d, a, *options)

    return {
        "forward": Case(
            lambda b, on: partial(b.avg_pool2d, on(x), g), forward, squares(x).mean((3, 5))
        ),
        "backward": Case(
            lambda b, on: partial(b.avg_pool2d_backward, on(dout), g), backward, twice(dout) / 4
        ),
    }


def relu() -> dict[str, Case]:
    x, dout = images()
    out = np.maximum(x, 0)

    def forward(torch: Any, aten: Any) -> Any:
        (a,) = as_torch(torch, x)
        return lambda: torch.relu(a)

    def backward(torch: Any, aten: Any) -> Any:
        o, d = as_torch(torch, out, dout)
        return lambda: aten.threshold_backward(d, o, 0)

    return {
        "forward": Case(lambda b, on: partial(b.relu, on(x)), forward, out),
        "backward": Case(
            lambda b, on: partial(b.relu_backward, on(dout), on(out)), backward, dout * (x > 0)
        ),
    }


def batch_norm() -> dict[str, Case]:
    x, dout = images()
    scale, shift = normal(2, C)

    def per_channel(a: Array) -> Array:
        return a[:, None, None]

    mean, inv_std = x.mean((0, 2, 3)), 1 / np.sqrt(x.var((0, 2, 3)) + np.float32(EPS))
    standard = (x - per_channel(mean)) * per_channel(inv_std)
    along_mean, along_x = (per_channel(a.mean((0, 2, 3))) for a in (dout, dout * standard))
    dx = per_channel(scale * inv_std) * (dout - along_mean - standard * along_x)

    def forward(torch: Any, aten: Any) -> Any:
        a, gamma, beta = as_torch(torch, x, scale, shift)
        return lambda: aten.native_batch_norm(a, gamma, beta, None, None, True, 0.1, EPS)[0]

    def backward(torch: Any, aten: Any) -> Any:
        d, a, gamma, m, s = as_torch(torch, dout, x, scale, mean, inv_std)
        options = True, EPS, [True, True, True]
        return lambda: aten.native_batch_norm_backward(d, a, gamma, None, None, m, s, *options)[0]

    return {
        "forward": Case(
            lambda b, on: partial(b.batch_norm, on(x), on(scale), on(shift), EPS),
            forward,
            standard * per_channel(scale) + per_channel(shift),
        ),
        "backward": Case(
            lambda b, on: partial(
                b.batch_norm_backward, *(on(a) for a in (dout, x, scale, shift, mean, inv_std))
            ),
            backward,
            dx,
        ),
    }


def cross_entropy() -> dict[str, Case]:
    logits, labels = normal(N, 10), np.arange(N) % 10
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    log_probs = cpu_numpy.as_batch_last(np.log(probabilities))
    dlosses = np.full(N, 1 / N, np.float32)

    def forward(torch: Any, aten: Any) -> Any:
        z, target = as_torch(torch, logits, labels)
        return lambda: torch.nn.functional.cross_entropy(z, target, reduction="none")

    return {
        "forward": Case(
            lambda b, on: partial(b.cross_entropy, on(logits), on(labels), 0.0),
            forward,
            -log_probs[np.arange(N), labels],
        ),
        "backward": Case(
            lambda b, on: partial(
                b.cross_entropy_backward, on(dlosses), on(log_probs), on(labels), 0.0
            ),
            None,  # PyTorch's is two calls
            (probabilities - np.eye(10)[labels]) / N,
        ),
    }


def sgd() -> dict[str, Case]:
    before, grad = normal(2, 102_400)

    def step(b: Any, on: Any) -> Callable[[], Any]:
        start, g, w, velocity = (on(a.copy()) for a in (before, grad, before, before))

        def run() -> Any:
            w[:], velocity[:] = start, 0
            b.sgd_step([w], [g], [velocity], 0.1, 0.9, 0.0, 0.0, False)
            return w

        return run

    return {"step": Case(step, None, before - np.float32(0.1) * grad)}


OPS = [max_pool2d, avg_pool2d, relu, batch_norm, cross_entropy, sgd]
DIRECTIONS = {sgd: ("step",)}


@pytest.mark.parametrize("who", ["cython", "numpy", "cupy", "torch"])
@pytest.mark.parametrize(
    ("op", "direction"),
    [(op, d) for op in OPS for d in DIRECTIONS.get(op, ("forward", "backward"))],
)
def test_op(benchmark: Any, op: Callable[[], dict[str, Case]], direction: str, who: str) -> None:
    skip_if_missing(who)
    case = op()[direction]
    if who == "torch":
        if case.torch is None:
            pytest.skip("PyTorch has no such call")
        import torch

        run = case.torch(torch, torch.ops.aten)
    elif who == "cupy":
        placed: list[Any] = []

        def on_gpu(array: Array) -> Any:
            placed.append(gpu.gpu_device.to_gpu(array))
            return placed[-1]

        on_card = case.cyconv(gpu.backend(), on_gpu)
        run = gpu.waited_for(on_card)
    else:
        run = case.cyconv(cpu_numpy if who == "numpy" else backend_of(case.expected), lambda a: a)

    np.testing.assert_allclose(as_array(run()), case.expected, rtol=1e-4, atol=1e-5)
    benchmark.group = f"{op.__name__} {direction}"
    benchmark(run)
    record(benchmark, who, case.expected.shape, 0)
    if who == "cupy":
        moved = sum(a.nbytes for a in placed) + case.expected.nbytes
        benchmark.extra_info.update(gpu.facts_of(on_card, moved, 0))
