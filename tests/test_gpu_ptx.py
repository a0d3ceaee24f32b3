"""Every CUDA kernel compiles to PTX: CuPy and NVRTC do that without a GPU or a driver.

`pip install cupy-cuda12x nvidia-cuda-nvrtc-cu12` brings both.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import emulation
import host_kernels
import pytest

import cyconv
from cyconv.backends import gpu_device

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
nvrtc = cupy.cuda.nvrtc

ARCHITECTURES = (75, 80, 90)
REALS = {"float": "f32", "double": "f64"}
INDICES = {"int": "32", "long long": "64"}


@cache
def ptx(architecture: int, real: str, index: str) -> str:
    try:
        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    program = nvrtc.createProgram(emulation.source(), "gpu_kernels.cu", (), ())
    options = (f"-arch=compute_{architecture}", f"-DCYCONV_REAL={real}", f"-DCYCONV_INDEX={index}")
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert nvrtc.getProgramLog(program).strip(" \n\0") == "", "there are warnings"
    text: Any = nvrtc.getPTX(program)
    return text.decode() if isinstance(text, bytes) else text


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles(architecture: int, real: str, index: str) -> None:
    """With the parameters that the emulation, and so the tests of the Python half, go by."""
    text = ptx(architecture, real, index)
    assert f".target sm_{architecture}" in text
    found = {
        name: re.findall(r"\.param \.\w(\d+)", parameters)
        for name, parameters in re.findall(r"\.entry (\w+)\((.*?)\)", text, re.DOTALL)
    }
    sizes = {"real": REALS[real][1:], "index_t": INDICES[index], "long long": "64"}
    for name, parameters in host_kernels.signatures(emulation.source()).items():
        expected = ["64" if kind.endswith("*") else sizes[kind] for kind, _ in parameters]
        assert found.pop(name) == expected, name
    assert not found


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("real", REALS)
def test_what_the_kernels_do_without(real: str, index: str) -> None:
    text = ptx(90, real, index)
    assert not re.search(r"\b(atom|red)\.", text), "no atomics: the order of sums would vary"
    assert ".local" not in text, "a small array does not live in registers"
    if real == "float":
        assert ".f64" not in text, "double arithmetic in single precision's kernels"


def test_functions_of_cupy_exist() -> None:
    """What the emulation takes from NumPy has to be there."""
    package = Path(cyconv.__file__).parent
    files = [*(package / "ops").glob("*.py"), *(package / "backends").glob("gpu_*.py")]
    files += [package / name for name in ("tensor.py", "optimizer.py", "history.py")]
    pattern = r"(?:\bxp|\bxp\(\)|\bnamespace_of\([\w.\[\]]+\)|\bcupy)\.((?:\w+\.)*\w+)"
    used = {n for file in files for n in re.findall(pattern, file.read_text(encoding="utf-8"))}
    used -= {"__version__.partition", "dtype.type"}
    assert len(used) > 25
    for dotted in used:
        value = cupy
        for name in dotted.split("."):
            value = getattr(value, name)


def test_methods_of_cupys_arrays_exist() -> None:
    public = {name for name in vars(emulation.ndarray) if name[0] != "_"} | emulation.METHODS
    assert all(hasattr(cupy.ndarray, name) for name in public)
    operators = {n for n in vars(emulation.ndarray) if re.fullmatch(r"__[a-z]+__", n)}
    operators -= {"__weakref__", "__getattr__"}
    assert all(hasattr(cupy.ndarray, name) for name in operators)
    flags = set(dir(cupy._core.flags.Flags))
    assert {"c_contiguous", "f_contiguous"} <= flags and "writeable" not in flags


def test_a_machine_without_a_gpu_says_so() -> None:
    reason = gpu_device.why_not()
    if not reason:
        pytest.skip("there is a GPU")
    assert "driver" in reason or "GPU" in reason
    with pytest.raises(ValueError, match="device 'cuda' cannot be used: "):
        cyconv.ones(2).to("cuda")
