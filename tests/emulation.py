"""An emulation of CuPy without a GPU, so that the Python half of the GPU backend can be tested.

It is no proof that the real thing works, but it is strict where CuPy is: arrays of its own type,
which do not mix with NumPy's and turn into them by ``get`` only, results of reductions that are
arrays, fresh memory full of NaN, and copies from pinned memory that happen as late as they may.
Kernels run on the CPU (`host_kernels`). ``waits`` notes whenever a program would wait for the GPU.
"""

from __future__ import annotations

import ctypes
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import host_kernels
import numpy as np

import cyconv.backends as backends
from cyconv.backends import gpu_device

waits: list[str] = []  # what made the program wait
used: dict[str, set[str]] = {}  # functions of the module that were called, and their keywords
launched: list[str] = []  # kernels, in order
behind = False  # whether the GPU has so much to do that it comes to a copy only when asked for it

SCALARS = (bool, int, float, np.generic)


class ndarray:
    """Stands for cupy.ndarray."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: np.ndarray, base: ndarray | None = None):
        assert isinstance(array, np.ndarray)
        self._array = array
        self.base = base

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    T = property(lambda self: self.transpose())

    @property
    def flags(self) -> Any:  # CuPy's have no `writeable`
        flags = self._array.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def data(self) -> Any:
        return SimpleNamespace(copy_from_host_async=self._copy_from_host_async)

    def _copy_from_host_async(self, address: int, nbytes: int, stream: Stream) -> None:
        assert self._array.flags.c_contiguous and nbytes == self._array.nbytes

        def copy() -> None:
            ctypes.memmove(self._array.ctypes.data, address, nbytes)

        stream.later(copy)

    # --- waiting for values

    def get(self) -> np.ndarray:
        waits.append("get")
        NULL.run(len(NULL.work))
        return np.array(self._array, order="C")

    def item(self) -> Any:
        waits.append("item")
        return self._array.item()

    def tolist(self) -> Any:
        waits.append("tolist")
        return self._array.tolist()

    def __bool__(self) -> bool:
        waits.append("bool")
        return bool(self._array)

    def __float__(self) -> float:
        waits.append("float")
        return float(self._array)

    def __int__(self) -> int:
        waits.append("int")
        return int(self._array)

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or any(isinstance(i, np.ndarray) for i in inputs):
            raise TypeError(f"Unsupported type for {ufunc.__name__}: numpy.ndarray")
        return _call(ufunc, inputs, options)

    # --- views and copies

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> ndarray:
        plain = _plain(index)
        parts = plain if isinstance(plain, tuple) else (plain,)
        if any(isinstance(p, np.ndarray) and p.dtype == bool for p in parts):
            waits.append("mask")
        return _wrapped(self._array[plain], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._array[_plain(index)] = _plain(value)

    def transpose(self, *axes: Any) -> ndarray:
        assert all(isinstance(a, (int, tuple, list)) for a in axes)
        return _wrapped(self._array.transpose(*axes), self)

    def reshape(self, *shape: Any) -> ndarray:
        return _wrapped(self._array.reshape(*shape), self)

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"the emulation of cupy.ndarray has no {name}")
        method = getattr(self._array, name)
        return lambda *args, **options: _wrapped(method(*_plain(args), **_plain(options)), self)


METHODS = {"sum", "max", "min", "mean", "argmax", "argmin", "any", "all"}
METHODS |= {"astype", "copy", "squeeze", "swapaxes", "view"}


def _plain(value: Any) -> Any:
    """The NumPy arrays inside; an array of NumPy's itself is refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(_plain(v) for v in value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _wrapped(result: Any, source: ndarray | None = None) -> Any:
    if isinstance(result, (tuple, list)):
        return type(result)(_wrapped(r, source) for r in result)
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result
    shared = source is not None and np.may_share_memory(result, source._array)
    return ndarray(result, source if shared else None)


def _call(function: Any, args: Any, options: dict[str, Any]) -> Any:
    source = next((a for a in args if isinstance(a, ndarray)), None)
    result = _wrapped(function(*_plain(args), **_plain(options)), source)
    return options["out"] if options.get("out") is not None else result


def _binary(function: Callable[..., Any], swapped: bool) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, *SCALARS)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        return _call(function, pair, {})

    return method


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: _call(function, (self,), {})


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        function(self._array, _plain(other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor"):
    _function = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    setattr(ndarray, f"__{_name}__", _binary(_function, False))
    setattr(ndarray, f"__r{_name}__", _binary(_function, True))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name), False))
for _name in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, _name)))
ndarray.__module__ = "cupy"


