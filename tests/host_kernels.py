"""The CUDA kernels on the CPU: the very source, compiled as C, run thread by thread over its grid.

Every array that a kernel gets is copied to memory with guards around it. A read beyond an array
finds NaN or -1 there, a write is noticed. Arguments must be what the C signature says, arrays
contiguous: a real launch checks neither.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PRELUDE = """
#include <stdbool.h>
#include <tgmath.h>
static struct { unsigned x; } threadIdx, blockIdx, blockDim, gridDim;
#define KERNEL static void
#define DEVICE static inline
"""
DRIVER = """
void run_{name}(unsigned grid, unsigned block, {parameters}) {{
  gridDim.x = grid;
  blockDim.x = block;
  for (unsigned b = 0; b < grid; b++)
    for (unsigned t = 0; t < block; t++) {{
      blockIdx.x = b;
      threadIdx.x = t;
      {name}({names});
    }}
}}
"""
FLAGS = ["-shared", "-fPIC", "-O1", "-std=gnu11", "-ffp-contract=off", "-Wall", "-Werror"]
GUARD = 1024  # bytes on either side, all bits set: NaN or -1


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def signatures(source: str) -> dict[str, list[tuple[str, str]]]:
    """For each kernel the C types and names of its parameters."""
    joined = source.replace("\\\n", " ")
    window = re.search(r"#define WINDOW (.*)", joined)
    assert window is not None
    found = {}
    for name, text in re.findall(r"^KERNEL (\w+)\((.*?)\) \{", joined, re.MULTILINE | re.DOTALL):
        parameters = " ".join(text.replace("WINDOW", window[1]).split()).split(",")
        found[name] = [
            (kind.strip().replace(" *", "*"), parameter)
            for kind, parameter in (re.findall(r"(.*\W)(\w+)$", p.strip())[0] for p in parameters)
        ]
    return found


class Library:
    """The kernels for one number type and width of index."""

    def __init__(self, source: str, real: str, index: str):
        self.signatures = signatures(source)
        self.types = {
            "real": {"float": np.dtype("f4"), "double": np.dtype("f8")}[real],
            "index_t": {"int": np.dtype("i4"), "long long": np.dtype("i8")}[index],
            "int": np.dtype("i4"),
            "long long": np.dtype("i8"),
        }
        drivers = [
            DRIVER.format(
                name=name,
                parameters=", ".join(f"{kind} {parameter}" for kind, parameter in parameters),
                names=", ".join(parameter for _, parameter in parameters),
            )
            for name, parameters in self.signatures.items()
        ]
        self.library = ctypes.CDLL(_built(PRELUDE + source + "".join(drivers), real, index))

    def run(self, name: str, grid: int, block: int, arguments: tuple[Any, ...]) -> None:
        """Run a kernel; arrays are NumPy arrays, numbers NumPy scalars of exactly their C type."""
        parameters = self.signatures[name]
        assert len(arguments) == len(parameters), f"{name}: {len(arguments)} arguments"
        assert 1 <= grid < 2**31 and 1 <= block <= 1024, f"{name}: grid {grid}, block {block}"
        passed: list[Any] = [ctypes.c_uint(grid), ctypes.c_uint(block)]
        guarded = []
        for (kind, parameter), value in zip(parameters, arguments, strict=True):
            where = f"{name}: {parameter}"
            pointer, wanted = kind.endswith("*"), self.types[kind.replace("const ", "").rstrip("*")]
            if not pointer:
                assert isinstance(value, np.generic), f"{where} is a {type(value).__name__}"
                assert value.dtype == wanted, f"{where} is {value.dtype}, not {wanted}"
                passed.append(np.ctypeslib.as_ctypes_type(wanted)(value.item()))
            elif isinstance(value, np.uintp):
                assert value == 0, f"{where} is a made-up address"
                passed.append(ctypes.c_void_p(None))
            else:
                assert value.dtype == wanted, f"{where} is {value.dtype}, not {wanted}"
                assert value.flags.c_contiguous, f"{where} has gaps or another order"
                memory = np.full(value.nbytes + 2 * GUARD, 0xFF, np.uint8)
                inside = memory[GUARD : GUARD + value.nbytes]
                inside[...] = value.reshape(-1).view(np.uint8)
                passed.append(ctypes.c_void_p(memory.ctypes.data + GUARD))
                guarded.append((where, kind.startswith("const"), value, memory, inside))
        getattr(self.library, f"run_{name}")(*passed)
        for where, constant, value, memory, inside in guarded:
            ends = memory[:GUARD], memory[GUARD + value.nbytes :]
            assert all((end == 0xFF).all() for end in ends), f"{where} was written beyond its ends"
            if not constant:
                value[...] = inside.view(value.dtype).reshape(value.shape)


@cache
def library(source: str, real: str, index: str) -> Library:
    return Library(source, real, index)


def _built(text: str, real: str, index: str) -> str:
    """Compile C text into a shared library, once in a run of the tests."""
    key = hashlib.sha256(f"{real} {index} {text}".encode()).hexdigest()[:16]
    target = Path(_folder().name) / f"kernels_{key}.so"
    command = [str(compiler()), "-x", "c", "-", "-o", str(target), *FLAGS]
    command += [f"-DCYCONV_REAL={real}", f"-DCYCONV_INDEX={index}", "-lm"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(target)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
