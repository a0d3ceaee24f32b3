"""The compiled kernels: which builds there are, and which one runs.

Every kernel file was compiled once per instruction set and number type, into a folder like
``avx2_float32``. ``load`` picks the best instruction set that was built and that the processor has,
or the one that CYCONV_ISA names.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

ISAS = ("avx512", "avx2", "sse2", "neon", "generic")  # the best first
MODULES = (
    *("avg_pool", "conv", "conv_weight_grad", "conv_weights", "dense", "depthwise"),
    *("elementwise", "loss", "max_pool", "norm", "peak", "winograd"),
    *("winograd_input_grad", "winograd_weight_grad", "winograd_weights"),
)
# For batches that fill at most half a vector: the instruction set of vectors half as long.
NARROWER = {"avx512": "avx2"}
# Seconds that a thread waits for the others before it sleeps: about what it takes to wake it, and
# what Python takes from one kernel to the next. Half of it makes a training step a tenth longer;
# twice, no shorter, but a quarter longer where something else keeps a processor busy, and OpenMP's
# own 300,000 looks make it ten times as long there.
WAIT = 60e-6


def built() -> list[str]:
    """The instruction sets that kernels were built for, the best first."""
    return [isa for isa in ISAS if importlib.util.find_spec(f"{__name__}.{isa}_float64")]


def processor() -> ModuleType:
    """The module ``cpu``: what this processor has, and how the kernels were built."""
    return importlib.import_module(f"{__name__}.cpu")


def runner() -> ModuleType:
    """The module ``program``, which runs many kernel calls as one."""
    return importlib.import_module(f"{__name__}.program")


def usable() -> list[str]:
    """The instruction sets of ``built`` that this processor has."""
    return [isa for isa in built() if processor().supports(isa)]


def choose() -> str:
    """The instruction set to run; ImportError, saying why, if there is none."""
    wanted = os.environ.get("CYCONV_ISA", "")
    if wanted and wanted not in ISAS:
        raise ImportError(f"CYCONV_ISA must be one of {', '.join(ISAS)}, got {wanted!r}")
    if wanted and wanted not in built():
        raise ImportError(f"CYCONV_ISA={wanted}: no kernels were built for it")
    if wanted and wanted not in usable():
        raise ImportError(f"CYCONV_ISA={wanted}: this processor lacks it")
    if not usable():
        raise ImportError("no kernels were built for this processor")
    return wanted or usable()[0]


def narrower(isa: str) -> str | None:
    """The one of vectors half as long, for small batches; None if CYCONV_ISA says what runs."""
    other = NARROWER.get(isa)
    return other if other in usable() and not os.environ.get("CYCONV_ISA") else None


class Kernels(dict[str, SimpleNamespace]):
    """The kernel modules of one instruction set by the dtype's character, "f" or "d".

    Each number type is loaded when it is first used.
    """

    def __init__(self, isa: str):
        self.isa = isa

    def __missing__(self, char: str) -> SimpleNamespace:
        folder = f"{__name__}.{self.isa}_{ {'f': 'float32', 'd': 'float64'}[char] }"
        with _brief_spins():
            modules = {name: importlib.import_module(f"{folder}.{name}") for name in MODULES}
        self[char] = SimpleNamespace(**modules)
        return self[char]


def spins() -> int:
    """How often GNU's OpenMP looks again in WAIT: processors pause for 10 to 50 ns in between."""
    wait, looks, shortest = processor().wait, 1000, math.inf
    for _ in range(5):
        start = time.perf_counter()
        wait(looks)
        shortest = min(shortest, time.perf_counter() - start)
    return math.ceil(looks * WAIT / max(shortest, 1e-9))  # a coarse clock may say 0


@contextmanager
def _brief_spins() -> Iterator[None]:
    """GNU's OpenMP, which is loaded meanwhile if it was not yet, reads spins() in the environment.

    What the user has set there counts.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(spins())
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)
