"""The examples of CONTRIBUTING.md work when they are added to a copy of the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from seeding import build, plant, why_not

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(?:python|cython)\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)

PROGRAM = """
import inspect

import numpy as np
import cyconv as cc
from cyconv.backends import backend_of, cpu_numpy, gpu_cupy

assert cc.gradcheck(cc.ops.sin, [np.linspace(-3, 3, 7)])

net = cc.nn.Sequential(cc.nn.Conv2d(1, 4, 3), cc.nn.Scale(4))
cc.save("net.safetensors", net)
again = cc.load("net.safetensors")
x = cc.randn(2, 1, 8, 8)
assert "Scale(4)" in repr(again) and net(x).tolist() == again(x).tolist()

for dtype in {dtypes}:
    x = np.random.default_rng(0).standard_normal((33, 5, 4, 3)).astype(dtype)
    for backend in (cpu_numpy, backend_of(x)):
        assert inspect.signature(backend.leaky_relu) == inspect.signature(gpu_cupy.leaky_relu)
        out = backend.leaky_relu(x, 0.25)
        assert out.dtype == x.dtype
        np.testing.assert_array_equal(out, np.maximum(x, 0) + np.minimum(x, 0) * 0.25)
print(cc.backends.backend_name())
"""


def test_the_examples_work(tmp_path: Path) -> None:
    plant(None, tmp_path)
    for path, code in EXAMPLES:
        with open(tmp_path / path, "a", encoding="utf-8") as file:
            file.write(f"\n\n{code}")
    compiled = not (why_not() or os.environ.get("CYCONV_NO_EXTENSIONS"))
    if compiled:
        build(tmp_path, ("elementwise",))  # for float32
    program = PROGRAM.format(dtypes=["float32"] if compiled else ["float32", "float64"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cython" if compiled else "numpy"]


def test_there_is_an_example_of_each_kind() -> None:
    files = [path for path, _ in EXAMPLES]
    assert len(files) == 9
    for folder in ("ops", "nn", "kernels", "backends"):
        assert any(path.startswith(f"cyconv/{folder}/") for path in files)


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_what_is_named_is_there(document: str) -> None:
    """Files, and names said to be ``in`` a file."""
    text = (ROOT / document).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:cyconv|tests|benchmarks|tools|\.ci)/[^`*\s]*|setup\.py)`", text)
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path).exists(), path
    for name, path in re.findall(r"`(\w+)`\s(?:in|of)\s`([^`]+\.py)`", text):
        assert re.search(
            rf"\b(?:def|class) {name}\b|^{name}\b.* = ", (ROOT / path).read_text(), re.M
        ), name
