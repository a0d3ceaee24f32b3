"""How an argument is refused: ValueError or TypeError, one sentence, names and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

Change = tuple[dict[str, Any], tuple[str, ...]]  # arguments to replace, words the message must have


def refuses(function: Callable[..., Any], arguments: dict[str, Any], words: Iterable[str]) -> None:
    """Calling must raise ValueError or TypeError, and say `words`."""
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    message = str(caught.value)
    assert caught.type in (ValueError, TypeError), f"{caught.type}: {message}"
    missing = [word for word in words if word not in message]
    assert not missing, f"no {missing} in: {message}"
    assert "\n" not in message.strip(), f"more than one line: {message}"


def parameters(op: str, changes: Iterable[Change]) -> list[Any]:
    """Pytest parameters with readable names."""
    found = []
    for number, (arguments, words) in enumerate(changes):
        name = "-".join(f"{k}={_short(v)}" for k, v in arguments.items())
        found.append(pytest.param(op, arguments, words, id=f"{op}-{number}-{name}"))
    return found


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".replace(" ", "")
    return f"{type(value).__name__}" if hasattr(value, "shape") else repr(value)[:24]


def _bad_integers(least: int) -> list[Any]:
    """What is no integer of at least `least`, or is too large for any index arithmetic."""
    small = [least - 1, least - 2, -(2**31), -(2**70)]
    return [*small, 2**40, 2**63, 2**70, 1.5, 2.0, math.nan, math.inf, "2", "", b"2", True, 1j, {}]


def bad_integer(name: str, least: int = 1) -> list[Change]:
    """Wrong values of an argument that is one integer."""
    values = [*_bad_integers(least), None, [1], (1, 1), [], object]
    return [({name: v}, (name, repr(v))) for v in values]


def bad_pair(name: str, least: int = 1, allowed: tuple[Any, ...] = ()) -> list[Change]:
    """Wrong values of an argument that is an integer or a pair; the wrong half is named."""
    values = [v for v in [*_bad_integers(least), None, object] if not _among(v, allowed)]
    changes: list[Change] = [({name: v}, (name, repr(v))) for v in values]
    halves: list[Any] = [least - 1, -7, 2**40, 1.5, "a", None, False, []]
    changes += [({name: (h, 2)}, (name, repr(h))) for h in halves]
    changes += [({name: [2, h]}, (name, repr(h))) for h in halves]
    changes += [({name: v}, (name, repr(v))) for v in [(), (1, 1, 1), [1, 1, 1, 1]]]
    return changes


def bad_padding(name: str = "padding") -> list[Change]:
    """Wrong values of padding, in each of its three forms."""
    sides = [((0, -1), (0, 0)), ((0, 0), (-5, 0)), ((0, 1.5), (0, 0)), ((0, 0), ("a", 0))]
    shown = ["-1", "-5", "1.5", "'a'"]
    changes: list[Change] = [({name: s}, (name, t)) for s, t in zip(sides, shown, strict=True)]
    wrong = [((0, 0),), ((0, 0), (0,)), ((0, 0, 0), (0, 0)), ((0, 0), 0), (0, (0, 0)), ((), ())]
    return bad_pair(name, 0) + changes + [({name: v}, (name,)) for v in wrong]


def bad_number(name: str, outside: tuple[float, ...] = ()) -> list[Change]:
    """What is no finite real number, and numbers that the argument does not allow."""
    values: list[Any] = [math.nan, math.inf, -math.inf, "x", "0.1", b"1", "", True, 1j, None]
    values += [(), [0.1], (0.1, 0.1), {}, object, np.ones(2), np.array(["x"]), *outside]
    return [({name: v}, (name, repr(v))) for v in values]


def bad_reduction() -> list[Change]:
    """What is not one of the three words."""
    values: list[Any] = ["", "avg", "Mean", "batchmean", b"mean", None, 0, True, [], ("mean",)]
    return [({"reduction": v}, ("reduction", repr(v))) for v in values]


def bad_tensor(name: str, told: str, shape: tuple[int, ...]) -> list[Change]:
    """What is no float tensor; `told` is what messages call the argument."""
    import cyconv as cc

    ragged = [[1.0], [1.0, 2.0]]
    values = ["x", b"x", {}, object(), ragged, np.zeros(shape, complex), np.zeros(shape, object)]
    values += [np.array("x"), np.zeros(shape, "datetime64[s]"), {1}, len]
    changes: list[Change] = [({name: v}, (told,)) for v in values]
    for dtype in ("int64", "int32", "uint8", "bool"):
        changes.append(({name: cc.zeros(*shape, dtype=dtype)}, (told, dtype)))
    return changes


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value is a for a in allowed)
