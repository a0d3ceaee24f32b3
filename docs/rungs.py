"""Compiles the rungs of the page on fast kernels for the processor at hand, and times them."""

from __future__ import annotations

import contextlib
import hashlib
import html
import importlib.machinery
import importlib.util
import io
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SOURCES = HERE / "rungs"
BUILT = HERE / "_build" / "rungs"
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
# from what runs best to what runs anywhere; -w: no warnings, which nobody here would read
FLAGS = [["-O3", "-w", NATIVE, "-fopenmp"], ["-O3", "-w", "-fopenmp"], ["-O3", "-w"]]
DIRECTIVES = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True}

_said = False


def build(name: str) -> ModuleType | None:
    """The compiled module of rungs/<name>.pyx; None, after one line that says why, if it fails."""
    global _said
    source = SOURCES / f"{name}.pyx"
    circumstances = f"{platform.processor()} {sys.version} {DIRECTIVES}"
    content = source.read_bytes() + (SOURCES / "vector.h").read_bytes() + circumstances.encode()
    folder = BUILT / hashlib.sha256(content).hexdigest()[:12]
    target = folder / f"{name}{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    reason: BaseException | None = None
    for flags in FLAGS:
        if target.exists():
            break
        try:
            _compile(name, source, folder, flags)
        except BaseException as error:  # a compiler's failure may surface as SystemExit
            if isinstance(error, KeyboardInterrupt):
                raise
            reason = error
    if not target.exists():
        if not _said:
            print(
                f"No compiler here, so the compiled rungs are left out ({type(reason).__name__})."
            )
        _said = True
        return None
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(name: str, source: Path, folder: Path, flags: list[str]) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extension = Extension(
        name,
        [str(source)],
        include_dirs=[str(SOURCES)],
        extra_compile_args=flags,
        extra_link_args=[flag for flag in flags if flag == "-fopenmp"],
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = cythonize(
            [extension],
            build_dir=str(folder),
            compiler_directives=DIRECTIVES,
            quiet=True,
            force=True,
        )
        command = Distribution({"ext_modules": made}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder), str(folder / "objects")
        command.ensure_finalized()
        with _silence():
            command.run()


@contextlib.contextmanager
def _silence() -> Any:
    """The compiler writes past Python: close its mouth."""
    with open(os.devnull, "w") as nowhere:
        saved = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def best_time(run: Callable[[], Any], seconds: float = 0.6) -> float:
    """The shortest of several runs, in seconds."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best


def measured_peak(threads: int) -> float | None:
    """GFLOP/s of a loop that does nothing but multiply and add in registers."""
    module = build("peak")
    if module is None:
        return None
    results = np.zeros(16 * threads, np.float32)
    count = module.peak(200_000, results, threads)
    return 2 * count / best_time(lambda: module.peak(200_000, results, threads)) / 1e9


class Annotated:
    """A Cython file, its lines the more yellow the more of Python they call."""

    def __init__(self, name: str):
        folder = BUILT / "annotated"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.c"
        command = [sys.executable, "-m", "cython", "--annotate", "-o", str(target)]
        command += [f"-X{name}={value}" for name, value in DIRECTIVES.items()]
        done = subprocess.run(
            [*command, str(SOURCES / f"{name}.pyx")], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        page = target.with_suffix(".html").read_text(encoding="utf-8")
        found = re.findall(
            r'<pre class="cython line score-(\d+)"[^>]*>(.*?)</pre>', page, re.DOTALL
        )
        self.lines = [
            (int(score), html.unescape(re.sub(r"<[^>]+>", "", text)).rstrip())
            for score, text in found
        ]

    @property
    def total(self) -> int:
        """The sum of all scores."""
        return sum(score for score, _ in self.lines)

    def _repr_html_(self) -> str:
        rows = []
        for score, text in self.lines:
            line = re.sub(r"^[+\s]*\d+:\s?", "", text)
            strength = 0.0 if score == 0 else min(0.75, 0.12 + 0.06 * score**0.5)
            rows.append(
                f'<span style="display:block;background:rgba(224,180,20,{strength:.2f})">'
                f"{html.escape(line) or ' '}</span>"
            )
        return f'<div class="highlight"><pre class="annotated">{"".join(rows)}</pre></div>'
