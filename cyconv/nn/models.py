"""Ready-made nets: functions that return a ``Sequential`` with new random weights.

All take images (N, in_channels, H, W) and give logits (N, num_classes), in float32.
"""

from __future__ import annotations

from ..arguments import integer
from .activation import Flatten, ReLU
from .containers import Residual, Sequential
from .conv import Conv2d, Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d
from .pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = ["lenet", "lenet_bn", "resnet20", "vgg_small"]


def lenet(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Sequential:
    """Two convolutions, each with average pooling, and two fully connected layers.

    Parameters
    ----------
    num_classes, in_channels : int, at least 1
    image_size : rows, and columns, of the images in pixels, at least 14

    Returns
    -------
    A Sequential of 129,068 parameters, unless the arguments say otherwise.

    Raises
    ------
    TypeError : an argument is no integer
    ValueError : one below its least value

    Source: the net of the notebook "Convolutional neural networks from scratch" (The Straight Dope,
    2017), after LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    >>> import cyconv as cc
    >>> cc.nn.models.lenet()(cc.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    features = 50 * _lenet_size(image_size) ** 2
    return Sequential(
        Conv2d(in_channels, 20, kernel_size=3),
        ReLU(),
        AvgPool2d(2),
        Conv2d(20, 50, kernel_size=5),
        ReLU(),
        AvgPool2d(2),
        Flatten(),
        Linear(features, 128),
        ReLU(),
        Linear(128, num_classes),
    )


def lenet_bn(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Sequential:
    """``lenet`` with batch norm before each ReLU.

    Parameters
    ----------
    num_classes, in_channels, image_size : as in ``lenet``

    Returns
    -------
    A Sequential of 129,266 parameters, unless the arguments say otherwise.

    Raises
    ------
    TypeError, ValueError : as in ``lenet``

    Source: ``lenet``'s, and Ioffe and Szegedy, "Batch normalization", 2015.

    >>> import cyconv as cc
    >>> cc.nn.models.lenet_bn(image_size=20)(cc.zeros(2, 1, 20, 20)).shape
    (2, 10)
    """
    features = 50 * _lenet_size(image_size) ** 2
    return Sequential(
        Conv2d(in_channels, 20, kernel_size=3, bias=False),
        BatchNorm2d(20),
        ReLU(),
        AvgPool2d(2),
        Conv2d(20, 50, kernel_size=5, bias=False),
        BatchNorm2d(50),
        ReLU(),
        AvgPool2d(2),
        Flatten(),
        Linear(features, 128, bias=False),
        BatchNorm1d(128),
        ReLU(),
        Linear(128, num_classes),
    )


def _lenet_size(image_size: int) -> int:
    """Pixels a side that 3x3, pool, 5x5, pool leave."""
    side = ((integer("lenet: image_size", image_size, 1) - 2) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet: image_size must be at least 14, got {image_size}")
    return side


def vgg_small(num_classes: int = 10, in_channels: int = 3) -> Sequential:
    """Six 3x3 convolutions with batch norm in three blocks of 64, 128 and 256 channels.

    Max pooling halves the image between the blocks; the mean of each channel goes into one
    linear layer.

    Parameters
    ----------
    num_classes, in_channels : int, at least 1

    Returns
    -------
    A Sequential of 1,148,874 parameters, unless the arguments say otherwise, for images of at least
    4x4 pixels.

    Raises
    ------
    TypeError : an argument is no integer
    ValueError : one below 1

    Source: a small relative of the nets in Simonyan and Zisserman, "Very deep convolutional
    networks for large-scale image recognition", 2014.

    >>> import cyconv as cc
    >>> cc.nn.models.vgg_small()(cc.zeros(2, 3, 32, 32)).shape
    (2, 10)
    """
    layers: list[Module] = []
    channels = in_channels
    for width in (64, 128, 256):
        if layers:
            layers.append(MaxPool2d(2))
        layers += [*_conv_bn(channels, width), ReLU(), *_conv_bn(width, width), ReLU()]
        channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes))


def resnet20(num_classes: int = 10, in_channels: int = 3) -> Sequential:
    """The residual net of 20 layers for 32x32 images: three stages of three blocks.

    The stages have 16, 32 and 64 channels on 32, 16 and 8 pixels a side. Where a stage changes the
    shape the shortcut is a 1x1 convolution with batch norm (option B of the paper; its CIFAR nets
    pad with zeros, option A), which adds 2,752 parameters.

    Parameters
    ----------
    num_classes, in_channels : int, at least 1

    Returns
    -------
    A Sequential of 272,474 parameters, unless the arguments say otherwise.

    Raises
    ------
    TypeError : an argument is no integer
    ValueError : one below 1

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016, section
    4.2.

    >>> import cyconv as cc
    >>> net = cc.nn.models.resnet20()
    >>> net(cc.zeros(2, 3, 32, 32)).shape, net.num_parameters()
    ((2, 10), 272474)
    """
    blocks: list[Module] = []
    channels = 16
    for width in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and width > 16 else 1
            blocks.append(_residual(channels, width, stride))
            channels = width
    return Sequential(
        *_conv_bn(in_channels, 16),
        ReLU(),
        *blocks,
        GlobalAvgPool2d(),
        Flatten(),
        Linear(channels, num_classes),
    )


def _residual(channels: int, width: int, stride: int) -> Residual:
    body = Sequential(*_conv_bn(channels, width, stride), ReLU(), *_conv_bn(width, width))
    shortcut = None
    if stride != 1 or channels != width:
        shortcut = Sequential(
            Conv2d(channels, width, kernel_size=1, stride=stride, bias=False), BatchNorm2d(width)
        )
    return Residual(body, shortcut, ReLU())


def _conv_bn(channels: int, width: int, stride: int = 1) -> tuple[Conv2d, BatchNorm2d]:
    """A 3x3 convolution that keeps the size; its bias would vanish in the batch norm after it."""
    conv = Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
    return conv, BatchNorm2d(width)
