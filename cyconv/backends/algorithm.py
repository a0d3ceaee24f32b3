"""Which algorithm a convolution takes where the user leaves the choice: one rule to read.

It looks at sizes only, never at a clock, so that the same call always computes the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from ..geometry import Conv2dGeometry

# From so many channels of input and output on, by (side of the kernels, stride), Winograd's
# transforms cost less than they save; the weight gradient transforms both sides each time. That of
# 1x1 kernels takes im2col from there on, ...
LEAST_CHANNELS = {
    "forward": {(3, 1): 16, (5, 1): 8, (3, 2): 40, (5, 2): 16, (7, 2): 3},
    "input_grad": {(3, 1): 16, (5, 1): 8, (3, 2): 40},
    "weight_grad": {(1, 1): 32, (1, 2): 16, (3, 1): 16, (5, 1): 12},
}
# ... and that of others from so many filters on, which share the copies of what lanes read, times
# what idle lanes these have; from half as many on where a row of the output, which is cut into
# lanes else, has so few numbers, times the stride. And so many taps of all channels are needed.
SHARING_FILTERS, SHORT_ROW, LEAST_TAPS = 48, 60, 24
# What Winograd's tiles may compute, relative to the outputs of the convolution; by the stride.
MOST_WASTE = {
    "forward": {1: 1.5, 2: 1.35},
    "input_grad": {1: 1.5, 2: 1.35},
    "weight_grad": {1: 1.35},
}
OVERLAP = 1.5  # times the work that adding up overlapping tiles is, about
# Lanes of the vectors that images take up, relative to the images, in the direct algorithm. In a
# gradient by the input im2col multiplies zeros for all but one of the pixels of a step: so many
# pixels, times this, are as bad as idle lanes.
MOST_IDLE = 1.25
AS_BAD = 0.67
# The same in Winograd's: with more, its lanes are tiles.
MOST_IDLE_IN_TILES = 1.5
# In weight gradients tiles are never the lanes: the more are idle, up to this, the more channels it
# takes.
MOST_IDLE_OF_WEIGHTS = 2.0
# Where tiles are lanes: so many channels, of dout alone in its gradient; what they may compute,
# idle lanes as well, relative to the pixels that are written (in gradients with a stride, to the
# lanes that direct takes for these); and so many vectors of lanes: of fewer, each thread transforms
# a part of the channels and hands it to the others. By (side of the kernels, stride).
TILE_LANES = {
    "forward": {
        (3, 1): (10, 2.2, 0),
        (5, 1): (8, 2.05, 0),
        (3, 2): (40, 1.1, 4),
        (5, 2): (10, 1.6, 0),
        (7, 2): (3, 1.9, 0),
    },
    "input_grad": {(3, 1): (10, 2.5, 0), (5, 1): (8, 3.1, 0), (3, 2): (10, 1.3, 0)},
}
# Of a 1x1 convolution: copying what the lanes read costs less than reading it from all over the
# memory if so many filters read it, from so many channels, and input and output are so many bytes,
# more than a cache has; or if the images fill one vector only, while pixels fill the two of a tile
MANY_FILTERS, MANY_CHANNELS, MANY_BYTES = 32, 16, 20_000_000
MOST_TAPS = 2**24  # of a filter, that the depthwise kernel counts
MOST_PADDED = 8  # that a depthwise convolution may copy, relative to the pixels of input and output


def choose(g: Conv2dGeometry, char: str, vector: int, direction: str) -> tuple[str, str]:
    """(algorithm, why it) for numbers of dtype ``char`` and vectors of so many lanes.

    "direct" reads images in place, one in each lane. "im2col" copies what the lanes read, which
    may be images or the pixels of one, or in a weight gradient taps of channels. "winograd"
    multiplies less, but is less exact, so it is taken for float32 only. "dense" is for one image
    under a fully connected layer. "depthwise" is for one filter for each channel, but for
    gradients that would read mostly zeros.
    """
    one_pixel = g.window.is_pointwise and g.window.in_size == g.window.out_size == (1, 1)
    if one_pixel and g.n == 1 and g.groups == 1 and direction == "forward":
        return "dense", "a single pixel: lanes are channels"
    oh, ow = g.window.out_size
    fills = direction == "forward" or (direction == "input_grad" and g.window.stride == (1, 1))
    pays = _padded(g, direction) <= MOST_PADDED * (oh * ow + _pixels(g))
    if g.c == g.groups == g.f > 1 and fills and pays and math.prod(g.window.kernel) < MOST_TAPS:
        return "depthwise", "one filter for each channel: lanes are all that lies in a row"
    if char == "f" and (why := _why_winograd(g, vector, direction)):
        return "winograd", why
    if direction == "weight_grad":
        if _is_product(g, vector):
            return "im2col", "a product of two matrices: lanes are taps of channels"
        return "direct", "lanes are what it sums up, images and pixels"
    idle = _idle(g.n, vector)
    read_of_each = math.prod(g.window.stride) if direction == "input_grad" else 1
    most = max(MOST_IDLE, AS_BAD * read_of_each)
    if idle > most or (g.window.is_pointwise and not one_pixel and idle > 1):
        reason = f"a batch of {g.n} would idle lanes of vectors of {vector}"
        return "im2col", f"{reason}, pixels fill them"
    read, filters = g.c // g.groups, g.f // g.groups
    if direction == "input_grad":
        read, filters = filters, read
    far = (math.prod(g.x_shape) + math.prod(g.out_shape)) * np.dtype(char).itemsize >= MANY_BYTES
    many = filters >= MANY_FILTERS and read >= MANY_CHANNELS and far
    narrow = g.n < 2 * vector and filters >= MANY_CHANNELS
    # larger kernels and strides would need a copy of the whole input besides
    if (many or narrow) and g.window.is_pointwise:
        return "im2col", f"{filters} filters share a copy of what each reads of {read} channels"
    if g.n <= vector and direction == "forward":
        return "im2col", f"a batch of {g.n} fills one vector, two pixels the two of a tile"
    return "direct", f"a batch of {g.n} fills vectors of {vector} lanes well enough"


def choose_width(
    g: Conv2dGeometry, char: str, vectors: tuple[int, ...], direction: str
) -> tuple[int, str, str]:
    """(lanes, algorithm, why) where there are kernels for vectors of these lengths, longest first.

    A batch that leaves half of a long vector's lanes idle may fill a short one. That is better
    where images have to be the lanes: in Winograd's weight gradient, with channels enough to be
    faster than direct is in long vectors; in a gradient by the input, where tiles of dout, which
    only short vectors take, are fewer vectors than the other tiles; and in a strided one that is
    direct, unless long vectors take Winograd's method.
    """
    longest, shortest = vectors[0], vectors[-1]
    name, reason = choose(g, char, longest, direction)
    if g.n <= shortest < min(longest, 2 * g.n):
        other, why = choose(g, char, shortest, direction)
        better = False
        if direction == "weight_grad" and other == "winograd":
            least = longest / shortest * _least_channels(g, shortest, direction)
            better = min(g.c, g.f) >= least
        if direction == "input_grad":
            strided = g.window.stride != (1, 1)
            better = strided and other == "direct" and name != "winograd"
            if other == "winograd" and spreads_output_tiles(g, shortest):
                of_dout, of_dx = _both_tiles(g)
                better = of_dout < of_dx * g.n / longest
        if better:
            return shortest, other, f"{why}, in vectors of {shortest}"
    return longest, name, reason


def _why_winograd(g: Conv2dGeometry, vector: int, direction: str) -> str | None:
    """What it saves, if there are channels enough, and neither tiles nor vectors reach far out."""
    kernel, stride = g.window.kernel[0], g.window.stride[0]
    if not allows_winograd(g, direction) or max(g.window.padding) >= kernel:
        return None
    on_input = direction == "input_grad" and not spreads_output_tiles(g, vector)
    written = g.window.in_size if on_input else g.window.out_size
    side, taken = _tile(g, on_input)
    rows, cols = _tiles(written, side)
    least: float
    if direction != "weight_grad" and lanes_are_tiles(g, vector):
        least, most, vectors = TILE_LANES[direction][kernel, stride]
        # im2col is slow, too, where few channels are written
        channels = g.f if direction == "input_grad" else min(g.c, g.f)
        lanes = rows * cols * g.n
        if lanes < vectors * vector:
            return None
        waste = _idle(lanes, vector) * lanes / g.n * side**2 / math.prod(written)
        if direction == "input_grad" and stride > 1:
            waste /= _idle(g.n, vector)  # in direct, which multiplies no zeros here
    else:
        least, most = _least_channels(g, vector, direction), MOST_WASTE[direction][stride]
        channels = min(g.c, g.f)
        steps = side // stride if on_input else side
        waste = rows * cols * steps**2 / math.prod(g.window.out_size)
    if channels < least or waste > most:
        return None
    return f"its tiles of {side}x{side} outputs take {taken} multiplications"


def _is_product(g: Conv2dGeometry, vector: int) -> bool:
    """Whether a weight gradient is faster as a product of two matrices, of which one is copied."""
    window, taps, idle = g.window, math.prod(g.window.kernel), _idle(g.n, vector)
    least = LEAST_CHANNELS["weight_grad"]
    if g.groups > 1:
        return False
    if window.is_pointwise:
        return window.in_size == (1, 1) or min(g.c, g.f) >= least[1, 1]
    if taps == 1:
        return g.c >= least[1, 2] and g.f >= least[1, 2] * max(1, idle / 4)
    short = SHORT_ROW * window.stride[1] / (window.out_size[1] * g.n)
    return g.f * (1 + short) >= SHARING_FILTERS * idle and g.c * taps >= LEAST_TAPS


def _least_channels(g: Conv2dGeometry, vector: int, direction: str) -> float:
    """From how many on Winograd's method pays."""
    least = LEAST_CHANNELS[direction][g.window.kernel[0], g.window.stride[0]]
    if direction != "weight_grad":
        return least
    idle = _idle(g.n, vector)
    return least * idle if idle <= MOST_IDLE_OF_WEIGHTS else math.inf


