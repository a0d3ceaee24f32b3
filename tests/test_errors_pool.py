"""Wrong arguments of the poolings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refusal import Change, bad_padding, bad_pair, bad_tensor, parameters, refuses

import cyconv as cc

NOT_BOOL: list[Any] = [2, -1, "yes", None, 0.5, [], {}, np.ones(2)]


def zeros(*shape: int) -> Any:
    """An array of zeros."""
    return np.zeros(shape, np.float32)


INPUTS: list[Change] = [
    *bad_tensor("x", "input", (2, 3, 7, 7)),
    ({"x": None}, ("input", "None")),
    *[
        ({"x": zeros(*shape)}, ("input", str(shape)))
        for shape in [(), (3,), (3, 7), (1, 2, 3, 7, 7), (2, 3, 0, 7), (2, 3, 7, 0)]
    ],
]

BOTH: list[Change] = [
    *INPUTS,
    *bad_pair("kernel_size"),
    *bad_pair("stride", allowed=(None,)),
    *bad_padding(),
    *[({"ceil_mode": v}, ("ceil_mode", repr(v))) for v in NOT_BOOL],
    ({"x": zeros(2, 3, 1, 7)}, ("2", "1")),
    ({"x": zeros(2, 3, 7, 1)}, ("2", "1")),
    ({"kernel_size": 8}, ("8", "7")),
    ({"kernel_size": (3, 8)}, ("8", "7")),
    ({"kernel_size": (10, 3), "padding": (1, 1)}, ("10", "7", "1")),
    # a window may not lie in the padding alone
    ({"padding": 2}, ("padding", "2")),
    ({"padding": (0, 2)}, ("padding", "2")),
    ({"padding": ((2, 0), (0, 0))}, ("padding", "2")),
    ({"padding": ((0, 0), (0, 2))}, ("padding", "2")),
    ({"kernel_size": (4, 2), "padding": (2, 2)}, ("padding", "2")),
    ({"kernel_size": 1, "padding": 1}, ("padding", "1")),
    ({"kernel_size": 3, "padding": 2, "stride": 1}, ("padding", "2", "3")),
    ({"padding": "same"}, ("padding", "same")),
]

MAX_ONLY: list[Change] = [
    *bad_pair("dilation"),
    ({"kernel_size": 3, "dilation": 4}, ("3", "4", "7")),
    ({"kernel_size": 3, "dilation": (1, 4)}, ("3", "4", "7")),
    ({"dilation": 2**31 - 1}, (str(2**31 - 1), "7")),
    *[({"return_indices": v}, ("return_indices", repr(v))) for v in NOT_BOOL],
]

AVERAGE_ONLY: list[Change] = [
    *[({"count_include_pad": v}, ("count_include_pad", repr(v))) for v in NOT_BOOL],
    *[({"divisor_override": v}, ("divisor_override", repr(v))) for v in [0, 2**31, 1.5, "2", True]],
]

CASES = [
    *parameters("max_pool2d", BOTH + MAX_ONLY),
    *parameters("avg_pool2d", BOTH + AVERAGE_ONLY),
    *parameters("global_avg_pool2d", INPUTS),
    *parameters("global_max_pool2d", INPUTS),
]


@pytest.mark.parametrize(("op", "changes", "words"), CASES)
def test_refused(op: str, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    right = {"x": zeros(2, 3, 7, 7)} | ({} if op.startswith("global") else {"kernel_size": 2})
    refuses(getattr(cc.ops, op), right | changes, (op, *words))


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_the_kernel_size_is_required(op: str) -> None:
    refuses(getattr(cc.ops, op), {"x": zeros(2, 3, 7, 7)}, ["kernel_size"])


def test_numpy_integers_and_bools_are_accepted() -> None:
    out = cc.ops.avg_pool2d(
        zeros(2, 3, 7, 7),
        np.int64(2),
        stride=(np.uint8(2), 2),
        padding=np.int32(1),
        ceil_mode=np.bool_(True),
        count_include_pad=np.bool_(False),
    )
    assert out.shape == (2, 3, 4, 4)
