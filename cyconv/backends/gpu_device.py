"""The CUDA device by way of CuPy: what is missing for it, kernels, and copies to and fro.

CuPy is imported when the device is first asked for, never before. Its name here is the module that
was imported; the tests put an emulation of it in its place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Array = Any

SOURCES = ("gpu_kernels.cu", "gpu_arithmetic.cu")  # one program, in this order
OLDEST = 14  # version of CuPy
BLOCK = 256  # threads of a block
MOST_BLOCKS = 2**20  # of a launch; with more results than threads a thread makes several
REALS = {"f": "float", "d": "double"}


# ------------------------------------------------------------------ is it there?


def why_not() -> str:
    """What is missing for CUDA, in a few words; empty if nothing is."""
    try:
        import cupy
    except ImportError as error:
        if getattr(error, "name", None) == "cupy":
            return "CuPy is not installed; the wheel for CUDA 12 is `pip install cupy-cuda12x`"
        return f"CuPy cannot be imported ({_in_short(error)})"
    version = cupy.__version__
    if int(version.partition(".")[0]) < OLDEST:
        return f"CuPy {OLDEST} or newer is needed, and {version} is installed"
    runtime = cupy.cuda.runtime
    if runtime.is_hip:
        return f"CuPy {version} was built for ROCm, and CUDA is needed"
    try:
        driver = runtime.driverGetVersion()
    except RuntimeError:
        driver = 0
    if not driver:
        return "there is no NVIDIA driver on this machine"
    try:
        devices = runtime.getDeviceCount()
    except RuntimeError as error:
        if "InsufficientDriver" not in str(error):
            return f"the NVIDIA driver finds no GPU ({_in_short(error)})"
        built = _dotted(runtime.runtimeGetVersion())
        return (
            f"the NVIDIA driver serves CUDA {_dotted(driver)} at most, but CuPy was built for "
            f"CUDA {built}: update the driver or install the CuPy for its CUDA"
        )
    if not devices:
        return "the NVIDIA driver finds no GPU"
    for library, load in (
        ("NVRTC", cupy.cuda.nvrtc.getVersion),
        ("cuBLAS", cupy.cuda.device.get_cublas_handle),
    ):
        try:
            load()
        except (ImportError, OSError, RuntimeError) as error:
            return (
                f"CUDA's library {library} cannot be loaded ({_in_short(error)}); the wheels of "
                "`pip install cupy-cuda12x[ctk]` bring it along"
            )
    return ""


def _in_short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0] if lines else type(error).__name__


def _dotted(version: int) -> str:
    """12090 is CUDA 12.9."""
    return f"{version // 1000}.{version % 1000 // 10}"


def describe() -> str:
    """The GPU in one line, or why there is none."""
    reason = why_not()
    if reason:
        return f"none: {reason}"
    import cupy

    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(runtime.getDevice())
    return (
        f"{card['name'].decode()}, {card['totalGlobalMem'] / 1e9:.0f} GB, compute capability "
        f"{card['major']}.{card['minor']}; CuPy {cupy.__version__}, "
        f"CUDA {_dotted(runtime.runtimeGetVersion())}"
    )


# ------------------------------------------------------------------ kernels


def source() -> str:
    """The program of all kernels."""
    folder = Path(__file__).parent
    return "".join((folder / name).read_text(encoding="utf-8") for name in SOURCES)


@cache
def _module(char: str, index: str) -> Any:
    """The kernels for a number type and width of index, compiled when the first one is called."""
    import cupy

    options = (f"-DCYCONV_REAL={REALS[char]}", f"-DCYCONV_INDEX={index}")
    return cupy.RawModule(code=source(), options=options)


@cache
def _kernel(name: str, char: str, index: str) -> Any:
    return _module(char, index).get_function(name)


def launch(name: str, dtype: np.dtype, wide: bool, count: int, *arguments: Any) -> None:
    """Start a kernel for ``count`` results, after all that was started before; do not wait for it.

    Of the arguments, contiguous arrays become pointers, None a null pointer, a float a number of
    ``dtype``, and an int or bool an index: of 64 bits if ``wide``, else of 32.
    """
    if not count:  # an empty grid is an error
        return
    index = np.int64 if wide else np.int32
    ready: list[Any] = [np.int64(count)]
    for value in arguments:
        if isinstance(value, float):
            ready.append(dtype.type(value))
        elif isinstance(value, int):
            ready.append(index(value))
        else:
            ready.append(np.uintp(0) if value is None else value)
    kernel = _kernel(name, dtype.char, "long long" if wide else "int")
    kernel((min(-(-count // BLOCK), MOST_BLOCKS),), (BLOCK,), tuple(ready))


# ------------------------------------------------------------------ copies


def _memory_order(array: Array) -> tuple[list[int], list[int]]:
    """The order of axes in which the array lies in memory, and the one that leads back."""
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    return axes, [axes.index(axis) for axis in range(array.ndim)]


def to_gpu(array: np.ndarray) -> Array:
    """A copy on the GPU that lies in memory as the array does; does not wait for the GPU."""
    import cupy

    axes, back = _memory_order(array)
    native = array.dtype.newbyteorder("=")
    return cupy.asarray(np.asarray(array.transpose(axes), native, order="C")).transpose(back)


def to_host(array: Array) -> np.ndarray:
    """A copy as a NumPy array that lies in memory as the array does; waits for it."""
    axes, back = _memory_order(array)
    return array.transpose(axes).get().transpose(back)


class Copier:
    """Copies arrays to the GPU while it computes: by a stream of its own, from pinned memory.

    There are two pieces of pinned memory, each written again only when its last copy has ended, so
    that one batch can be on its way while the one before is in use.
    """

    def __init__(self) -> None:
        from cupy import cuda

        self.stream = cuda.Stream(non_blocking=True)
        self.memory: list[Any] = [None, None]
        self.room = [0, 0]  # bytes
        self.copied = [cuda.Event(disable_timing=True) for _ in self.memory]
        self.computed = cuda.Event(disable_timing=True)
        self.turn = 0

    def start(self, array: np.ndarray) -> tuple[Array, Any]:
        """The array on the GPU, and the event to hand to ``wait_for`` before it is used."""
        import cupy

        self.turn = 1 - self.turn
        copied = self.copied[self.turn]
        copied.synchronize()  # the copy of two arrays ago, which has long ended
        if not array.size:
            return to_gpu(array), copied
        axes, back = _memory_order(array)
        lying = array.transpose(axes)
        if self.room[self.turn] < array.nbytes:
            self.memory[self.turn] = cupy.cuda.alloc_pinned_memory(array.nbytes)
            self.room[self.turn] = array.nbytes
        memory = self.memory[self.turn]
        np.frombuffer(memory, array.dtype, array.size).reshape(lying.shape)[...] = lying
        target = cupy.empty(lying.shape, array.dtype)
        # what computed in the target's memory before may not have ended yet
        cupy.cuda.get_current_stream().record(self.computed)
        self.stream.wait_event(self.computed)
        target.data.copy_from_host_async(memory.ptr, array.nbytes, self.stream)
        self.stream.record(copied)
        return target.transpose(back), copied

    def wait_for(self, copied: Any) -> None:
        """Let what is started from now on wait for a copy; the program itself does not wait."""
        import cupy

        cupy.cuda.get_current_stream().wait_event(copied)

    def close(self) -> None:
        """Wait for copies that nobody used: their memory is free for others then."""
        self.stream.synchronize()
