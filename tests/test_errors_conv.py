"""Wrong arguments of conv2d, conv_transpose2d and linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refusal import (
    Change,
    bad_integer,
    bad_padding,
    bad_pair,
    bad_tensor,
    parameters,
    refuses,
)

import cyconv as cc


def zeros(*shape: int, dtype: str = "float32") -> Any:
    """An array of zeros."""
    return np.zeros(shape, dtype)


def wrong_shapes(name: str, told: str, shapes: list[tuple[int, ...]]) -> list[Change]:
    """Arrays of wrong shape; the message must show the shape."""
    return [({name: zeros(*shape)}, (told, str(shape))) for shape in shapes]


# the right arguments, of which each case replaces some
RIGHT: dict[str, dict[str, Any]] = {
    "conv2d": {"x": zeros(2, 4, 7, 7), "w": zeros(6, 4, 3, 3), "b": zeros(6)},
    "conv_transpose2d": {"x": zeros(2, 4, 7, 7), "w": zeros(4, 6, 3, 3), "b": zeros(6)},
    "linear": {"x": zeros(2, 4), "w": zeros(6, 4), "b": zeros(6)},
}

CONV2D: list[Change] = [
    *bad_pair("stride"),
    *bad_pair("dilation"),
    *bad_padding(),
    *bad_integer("groups"),
    *bad_tensor("x", "input", (2, 4, 7, 7)),
    *bad_tensor("w", "weight", (6, 4, 3, 3)),
    *bad_tensor("b", "bias", (6,)),
    *wrong_shapes("x", "input", [(), (4,), (4, 7), (1, 2, 4, 7, 7)]),
    *wrong_shapes("w", "weight", [(), (6,), (6, 4), (6, 4, 3), (6, 4, 3, 3, 1)]),
    *wrong_shapes("w", "weight", [(0, 4, 3, 3), (6, 4, 0, 3), (6, 4, 3, 0)]),
    *wrong_shapes("b", "bias", [(), (1,), (5,), (7,), (6, 1), (1, 6), (0,)]),
    ({"x": None}, ("input", "None")),
    ({"w": None}, ("weight", "None")),
    ({"x": zeros(2, 3, 7, 7)}, ("3", "(6, 4, 3, 3)", "4")),
    ({"x": zeros(2, 0, 7, 7)}, ("0", "4")),
    ({"groups": 2}, ("4", "groups=2", "8")),
    ({"groups": 3}, ("4", "groups=3", "12")),
    ({"groups": 4, "w": zeros(6, 1, 3, 3)}, ("6", "groups=4")),
    ({"groups": 4, "w": zeros(3, 1, 3, 3), "b": None}, ("3", "groups=4")),
    ({"x": zeros(2, 4, 2, 7)}, ("3", "2")),
    ({"x": zeros(2, 4, 7, 2)}, ("3", "2")),
    ({"x": zeros(2, 4, 0, 7)}, ("3", "0")),
    ({"x": zeros(2, 4, 1, 1), "padding": (1, 0)}, ("3", "1")),
    ({"dilation": 4}, ("4", "7")),
    ({"dilation": (1, 4)}, ("4", "7")),
    ({"dilation": 2**31 - 1}, (str(2**31 - 1), "7")),
    ({"x": zeros(2, 4, 7, 7, dtype="float64")}, ("float64", "float32")),
    ({"w": zeros(6, 4, 3, 3, dtype="float64")}, ("float64", "float32")),
    ({"b": zeros(6, dtype="float64")}, ("float64", "float32")),
    ({"padding": "full"}, ("padding", "full")),
    ({"padding": "same", "stride": 2}, ("same", "2")),
    *[({"algo": a}, ("algo", repr(a))) for a in ("fft", "", "Direct", None, 1, ["auto"])],
]

CONV_TRANSPOSE2D: list[Change] = [
    *bad_pair("stride"),
    *bad_pair("dilation"),
    *bad_padding(),
    *bad_pair("output_padding", 0),
    *bad_integer("groups"),
    *bad_tensor("x", "input", (2, 4, 7, 7)),
    *bad_tensor("w", "weight", (4, 6, 3, 3)),
    *bad_tensor("b", "bias", (6,)),
    *wrong_shapes("x", "input", [(), (4,), (4, 7), (1, 2, 4, 7, 7)]),
    *wrong_shapes("x", "input", [(2, 4, 0, 7), (2, 4, 7, 0)]),
    *wrong_shapes("w", "weight", [(), (4,), (4, 6), (4, 6, 3), (4, 6, 3, 3, 1)]),
    *wrong_shapes("w", "weight", [(4, 0, 3, 3), (4, 6, 0, 3), (4, 6, 3, 0)]),
    *wrong_shapes("b", "bias", [(), (1,), (4,), (6, 1), (0,)]),
    ({"x": None}, ("input", "None")),
    ({"w": None}, ("weight", "None")),
    ({"x": zeros(2, 3, 7, 7)}, ("3", "(4, 6, 3, 3)", "4")),
    ({"w": zeros(6, 4, 3, 3)}, ("4", "(6, 4, 3, 3)", "6")),
    ({"groups": 3}, ("4", "groups=3")),
    ({"groups": 2}, ("bias", "12")),
    ({"output_padding": 1}, ("output_padding", "1")),
    ({"output_padding": (0, 2), "stride": 2}, ("output_padding", "2")),
    ({"x": zeros(2, 4, 1, 1), "padding": 2}, ("2", "3")),
    ({"x": zeros(2, 4, 1, 1), "padding": ((0, 0), (3, 0))}, ("3",)),
    ({"x": zeros(2, 4, 7, 7, dtype="float64")}, ("float64", "float32")),
    ({"w": zeros(4, 6, 3, 3, dtype="float64")}, ("float64", "float32")),
    ({"b": zeros(6, dtype="float64")}, ("float64", "float32")),
    *[({"padding": p}, ("padding", repr(p))) for p in ("same", "valid", "full")],
]

LINEAR: list[Change] = [
    *bad_tensor("x", "input", (2, 4)),
    *bad_tensor("w", "weight", (6, 4)),
    *bad_tensor("b", "bias", (6,)),
    *wrong_shapes("x", "input", [()]),
    *[({"x": zeros(*s)}, ("1 features", "(6, 4)")) for s in [(1,), (2, 4, 1), (2, 4, 1, 1)]],
    *wrong_shapes("w", "weight", [(), (4,), (6, 4, 1), (6, 4, 1, 1), (0, 4)]),
    *wrong_shapes("b", "bias", [(), (1,), (4,), (5,), (7,), (6, 1), (1, 6), (0,)]),
    ({"x": None}, ("input", "None")),
    ({"w": None}, ("weight", "None")),
    ({"x": zeros(2, 3)}, ("3", "(6, 4)", "4")),
    ({"x": zeros(2, 0)}, ("0", "(6, 4)", "4")),
    ({"x": zeros(4, 2)}, ("2", "(6, 4)", "4")),
    ({"w": zeros(4, 6)}, ("4", "(4, 6)", "6")),
    ({"w": zeros(6, 0)}, ("(6, 0)",)),
    ({"x": zeros(2, 4, dtype="float64")}, ("float64", "float32")),
    ({"w": zeros(6, 4, dtype="float64")}, ("float64", "float32")),
    ({"b": zeros(6, dtype="float64")}, ("float64", "float32")),
]

CASES = [
    *parameters("conv2d", CONV2D),
    *parameters("conv_transpose2d", CONV_TRANSPOSE2D),
    *parameters("linear", LINEAR),
]


@pytest.mark.parametrize(("op", "changes", "words"), CASES)
def test_refused(op: str, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refuses(getattr(cc.ops, op), RIGHT[op] | changes, (op, *words))


@pytest.mark.parametrize("op", RIGHT)
def test_the_right_arguments_are_accepted(op: str) -> None:
    getattr(cc.ops, op)(**RIGHT[op])


@pytest.mark.parametrize("algo", ["auto", "direct", "im2col"])
@pytest.mark.parametrize("changes", [{"stride": 0}, {"groups": 3}, {"padding": -1}])
def test_explain_refuses_what_conv2d_refuses(changes: dict[str, Any], algo: str) -> None:
    arguments = {"x_shape": (2, 4, 7, 7), "w_shape": (6, 4, 3, 3), "algo": algo}
    refuses(cc.ops.explain_conv2d, arguments | changes, ["conv2d", *map(str, changes.values())])


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16])
def test_numpy_integers_are_integers(kind: Any) -> None:
    out = cc.ops.conv2d(**RIGHT["conv2d"], stride=kind(2), padding=(kind(1), 0), groups=kind(1))
    assert out.shape == (2, 6, 4, 3)
