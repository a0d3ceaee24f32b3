"""The reference: docstrings as they are written in this project, as reStructuredText.

A section ("Parameters", "Returns", "Raises", underlined) is the block of lines below its heading;
in the first and the last each item is ``names : text``. What begins with >>> is the example. A
public name in double backquotes becomes a link.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

import cyconv

SPACES = ("", "ops", "nn", "nn.init", "nn.models", "optim", "data", "train", "checkpoint")
ELSEWHERE = {
    "Compiled": "cyconv.compiled.Compiled",
    "GradientError": "cyconv.gradcheck.GradientError",
    "LayerError": "cyconv.nn.module.LayerError",
    "Row": "cyconv.nn.summary.Row",
    "Summary": "cyconv.nn.summary.Summary",
}
HEADINGS = ("Parameters", "Returns", "Raises")


def public_names() -> dict[str, str]:
    """What docstrings call a thing, as "ops.conv2d" or "Conv2d", and its full name."""
    names = dict(ELSEWHERE)
    first: dict[int, str] = {}  # the name under which a thing stands: cyconv.save, not checkpoint's
    for space in SPACES:
        module = cyconv
        for part in filter(None, space.split(".")):
            module = getattr(module, part)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                short = ".".join(filter(None, [space, name]))
                full = first.setdefault(id(thing), f"cyconv.{short}")
                for spelling in (
                    short,
                    f"cc.{short}",
                    f"cyconv.{short}",
                    short.removeprefix("nn."),
                ):
                    names.setdefault(spelling, full)
                if inspect.isclass(thing):
                    names.setdefault(name, full)
    return names


NAMES = public_names()


def target(spelling: str, where: str) -> str | None:
    """The full name of what is meant in the docstring of ``where``; None if that is not public."""
    plain = spelling.removesuffix("()")
    beside = (f"{where}.{plain}", f"{where.rpartition('.')[0]}.{plain}")  # in the same module
    full = next((name for name in beside if name in NAMES.values()), NAMES.get(plain))
    return None if full is None or where == full or where.startswith(f"{full}.") else full


def linked(line: str, where: str, own: set[str]) -> str:
    """``line`` with links; ``own`` are the parameters of what it describes."""

    def link(match: re.Match[str]) -> str:
        full = None if match[1] in own else target(match[1], where)
        return match[0] if full is None else f":py:obj:`{match[1]} <{full}>`"

    return re.sub(r"``([\w.]+(?:\(\))?)``", link, line)


def parameters(thing: Any) -> set[str]:
    try:
        return set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # a module or a property
        return set()


def section(heading: str, block: list[str]) -> list[str]:
    """A field of this name: a list of the items, or the text as it is."""
    lines = [f":{heading}:"]
    for line in block:
        item = re.match(r"(\w[\w, ]*) : (.+)", line)
        if heading == "Returns":
            lines.append(f"   {line.strip()}")
        elif item:
            mark = "**" if heading == "Parameters" else "``"
            names = ", ".join(f"{mark}{name}{mark}" for name in item[1].split(", "))
            lines.append(f"   * {names} -- {item[2]}")
        else:
            lines.append(f"     {line.strip()}")
    return lines


def rendered(text: list[str], where: str, own: set[str], blocks: str) -> list[str]:
    """A docstring as reStructuredText; ``blocks`` is the language of what is literal."""
    result: list[str] = []
    i = 0
    while i < len(text):
        line = text[i]
        if line in HEADINGS and i + 1 < len(text) and text[i + 1] == "-" * len(line):
            end = text.index("", i) if "" in text[i:] else len(text)
            result += [linked(row, where, own) for row in section(line, text[i + 2 : end])]
            i = end
            following = next(filter(None, text[end:]), "")
            if following in HEADINGS:  # fields without a blank line between them are one list
                i += 1
        elif line.startswith(">>>"):
            return [*result, ".. rubric:: Example", "", *text[i:]]
        elif line.endswith("::"):
            result += [linked(line[:-1], where, own), "", f".. code-block:: {blocks}"]
            i += 1
        else:
            result.append(linked(line, where, own).replace(" *= ", r" \*= "))
            i += 1
    return result


def prepare(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    # a module shows how it is used, a class or function its formula
    blocks = "python" if what == "module" else "text"
    lines[:] = rendered(lines, name, parameters(thing), blocks)


def skip(app: Sphinx, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the class describes as its parameters."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def signature(app: Sphinx, what: str, name: str, thing: Any, *more: Any) -> tuple[str, None] | None:
    """A protocol is not called: no (*args, **kwargs)."""
    return ("", None) if getattr(thing, "_is_protocol", False) else None


def back_links(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """From a source page back to the reference. Sphinx takes all of a module for documented under
    one name, though some of it is under the package's: ``cyconv.record``, but ``autograd.Op``."""
    if not page.startswith("_modules/"):
        return
    module = page.removeprefix("_modules/").replace("/", ".")
    known = app.env.get_domain("py").data["objects"]

    def link(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        names = [match[1], *(".".join([module, *parts[i:]]) for i in range(1, len(parts)))]
        return f'#{next((name for name in names if name in known), match[1])}"'

    context["body"] = re.sub(r'#(cyconv[\w.]*)"', link, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", prepare)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-signature", signature)
    app.connect("html-page-context", back_links)
    return {"parallel_read_safe": True}
