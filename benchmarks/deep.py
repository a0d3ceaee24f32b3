"""Two deeper nets for 32x32 images, as training steps in cyconv and in PyTorch.

VGG: six 3x3 layers of 64, 64, 128, 128, 256 and 256 channels with max pooling after each pair, and
a linear layer. ResNet-20: ``cyconv.nn.models.resnet20``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import nets
from .memory import COMPILED
from .nets import LEARNING_RATE, Step

NETS = ("VGG", "ResNet-20")
NOTEBOOK = "the notebook's network"


def images(size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((size, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, size)


def cyconv_net(name: str) -> Any:
    from cyconv import nn

    if name == "ResNet-20":
        return nn.models.resnet20()
    layers: list[Any] = []
    channels = 3
    for width in (64, 128, 256):
        for read in (channels, width):
            layers += [nn.Conv2d(read, width, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, 10))


@cache
def state(name: str) -> list[np.ndarray]:
    """The same start for every library."""
    import cyconv as cc

    cc.seed(0)
    return [parameter.numpy().copy() for parameter in cyconv_net(name).parameters()]


def cyconv_step(name: str, size: int, compiled: bool) -> Step:
    import cyconv as cc
    from cyconv.backends import backend_of

    net = cyconv_net(name)
    for parameter, values in zip(net.parameters(), state(name)):
        parameter[...] = values
    pictures, y = images(size)
    x = cc.as_tensor(backend_of(pictures).as_batch_last(pictures))
    return nets.training_step(net, x, y, compiled)


def torch_net(name: str) -> Any:
    from torch import nn

    def conv_bn(read: int, width: int, stride: int = 1, kernel: int = 3) -> list[Any]:
        conv = nn.Conv2d(read, width, kernel, stride, kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(width)]

    class Block(nn.Module):
        def __init__(self, read: int, width: int, stride: int):
            super().__init__()
            body = (*conv_bn(read, width, stride), nn.ReLU(), *conv_bn(width, width))
            self.body = nn.Sequential(*body)
            same = stride == 1 and read == width
            self.shortcut = None if same else nn.Sequential(*conv_bn(read, width, stride, 1))

        def forward(self, x: Any) -> Any:
            return (self.body(x) + (self.shortcut(x) if self.shortcut else x)).relu()

    if name == "ResNet-20":
        layers, channels = [*conv_bn(3, 16), nn.ReLU()], 16
        for width in (16, 32, 64):
            for i in range(3):
                layers.append(Block(channels, width, 2 if i == 0 and width > 16 else 1))
                channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
        return nn.Sequential(*layers)
    layers, channels = [], 3
    for width in (64, 128, 256):
        for read in (channels, width):
            layers += [nn.Conv2d(read, width, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 16, 10))


def torch_step(name: str, size: int, channels_last: bool) -> Step:
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = torch_net(name)
    with torch.no_grad():
        for parameter, values in zip(net.parameters(), state(name), strict=True):
            parameter.copy_(torch.from_numpy(values))
    net = net.to(memory_format=layout)
    x, y = (torch.from_numpy(a) for a in images(size))
    x = x.contiguous(memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def step_of(library: str, name: str, size: int) -> Step:
    """A step of one of ``NETS`` or of the notebook's network, in a library as tables call it."""
    if library.startswith("cyconv"):
        compiled = library == COMPILED
        if name == NOTEBOOK:
            return nets.cyconv_step(size, compiled=compiled)
        return cyconv_step(name, size, compiled)
    channels_last = library.endswith("channels_last")
    if name == NOTEBOOK:
        return nets.torch_step(size, channels_last)
    return torch_step(name, size, channels_last)
