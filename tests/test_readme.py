"""The README's Python runs, and so do the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import cyconv

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
MODULES = sorted(
    name
    for _, name, is_package in pkgutil.walk_packages(cyconv.__path__, "cyconv.")
    if not is_package and not re.search(r"kernels|__main__|cpu_cython", name)
)


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 2
    assert len(MODULES) > 20


@pytest.mark.parametrize("block", BLOCKS, ids=["from scratch", "with layers"])
def test_example_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), variables)
    if "loss" in variables:  # from scratch: one epoch without momentum
        assert float(variables["loss"].item()) < 1.0  # type: ignore[attr-defined]
    else:
        printed = capsys.readouterr().out
        assert "Test_acc 0.9" in printed and "Conv2d(1, 20, kernel_size=3)" in printed
        assert (tmp_path / "lenet.safetensors").exists()


@pytest.mark.parametrize("name", ["cyconv", *MODULES])
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_paths_named_in_the_readme_exist() -> None:
    names = re.findall(r"^\| `(cyconv/[^`]*|tests/|benchmarks/)`", README.read_text(), re.MULTILINE)
    assert len(names) > 8
    for name in names:
        assert (README.parent / name).exists(), name
