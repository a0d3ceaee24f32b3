"""The pictures of a training: drawn without a screen, of any history, showing what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_cyconv import main

import cyconv as cc
from cyconv import nn
from cyconv.train import Epoch, History

pytest.importorskip("matplotlib")
from cyconv import plots

RNG = np.random.default_rng(0)
NAMES = ["curves.png", "filters.png", "confusion.png"]


def history(*accuracies: tuple[float | None, float | None]) -> History:
    rows = [Epoch(i, 0.5, *pair, 0.1, 1.0, 1.0) for i, pair in enumerate(accuracies)]
    return History(rows, [1.0 / (i + 1) for i in range(5 * len(rows))])


def drawn(figure: Any, folder: Path) -> np.ndarray:
    figure.savefig(folder / "x.png")
    with Image.open(folder / "x.png") as image:
        return np.asarray(image.convert("RGB"))


def test_train_leaves_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("train", "--epochs", "1", "--limit", "64")
    assert main(*options) == 0
    out, err = capsys.readouterr()
    assert err == ""
    last = out.splitlines()[-1]
    assert last == "In runs/lenet-mnist-1: model.safetensors, history.csv, " + ", ".join(NAMES)
    for name in NAMES:
        with Image.open(tmp_path / "runs" / "lenet-mnist-1" / name) as image:
            assert min(image.size) > 300
            assert len(set(np.asarray(image.convert("L")).flat)) > 20
    monkeypatch.setitem(sys.modules, "cyconv.plots", None)  # as if matplotlib were missing
    assert main(*options) == 0
    out, err = capsys.readouterr()
    assert err == "cyconv: no pictures, because matplotlib is not installed\n"
    assert out.endswith("In runs/lenet-mnist-2: model.safetensors, history.csv\n")


@pytest.mark.parametrize(
    "past",
    [
        history(),
        history((0.5, 0.4)),
        history((0.5, None), (0.6, None)),
        history((None, None)),
        history(*[(0.9, 0.8)] * 50),
        History([], [0.0, 0.0]),
        History([], [1e30, 1e-30]),
    ],
    ids=range(7),
)
def test_curves_of_any_history(past: History, tmp_path: Path) -> None:
    figure = plots.curves(past, 5)
    assert drawn(figure, tmp_path).std() > 1
    loss, accuracy = figure.axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), past.losses)
    np.testing.assert_allclose(loss.lines[0].get_xdata(), np.arange(1, len(past.losses) + 1) / 5)
    train = [row.train_accuracy for row in past.rows]
    if train and None not in train:
        np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), train)
        np.testing.assert_array_equal(accuracy.lines[0].get_xdata(), range(1, len(train) + 1))


def test_filters_show_what_the_net_computes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 13, 3), nn.ReLU(), nn.Flatten())
    image = RNG.integers(0, 256, (1, 9, 9)).astype(np.uint8)
    figure = plots.filters(net, image)
    assert figure is not None
    shown = [image.get_array() for image in figure.axes[0].images]
    assert len(shown) == 1 + 2 * 13
    expected = net[:2](cc.tensor(image[None] / np.float32(255))).numpy()[0]
    for k in range(13):
        np.testing.assert_array_equal(shown[1 + 2 * k], net[0].weight[k, 0])
        np.testing.assert_allclose(shown[2 + 2 * k], expected[k], atol=1e-5)
    assert drawn(figure, tmp_path).std() > 1


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 64])
def test_filters_of_other_nets(channels: int, count: int, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Residual(nn.Conv2d(channels, channels, 3, padding=1)))
    net = nn.Sequential(nn.Conv2d(channels, count, 5, stride=2)) if count > 1 else net
    image = RNG.integers(0, 256, (channels, 12, 12)).astype(np.uint8)
    figure = plots.filters(net, image)
    assert drawn(figure, tmp_path).std() > 1


def test_a_net_without_a_convolution_has_no_filters() -> None:
    assert plots.filters(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), np.zeros((1, 3, 3))) is None


def test_confusion_counts(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 1, 5, 5)).astype(np.uint8)
    labels = np.array([0, 0, 1, 2, 2, 2])
    probabilities = np.array(
        [[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1, 0], [0, 0.3, 0.7], [0.6, 0, 0.4], [0, 0.9, 0.1]]
    )
    figure = plots.confusion(images, labels, probabilities, ["cat", "dog", "automobile"])
    matrix, mistakes = figure.axes
    texts = {text.get_position(): text.get_text() for text in matrix.texts}
    expected = {(0, 0): "1", (1, 0): "1", (1, 1): "1", (2, 2): "1", (0, 2): "1", (1, 2): "1"}
    assert texts == expected  # (answer, truth)
    assert matrix.get_title(loc="left") == "3 of 6 test images are taken for another class"
    titles = [text.get_text() for text in mistakes.texts]
    arrow = "\N{RIGHTWARDS ARROW}"
    assert titles == [
        f"automobi {arrow} dog (90 %)",
        f"cat {arrow} dog (80 %)",
        f"automobi {arrow} cat (60 %)",
    ]
    for image, i in zip(mistakes.images, (5, 1, 4), strict=True):
        np.testing.assert_array_equal(image.get_array(), images[i, 0])
    assert drawn(figure, tmp_path).std() > 1


@pytest.mark.parametrize("k", [2, 30])
def test_confusion_of_any_size(k: int, tmp_path: Path) -> None:
    labels = np.arange(200) % k
    for share in (0.0, 1.0):  # of right answers
        answers = np.where(RNG.random(200) < share, labels, (labels + 1) % k)
        probabilities = np.eye(k)[answers]
        images = RNG.integers(0, 256, (200, 3, 8, 8)).astype(np.uint8)
        figure = plots.confusion(images, labels, probabilities, [f"class {i}" for i in range(k)])
        wrong = (answers != labels).sum()
        assert figure.axes[0].get_title(loc="left").startswith(f"{wrong} of 200 ")
        assert drawn(figure, tmp_path).std() > 1


def test_no_window_system_is_touched(tmp_path: Path) -> None:
    program = """if True:
        import sys
        import numpy as np
        from pathlib import Path
        from cyconv import nn, plots, data
        from cyconv.train import History
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 10))
        test = data.Subset(data.MNIST.built_in(train=False), range(20))
        assert plots.save_all(Path(sys.argv[1]), net, test, History([], [1.0]), 1)
        assert "matplotlib.pyplot" not in sys.modules
    """
    root = Path(cc.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        check=True,
        timeout=60,
        cwd=root,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
