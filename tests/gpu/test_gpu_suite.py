"""The tests of the operations, and of training, on a real GPU. Skipped where there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import running
from gpu_suite import OPERATIONS, OPTIMIZERS, borrowed, compare_training, net_and_batches, training

import cyconv as cc
from cyconv.backends import gpu_conv, gpu_device

if reason := gpu_device.why_not():
    pytest.skip(f"no GPU: {reason}", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[None]:
    running.device = "cuda"
    yield
    running.device = "cpu"


globals().update(borrowed(OPERATIONS))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_value_by_value(name: str) -> None:
    compare_training(name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_bits_each_time(name: str) -> None:
    for a, b in zip(training(name, "cuda"), training(name, "cuda"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_step_does_not_wait() -> None:
    """The second one: the first compiles kernels and allocates memory."""
    import cupyx

    net, batches = net_and_batches()
    optimizer = OPTIMIZERS["adam"](net.to("cuda").parameters())
    x, labels = cc.tensor(batches[0][0], device="cuda"), batches[0][1]

    def step() -> None:
        with cc.record():
            loss = cc.ops.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()

    step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy may drop this one day
        with cupyx.allow_synchronize(False):
            step()


def test_batches_arrive_as_they_were() -> None:
    """Large ones, one after the other, while the GPU is busy."""
    rng = np.random.default_rng(0)
    batches = [(rng.random((64, 3, 128, 128), np.float32), np.arange(64)) for _ in range(8)]
    w = cc.randn(64, 3, 7, 7, device="cuda")
    sums: list[Any] = []
    for x, _ in cc.data.prefetch.on_device(batches, "cuda"):
        cc.ops.conv2d(x, w, padding=3)
        sums.append(x.sum(axis=(0, 2, 3)))
    for found, (images, _) in zip(sums, batches, strict=True):
        np.testing.assert_allclose(found.numpy(), images.sum((0, 2, 3), np.float64), rtol=1e-4)


def test_many_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-2, 3, (32, 16, 20, 20)), rng.integers(-2, 3, (24, 16, 5, 5))
    results = []
    for limit in (gpu_conv.SCRATCH_LIMIT, 2**20):
        monkeypatch.setattr(gpu_conv, "SCRATCH_LIMIT", limit)
        inputs = {"x": x.astype(np.float64), "w": w.astype(np.float64)}
        results.append(running.run("conv2d", inputs, padding=2, algo="im2col"))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    for name in ("x", "w"):
        np.testing.assert_array_equal(results[0][1][name], results[1][1][name])


def test_fit_learns_digits() -> None:
    cc.seed(0)
    net = cc.nn.models.lenet().to("cuda")
    train = cc.data.DataLoader(cc.data.MNIST.built_in(), batch_size=64, shuffle=True)
    test = cc.data.DataLoader(cc.data.MNIST.built_in(train=False), batch_size=500)
    optimizer = cc.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    history = cc.train.fit(net, train, test, optimizer=optimizer, epochs=4, progress=False)
    assert history.rows[-1].test_accuracy > 0.95
