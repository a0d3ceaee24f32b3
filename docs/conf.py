"""Sphinx: how the pages of this folder become the site. README.md beside this file says how."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

import numpy

import cyconv

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
# the pages import `figures` and `rungs`, wherever a kernel starts
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.getenv("PYTHONPATH")]))
# threads that wait give way: where other work runs too, spinning ones are many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

project = "cyconv"
author = "the cyconv authors"
project_copyright = f"{author}, Apache-2.0"
release = version = cyconv.__version__

extensions = [
    "myst_nb",  # pages are text notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",  # extensions/mathml.py: formulas without scripts and without network
    "reference",  # extensions/reference.py: docstrings
]
exclude_patterns = ["_build", "README.md", "results"]
suppress_warnings = ["config.cache"]
nitpicky = True  # a name in the reference that leads nowhere is a warning, too

# ------------------------------------------------------------------ text and formulas

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# ------------------------------------------------------------------ running the pages


def state_of_the_code() -> str:
    """A name for everything that the outputs depend on, but for the cells themselves."""
    digest = hashlib.sha256()
    package = Path(cyconv.__file__).parent
    watched = [*package.rglob("*"), *HERE.glob("*.py"), *HERE.glob("rungs/*")]
    for path in sorted(watched):
        if path.suffix in (".py", ".pyx", ".pxd", ".h"):
            digest.update(path.read_bytes())
    machine = (platform.processor(), platform.python_version(), numpy.__version__)
    settings = (os.getenv("CYCONV_DATA_DIR"), os.getenv("CYCONV_BACKEND"), os.getenv("CYCONV_ISA"))
    compiled = cyconv.backends.backend_name()
    digest.update(repr((machine, settings, compiled, cyconv.get_num_threads())).encode())
    return digest.hexdigest()[:16]


nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "cells" / state_of_the_code())
nb_execution_timeout = 120  # seconds for one cell
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove-warn"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables, too

# ------------------------------------------------------------------ reference

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and dtypes stand in the docstrings
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# ------------------------------------------------------------------ looks

html_theme = "furo"
html_title = "cyconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#7fb3e6", "color-brand-content": "#7fb3e6"},
    "top_of_page_buttons": [],
}
copybutton_exclude = ".linenos, .gp, .go"
