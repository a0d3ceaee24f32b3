"""``python -m benchmarks.compare`` prints the README's table, with and without its peers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table() -> None:
    command = [sys.executable, "-m", "benchmarks.compare", "--seconds", "0", "--batch-size", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, _, table = done.stdout.partition("\n\n")
    assert re.search(r"threads, float32; cyconv \S+ \(.*\), NumPy .*; best of 1 rounds", head)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert rows[0][1:] == ["ms", "against"] and rows[2][2] == "1.00"
    names = {row[0] for row in rows[2:]}
    assert "cyconv, NumPy backend" in names
    assert ("PyTorch, channels_last" in names) == bool(importlib.util.find_spec("torch"))
    assert ("MyGrad" in names) == bool(importlib.util.find_spec("mygrad"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| ms | against |\n" in readme
