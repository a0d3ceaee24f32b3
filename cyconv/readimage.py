"""A picture file as a net wants to see it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .atomic import FilePath

INVERTED = "inverted: its background is light"
FAINTEST = 8  # of 255: how much a digit must at least differ from its background


class Picture(NamedTuple):
    pixels: np.ndarray  # (C, H, W), uint8
    note: str  # what was changed, for the user; may be empty


def read_image(path: FilePath, shape: Sequence[int], *, digit: bool = False) -> Picture:
    """The image in a file of any format that Pillow reads, as uint8 of ``shape`` (C, H, W).

    It is padded to a square with the colour of its edge and resized with antialiasing. For a net
    with one channel it turns grey, and light backgrounds dark, as the data sets of this kind are:
    the background is the median of the pixels at the edge. Transparent pixels count as white.
    ``digit`` instead takes what differs most from the background for the digit, and brings it to
    the size, place and brightness that digits have in MNIST, unless the image has the size of
    MNIST's already.

    OSError or ValueError, in one sentence, if the file cannot be read or is no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"{path}: the net wants {channels} channels, an image has 1 or 3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it also warns of damage that it can live with
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = _opaque(_eight_bits(ImageOps.exif_transpose(file)))
                image = image.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path} has too many pixels") from None
    except Exception as error:  # of a damaged file; the decoders raise what they like
        if isinstance(error, OSError) and error.filename is not None:  # missing, not allowed
            raise
        raise ValueError(f"{path} cannot be read: {error}") from None
    notes: list[str] = []
    if digit and image.size != (width, height):
        image, notes = _centred(image, width)
    elif channels == 1 and np.median(_edge(np.asarray(image))) > 127:
        image = ImageOps.invert(image)
        notes.append(INVERTED)
    image = _square(image).resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
    return Picture(np.ascontiguousarray(pixels), f"  [{'; '.join(notes)}]" if notes else "")


def _centred(image: Any, size: int) -> tuple[Any, list[str]]:
    """A light digit on dark as in MNIST, and notes for the user.

    The longer side is 20 of 28 pixels long, and the centre of mass is in the middle, as described
    at the end of LeCun et al., "Gradient-based learning applied to document recognition", 1998,
    section III A.
    """
    from PIL import Image

    grey = np.asarray(image.convert("L"), float)
    lighter = grey - np.median(_edge(grey))  # than the background
    light, dark = lighter.clip(min=0), (-lighter).clip(min=0)
    is_dark = (dark**2).sum() > (light**2).sum()
    strength = dark if is_dark else light
    if strength.max() < FAINTEST:
        return Image.new("L", (size, size)), ["there is nothing on it"]
    ink = Image.fromarray(np.uint8(strength * (255 / strength.max())))
    box = ink.point(lambda value: 255 * (value > 64)).getbbox()  # what is fainter is noise
    drawn = ink.crop(box)
    scale = size * 20 / 28 / max(drawn.size)
    fitting = [max(1, round(scale * side)) for side in drawn.size]
    drawn = drawn.resize(fitting, Image.Resampling.LANCZOS)
    mass = np.asarray(drawn, float)
    mass /= mass.sum() or 1.0
    x = size / 2 - mass.sum(axis=0) @ np.arange(mass.shape[1])  # MNIST's middle is pixel 14
    y = size / 2 - mass.sum(axis=1) @ np.arange(mass.shape[0])
    centred = Image.new("L", (size, size))
    centred.paste(drawn, (round(x), round(y)))
    return centred, [INVERTED, "centred"] if is_dark else ["centred"]


def _eight_bits(image: Any) -> Any:
    """Pillow cuts deeper greys off at 255: scale those first."""
    from PIL import Image

    if image.mode[0] not in "IF":
        return image
    values = np.nan_to_num(np.asarray(image, np.float64))
    top = values.max(initial=0)
    if image.mode.startswith("I;16") or 255 < top <= 65535:
        top = 65535
    elif top <= 255:
        top = 1 if image.mode == "F" and top <= 1 else 255
    return Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))


def _opaque(image: Any) -> Any:
    """On white paper, if it is transparent somewhere."""
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _square(image: Any) -> Any:
    """Padded to a square, so that resizing does not change the proportions."""
    from PIL import Image

    width, height = image.size
    if width == height:
        return image
    edge = _edge(np.asarray(image).reshape(height, width, -1))
    colour = tuple(int(value) for value in np.median(edge, axis=0))
    size = max(width, height)
    square = Image.new(image.mode, (size, size), colour if len(colour) > 1 else colour[0])
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square


def _edge(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels (n, C) of an image (H, W, C)."""
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    return np.concatenate(sides)
