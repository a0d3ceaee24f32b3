"""The notebook's network as a training step, in cyconv and in each peer that is installed.

A step is forward, backward and SGD on one batch; every function returns a callable that does one
and returns the loss. All of them start from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], float]

SHAPES = [(20, 1, 3, 3), (20,), (50, 20, 5, 5), (50,), (128, 800), (128,), (10, 128), (10,)]
LEARNING_RATE = 0.01


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape) * 0.05).astype(np.float32) for shape in SHAPES]


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    images = rng.random((size, 1, 28, 28), dtype=np.float32)
    return images, rng.integers(0, 10, size)


def cyconv_step(size: int) -> Step:
    import cyconv as cc
    from cyconv.backends import backend_of

    net = cc.nn.models.lenet()
    for parameter, values in zip(net.parameters(), weights()):
        parameter[...] = values
    optimizer = cc.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    images, labels = batch(size)
    x = cc.as_tensor(backend_of(images).as_batch_last(images))

    def step() -> float:
        with cc.record():
            loss = cc.ops.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(size: int, channels_last: bool) -> Step:
    import torch
    import torch.nn.functional as F

    layout = torch.channels_last if channels_last else torch.contiguous_format
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters = [
        torch.tensor(w).contiguous(memory_format=layout) if w.ndim == 4 else torch.tensor(w)
        for w in weights()
    ]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)
    images, labels = batch(size)
    x = torch.tensor(images).contiguous(memory_format=layout)
    y = torch.tensor(labels)

    def step() -> float:
        h = F.avg_pool2d(F.relu(F.conv2d(x, w1, b1)), 2)
        h = F.avg_pool2d(F.relu(F.conv2d(h, w2, b2)), 2)
        h = F.relu(F.linear(h.flatten(1), w3, b3))
        loss = F.cross_entropy(F.linear(h, w4, b4), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def mygrad_step(size: int) -> Step:
    import mygrad as mg
    from mygrad.nnet import softmax_crossentropy
    from mygrad.nnet.activations import relu
    from mygrad.nnet.layers import conv_nd

    parameters: list[Any] = [mg.tensor(w) for w in weights()]
    images, labels = batch(size)

    def pool(h: Any) -> Any:
        n, c, rows, columns = h.shape
        rows, columns = rows // 2 * 2, columns // 2 * 2
        h = h[:, :, :rows, :columns].reshape(n, c, rows // 2, 2, columns // 2, 2)
        return h.mean(axis=(3, 5))

    def step() -> float:
        w1, b1, w2, b2, w3, b3, w4, b4 = parameters
        h = pool(relu(conv_nd(images, w1, stride=1) + b1.reshape(1, -1, 1, 1)))
        h = pool(relu(conv_nd(h, w2, stride=1) + b2.reshape(1, -1, 1, 1)))
        h = relu(h.reshape(size, -1) @ w3.T + b3)
        loss = softmax_crossentropy(h @ w4.T + b4, labels)
        loss.backward()
        for parameter in parameters:
            parameter.data -= LEARNING_RATE * parameter.grad
        return float(loss.data)

    return step
