"""All backends have the same functions, with the same parameters and defaults."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest

from cyconv.backends import CONTRACT, cpu_numpy

OTHERS = ("cpu_cython", "gpu_cupy")


def backend(name: str) -> ModuleType:
    """A backend module; skips the test where it was not built."""
    try:
        return importlib.import_module(f"cyconv.backends.{name}")
    except ImportError as error:
        pytest.skip(f"{name} is not there: {error}")


def parameters(module: ModuleType, function: str) -> list[tuple[str, object, object]]:
    """Name, kind and default of each parameter."""
    signature = inspect.signature(getattr(module, function))
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("function", CONTRACT)
def test_the_reference_is_complete(function: str) -> None:
    assert callable(getattr(cpu_numpy, function))
    assert inspect.getdoc(getattr(cpu_numpy, function))
    kinds = {kind for _, kind, _ in parameters(cpu_numpy, function)}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("function", CONTRACT)
@pytest.mark.parametrize("name", OTHERS)
def test_parameters_are_equal(name: str, function: str) -> None:
    assert parameters(backend(name), function) == parameters(cpu_numpy, function)


@pytest.mark.parametrize("name", ["cpu_numpy", *OTHERS])
def test_nothing_outside_the_contract(name: str) -> None:
    """A public function of one backend alone would be called by somebody, and fail on another."""
    module = backend(name)
    public = {
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and key[0] != "_"
    }
    extra = public - set(CONTRACT)
    shared = set.intersection(
        *({key for key in vars(m) if key[0] != "_"} for m in [cpu_numpy, module])
    )
    assert extra <= shared | {"describe"}, f"only in {name}: {sorted(extra - shared)}"


def test_the_contract_is_about_a_dozen_and_a_half_functions() -> None:
    assert len(CONTRACT) == len(set(CONTRACT)) <= 20
