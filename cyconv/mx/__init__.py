"""MXNet's names over cyconv, for the notebooks of the book "Deep Learning - The Straight Dope".

``docs/straight-dope.md`` says what there is and how it differs. ``install()`` before the first cell
makes ``import mxnet`` mean this package.
"""
# ruff: noqa: F401

import importlib
import pkgutil
import sys

from cyconv import random

from . import autograd, gluon, image, metric, test_utils
from . import initializer as init
from . import ndarray as nd
from .ndarray.array import Context as cpu
from .ndarray.array import gpu

__version__ = "1.9.1"  # of the MXNet whose ways these are


def install() -> None:
    """Make ``import mxnet`` mean this package; RuntimeError if MXNet itself is imported already."""
    there = sys.modules.get("mxnet")
    if there is not None and there is not sys.modules[__name__]:
        raise RuntimeError(f"install: mxnet is imported already, from {there.__file__}")
    names = [info.name for info in pkgutil.walk_packages(__path__, f"{__name__}.")]
    for name in [__name__, *names]:
        sys.modules[name.replace(__name__, "mxnet", 1)] = importlib.import_module(name)
    sys.modules["mxnet.nd"], sys.modules["mxnet.init"] = nd, init