class Function:
    """A function of the module: NumPy's, on arrays of the emulation."""

    def __init__(self, name: str):
        self.name = name
        self.function = getattr(np, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        used.setdefault(self.name, set()).update(options)
        if self.name in ("broadcast_to", "concatenate", "split", "pad", "ascontiguousarray"):
            first = args[0] if isinstance(args[0], (tuple, list)) else [args[0]]
            assert all(isinstance(a, ndarray) for a in first), f"{self.name} of no array of CuPy's"
        result = _call(self.function, args, options)
        if self.name in ("empty", "empty_like"):
            result._array.reshape(-1, order="A").view(np.uint8)[...] = 0xFF  # NaN, or -1
        return result

    def at(self, target: ndarray, index: Any, values: Any) -> None:
        self.function.at(target._array, _plain(index), _plain(values))


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    """Copies what is NumPy's."""
    used.setdefault("asarray", set())
    if isinstance(a, ndarray):
        return _wrapped(np.asarray(a._array, dtype, order=order), a)
    return ndarray(np.array(a, dtype, order=order or "K"))


# ------------------------------------------------------------------ streams and kernels


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.stream: Stream | None = None
        self.mark = 0

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.run(self.mark)


class Stream:
    """Work that is put off until somebody waits for it; the null stream's is done at once."""

    def __init__(self, null: bool = False, non_blocking: bool = False):
        assert non_blocking or null, "a blocking stream would wait for the default one"
        self.null = null
        self.work: list[Callable[[], None]] = []
        self.done = 0

    def later(self, work: Callable[[], None]) -> None:
        self.work.append(work)
        if self.null and not behind:
            self.run(len(self.work))

    def run(self, mark: int) -> None:
        for work in self.work[self.done : mark]:
            work()
        self.done = max(self.done, mark)

    def record(self, event: Event) -> Event:
        event.stream, event.mark = self, len(self.work)
        return event

    def wait_event(self, event: Event) -> None:
        stream, mark = event.stream, event.mark
        if stream is not None:
            self.later(lambda: stream.run(mark))

    def synchronize(self) -> None:
        waits.append("synchronize")
        self.run(len(self.work))


NULL = Stream(null=True)
ATTRIBUTES = {  # of a device: kHz, kHz, bits, number
    **{"ClockRate": 1_000_000, "MemoryClockRate": 1_000_000},
    **{"GlobalMemoryBusWidth": 1024, "MultiProcessorCount": 10},
}


def alloc_pinned_memory(size: int) -> Any:
    class Sized(ctypes.Array):
        _type_ = ctypes.c_ubyte
        _length_ = size

    memory: Any = Sized()
    memory.ptr = ctypes.addressof(memory)
    return memory


class RawModule:
    """Compiles for the host what it is given for the card."""

    def __init__(self, *, code: str, options: tuple[str, ...]):
        macros = dict(option[2:].split("=") for option in options)
        self.library = host_kernels.library(code, macros["CYCONV_REAL"], macros["CYCONV_INDEX"])

    def get_function(self, name: str) -> Callable[..., None]:
        def kernel(grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
            launched.append(name)
            self.library.run(name, grid[0], block[0], tuple(map(_plain, args)))

        return kernel


class Module(ModuleType):
    __version__ = "14.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(getattr(np, name, None)):
            raise AttributeError(f"the emulation of cupy has no {name}")
        return Function(name)


def module() -> Module:
    """What ``import cupy`` gives."""
    cupy = Module("cupy")
    cupy.ndarray, cupy.asarray, cupy.RawModule = ndarray, asarray, RawModule  # type: ignore
    card = {"name": b"Emulation", "totalGlobalMem": 8 * 10**9, "major": 9, "minor": 0}
    runtime = SimpleNamespace(
        is_hip=False,
        driverGetVersion=lambda: 12090,
        runtimeGetVersion=lambda: 12090,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        getDeviceProperties=lambda device: card,
    )
    cupy.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        runtime=runtime,
        nvrtc=SimpleNamespace(getVersion=lambda: (12, 9)),
        device=SimpleNamespace(get_cublas_handle=lambda: 1),
        Stream=Stream,
        Event=Event,
        Device=lambda: SimpleNamespace(compute_capability="90", attributes=ATTRIBUTES),
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=lambda: NULL,
    )
    return cupy


def forget() -> None:
    """As if no GPU had been asked for."""
    backends._gpu = backends._gpu_device = backends._cupy = None
    backends._gpu_array = backends._NoArray
    gpu_device._module.cache_clear()
    gpu_device._kernel.cache_clear()


@contextmanager
def installed(cupy: Any = None) -> Iterator[Any]:
    """The emulation, or another module, in CuPy's place; None for a machine without CuPy."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    forget()
    waits.clear()
    launched.clear()
    try:
        yield cupy
    finally:
        forget()
        del sys.modules["cupy"]
        if before is not None:
            sys.modules["cupy"] = before


def emulated() -> Any:
    """``with emulated():`` device "cuda" is the emulation."""
    return installed(module())


def source() -> str:
    return gpu_device.source()
