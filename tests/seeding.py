"""Copies of the package and its tests with one line changed: built, and tested.

See test_seeded_bugs. Only the kernel modules that the line belongs to are compiled again, for one
instruction set and float32; the others are taken from the build that is there.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import cyconv
from cyconv import kernels

SOURCE = Path(__file__).parents[1]
BUILT = Path(cyconv.__file__).parent / "kernels"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


CONFTEST = """
import cyconv
import pytest

if not cyconv.__file__.startswith({folder!r}):
    pytest.exit("these tests would test another package", 9)
"""


@dataclass(frozen=True)
class Bug:
    """One line of a file of the package, and what it becomes; `caught_by` are files of tests."""

    name: str
    path: str
    before: str
    after: str
    caught_by: tuple[str, ...]
    modules: tuple[str, ...] = ()  # to compile again

    def __str__(self) -> str:
        return self.name


def plant(bug: Bug | None, folder: Path) -> None:
    """Put a copy of the package, with the bug, and of the tests into the folder."""
    skipped = shutil.ignore_patterns("*.so", "*.pyd", ".*", "__pycache__")
    for name in ("cyconv", "tests"):
        shutil.copytree(SOURCE / name, folder / name, ignore=skipped)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy2(SOURCE / name, folder)
    (folder / "tests" / "conftest.py").write_text(CONFTEST.format(folder=str(folder)))
    if bug is None:
        return
    path = folder / "cyconv" / bug.path
    text = path.read_text()
    count = text.count(bug.before)
    assert count == 1, f"{bug.path} has {count} times, not once: {bug.before}"
    path.write_text(text.replace(bug.before, bug.after))


def caught(folder: Path, tests: tuple[str, ...], backend: str) -> bool:
    """Run these tests on the copy in the folder; True if one fails, or the process dies."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "CYCONV_BACKEND": backend}
    if backend == "cython":  # and no others, which were not built there
        environment["CYCONV_ISA"] = kernels.choose()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in tests)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1) or done.returncode < 0, done.stdout[-3000:] + done.stderr
    return done.returncode != 0


# ------------------------------------------------------------------ building


def why_not() -> str:
    """Why kernels cannot be compiled here; empty if they can."""
    try:
        kernels.choose()
    except ImportError as error:
        return str(error)
    if not (SOURCE / "setup.py").exists():
        return "no sources beside the tests"
    try:
        import Cython  # noqa: F401
    except ImportError:
        return "no Cython"
    return "" if linker() and shutil.which(linker()[0]) else "no C compiler"


def linker() -> list[str]:
    """The command that compiles and links an extension module."""
    return str(sysconfig.get_config_var("LDSHARED") or "").split()


def build(folder: Path, modules: tuple[str, ...]) -> None:
    """Compile these kernel modules of the copy, and take the others from the build in use."""
    setup = settings()
    isa = kernels.choose()
    once = [BUILT / f"{name}{SUFFIX}" for name in setup["ONCE"]]
    for built in [*BUILT.glob(f"{isa}_*/*{SUFFIX}"), *once]:
        target = folder / "cyconv" / "kernels" / built.relative_to(BUILT)
        target.parent.mkdir(exist_ok=True)
        if built.name.split(".")[0] not in modules or "float64" in built.parent.name:
            shutil.copy2(built, target)
    known = setup["X86"] | setup["ARM"] | setup["OTHER"]
    flags, width, registers = known[isa]
    directives = [f"-X{name}={value}" for name, value in setup["DIRECTIVES"].items()]
    flags = [*flags, f"-DCYCONV_VLEN={width // 4}", f"-DCYCONV_REGISTERS={registers}"]
    include = [f"-I{sysconfig.get_paths()['include']}", f"-I{folder}/cyconv/kernels"]
    with tempfile.TemporaryDirectory() as generated:
        for name in modules:
            source = folder / "cyconv" / "kernels" / f"{name}.pyx"
            translated = Path(generated, f"{name}.c")
            translate = [sys.executable, "-m", "cython", f"-I{folder}", "-o", str(translated)]
            subprocess.run([*translate, *directives, str(source)], check=True)
            target = folder / "cyconv" / "kernels" / f"{isa}_float32" / f"{name}{SUFFIX}"
            command = [*linker(), "-fPIC", "-O1", "-g0", "-DCYCONV_REAL=float"]
            subprocess.run(
                [*command, *flags, *include, str(translated), "-o", str(target)], check=True
            )


@cache
def settings() -> dict[str, Any]:
    """The names that setup.py defines: compiler flags, directives."""
    before = os.getcwd()
    os.chdir(SOURCE)
    try:
        with (
            mock.patch("setuptools.setup"),
            mock.patch.dict(os.environ, {"CYCONV_PURE_PYTHON": "1"}),
        ):
            return runpy.run_path("setup.py")
    finally:
        os.chdir(before)
