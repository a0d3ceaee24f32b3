"""Which code computes: the one place that looks at the type of an array.

A backend is a module with the functions named in ``CONTRACT``, equal in names, parameters and
defaults. They get arrays that were checked already, of any strides, never write to their inputs
(but for running statistics and the optimisers' steps), and return new arrays, images in batch-last
memory: shape (N, C, H, W), lying as (C, H, W, N).

* cpu_numpy: the readable reference, and what runs where nothing was compiled
* cpu_cython: the compiled kernels
* gpu_cupy: CUDA; imported, with CuPy, when a GPU is first asked for
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

import numpy as np

from . import cpu_numpy

CONTRACT = (
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "channel_sum",
    "max_pool2d",
    "max_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "relu",
    "relu_backward",
    "add",
    "sgd_step",
    "adam_step",
    "empty",
    "as_batch_last",
    "copy_batch_last",
)

_cpu: ModuleType = cpu_numpy
_missing = ""  # why the compiled backend is not there, for show_config()


def set_backend(name: str) -> None:
    """Choose what computes on the CPU.

    Parameters
    ----------
    name : "cython", "numpy", or "auto" (cython if it was built)

    Raises
    ------
    ValueError : another name
    ImportError : "cython" was not built, or CYCONV_ISA names an instruction set that is not there

    >>> import cyconv as cc
    >>> before = cc.backends.backend_name()
    >>> cc.set_backend("numpy")
    >>> cc.backends.backend_name()
    'numpy'
    >>> cc.set_backend(before)
    """
    global _cpu, _missing
    if not isinstance(name, str) or name not in ("auto", "cython", "numpy"):
        raise ValueError(f"backend must be 'auto', 'cython' or 'numpy', got {name!r}")
    if name == "numpy":
        _cpu = cpu_numpy
        return
    forced = name == "cython" or bool(os.environ.get("CYCONV_ISA"))
    try:
        if os.environ.get("CYCONV_NO_EXTENSIONS", "0") not in ("", "0"):
            forced = name == "cython"
            raise ImportError("CYCONV_NO_EXTENSIONS is set")
        _cpu = importlib.import_module(f"{__name__}.cpu_cython")
    except ImportError as error:
        if forced:
            raise ImportError(f"the compiled backend is not available: {error}") from None
        _cpu, _missing = cpu_numpy, str(error)


def backend_name() -> str:
    """ "cython" or "numpy": what computes on the CPU now."""
    return _cpu.__name__.rpartition("cpu_")[2]


def missing_reason() -> str:
    """Why the compiled backend could not be loaded; empty if it could."""
    return _missing


class _NoArray:
    """Until a GPU is in use no array is of this type."""


_gpu_array: type = _NoArray  # cupy.ndarray, once it was imported
_gpu: Any = None  # the modules gpu_cupy, gpu_device and cupy
_gpu_device: Any = None
_cupy: Any = None


def use_gpu() -> None:
    """Import CuPy and the GPU backend; ValueError that names what is missing for that."""
    global _gpu, _gpu_device, _cupy, _gpu_array
    if _gpu is not None:
        return
    device = importlib.import_module(f"{__name__}.gpu_device")
    if reason := device.why_not():
        raise ValueError(f"device 'cuda' cannot be used: {reason}")
    _cupy, _gpu_device = importlib.import_module("cupy"), device
    _gpu, _gpu_array = importlib.import_module(f"{__name__}.gpu_cupy"), _cupy.ndarray


def backend_of(array: Any) -> ModuleType:
    """The backend that computes with this array."""
    return _gpu if type(array) is _gpu_array else _cpu


def runs_kernels(array: Any) -> bool:
    """True if the compiled kernels compute with this array."""
    return type(array) is np.ndarray and _cpu is not cpu_numpy


def namespace_of(array: Any) -> ModuleType:
    """The NumPy-like module of this array's library."""
    return _cupy if type(array) is _gpu_array else np


def in_one_order(array: Any) -> Any:
    """The array in the one memory order that its shape has here: the same object if it is so.

    2-d and 4-d arrays lie batch-last, others in C order, without gaps. The order in which NumPy
    adds up, and so the last bits of a sum, depends on how an array lies in memory.
    """
    if array.ndim not in (2, 4):
        return array if array.flags.c_contiguous else namespace_of(array).ascontiguousarray(array)
    planes = array.transpose(*range(1, array.ndim), 0)
    if planes.flags.c_contiguous:
        return array
    planes = namespace_of(array).ascontiguousarray(planes)
    return planes.transpose(-1, *range(array.ndim - 1))


def summed(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum over some axes, added up in float64: float32 would lose digits over long ones."""
    return array.sum(axis=axis, keepdims=keepdims, dtype=np.float64).astype(array.dtype)


def device_of(array: Any) -> str:
    """ "cpu" or "cuda"."""
    return "cuda" if type(array) is _gpu_array else "cpu"


def is_gpu_array(data: Any) -> bool:
    """True for an array of CuPy's, also one that was made before cyconv used the GPU."""
    if type(data) is not _gpu_array and type(data).__module__.partition(".")[0] == "cupy":
        use_gpu()
    return type(data) is _gpu_array


def as_array(data: Any) -> Any:
    """An array of a GPU as it is, anything else as NumPy's."""
    return data if is_gpu_array(data) else np.asarray(data)


def to_numpy(array: Any) -> np.ndarray:
    """The array in the computer's own memory, the same object if it is there."""
    return _gpu_device.to_host(array) if type(array) is _gpu_array else array


def to_device(array: Any, device: str) -> Any:
    """The array on a device, the same object if it is there."""
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if device == "cpu":
        return to_numpy(array)
    use_gpu()
    return array if type(array) is _gpu_array else _gpu_device.to_gpu(array)


def beside(array: Any, other: Any) -> Any:
    """The array on the device of another one."""
    return array if type(array) is type(other) else to_device(array, device_of(other))


def describe_gpu() -> str:
    """The GPU in one line, or why there is none."""
    text: str = importlib.import_module(f"{__name__}.gpu_device").describe()
    return text


def copier() -> Any:
    """What copies batches to the GPU while it computes: see ``gpu_device.Copier``."""
    use_gpu()
    return _gpu_device.Copier()


def is_writeable(array: Any) -> bool:
    """False if a write would go where it must not: NumPy says so, CuPy does not know it."""
    if device_of(array) == "cpu":
        return array.flags.writeable
    return all(stride or size < 2 for size, stride in zip(array.shape, array.strides))


def first_where(mask: Any, array: Any) -> Any:
    """The first value of the array where the mask is set; None if there is none.

    Also None for arrays of a GPU: to look at a value the program would have to wait for it.
    """
    return array[mask][0] if type(mask) is not _gpu_array and mask.any() else None


set_backend(os.environ.get("CYCONV_BACKEND") or "auto")