def _pixels(g: Conv2dGeometry) -> int:
    return g.window.in_size[0] * g.window.in_size[1]


def _padded(g: Conv2dGeometry, direction: str) -> int:
    """Pixels of what is read and its padding, from the first to the last that is read.

    They lie column by stride, and so in whole numbers of strides.
    """
    w = g.window
    sizes, strides = (w.out_size, w.stride) if direction == "forward" else (w.in_size, (1, 1))
    axes = zip(sizes, strides, w.kernel, w.dilation)
    rows, cols = ((o - 1) * s + (k - 1) * d + 1 for o, s, k, d in axes)
    return rows * -(-cols // strides[1]) * strides[1]


def allows_winograd(g: Conv2dGeometry, direction: str = "forward") -> bool:
    """Whether Winograd's method takes it: 3x3 and 5x5 kernels, without gaps, that move by 1.

    It takes 3x3, 5x5 and 7x7 kernels that move by 2, too, but for the gradients; by the input,
    however, 3x3 ones where the padding on top and left is odd.
    """
    w = g.window
    (kernel, width), (stride, across) = w.kernel, w.stride
    if g.groups != 1 or w.dilation != (1, 1) or kernel != width or stride != across:
        return False
    odd = w.padding[0] % 2 == w.padding[2] % 2 == 1
    known = kernel > 1 and (kernel, stride) in LEAST_CHANNELS[direction]
    return known and (stride == 1 or direction == "forward" or odd)


def lanes_are_tiles(g: Conv2dGeometry, vector: int) -> bool:
    """Whether Winograd's lanes are tiles, as images would leave too many idle."""
    return _idle(g.n, vector) > MOST_IDLE_IN_TILES


def spreads_output_tiles(g: Conv2dGeometry, vector: int) -> bool:
    """Whether Winograd's gradient by the input takes tiles of dout, which overlap in dx.

    Tiles of dx do not overlap, but without padding they are more.
    """
    if g.window.stride != (1, 1) or not allows_winograd(g) or lanes_are_tiles(g, vector):
        return False
    of_dout, of_dx = _both_tiles(g)
    return OVERLAP * of_dout <= of_dx


def _both_tiles(g: Conv2dGeometry) -> tuple[int, int]:
    """How many there are in an image of dout, and of dx, where the stride is 1."""
    side, _ = _tile(g, False)
    return math.prod(_tiles(g.window.out_size, side)), math.prod(_tiles(g.window.in_size, side))


def _idle(images: int, vector: int) -> float:
    """Lanes of the vectors that they take up, relative to them."""
    return -(-images // vector) * vector / max(images, 1)


def _tile(g: Conv2dGeometry, on_input: bool) -> tuple[int, str]:
    """The side of Winograd's tiles of the output, or of the input, and what each multiplies."""
    if g.window.stride == (2, 2):
        taken = {3: "81 instead of 144", 5: "144 instead of 400", 7: "196 instead of 784"}
        return 8 if on_input else 4, taken[g.window.kernel[0]]
    return (4, "36 instead of 144") if g.window.kernel == (3, 3) else (3, "49 instead of 225")


def _tiles(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of them."""
    return -(-size[0] // side), -(-size[1] // side)
