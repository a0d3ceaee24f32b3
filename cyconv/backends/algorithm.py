"""Which algorithm a convolution takes where the user leaves the choice: one rule to read.

It looks at sizes only, never at a clock, so that the same call always computes the same bits.
"""

from __future__ import annotations

from ..geometry import Conv2dGeometry

# From so many channels of input and output on, by the side of the kernels, Winograd's transforms
# cost less than they save; the weight gradient transforms both sides each time.
LEAST_CHANNELS = {3: 16, 5: 32}
LEAST_FOR_WEIGHTS = {3: 24}
MOST_WASTE = 1.5  # what Winograd's tiles may compute, relative to what lies in the image
MOST_IDLE = 1.25  # lanes of the vectors that images take up, relative to the images


def choose(
    g: Conv2dGeometry, char: str, vector: int, least: dict[int, int] = LEAST_CHANNELS
) -> tuple[str, str]:
    """(algorithm, why it) for numbers of dtype ``char`` and vectors of so many lanes.

    ``least`` is LEAST_CHANNELS or, for the weight gradient, LEAST_FOR_WEIGHTS.

    "direct" reads images in place, one in each lane; "im2col" fills the lanes with the pixels of
    several images, but copies what they read; "winograd" multiplies less, but is less exact, so
    it is taken for float32 only.
    """
    if -(-g.n // vector) * vector > MOST_IDLE * g.n:
        return "im2col", f"{g.n} images would idle lanes of vectors of {vector}, pixels fill them"
    (oh, ow), kernel = g.window.out_size, g.window.kernel[0]
    side = 7 - kernel  # of Winograd's tiles: 6x6 points hold 4x4 outputs of 3x3 kernels, 2x2 of 5x5
    worth = kernel in least and min(g.c, g.f) >= least[kernel]
    if g.allows_winograd and char == "f" and worth:
        waste = -(-oh // side) * -(-ow // side) * side**2 / (oh * ow)
        if waste <= MOST_WASTE and max(g.window.padding) < kernel:
            taken = f"36 instead of {(side * kernel) ** 2} multiplications"
            return "winograd", f"its tiles of {side}x{side} outputs take {taken}"
    return "direct", f"{g.n} images fill vectors of {vector} lanes well enough"
