"""The notebook's own training, written by hand: its start, its summed loss, its rate, its SGD.

Source: "Convolutional neural networks from scratch" in "Deep Learning - The Straight Dope". MXNet
reached 96.84 % with it in one epoch. The full run needs MNIST in CYCONV_DATA_DIR.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

import cyconv as cc

BATCH, LR, SCALE = 64, 0.01, 0.01
WHOLE = os.environ.get("CYCONV_DATA_DIR") and not os.environ.get("CYCONV_NO_EXTENSIONS")

Params = list[Any]


def parameters(scale: float = SCALE) -> Params:
    """Weights and biases, all from N(0, scale)."""
    shapes = [(20, 1, 3, 3), (20,), (50, 20, 5, 5), (50,), (128, 800), (128,), (10, 128), (10,)]
    params = [cc.randn(*shape, scale=scale) for shape in shapes]
    for param in params:
        param.attach_grad()
    return params


def relu(x: Any) -> Any:
    return cc.ops.maximum(x, cc.zeros(1))


def net(x: Any, params: Params, activation: Any) -> Any:
    """Two convolutions with average pooling, two fully connected layers."""
    w1, b1, w2, b2, w3, b3, w4, b4 = params
    h1 = cc.ops.avg_pool2d(activation(cc.ops.conv2d(x, w1, b1)), 2)
    h2 = cc.ops.avg_pool2d(activation(cc.ops.conv2d(h1, w2, b2)), 2)
    h3 = activation(cc.ops.linear(cc.ops.flatten(h2), w3, b3))
    return cc.ops.linear(h3, w4, b4)


def sgd(params: Params) -> None:
    for param in params:
        param[:] = param - LR * param.grad


def accuracy(loader: Any, params: Params) -> float:
    right = total = 0
    for images, labels in loader:
        guesses = net(images, params, cc.ops.relu).argmax(axis=1)
        right += int((guesses.numpy() == labels).sum())
        total += len(labels)
    return right / total


def train(loader: Any, params: Params, activation: Any = cc.ops.relu) -> float:
    """One epoch; returns the moving loss."""
    moving = 0.0
    for i, (images, labels) in enumerate(loader):
        with cc.record():
            output = net(images, params, activation)
            loss = cc.ops.cross_entropy(output, labels, reduction="none")
        assert loss.shape == (len(labels),)
        loss.backward()
        sgd(params)
        current = loss.mean().item()
        moving = current if i == 0 else 0.99 * moving + 0.01 * current
    return moving


def test_by_hand_on_the_images_in_the_package() -> None:
    """Wider weights and smaller batches than the notebook's: a short run shows that it learns.

    From N(0, 0.01) the net merely guesses for the first 400 to 800 of its steps.
    """
    if WHOLE:
        pytest.skip("the whole of MNIST is trained with instead")
    cc.seed(1)
    params = parameters(scale=0.1)
    loader = cc.data.DataLoader(cc.data.MNIST.built_in(True), 16, shuffle=True, seed=1)
    assert train(loader, params) < 0.4
    test_set = cc.data.MNIST.built_in(False)
    assert accuracy(cc.data.DataLoader(test_set, 250), params) >= 0.9


def test_the_notebooks_training_on_the_whole_of_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    """Some seed of five must reach it: from N(0, 0.01) at this rate, luck decides.

    The net merely guesses for hundreds of its 938 steps, and may fall back to that when it bursts
    out of them: a difference in the last bit is another run. Seeds 1 to 5 gave 97.1, 95.7, 96.6,
    96.9 and 95.3 % in MXNet 1.9.1 and 96.9, 95.3, 97.2, 97.6 and 96.3 % with compiled kernels here.
    """
    if not WHOLE:
        pytest.skip("needs MNIST in CYCONV_DATA_DIR, and compiled kernels lest it take minutes")
    train_set = cc.data.MNIST(train=True, download=False)
    if len(train_set) != 60_000:
        pytest.skip("CYCONV_DATA_DIR has no MNIST")
    test_set = cc.data.MNIST(train=False, download=False)
    for seed in range(1, 6):
        cc.seed(seed)
        params = parameters()
        start = time.perf_counter()
        moving = train(cc.data.DataLoader(train_set, BATCH, shuffle=True, seed=seed), params)
        seconds = time.perf_counter() - start
        reached = accuracy(cc.data.DataLoader(test_set, BATCH), params)
        with capsys.disabled():
            print(f" [seed {seed}: {seconds:.1f} s, loss {moving:.4f}, {reached:.2%}] ", end="")
        if reached >= 0.96:
            return
    pytest.fail("no seed reached 96 %")


def test_relu_as_the_notebook_writes_it() -> None:
    """max(x, 0) by `maximum` trains to the same values as `relu`."""
    images = np.random.default_rng(0).random((BATCH, 1, 28, 28), np.float32)
    batch = [(cc.tensor(images), np.arange(BATCH) % 10)]
    trained = []
    for activation in (cc.ops.relu, relu):
        cc.seed(1)
        params = parameters()
        loss = train(batch * 3, params, activation)
        trained.append([loss, *(p.numpy().copy() for p in params)])
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
