"""Which code computes: the one place that looks at the type of an array.

A backend is a module with the functions named in ``CONTRACT``, equal in names, parameters and
defaults. They get arrays that were checked already, of any strides, never write to their inputs
(but for the optimisers' steps), and return new arrays, images in batch-last memory: shape
(N, C, H, W), lying as (C, H, W, N).

    cpu_numpy    the readable reference, and what runs where nothing was compiled
    cpu_cython   the compiled kernels
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
    "sgd_step",
    "adam_step",
    "empty",
    "as_batch_last",
    "copy_batch_last",
)

_cpu: ModuleType = cpu_numpy
_missing = ""  # why the compiled backend is not there, for show_config()


def set_backend(name: str) -> None:
    """Choose what computes on the CPU: "cython", "numpy", or "auto" (cython if it was built)."""
    global _cpu, _missing
    if name not in ("auto", "cython", "numpy"):
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


def backend_of(array: Any) -> ModuleType:
    """The backend that computes with this array."""
    return _cpu


def namespace_of(array: Any) -> ModuleType:
    """The NumPy-like module of this array's library."""
    return np


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


def device_of(array: Any) -> str:
    """ "cpu" or "cuda"."""
    return "cpu"


def to_numpy(array: Any) -> np.ndarray:
    """The array in the computer's own memory, the same object if it is there."""
    return array


def to_device(array: Any, device: str) -> Any:
    """The array on a device, the same object if it is there."""
    if device != "cpu":
        raise ValueError(f"device must be 'cpu', got {device!r}: this version has no GPU backend")
    return array


set_backend(os.environ.get("CYCONV_BACKEND") or "auto")
