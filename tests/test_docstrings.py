"""Every public name says what it takes, gives and refuses, and shows it.

That examples run is the business of test_readme.py, which runs those of every module.
"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise, takewhile
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
# classes that users meet though no __all__ names them: what functions return and raise
MET = {
    "cc.compiled": ["Compiled"],
    "cc.gradcheck": ["GradientError"],
    "cc.nn.module": ["LayerError"],
    "cc.nn.summary": ["Row", "Summary"],
}
# whose constructors are not the user's: cc.tensor, cc.compile, layers and fit make them
MADE = {"cc.Tensor", "cc.compiled.Compiled", "cc.nn.module.LayerError", "cc.train.History"}


def public(space: Any) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a module shows."""
    for name in space.__all__:
        thing = getattr(space, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield name, thing


NAMES = {
    f"{prefix}.{name}": thing for prefix, space in SPACES.items() for name, thing in public(space)
}
for _module, _classes in MET.items():
    _space = importlib.import_module(_module.replace("cc", "cyconv", 1))
    NAMES |= {f"{_module}.{name}": getattr(_space, name) for name in _classes}
CLASSES = [name for name, thing in NAMES.items() if inspect.isclass(thing)]


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself, as functions."""
    for name, value in vars(kind).items():
        function = value.fget if isinstance(value, property) else value
        function = getattr(function, "__func__", function)  # of a class method
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


METHODS = {f"{name}.{method}": f for name in CLASSES for method, f in methods(NAMES[name])}


def parameters(thing: Any) -> list[str]:
    """The parameters of a function or a constructor, in order."""
    if inspect.isclass(thing) and not issubclass(thing, tuple):  # a named tuple has __new__
        own = inspect.isfunction(thing.__init__)  # not object's or an exception's
        if not own or getattr(thing, "_is_protocol", False):
            return []
    return [name for name in inspect.signature(thing).parameters if name != "self"]


def is_record(thing: Any) -> bool:
    """Whether a class only holds what it is given."""
    if not inspect.isclass(thing):
        return False
    plain = dataclasses.is_dataclass(thing) and not hasattr(thing, "__post_init__")
    return plain or issubclass(thing, tuple)


def sections(text: str) -> list[str]:
    """The headings before the example, in order."""
    lines = text.partition(">>>")[0].splitlines()
    return [
        above
        for above, line in pairwise(lines)
        if line and set(line) == {"-"} and len(line) == len(above)
    ]


def body(text: str, section: str) -> str:
    """What stands below a heading, up to the next blank line."""
    below = text.partition(f"{section}\n{'-' * len(section)}\n")[2]
    return "\n".join(takewhile(str.strip, below.splitlines()))


def described(text: str, section: str) -> list[str]:
    """The names before the colons of a section, whose items are all ``names : text``."""
    items = [line.split(" : ", 1) for line in body(text, section).splitlines() if line[0] != " "]
    assert all(len(item) == 2 and item[1].strip() for item in items), f"{section}: {items}"
    return [name for names, _ in items for name in names.replace(" ", "").split(",")]


def shown(text: str) -> str:
    """What stands in the examples, that is their code and what it prints."""
    return "".join(e.source + e.want for e in doctest.DocTestParser().get_examples(text))


def body_of(function: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def raised(function: Any) -> set[str]:
    """The exceptions that stand in the ``raise`` statements of a function itself."""
    nodes = (node.exc for node in ast.walk(body_of(function)) if isinstance(node, ast.Raise))
    return {e.func.id for e in nodes if isinstance(e, ast.Call) and isinstance(e.func, ast.Name)}


def ops_called(function: Any) -> set[str]:
    """The names f of the calls ``ops.f(...)`` in a function."""
    calls = (node.func for node in ast.walk(body_of(function)) if isinstance(node, ast.Call))
    return {
        f.attr
        for f in calls
        if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name) and f.value.id == "ops"
    }


def names_them(text: str, names: set[str]) -> bool:
    return all(re.search(rf"\b{name}\b", text) for name in names)


def test_the_names_are_found() -> None:
    assert sum(name.startswith("cc.ops.") for name in NAMES) > 50
    assert {"cc.tensor", "cc.nn.Conv2d", "cc.nn.init.he_normal_", "cc.train.fit"} <= set(NAMES)
    assert {"cc.Tensor.backward", "cc.nn.Module.forward", "cc.optim.Optimizer.lr"} <= set(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_its_sections(name: str) -> None:
    """Parameters, all described, Returns where there is something, Raises, in this order."""
    thing = NAMES[name]
    text = inspect.cleandoc(thing.__doc__ or "")  # not inspect.getdoc, which takes a base class's
    assert text, f"{name} has no docstring"
    assert not text.startswith(f"{thing.__name__}("), f"{name} has only a dataclass's signature"
    takes = parameters(thing)
    wanted = []
    if takes:
        gives = inspect.isfunction(thing) and inspect.signature(thing).return_annotation != "None"
        wanted = ["Parameters"] + ["Returns"] * gives + ["Raises"] * (not is_record(thing))
    if name in MADE:
        assert sections(text) in ([], ["Parameters"])
    else:
        assert sections(text) == wanted
    assert all(body(text, section) for section in sections(text)), "an empty section"
    if "Parameters" in sections(text):
        assert sorted(described(text, "Parameters")) == sorted(takes)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_shown(name: str) -> None:
    thing = NAMES[name]
    text = thing.__doc__ or ""
    examples = doctest.DocTestParser().get_examples(text)
    called = {other for other, same in NAMES.items() if same is thing}
    uses = any(f"{other}(" in shown(text) for other in called)
    if inspect.isclass(thing):  # which may be met as what something else gives, raises or is
        uses = name in MADE or names_them(shown(text), {thing.__name__})
    assert uses, f"{name} has no example"
    assert any(example.want for example in examples), f"the example of {name} shows nothing"


@pytest.mark.parametrize("name", NAMES)
def test_exceptions_are_named(name: str) -> None:
    """Those that a function raises itself stand under Raises, and nothing that is no exception."""
    thing = NAMES[name]
    text = inspect.cleandoc(thing.__doc__ or "")
    functions = [thing]
    if inspect.isclass(thing):
        own = ("__post_init__",) if dataclasses.is_dataclass(thing) else ("__init__", "forward")
        functions = [vars(thing)[f] for f in own if f in vars(thing)]
    for function in functions:
        if "Raises" in sections(text):
            assert raised(function) <= set(described(text, "Raises")), name
    for exception in described(text, "Raises"):
        assert re.fullmatch(r"[A-Z]\w+Error", exception), f"{name}: {exception}"


@pytest.mark.parametrize("name", CLASSES)
def test_a_layer_leads_to_its_op(name: str) -> None:
    """There stand dtypes, formula and source, once."""
    forward = vars(NAMES[name]).get("forward")
    text = NAMES[name].__doc__ or ""
    for op in ops_called(forward) if forward else ():
        assert f"``ops.{op}``" in text, f"{name} does not refer to ops.{op}"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_takes_and_refuses_and_is_shown(name: str) -> None:
    function = METHODS[name]
    kind, _, method = name.rpartition(".")
    text = function.__doc__ or ""
    if not text:  # one that a base class describes may leave it at that
        assert inspect.getdoc(getattr(NAMES[kind], method)), f"{name} has no docstring"
        return
    assert names_them(text, raised(function)), f"{name} raises {raised(function)}"
    ops = ops_called(function)
    if ops:
        assert all(f"``ops.{op}``" in text for op in ops), f"{name} does not refer to {ops}"
        return
    takes = set(parameters(function))
    assert names_them(text, takes), f"{name} does not describe all of {takes}"
    examples = shown(NAMES[kind].__doc__ or "") + shown(text)
    assert re.search(rf"\.{method}\b", examples) or f"def {method}(" in examples, (
        f"{name} is in no example"
    )
