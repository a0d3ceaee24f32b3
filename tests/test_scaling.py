"""``python -m benchmarks.scaling`` prints its tables, on tiny sizes and without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from test_compare import ROOT, rows

from benchmarks import memory, scaling
from benchmarks.layers import Layer
from cyconv.backends import cpu_numpy

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from benchmarks import scaling as s; "


def printed(*arguments: str) -> str:
    """What it prints where PyTorch is not installed, nor MNIST in any folder."""
    nowhere = dict.fromkeys(("CYCONV_DATA_DIR", "XDG_CACHE_HOME"), str(ROOT / "no such folder"))
    done = subprocess.run(
        [sys.executable, "-c", f"{WITHOUT_TORCH}s.main()", *arguments, "--seconds", "0"],
        cwd=ROOT,
        # its list of fonts takes seconds to write
        env={**os.environ, **nowhere, "MPLCONFIGDIR": matplotlib.get_cachedir()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"threads, float32; cyconv \S+ \(.*\), NumPy ", done.stdout.splitlines()[0])
    return done.stdout


def test_threads() -> None:
    table = rows(printed("threads", "--batch-size", "2", "--threads", "2"))
    assert table["training step, batch 2"] == ["1 thread, ms", "2 threads, ms", "times faster"]
    for name in ("the notebook's network", "VGG"):
        one, two, faster = map(float, table[name])
        # two decimals are printed of each
        rounding = 0.0051 * (1 + one / two * (1 / one + 1 / two))
        assert faster == pytest.approx(one / two, abs=rounding)


def test_cost() -> None:
    output = printed("cost", "--most-macs", "1.5e7")
    table = rows(output)
    sizes = ("3, 64, 32", "64, 4, 112")  # of 1x1 kernels; there are none of 3x3
    assert set(table) == {"batch, channels, image", "---", *sizes, "median, picoseconds"}
    assert table["median, picoseconds"][:3] == ["", "", ""]
    for cells in zip(*(table[size][-3:] for size in sizes)):
        # the median of two is their mean
        assert sum(float(cell.strip("*")) for cell in cells) == pytest.approx(2, abs=0.02)
    assert "Time per multiply-add, in medians of its column, of layers over 10,000,000." in output


def test_the_layers_of_the_cost() -> None:
    sizes = list(scaling.grown())
    batches, channels, images = (set(column) for column in zip(*sizes))
    assert {1, 1024} <= batches and {4, 512} <= channels and {8, 224} <= images
    assert max(2 * 4 * n * c * image**2 for n, c, image in sizes) < 1e9  # what is read and written


@pytest.mark.parametrize("direction", ("forward", "input_grad", "weight_grad"))
def test_a_wrong_result_of_a_large_layer_is_seen(direction: str) -> None:
    layer = Layer((3, 3, 3, 5, 1, 1, 1), 4)
    expected, part = scaling.some_of(layer, direction)
    result = layer.cyconv(cpu_numpy, direction)()
    np.testing.assert_array_equal(part(result), expected)
    result[-1, -1, -1, -1] += 1
    assert (part(result) != expected).sum() == 1


def test_slow_sizes_are_named(monkeypatch: Any, capsys: Any) -> None:
    seen = []

    def cost_of(size: tuple[int, int, int], kernel: int, *_: Any, known: bool) -> list[float]:
        factor = {(2, 64, 32): 2.4, (17, 64, 32): 1.6}.get(size, 1.0) if kernel == 3 else np.nan
        seen.append(size)
        assert known == (seen.count(size) > 2)
        first = 1 if known else 5  # a slow first round is forgotten
        return [2e-12 * factor * first, 1e-12 * first, 1e-12]

    monkeypatch.setattr(scaling, "cost_of", cost_of)
    scaling.cost_table(10**9, 2, 0)
    output = capsys.readouterr().out
    table = rows(output)
    assert table["2, 64, 32"][0] == "2.40" and table["17, 64, 32"][0] == "**1.60**"
    assert table["median, picoseconds"][0] == "2.00"
    assert "At worst 1.60 from 16 images on, 2.40 below." in output
    assert re.search(r"\n1 of \d+ are beyond 1.5 \(2.5 below 16 images\), in 17, 64, 32. ", output)


@pytest.mark.skipif(not memory.STATUS.exists(), reason="there is no /proc")
def test_memory() -> None:
    table = rows(printed("memory", "--batch-size", "2"))
    columns = ["cyconv, compiled, MB", "cyconv, MB"]
    assert table["peak memory of training steps, batch 2"] == columns
    for name in ("the notebook's network", "ResNet-20", "VGG"):
        for cell in table[name]:
            steps, with_imports = map(int, re.fullmatch(r"(\d+) \((\d+)\)", cell).groups())
            assert 0 < steps < with_imports
    assert int(table["VGG"][0].split()[0]) > 9  # weights and gradients alone have 4.6 MB each


def test_process() -> None:
    output = printed("process", "--limit", "64", "--rounds", "1")
    table = rows(output)
    assert "these are the images in the package" in output
    assert table["one epoch of 64 images, whole process"] == ["s", "against", "test accuracy"]
    assert set(table) >= {"cyconv train", "cyconv train --no-plots"}
    assert "PyTorch" not in table and 0 < float(table["cyconv train"][2]) < 1


def test_the_files_of_mnist(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CYCONV_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files, full = scaling.mnist_files()
    assert not full and all(path.is_file() for path in files)
    (tmp_path / "mnist").mkdir()
    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    names += ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"]
    for name in names:
        assert not scaling.mnist_files()[1]
        (tmp_path / "mnist" / name).touch()
    assert scaling.mnist_files() == ([tmp_path / "mnist" / name for name in names], True)


def test_small() -> None:
    output = printed("small")
    assert "layer, batch 1 | forward" in output and "layer, batch 8 | forward" in output
    assert len(rows(output)["128-depthwise-3x3-16"]) == 1 and "geometric" not in output


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_the_processes_of_pytorch(tmp_path: Path) -> None:
    def output_of(*arguments: Any) -> str:
        return scaling.output_of("-m", *arguments)

    files, _ = scaling.mnist_files()
    options = ("--threads", 1, "--limit", 640, "--out", tmp_path / "net.pt")
    text = output_of("benchmarks.torch_train", *files, *options, "--channels-last")
    assert 0.2 < float(text.split()[-1]) < 1 and (tmp_path / "net.pt").exists()
    if memory.STATUS.exists():
        ours, theirs = (
            json.loads(output_of("benchmarks.memory", library, scaling.NOTEBOOK, 2, 1))
            for library in ("cyconv", "PyTorch")
        )
        np.testing.assert_allclose(ours["losses"], theirs["losses"], 1e-4)
        assert theirs["imports"] > ours["imports"] > 10e6
