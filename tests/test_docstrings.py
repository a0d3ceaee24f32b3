"""Every public name says what it takes and gives; the examples are run by test_readme.py."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import cyconv as cc

SPACES = {
    "cc": cc,
    "cc.ops": cc.ops,
    "cc.nn": cc.nn,
    "cc.nn.init": cc.nn.init,
    "cc.nn.models": cc.nn.models,
    "cc.optim": cc.optim,
    "cc.data": cc.data,
    "cc.train": cc.train,
    "cc.checkpoint": cc.checkpoint,
}


def public(space: Any) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a module shows: those in __all__, or those of its own."""
    for name in getattr(space, "__all__", vars(space)):
        thing = getattr(space, name)
        if name.startswith("_") or not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        if hasattr(space, "__all__") or thing.__module__ == space.__name__:
            yield name, thing


NAMES = {
    f"{prefix}.{name}": thing for prefix, space in SPACES.items() for name, thing in public(space)
}
OPS = [name for name in NAMES if name.startswith("cc.ops.")]


def methods(kind: type) -> Iterator[str]:
    """The public methods and properties that a class defines itself."""
    for name, value in vars(kind).items():
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "__func__", function)  # of a class method
        if not name.startswith("_") and inspect.isfunction(function):
            yield name


def test_the_names_are_found() -> None:
    assert len(OPS) > 50
    assert {"cc.tensor", "cc.nn.Conv2d", "cc.nn.init.he_normal_", "cc.train.fit"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring(name: str) -> None:
    thing = NAMES[name]
    text = thing.__doc__ or ""  # not inspect.getdoc, which takes a base class's
    assert text.strip(), f"{name} has no docstring"
    assert not text.startswith(f"{thing.__name__}("), f"{name} has only a dataclass's signature"
    if inspect.isclass(thing):
        for method in methods(thing):
            # getdoc: one that a base class describes may leave it at that
            assert inspect.getdoc(getattr(thing, method)), f"{name}.{method} has no docstring"


@pytest.mark.parametrize("name", OPS)
def test_an_op_says_what_it_takes_gives_and_refuses_and_shows_it(name: str) -> None:
    text = inspect.getdoc(NAMES[name]) or ""
    sections = [
        above
        for above, line in zip(text.splitlines(), text.splitlines()[1:])
        if line and set(line) == {"-"} and len(line) == len(above)
    ]
    assert sections == ["Parameters", "Returns", "Raises"]
    described = text.partition("Parameters\n")[2].partition("\n\n")[0]
    for parameter in inspect.signature(NAMES[name]).parameters:
        assert any(
            parameter in line.partition(" : ")[0].replace(" ", "").split(",")
            for line in described.splitlines()
        ), f"{name} does not describe {parameter}"
    examples = doctest.DocTestParser().get_examples(text)
    assert any(f"{name}(" in example.source for example in examples), f"{name} has no example"
    assert any(example.want for example in examples)
