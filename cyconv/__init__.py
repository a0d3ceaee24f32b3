"""cyconv: small, fast convolutional networks on ordinary CPUs.

>>> import cyconv as cc
>>> x = cc.tensor([1.0, 2.0]).attach_grad()
>>> with cc.record():
...     y = (x * x).sum()
>>> y.backward()
>>> x.grad
tensor([2., 4.])
"""

import importlib
from typing import TYPE_CHECKING, Any

# tensor comes first: creation and ops build on it, and it pulls them in at its end
from .tensor import Tensor  # isort: skip
from . import ops
from .autograd import is_recording, is_training, pause, predict_mode, record, train_mode
from .backends import set_backend
from .config import get_num_threads, set_num_threads, show_config
from .creation import as_tensor, ones, randn, tensor, zeros
from .gradcheck import gradcheck
from .random import seed

if TYPE_CHECKING:
    from . import checkpoint, data, nn, optim, train
    from .checkpoint import load, save
    from .compiled import compile
    from .compiled_training import compile_training

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "as_tensor",
    "checkpoint",
    "compile",
    "compile_training",
    "data",
    "get_num_threads",
    "gradcheck",
    "is_recording",
    "is_training",
    "load",
    "nn",
    "ones",
    "ops",
    "optim",
    "pause",
    "predict_mode",
    "randn",
    "record",
    "save",
    "seed",
    "set_backend",
    "set_num_threads",
    "show_config",
    "tensor",
    "train",
    "train_mode",
    "zeros",
]


def __getattr__(name: str) -> Any:
    """Imported when first used, to keep ``import cyconv`` quick."""
    if name in ("checkpoint", "data", "nn", "optim", "plots", "train"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("load", "save"):
        return getattr(importlib.import_module(f"{__name__}.checkpoint"), name)
    if name in ("compile", "compile_training"):
        module = "compiled" if name == "compile" else "compiled_training"
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
