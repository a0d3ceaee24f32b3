"""Which algorithm a convolution takes where the user leaves the choice: one rule to read.

It looks at sizes only, never at a clock, so that the same call always computes the same bits.
"""

from __future__ import annotations

from ..geometry import Conv2dGeometry

LEAST_CHANNELS = 16  # of input and output; with fewer, Winograd's transforms cost what they save
LEAST_FOR_WEIGHTS = 24  # the same for the weight gradient, which transforms both sides each time
MOST_WASTE = 1.5  # what Winograd's 4x4 tiles may compute, relative to what lies in the image
MOST_IDLE = 1.25  # lanes of the vectors that images take up, relative to the images


def choose(
    g: Conv2dGeometry, char: str, vector: int, least: int = LEAST_CHANNELS
) -> tuple[str, str]:
    """(algorithm, why it) for numbers of dtype ``char`` and vectors of so many lanes.

    ``least`` is the number of channels from which Winograd is worth its transforms.

    "direct" reads images in place, one in each lane; "im2col" fills the lanes with the pixels of
    several images, but copies what they read; "winograd" multiplies less, but is less exact, so
    it is taken for float32 only.
    """
    if -(-g.n // vector) * vector > MOST_IDLE * g.n:
        return "im2col", f"{g.n} images would idle lanes of vectors of {vector}, pixels fill them"
    oh, ow = g.window.out_size
    waste = (-(-oh // 4) * -(-ow // 4) * 16) / (oh * ow)
    if (
        g.allows_winograd
        and char == "f"
        and min(g.c, g.f) >= least
        and waste <= MOST_WASTE
        and max(g.window.padding) <= 2
    ):
        return "winograd", "its 4x4 tiles take a quarter of the multiplications"
    return "direct", f"{g.n} images fill vectors of {vector} lanes well enough"
