"""What an argument must be: an integer, a number or a flag, within bounds, or one clear error."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

# of a kernel size, stride, padding or dilation; keeps every product within 64 bits
LARGEST = 2**31 - 1
LONG = 120  # characters of a value in a message
ABOVE_0, BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)  # bounds of numbers


def shown(value: Any) -> str:
    """A value as a message has it: of many numbers its shape, of a long text the beginning."""
    text = repr(value)
    if len(text) <= LONG and "\n" not in text:
        return text
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {value.shape}"
    return f"{text[:LONG]}..."


def integer(where: str, value: Any, least: int, most: int = LARGEST) -> int:
    """``value`` as an int within [least, most]; ``where`` begins the message ("conv2d: stride")."""
    if type(value) is int and least <= value <= most:  # the usual case, quickly
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{where} must be an integer, got {shown(value)}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{where} must be an integer, got {shown(value)}") from None
    if not least <= result <= most:
        bound = f"at least {least}" if result < least else f"at most {most}"
        raise ValueError(f"{where} must be {bound}, got {shown(value)}")
    return result


def number(where: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """``value`` as a finite float within [least, most]; ``where`` begins the message."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{where} must be a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:  # an int beyond all floats
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{where} must be finite, got {shown(value)}")
    if result < least:
        bound = "above 0" if least == ABOVE_0 else f"at least {least}"
        raise ValueError(f"{where} must be {bound}, got {shown(value)}")
    if result > most:
        bound = "below 1" if most == BELOW_1 else f"at most {most}"
        raise ValueError(f"{where} must be {bound}, got {shown(value)}")
    return result


def flag(where: str, value: Any) -> bool:
    """``value`` as a bool; anything but True, False, 0 and 1 is refused."""
    is_bool = type(value).__name__ in ("bool", "bool_")  # Python's, NumPy's
    if not is_bool and not (isinstance(value, int) and value in (0, 1)):
        raise TypeError(f"{where} must be True or False, got {shown(value)}")
    return bool(value)
