"""Builds the kernels: every .pyx of cyconv/kernels, once per instruction set and number type.

Environment:
    CYCONV_PURE_PYTHON=1          build nothing: the NumPy backend computes
    CYCONV_REQUIRE_EXTENSIONS=1   a failed build is an error, not a warning
    CYCONV_BUILD_ISA="avx2 sse2"  build for these instruction sets only
    CYCONV_SANITIZE=1             with gcc's address and undefined-behaviour sanitizers
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel

KERNELS = Path("cyconv/kernels")
GENERATED = Path("build/cython")
FLAGS = GENERATED / "flags.txt"  # newer than what was built with other flags
MOST_COMPILERS = 8  # at a time; each takes up to 300 MB

# instruction set: compiler flags, bytes of a vector register, number of them
X86 = {
    "sse2": ([], 16, 16),
    "avx2": (["-mavx2", "-mfma"], 32, 16),
    "avx512": (
        [f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "cd")]
        + ["-mavx2", "-mfma", "-mprefer-vector-width=512"],
        64,
        32,
    ),
}
ARM = {"neon": ([], 16, 32)}
OTHER = {"generic": ([], 16, 16)}
# Without these the kernels would be an eighth larger and no faster: no tables for exceptions, which
# C does not throw; Cython's helpers once, not at each place that calls them; and those for
# integers, text and errors by Python's own functions. The compiler's own vectors and copies of
# loops stay: without them pooling takes four times as long, and gradients by the weights one and a
# half.
SMALL = (
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    "--param=max-inline-insns-single=70",
    *("-DCYTHON_USE_PYLONG_INTERNALS=0", "-DCYTHON_USE_UNICODE_INTERNALS=0"),
    "-DCYTHON_FAST_THREAD_STATE=0",
)
ONCE = ("cpu", "program")  # kernel files that know neither instruction set nor number type
REALS = {"float32": ("float", 4), "float64": ("double", 8)}

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,  # the def entries check every size once
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "binding": False,  # else a quarter of each module would be a class of functions of Cython's own
    "embedsignature": True,
    "embedsignature.format": "clinic",  # which inspect.signature reads
}

OPENMP_PROBE = """
#include <omp.h>
int main(void) {
  int n = 0;
#pragma omp parallel num_threads(2)
#pragma omp atomic
  n++;
  return n == 2 ? 0 : 1;
}
"""


def flag(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def instruction_sets() -> dict[str, tuple[list[str], int, int]]:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        known = X86
    elif machine in ("aarch64", "arm64"):
        known = ARM
    else:
        known = OTHER
    wanted = os.environ.get("CYCONV_BUILD_ISA", "").split()
    unknown = set(wanted) - set(known)
    if unknown:
        raise SystemExit(
            f"CYCONV_BUILD_ISA must name some of {', '.join(known)}, got {', '.join(unknown)}"
        )
    return {name: known[name] for name in known if name in wanted or not wanted}


def extensions() -> list[Extension]:
    """One extension per kernel file, instruction set and number type; none if Cython fails."""
    if flag("CYCONV_PURE_PYTHON"):
        return []
    try:
        from Cython.Build import cythonize

        sources = sorted(KERNELS.glob("*.pyx"))
        generated = cythonize(
            [Extension(f"cyconv.kernels.{s.stem}", [s.as_posix()]) for s in sources],
            build_dir=str(GENERATED),
            compiler_directives=DIRECTIVES,
        )
    except Exception as error:
        give_up(f"Cython failed: {error}")
        return []
    built = []
    included = [path.as_posix() for path in KERNELS.iterdir() if path.suffix in (".pxd", ".h")]
    for extension in generated:
        stem = extension.name.rpartition(".")[2]
        if stem in ONCE:
            built.append(extension)
            continue
        for isa, (flags, width, registers) in instruction_sets().items():
            for dtype, (real, size) in REALS.items():
                # a copy of the C file each, so that the object files have different names
                folder = GENERATED / f"{isa}_{dtype}"
                folder.mkdir(parents=True, exist_ok=True)
                source = shutil.copy2(extension.sources[0], folder)
                variant = Extension(
                    f"cyconv.kernels.{isa}_{dtype}.{stem}",
                    [Path(source).as_posix()],
                    depends=list(included),
                    include_dirs=[str(KERNELS)],
                    define_macros=[
                        ("CYCONV_REAL", real),
                        ("CYCONV_VLEN", str(width // size)),
                        ("CYCONV_REGISTERS", str(registers)),
                    ],
                    extra_compile_args=list(flags),
                )
                built.append(variant)
    return built


def give_up(reason: str) -> None:
    """Go on without compiled kernels, or stop if they are required."""
    if flag("CYCONV_REQUIRE_EXTENSIONS"):
        raise SystemExit(f"cyconv: the kernels were not built: {reason}")
    print(f"cyconv: the kernels were not built, NumPy will compute: {reason}", file=sys.stderr)


class BuildKernels(build_ext):
    """Finds out what the compiler can do, then builds; without a compiler, builds nothing."""

    def finalize_options(self) -> None:
        super().finalize_options()
        usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
        self.parallel = self.parallel or min(len(usable), MOST_COMPILERS)

    def build_extensions(self) -> None:
        try:
            self.settle_flags()
            super().build_extensions()
        except BaseException as error:  # a compiler's failure may surface as SystemExit
            if isinstance(error, KeyboardInterrupt):
                raise
            give_up(f"{type(error).__name__}: {error}")
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []

    def copy_extensions_to_source(self) -> None:
        for extension in self.extensions:  # setuptools copies but makes no folders
            Path(*extension.name.split(".")[:-1]).mkdir(exist_ok=True)
        super().copy_extensions_to_source()

    def settle_flags(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        common = ["/O2"] if msvc else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]
        if not msvc:
            common += [x for x in SMALL if self.compiles("int x;", [x])]
        link = [] if msvc or sys.platform == "darwin" else ["-s"]
        if flag("CYCONV_SANITIZE"):
            common = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv"]
            common += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
            link = ["-fsanitize=address,undefined"]
        if not self.runs("int main(void) { return 0; }", [], []):
            raise RuntimeError("no working C compiler")
        openmp = self.openmp_flags()
        if openmp is None:
            print("cyconv: the compiler has no OpenMP, the kernels will use one thread")
            openmp = [], []
        usable: dict[tuple[str, ...], bool] = {}
        kept = []
        for extension in self.extensions:
            flags = extension.extra_compile_args
            if tuple(flags) not in usable:
                # MSVC only warns of flags that it does not know
                known = not msvc and self.compiles("int x;", flags)
                usable[tuple(flags)] = known or not flags
            if not usable[tuple(flags)]:
                print(f"cyconv: no {extension.name}: the compiler does not know {' '.join(flags)}")
                continue
            if msvc:  # no vector types: numbers one at a time
                macros = dict(extension.define_macros)
                extension.define_macros = list((macros | {"CYCONV_VLEN": "1"}).items())
            extension.extra_compile_args = common + openmp[0] + flags
            extension.extra_link_args = link + openmp[1]
            extension.depends.append(FLAGS.as_posix())
            kept.append(extension)
        self.extensions = kept
        command = getattr(self.compiler, "compiler_so", [])
        all_flags = " ".join([*command, *common, *openmp[0], *link, *openmp[1]])
        if not FLAGS.exists() or FLAGS.read_text() != all_flags:
            FLAGS.write_text(all_flags)

    def openmp_flags(self) -> tuple[list[str], list[str]] | None:
        """Compiler and linker flags with which an OpenMP program builds and runs."""
        if self.compiler.compiler_type == "msvc":
            candidates = [(["/openmp"], [])]
        else:
            candidates = [
                (["-fopenmp"], ["-fopenmp"]),
                (["-Xpreprocessor", "-fopenmp"], ["-lomp"]),  # Apple's clang
            ]
        for compile_args, link_args in candidates:
            if self.runs(OPENMP_PROBE, compile_args, link_args):
                return compile_args, link_args
        return None

    def compiles(self, program: str, flags: list[str]) -> bool:
        return self.attempt(program, flags, None)

    def runs(self, program: str, flags: list[str], link_flags: list[str]) -> bool:
        return self.attempt(program, flags, link_flags)

    def attempt(self, program: str, flags: list[str], link_flags: list[str] | None) -> bool:
        """Compile a C program and, if ``link_flags`` is given, link and run it."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_preargs=flags
                )
                if link_flags is None:
                    return True
                self.compiler.link_executable(
                    objects, "probe", output_dir=folder, extra_postargs=link_flags
                )
                done = subprocess.run([str(Path(folder, "probe"))], timeout=60, check=False)
                return done.returncode == 0
            except Exception:
                return False


class Editable(editable_wheel):
    """Installs the source folder itself, without what an earlier build left there."""

    def run(self) -> None:
        for folder in KERNELS.glob("*_float*"):
            shutil.rmtree(folder)
        for module in (*KERNELS.glob("*.so"), *KERNELS.glob("*.pyd")):
            module.unlink()
        super().run()


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels, "editable_wheel": Editable})
