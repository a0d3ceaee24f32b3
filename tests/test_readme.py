"""The README's Python runs, and so do the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import cyconv
from cyconv import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MODULES = sorted(
    name
    for _, name, is_package in pkgutil.walk_packages(cyconv.__path__, "cyconv.")
    if not is_package and not re.search(r"kernels|__main__|cpu_cython", name)
)


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 3
    assert len(MODULES) > 20


@pytest.mark.parametrize("block", BLOCKS, ids=["from scratch", "with layers", "compiled"])
def test_example_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the images in the package: quick, and the same with and without network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cyconv.data, "MNIST", cyconv.data.MNIST.built_in)
    variables: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), variables)
    if "loss" in variables:  # from scratch: one epoch without momentum
        assert variables["loss"].item() < 1.0
    elif "answer" in variables:
        net, ones = variables["net"], variables["np"].ones((1, 1, 28, 28), "float32")
        assert capsys.readouterr().out == f"{net(ones).argmax(1)}\n"
    else:
        printed = capsys.readouterr().out
        assert "Test_acc 0.9" in printed and "Conv2d(1, 20, kernel_size=3)" in printed
        assert (tmp_path / "lenet.safetensors").exists()


@pytest.mark.parametrize("name", ["cyconv", *MODULES])
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_exactly_two_commands_for_the_set_up() -> None:
    section = TEXT.partition("## Set-up")[2].partition("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)\n```", section, re.DOTALL)
    assert commands == ["pip install -e . && cyconv train", 'pip install -e ".[test]" && pytest']


def test_every_option_of_train_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    table = TEXT.partition("| option of `cyconv train`")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(--[a-z-]+)`", table)) == options


def test_every_environment_variable_is_listed() -> None:
    sources = [ROOT / "setup.py", *(ROOT / "cyconv").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(
        re.findall(r"\b(?:CYCONV_[A-Z_]+|OMP_NUM_THREADS|OMP_WAIT_POLICY|GOMP_SPINCOUNT)\b", text)
    )
    macros = set(re.findall(r'^ +\("(CYCONV_[A-Z]+)", ', text, re.MULTILINE))  # for C
    assert set(re.findall(r"^\| `([A-Z_]+)", TEXT, re.MULTILINE)) == read - macros


def test_public_names_exist() -> None:
    for name in cyconv.__all__:
        assert getattr(cyconv, name) is not None
    for dotted in set(re.findall(r"\bcc((?:\.\w+)+)", TEXT)):
        value: Any = cyconv
        for name in dotted[1:].split("."):
            value = getattr(value, name)
