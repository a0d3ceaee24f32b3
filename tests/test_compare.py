"""``python -m benchmarks.compare`` prints the README's table, with and without its peers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.compare", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each row of a Markdown table, by the first one."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in found}


def test_the_training_step() -> None:
    output = printed("--seconds", "0", "--batch-size", "8")
    assert re.search(r"threads, float32; cyconv \S+ \(.*\), NumPy ", output.splitlines()[0])
    table = rows(output)
    assert table["the notebook's network, training step, batch 8"] == ["ms", "against"]
    assert "cyconv, NumPy backend" in table and "Best of 1 rounds." in output
    for title, module in (("PyTorch, channels_last", "torch"), ("MyGrad", "mygrad")):
        assert (title in table) == bool(importlib.util.find_spec(module))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| ms | against |\n" in readme


def test_the_other_tables() -> None:
    output = printed("inference", "deep", "layers", "--seconds", "0", "--batch-size", "2")
    table = rows(output)
    assert "VGG, training step, batch 2" in table and "ResNet-20, training step, batch 2" in table
    assert "the notebook's network, inference, batch 256" in table
    assert len(table["128-depthwise-3x3-16"]) == 3


def test_a_table_that_there_is_not() -> None:
    command = [sys.executable, "-m", "benchmarks.compare", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no table speed: step, inference" in done.stderr
