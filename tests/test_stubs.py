"""The stubs of the compiled modules name what is there, with the same parameters."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from cyconv import backends, kernels

FOLDER = Path(kernels.__file__).parent


def compiled(name: str) -> ModuleType:
    if backends.backend_name() != "cython":
        pytest.skip("the kernels are not compiled")
    if name == "cpu":
        return kernels.processor()
    if name == "program":
        return kernels.runner()
    return getattr(kernels.Kernels(kernels.choose())["f"], name)


def public(module: ModuleType) -> set[str]:
    return {n for n in vars(module) if not n.startswith("_") and n not in ("annotations",)}


def test_every_kernel_has_a_stub() -> None:
    sources = {path.stem for path in FOLDER.glob("*.pyx")}
    assert sources == {path.stem for path in FOLDER.glob("*.pyi")}
    assert sources == {*kernels.MODULES, "cpu", "program"}


@pytest.mark.parametrize("name", [*kernels.MODULES, "cpu", "program"])
def test_stub_equals_module(name: str) -> None:
    module = compiled(name)
    tree = ast.parse((FOLDER / f"{name}.pyi").read_text())
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    values = {
        n.target.id
        for n in tree.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert public(module) == set(functions) | values
    for function, node in functions.items():
        declared = [argument.arg for argument in node.args.args]
        actual = list(inspect.signature(getattr(module, function)).parameters)
        assert declared == actual, function
