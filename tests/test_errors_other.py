"""Wrong arguments of norms, softmax, losses and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import ELEMENTWISE
from refusal import (
    Change,
    bad_integer,
    bad_number,
    bad_reduction,
    bad_tensor,
    parameters,
    refuses,
)

import cyconv as cc

LABELS = np.array([0, 3, 1])


def zeros(*shape: int, dtype: str = "float32") -> Any:
    """An array of zeros."""
    return np.zeros(shape, dtype)


def shapes(name: str, told: str, *wrong: tuple[int, ...]) -> list[Change]:
    """Arrays of wrong shape; the message must show the shape."""
    return [({name: zeros(*shape)}, (told, str(shape))) for shape in wrong]


def affine(shape: tuple[int, ...], *wrong: tuple[int, ...]) -> list[Change]:
    """Wrong gamma and beta."""
    changes: list[Change] = []
    for name in ("gamma", "beta"):
        changes += bad_tensor(name, name, shape) + shapes(name, name, *wrong)
        changes.append(({name: zeros(*shape, dtype="float64")}, ("float64", "float32")))
    return changes


RIGHT: dict[str, dict[str, Any]] = {
    "batch_norm": {"x": zeros(3, 4, 2, 2), "gamma": zeros(4), "beta": zeros(4)},
    "layer_norm": {"x": zeros(3, 4, 2), "normalized_shape": (4, 2)},
    "group_norm": {"x": zeros(3, 4, 2, 2), "num_groups": 2},
    "softmax": {"x": zeros(3, 4)},
    "log_softmax": {"x": zeros(3, 4)},
    "cross_entropy": {"logits": zeros(3, 4), "labels": LABELS},
    "mse_loss": {"input": zeros(3, 4), "target": zeros(3, 4)},
    "binary_cross_entropy_with_logits": {"input": zeros(3, 4), "target": zeros(3, 4)},
    "dropout": {"x": zeros(3, 4)},
    "flatten": {"a": zeros(3, 4)},
} | {name: {"x": zeros(3, 4)} for name in ELEMENTWISE}

BATCH_NORM: list[Change] = [
    *bad_tensor("x", "input", (3, 4, 2, 2)),
    *shapes("x", "input", (), (4,)),
    *affine((4,), (), (3,), (5,), (1,), (4, 1), (0,)),
    *bad_number("eps", (0, -1e-5, 0.0)),
    *bad_number("momentum"),
    ({"x": None}, ("input", "None")),
    ({"x": zeros(3, 5)}, ("gamma", "(4,)", "(5,)")),
    ({"running_mean": cc.zeros(4)}, ("running_var",)),
    ({"running_var": cc.zeros(4)}, ("running_mean",)),
    ({"running_mean": cc.zeros(4), "running_var": cc.zeros(5)}, ("running_var", "(5,)", "(4,)")),
    ({"running_mean": cc.zeros(4, 1), "running_var": cc.zeros(4)}, ("running_mean", "(4, 1)")),
    ({"running_mean": [0] * 4, "running_var": cc.zeros(4)}, ("running_mean", "list")),
    ({"running_mean": zeros(4), "running_var": cc.zeros(4)}, ("running_mean", "ndarray")),
    (
        {"running_mean": cc.zeros(4), "running_var": cc.zeros(4, dtype="float64")},
        ("running_var", "float64"),
    ),
    ({"x": zeros(1, 4)}, ("(1, 4)",)),  # one value a channel has no variance
    ({"x": zeros(1, 4, 1, 1)}, ("(1, 4, 1, 1)",)),
]

LAYER_NORM: list[Change] = [
    *bad_tensor("x", "input", (3, 4, 2)),
    *shapes("x", "input", (), (4,), (3, 4), (2, 4), (4, 3)),
    *affine((4, 2), (), (4,), (2,), (2, 4), (1, 4, 2), (3, 4, 2)),
    *bad_number("eps", (0, -1)),
    *[
        ({"normalized_shape": s}, ("normalized_shape", repr(s)))
        for s in [0, -1, -(2**70), 2**40, 2.0, 0.5, "2", "", None, True, 1j, {}, object]
    ],
    *[
        ({"normalized_shape": s}, ("normalized_shape", str(s)))
        for s in [(4,), (3, 4), (2, 4), (4, 2, 1), (1, 3, 4, 2), (4, 3)]
    ],
    ({"normalized_shape": ()}, ("normalized_shape",)),
]

GROUP_NORM: list[Change] = [
    *bad_tensor("x", "input", (3, 4, 2, 2)),
    *shapes("x", "input", (), (4,)),
    *affine((4,), (), (2,), (5,), (4, 1), (1, 4, 1, 1)),
    *bad_number("eps", (0, -1)),
    *bad_integer("num_groups"),
    ({"num_groups": 3}, ("num_groups", "3", "4")),
    ({"num_groups": 8}, ("num_groups", "8", "4")),
]

AXES: list[Any] = [2.0, 0.5, "0", "", True, 1j, [], [0, 1], (0,), (0, 1), {}, object, None]
SOFTMAX: list[Change] = [
    *bad_tensor("x", "input", (3, 4)),
    ({"x": None}, ("input", "None")),
    *[({"axis": a}, ("axis", repr(a))) for a in [2, -3, 7, 2**31, 2**40, -(2**70), *AXES]],
    *[({"axis": a, "x": zeros(2, 3, 4, 5)}, ("axis", repr(a))) for a in [4, -5, 2**63, *AXES]],
    *[({"axis": a, "x": zeros(5)}, ("axis", repr(a))) for a in [1, -2, *AXES[:6]]],
    *[({"axis": a, "x": zeros()}, ("axis", repr(a))) for a in [1, -2]],
]

BAD_LABELS: list[tuple[Any, str]] = [
    ([0, 4, 1], "4"),
    ([0, -1, 1], "-1"),
    ([-101, 0, 0], "-101"),
    ([0, 2**31, 1], str(2**31)),
    ([0, 2**62, 1], str(2**62)),
    (np.array([0, 2**63, 1], np.uint64), ""),  # negative as int64
    ([0.5, 0, 0], "float"),
    ([np.nan, 0, 0], "float"),
    ([np.inf, 0, 0], "float"),
    ([1e30, 0, 0], ""),
    (["0", "1", "2"], ""),
    ([True, False, True], "bool"),
    ([0, 1, 1j], "complex"),
    ([None, 1, 2], "object"),
    ([[0], [1, 2], [3]], ""),
    ([[0], [1], [3]], "(3, 1)"),
    ([[0, 1, 2]], "(1, 3)"),
    ([0, 1], "(2,)"),
    ([0, 1, 2, 3], "(4,)"),
    ([], "(0,)"),
    (1, "()"),
    (zeros(3, 4, dtype="int64"), "(3, 4)"),
    (None, ""),
    ("abc", ""),
    ({}, ""),
    (object(), ""),
    (cc.zeros(3, 1, dtype="int64"), "(3, 1)"),
    (cc.tensor([0, 0, 9], dtype="int64"), "9"),
]

CROSS_ENTROPY: list[Change] = [
    *bad_tensor("logits", "logits", (3, 4)),
    *shapes("logits", "logits", (), (0,), (3, 0), (3, 0, 2)),
    *[({"labels": labels}, ("labels", word)) for labels, word in BAD_LABELS],
    *bad_number("label_smoothing", (-0.1, 1.1, -1, 2)),
    *bad_reduction(),
    ({"logits": None}, ("logits", "None")),
    ({"logits": zeros(2, 4)}, ("labels", "(2, 4)", "(3,)")),
    ({"logits": zeros(0, 4)}, ("labels", "(0, 4)", "(3,)")),
]

TWO_TENSORS: list[Change] = [
    *bad_tensor("input", "input", (3, 4)),
    *bad_tensor("target", "target", (3, 4)),
    *shapes("input", "input", (), (1,), (4,), (3, 1), (1, 4), (4, 3), (3, 4, 1), (0,)),
    *shapes("target", "target", (), (1,), (4,), (3, 1), (1, 4), (4, 3), (3, 4, 1), (0,)),
    *bad_reduction(),
    ({"input": None}, ("input", "None")),
    ({"target": None}, ("target", "None")),
    ({"input": zeros(3, 4, dtype="float64")}, ("float64", "float32")),
    ({"target": zeros(3, 4, dtype="float64")}, ("float64", "float32")),
]

ONE_TENSOR: list[Change] = [*bad_tensor("x", "input", (3, 4)), ({"x": None}, ("input", "None"))]

NO_FORMS: list[Any] = ["erf", "", None, 1, [], True]
GELU: list[Change] = [({"approximate": a}, ("approximate", repr(a))) for a in NO_FORMS]

CASES = [
    *parameters("batch_norm", BATCH_NORM),
    *parameters("layer_norm", LAYER_NORM),
    *parameters("group_norm", GROUP_NORM),
    *parameters("softmax", SOFTMAX),
    *parameters("log_softmax", SOFTMAX),
    *parameters("cross_entropy", CROSS_ENTROPY),
    *parameters("mse_loss", TWO_TENSORS),
    *parameters("binary_cross_entropy_with_logits", TWO_TENSORS),
    *parameters("dropout", [*ONE_TENSOR, *bad_number("p", (-0.1, 1.1, 2))]),
    *parameters("leaky_relu", bad_number("negative_slope")),
    *parameters("elu", bad_number("alpha")),
    *[case for name in ELEMENTWISE for case in parameters(name, ONE_TENSOR)],
    *parameters("flatten", shapes("a", "input", (), (3,))),
    *parameters("gelu", GELU),
]


@pytest.mark.parametrize(("op", "changes", "words"), CASES)
def test_refused(op: str, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with cc.record():
        refuses(getattr(cc.ops, op), RIGHT[op] | changes, (op, *words))


@pytest.mark.parametrize("op", RIGHT)
def test_the_right_arguments_are_accepted(op: str) -> None:
    getattr(cc.ops, op)(**RIGHT[op])


def test_a_refused_batch_norm_leaves_the_statistics_alone() -> None:
    mean, var = cc.zeros(4), cc.ones(4)
    with cc.record(), pytest.raises(ValueError):
        cc.ops.batch_norm(cc.ones(1, 4), None, None, mean, var)
    assert mean.tolist() == [0] * 4 and var.tolist() == [1] * 4
