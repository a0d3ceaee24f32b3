"""The pages of docs/, as far as that can be told without building them; CI builds them too."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import cyconv as cc

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {"_build", "results"} & set(path.relative_to(DOCS).parts) and path.name != "README.md"
)
FENCE = re.compile(
    r"^(`{3,}|:{3,})(\{[\w-]+\}|\w*)([^\n]*)\n(.*?)^\1\s*$", re.DOTALL | re.MULTILINE
)

pytestmark = pytest.mark.skipif(not PAGES, reason="the documentation is not here")


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


def cells(text: str) -> list[str]:
    """The code cells, without their options."""
    found = []
    for fence in FENCE.finditer(text):
        if fence[2] == "{code-cell}":
            found.append(re.sub(r"\A(:[^\n]*\n)+\n?", "", fence[4]))
    return found


def prose(text: str) -> str:
    """The text without blocks of code; what stands in notes and lists is kept."""
    return re.sub(r"^```.*?^```\s*$", "", text, flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as on GitHub."""
    plain = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain))


def resolve(dotted: str) -> Any:
    thing: Any = cc
    for part in dotted.split(".")[1:]:
        thing = getattr(thing, part)
    return thing


def test_there_are_pages() -> None:
    assert {"index", "scratch", "layers", "backprop", "api/index"} <= set(map(name_of, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_cells_parse(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for cell in cells(text):
        ast.parse(cell)
    assert ("file_format: mystnb" in text) == bool(cells(text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_outputs_are_stored(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\{code-output\}|data:image/|<svg|\"outputs\"", text)


def test_no_notebooks_or_pictures_are_stored() -> None:
    kinds = {path.suffix for path in DOCS.rglob("*") if "_build" not in path.parts}
    assert not kinds & {".ipynb", ".png", ".svg", ".jpg", ".gif"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names: set[str] = set()
    for cell in cells(text):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Attribute):
                names.add(ast.unparse(node))
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cyconv"):
                module = (node.module or "").replace("cyconv", "cc", 1)
                names |= {f"{module}.{alias.name}" for alias in node.names}
    names |= set(re.findall(r"`[^`\n]*?\b(cc(?:\.\w+)+)", prose(text)))
    for name in sorted(names):
        if not re.fullmatch(r"cc(\.\w+)+", name):
            continue
        parts = name.split(".")
        for length in range(2, len(parts) + 1):  # cc.nn.models.lenet: each part of it
            thing = resolve(".".join(parts[:length]))
            if not isinstance(thing, (type(cc), type)):
                break  # beyond a function or a value lies what it gives


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            there = other.read_text(encoding="utf-8")
            headings = {slug(h) for h in re.findall(r"^#{1,6} (.*)$", prose(there), re.MULTILINE)}
            labels = set(re.findall(r"^\(([\w-]+)\)=$", there, re.MULTILINE))
            assert anchor in headings | labels, f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_included_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file in re.findall(r"^```\{(?:literal)?include\} (\S+)", text, re.MULTILINE):
        assert (page.parent / file).exists(), file


def in_the_reference() -> set[str]:
    """The names, as cyconv.nn.Conv2d, that the directives of docs/api ask for."""
    names = set()
    for page in (DOCS / "api").glob("*.md"):
        current = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            directive = re.match(r"\.\. (\w+):: (\S+)", line)
            option = re.match(r" +:(members|exclude-members): *(.*)", line)
            if directive:
                kind, name = directive.groups()
                if kind in ("currentmodule", "automodule"):
                    current = name
                else:
                    names.add(name if name.startswith("cyconv") else f"{current}.{name}")
                module = name if kind == "automodule" else ""
            elif option and module:
                listed = option[2].split(", ") if option[2] else resolve(module).__all__
                found = {f"{module}.{member}" for member in listed}
                names = names | found if option[1] == "members" else names - found
    return names


def test_every_public_name_is_in_the_reference() -> None:
    spaces = ["", *(f".{s}" for s in ("ops", "nn", "nn.init", "nn.models", "optim", "data"))]
    public: dict[int, str] = {}  # by identity: cc.save is cc.checkpoint.save, too
    for space in (*spaces, ".train", ".checkpoint"):
        for name in resolve(f"cc{space}").__all__:
            thing = getattr(resolve(f"cc{space}"), name)
            if not isinstance(thing, type(cc)):  # a module
                public.setdefault(id(thing), f"cyconv{space}.{name}")
    assert len(public) > 100
    assert set(public.values()) <= in_the_reference()


def test_every_page_is_in_a_toctree() -> None:
    listed = {"index"}
    for page in PAGES:
        for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
            if fence[2] == "{toctree}":
                entries = [line.strip() for line in fence[4].splitlines()]
                listed |= {
                    name_of((page.parent / f"{entry}.md").resolve())
                    for entry in entries
                    if entry and not entry.startswith(":")
                }
    assert set(map(name_of, PAGES)) == listed


def test_files_stay_short() -> None:
    for path in (*DOCS.glob("*.py"), *DOCS.glob("extensions/*.py"), *DOCS.glob("rungs/*")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path.name


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.py")), ids=lambda path: path.name)
def test_what_the_pages_modules_import_of_cyconv_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cyconv"):
            module = importlib.import_module(node.module or "")
            assert not [name.name for name in node.names if not hasattr(module, name.name)]
