"""Formulas as MathML, which browsers draw by themselves: no script, no network, text to select.

The font with the shapes that formulas need, STIX Two Math (SIL Open Font License), is copied from
the package ziamath into the site, so that formulas look the same everywhere.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml import converter
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset

log = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
    """The formula of a node; a command that was not understood is a warning, so the build fails."""
    latex = node.astext().strip()
    result = converter.convert(latex, display=display)
    # & too: the converter does not align
    unknown = re.findall(
        r"\\[A-Za-z_]+|<mi>&</mi>", re.sub(r"<annotation.*?</annotation>", "", result)
    )
    if unknown:
        log.warning("no MathML for %s in %s", ", ".join(unknown), latex, location=node)
    return result


def inline(translator: Any, node: nodes.Element) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.Element) -> None:
    anchors = "".join(f'<span id="{i}"></span>' for i in node.get("ids", []))
    translator.body.append(f'<div class="formula">{anchors}{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def copy_font(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    package = importlib.util.find_spec("ziamath")
    fonts = Path(str(package and package.origin)).parent / "fonts"
    for path in fonts.glob("STIXTwoMath*"):
        copy_asset(str(path), str(Path(app.outdir, "_static", "fonts")))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("build-finished", copy_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
