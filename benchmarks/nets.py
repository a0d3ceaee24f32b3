"""The notebook's network in cyconv, in each peer, and in plain NumPy to check them with.

A step is forward, backward and SGD on one batch; every ``..._step`` returns a callable that does
one and returns the loss, every ``..._inference`` one that returns the logits. All of them start
from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cyconv.geometry import conv2d_geometry

from .reference import convolution

Step = Callable[[], float]

SHAPES = [(20, 1, 3, 3), (20,), (50, 20, 5, 5), (50,), (128, 800), (128,), (10, 128), (10,)]
LEARNING_RATE = 0.01
MACS = (26 * 26 * 20 * 9, 9 * 9 * 50 * 20 * 25, 800 * 128, 128 * 10)  # of each layer, per image


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape) * 0.05).astype(np.float32) for shape in SHAPES]


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    images = rng.random((size, 1, 28, 28), dtype=np.float32)
    return images, rng.integers(0, 10, size)


def expected_logits(size: int) -> np.ndarray:
    """What the net answers, in float64."""
    w1, b1, w2, b2, w3, b3, w4, b4 = (w.astype(np.float64) for w in weights())

    def block(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        g = conv2d_geometry(x.shape, w.shape, 1, 0, 1, 1)
        out = convolution("forward", x, w, np.zeros(g.out_shape), g) + b[:, None, None]
        n, c, rows, columns = out.shape
        squares = np.maximum(out, 0)[:, :, : rows // 2 * 2, : columns // 2 * 2]
        return squares.reshape(n, c, rows // 2, 2, columns // 2, 2).mean((3, 5))

    h = block(block(batch(size)[0].astype(np.float64), w1, b1), w2, b2)
    h = np.maximum(h.reshape(size, -1) @ w3.T + b3, 0)
    return h @ w4.T + b4


def expected_loss(size: int) -> float:
    logits, labels = expected_logits(size), batch(size)[1]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(size), labels]))


def bytes_moved(size: int) -> int:
    """At least: every weight and every pixel of the images once."""
    return sum(a.nbytes for a in (*weights(), batch(size)[0]))


def cyconv_net(size: int, device: str = "cpu") -> tuple[Any, Any]:
    """The net with its weights, and the images of a batch in the memory order of the kernels."""
    import cyconv as cc
    from cyconv.backends import backend_of

    net = cc.nn.models.lenet()
    for parameter, values in zip(net.parameters(), weights()):
        parameter[...] = values
    images = batch(size)[0]
    x = cc.as_tensor(backend_of(images).as_batch_last(images))
    return net.to(device), x.to(device)


def cyconv_inference(size: int, device: str = "cpu") -> Callable[[], np.ndarray]:
    net, x = cyconv_net(size, device)
    return lambda: net(x).numpy()


def cyconv_compiled(size: int) -> Callable[[], np.ndarray]:
    import cyconv as cc

    net, x = cyconv_net(size)
    run = cc.compile(net, x)
    images = batch(size)[0]
    return lambda: run(images).numpy()


def cyconv_step(size: int, device: str = "cpu", compiled: bool = False) -> Step:
    net, x = cyconv_net(size, device)
    return training_step(net, x, batch(size)[1], compiled)


def training_step(net: Any, x: Any, labels: np.ndarray, compiled: bool) -> Step:
    """One of cyconv's; with ``compiled``, the net runs as programs."""
    import cyconv as cc

    optimizer = cc.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    forward = cc.compile_training(net) if compiled else net

    def step() -> float:
        with cc.record():
            loss = cc.ops.cross_entropy(forward(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_net(size: int, channels_last: bool) -> tuple[Any, Any]:
    import torch

    from .torch_train import lenet

    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = lenet()
    with torch.no_grad():
        for parameter, values in zip(net.parameters(), weights()):
            parameter.copy_(torch.from_numpy(values))
    images = torch.from_numpy(batch(size)[0])
    return net.to(memory_format=layout), images.contiguous(memory_format=layout)


def torch_inference(size: int) -> Callable[[], np.ndarray]:
    import torch

    net, x = torch_net(size, channels_last=False)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return net(x).numpy()

    return run


def torch_step(size: int, channels_last: bool, compiled: bool = False) -> Step:
    import torch

    net, x = torch_net(size, channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    y = torch.from_numpy(batch(size)[1])
    forward = torch.compile(net) if compiled else net

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(forward(x), y)
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
