"""Rebuilding a net from its ``config()``: nothing but classes of ``cyconv.nn`` is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import nn
from .module import Module, tuple_of


def from_config(config: Mapping[str, Any]) -> Module:
    """Build the net that ``Module.config`` described, with new random weights.

    Parameters
    ----------
    config : {"type": name of a class in cyconv.nn, argument: value, ...}; where an argument is a
        module its value is such a dict, or a list of them

    Returns
    -------
    A Module of float32 parameters on the CPU.

    Raises
    ------
    ValueError : config is anything else, so that a file from elsewhere can be tried safely; also
        for a net that does not fit into memory

    >>> import cyconv as cc
    >>> net = cc.nn.Sequential(cc.nn.Linear(4, 2), cc.nn.ReLU())
    >>> cc.nn.from_config(net.config())
    Sequential(
      (0): Linear(4, 2)
      (1): ReLU()
    )
    """
    try:
        return _build("net", config)
    except RecursionError:
        raise ValueError("from_config: the config is nested too deeply") from None
    except MemoryError:
        raise ValueError("from_config: the net does not fit into memory") from None


def _build(path: str, config: Any) -> Module:
    if not isinstance(config, Mapping):
        raise ValueError(f"from_config: {path} must be a dict with a 'type', got {_short(config)}")
    name = config.get("type")
    layer = getattr(nn, name, None) if isinstance(name, str) else None
    if not (isinstance(layer, type) and issubclass(layer, Module)) or layer is Module:
        raise ValueError(f"from_config: {path} has type {_short(name)}, no layer of cyconv.nn")
    values = {key: _value(f"{path}.{key}", v) for key, v in config.items() if key != "type"}
    several = values.pop("layers", ()) if layer is nn.Sequential else ()
    try:
        return layer(*several, **values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"from_config: {path}: {error}") from None


def _value(path: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return _build(path, value)
    if isinstance(value, list):
        return tuple(_value(f"{path}.{i}", item) for i, item in enumerate(value))
    return tuple_of(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
