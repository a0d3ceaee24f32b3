"""Devices by MXNet's names. There is one: the CPU."""

import warnings
from functools import cache
from typing import Any, NamedTuple

_warn_once = cache(warnings.warn)


class Context(NamedTuple):
    """A device. As a context manager it changes nothing."""

    device_type: str = "cpu"
    device_id: int = 0

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...


def cpu(device_id: int = 0) -> Context:
    """The CPU; MXNet's number of it means nothing."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """The CPU in place of a GPU, with one warning in a program's life."""
    _warn_once("gpu: there is no GPU, so cpu(0) is used", stacklevel=2)
    return cpu()
