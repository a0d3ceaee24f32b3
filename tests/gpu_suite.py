"""Tests that other files have for the CPU, to be run on a GPU or an emulation of one.

They compute where ``running.device`` says. And a training that has all that a net for images has.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.testing import assert_allclose

import cyconv as cc

OPERATIONS = (
    "test_ops_conv",
    "test_ops_pool",
    "test_ops_norm_loss",
    "test_recorded",
    "test_zero_size",
)


def borrowed(modules: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """The test functions of these modules, named so that they do not hide each other."""
    found = {}
    for module in modules:
        for name, value in vars(importlib.import_module(module)).items():
            if name.startswith("test_") and callable(value):
                found[f"{name}__{module.removeprefix('test_')}"] = value
    return found


def net_and_batches() -> tuple[Any, list[Any]]:
    """All that a net for images has: its layers, and batches of two sizes."""
    cc.seed(3)
    nn = cc.nn
    net = nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Residual(
            nn.Sequential(
                *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
                *(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)),
            ),
            activation=nn.ReLU(),
        ),
        nn.MaxPool2d(2),
        *(nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.AvgPool2d(2, stride=1)),
        *(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Dropout(0.25), nn.Flatten()),
        nn.Linear(8 * 3 * 3, 5),
    )
    rng = np.random.default_rng(4)
    sizes = (7, 7, 7, 4)
    x = [rng.standard_normal((n, 2, 16, 16)).astype(np.float32) for n in sizes]
    return net, [(images, rng.integers(0, 5, len(images))) for images in x]


OPTIMIZERS = {
    "sgd": lambda p: cc.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True),
    "plain": lambda p: cc.optim.SGD(p, 0.1),
    "dampened": lambda p: cc.optim.SGD(p, 0.1, 0.9, dampening=0.5),
    "adam": lambda p: cc.optim.Adam(p, 0.01, weight_decay=0.01),
    "adamw": lambda p: cc.optim.AdamW(p, 0.01),
}


def compare_training(name: str) -> None:
    """Train on the GPU and by the NumPy backend; compare every loss, gradient and parameter."""
    before = cc.backends.backend_name()
    cc.set_backend("numpy")
    try:
        here, there = (training(name, device) for device in ("cpu", "cuda"))
    finally:
        cc.set_backend(before)
    for expected, value in zip(here, there, strict=True):
        assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


def training(name: str, device: str) -> list[Any]:
    """Every value of a training in float64 of one epoch."""
    net, batches = net_and_batches()
    net.astype("float64").to(device)
    optimizer = OPTIMIZERS[name](net.parameters())
    values: list[Any] = []
    for images, y in batches:
        x = cc.tensor(images, dtype="float64", device=device)
        with cc.record():
            loss = cc.ops.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        step = [loss, *(p.grad for p in net.parameters())]
        assert {value.device for value in step} == {device}
        values += [*(value.numpy() for value in step), *net.state_dict().values()]
    return values
