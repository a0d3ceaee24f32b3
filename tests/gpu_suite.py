"""Tests that other files have for the CPU, to be run on a GPU or an emulation of one.

They compute where ``running.device`` says.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

OPERATIONS = (
    "test_ops_conv",
    "test_ops_pool",
    "test_ops_norm_loss",
    "test_ops_activation",
    "test_recorded",
    "test_zero_size",
)


def borrowed(modules: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """The test functions of these modules, named so that they do not hide each other."""
    found = {}
    for module in modules:
        for name, value in vars(importlib.import_module(module)).items():
            if name.startswith("test_") and callable(value):
                found[f"{name}__{module.removeprefix('test_')}"] = value
    return found
