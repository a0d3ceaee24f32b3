"""Picture files of every kind become what a net was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cyconv as cc
from cyconv.readimage import read_image

DIGIT = cc.data.MNIST.built_in(train=False).images[0, 0]


def in_mode(mode: str) -> Image.Image:
    """A digit of 56 x 56 pixels, white on black."""
    digit = Image.fromarray(DIGIT).resize((56, 56), Image.Resampling.NEAREST)
    if mode == "I;16":
        return Image.fromarray(np.asarray(digit).astype(np.uint16) * 257)
    if mode == "F, to 1":
        return Image.fromarray((np.asarray(digit) / 255).astype(np.float32))
    if mode == "I, deep":
        return Image.fromarray(np.asarray(digit).astype(np.int32) * 2**20)
    return digit.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *((mode, "png") for mode in ("L", "1", "P", "RGB", "RGBA", "LA", "I;16")),
        *((mode, "tif") for mode in ("L", "CMYK", "I", "I, deep", "F", "F, to 1")),
        *((mode, "jpg") for mode in ("L", "RGB", "CMYK")),
        *(("RGB", ending) for ending in ("bmp", "gif", "webp", "ppm")),
    ],
)
def test_every_mode(mode: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    in_mode(mode).save(path)
    pixels, note = read_image(path, (1, 28, 28))
    assert pixels.shape == (1, 28, 28) and pixels.dtype == np.uint8
    assert note == ""
    error = np.abs(pixels[0].astype(int) - DIGIT)
    assert error.mean() < (30 if mode == "1" else 6)
    colour, note = read_image(path, (3, 28, 28))
    assert colour.shape == (3, 28, 28)
    assert np.abs(colour.astype(int) - pixels).mean() < 3


def test_light_backgrounds_are_inverted_for_grey_nets_only(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(255 - DIGIT).save(path)
    pixels, note = read_image(path, (1, 28, 28))
    np.testing.assert_array_equal(pixels[0], DIGIT)
    assert note == "  [inverted: its background is light]"
    pixels, note = read_image(path, (3, 28, 28))
    np.testing.assert_array_equal(pixels[1], 255 - DIGIT)
    assert note == ""


@pytest.mark.parametrize("place", [(0, 0), (150, 40), (300, 200)], ids=str)
@pytest.mark.parametrize("side", [60, 100])
def test_digits_drawn_anywhere_are_centred(
    place: tuple[int, int], side: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.png"
    paper = Image.new("L", (400, 300), 230)
    drawn = Image.fromarray(DIGIT).resize((side, side), Image.Resampling.BICUBIC)
    paper.paste(drawn.point(lambda value: 230 - 230 * value // 255), place)
    paper.save(path)
    pixels, note = read_image(path, (1, 28, 28), digit=True)
    assert note == "  [inverted: its background is light; centred]"
    assert np.abs(pixels[0].astype(int) - DIGIT).mean() < 12
    rows, columns = np.nonzero(pixels[0] > 60)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
    mass = pixels[0] / pixels.sum()
    for axis in (0, 1):
        assert abs(mass.sum(axis=axis) @ np.arange(28) - 14) < 0.6


def test_what_is_not_centred(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    moved = np.roll(DIGIT, 3, axis=1)
    Image.fromarray(moved).save(path)  # of the net's own size
    pixels, note = read_image(path, (1, 28, 28), digit=True)
    np.testing.assert_array_equal(pixels[0], moved)
    assert note == ""
    for grey in (0, 40, 255):
        Image.new("L", (300, 300), grey).save(path)
        pixels, note = read_image(path, (1, 28, 28), digit=True)
        assert not pixels.any() and note == "  [there is nothing on it]"


@pytest.mark.parametrize(
    ("paper", "ink"), [(235, 20), (110, 20), (100, 10), (30, 120), (140, 255), (200, 255), (15, 0)]
)
def test_any_ink_on_any_paper(paper: int, ink: int, tmp_path: Path) -> None:
    """What differs from the paper is the digit, as strong as in MNIST, whichever is lighter."""
    large = Image.fromarray(DIGIT).resize((84, 84))
    found = []
    for at, to in ((0, 255), (paper, ink)):
        values = at + np.asarray(large, float) / 255 * (to - at)
        canvas = np.full((150, 150), at, np.uint8)
        canvas[30:114, 40:124] = values.round()
        Image.fromarray(canvas).save(tmp_path / "x.png")
        pixels, note = read_image(tmp_path / "x.png", (1, 28, 28), digit=True)
        assert ("inverted" in note) == (to < at) and "centred" in note
        found.append(pixels[0].astype(int))
    assert np.abs(found[1] - found[0]).mean() < 6  # of 255


def test_transparent_is_white_paper(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    clear = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (20, 10, 30, 40))  # black ink
    for image in (clear, clear.convert("LA"), clear.quantize()):
        image.save(path)
        pixels, note = read_image(path, (1, 25, 25))
        assert "inverted" in note
        assert pixels[0, 12, 12] > 250 and pixels[0, 2, 2] < 5
    white = Image.new("L", (50, 50), 255)
    white.save(path, transparency=255)
    assert read_image(path, (3, 25, 25)).pixels.min() == 255


def test_proportions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    wide = np.full((20, 60, 3), (0, 0, 90), np.uint8)
    wide[:, 20:40] = (250, 0, 90)
    for image in (wide, wide.transpose(1, 0, 2)):
        Image.fromarray(image).save(path)
        pixels, _ = read_image(path, (3, 30, 30))
        assert pixels[0, 15, 15] == 250
        assert (pixels[1] == 0).all() and (pixels[2] == 90).all()  # padded in the edge's colour
        assert pixels[0, :9].max() < 5 and pixels[0, 21:].max() < 5
        assert pixels[0, :, :9].max() < 5 and pixels[0, :, 21:].max() < 5


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    stripes = np.zeros((280, 280), np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(path)
    inner = read_image(path, (1, 28, 28)).pixels[0, 3:-3]
    assert np.abs(inner.astype(int) - 100).max() < 8


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (2000, 1)], ids=str)
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("L", size, 9).save(path)
    assert (read_image(path, (1, 28, 28)).pixels == 9).all()


def test_the_camera_was_turned(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the left of what is stored is the top
    image.save(path, exif=exif)
    pixels, _ = read_image(path, (1, 40, 40))
    assert pixels[0, 10, 20] > 250 and pixels[0, 30, 20] < 5


@pytest.mark.parametrize("cut", [0, 1, 8, 20, 40, 60, 100, -1])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_damaged_files_are_named(cut: int, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    Image.fromarray(DIGIT).convert("RGB").save(path)
    data = path.read_bytes()
    path.write_bytes(data[:cut] if cut >= 0 else bytes(b ^ 0x55 for b in data))
    try:
        read_image(path, (1, 28, 28))
    except ValueError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


def test_a_net_for_other_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the net wants 2 channels, an image has 1 or 3"):
        read_image(tmp_path / "x.png", (2, 28, 28))
