"""Batches without images: every op gives an empty result, and gradients of zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import oracle_norm_loss
import pytest
from cases import Case, every_op
from running import run

import cyconv as cc

CASES = [*every_op(0), *every_op(0, dtype="float64")]
ONE = {case.name: case for case in every_op(1)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_empty_batch(case: Case) -> None:
    out, grads = run(case.op, case.inputs, training=case.training, **case.options)
    assert out.dtype == next(iter(case.inputs.values())).dtype
    if out.size == 1 and case.options.get("reduction", "mean") == "mean" and "loss" in case.op:
        assert np.isnan(out)  # the mean of nothing, as in NumPy and PyTorch
    for name, grad in grads.items():
        assert grad.shape == case.inputs[name].shape
        assert (grad == 0).all(), name  # no image, no influence


@pytest.mark.parametrize("name", ["conv2d", "conv2d-strided", "max_pool2d", "avg_pool2d-overlap"])
def test_the_other_sizes_are_kept(name: str) -> None:
    case = ONE[name]
    full, _ = run(case.op, case.inputs, **case.options)
    empty, _ = run(case.op, case.inputs | {"x": case.inputs["x"][:0]}, **case.options)
    assert empty.shape == (0, *full.shape[1:])


@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits"])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_losses_of_nothing(name: str, shape: tuple[int, ...]) -> None:
    inputs: dict[str, Any] = {
        "input": np.zeros(shape, np.float32),
        "target": np.zeros(shape, np.float32),
    }
    assert np.isnan(run(name, inputs, reduction="mean")[0])
    assert run(name, inputs, reduction="sum")[0] == 0
    assert run(name, inputs, reduction="none")[0].shape == shape


def test_cross_entropy_of_nothing() -> None:
    inputs: dict[str, Any] = {
        "logits": np.zeros((0, 5), np.float32),
        "labels": np.zeros(0, np.int64),
    }
    assert np.isnan(run("cross_entropy", inputs)[0])
    assert run("cross_entropy", inputs, reduction="sum")[0] == 0
    assert run("cross_entropy", inputs, reduction="none")[0].shape == (0,)


def test_an_empty_batch_leaves_the_running_statistics_alone() -> None:
    mean, var = cc.ones(3), cc.ones(3)
    with cc.record():
        out = cc.ops.batch_norm(cc.zeros(0, 3, 2, 2), cc.ones(3), cc.zeros(3), mean, var)
    assert out.shape == (0, 3, 2, 2)
    assert mean.tolist() == [1, 1, 1] and var.tolist() == [1, 1, 1]


def test_the_oracle_agrees() -> None:
    """Its loops run zero times too."""
    x, w = np.zeros((0, 2, 4, 4)), np.ones((3, 2, 3, 3))
    assert oracle.conv2d(x, w).shape == (0, 3, 2, 2)
    assert (oracle.conv2d_grads(np.zeros((0, 3, 2, 2)), x, w)[1] == 0).all()
    assert oracle.max_pool2d(x, 2)[0].shape == (0, 2, 2, 2)
    assert oracle_norm_loss.softmax(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 0), 1), ((3, 0), 0), ((0,), -1), ((2, 0, 3), 1)])
def test_softmax_of_nothing(op: str, shape: tuple[int, ...], axis: int) -> None:
    x = cc.zeros(*shape).attach_grad()
    with cc.record():
        out = getattr(cc.ops, op)(x, axis)
    out.backward()
    assert out.shape == shape and x.grad.shape == shape  # type: ignore


@pytest.mark.parametrize(("op", "value"), [("softmax", 1.0), ("log_softmax", 0.0)])
def test_softmax_of_a_number(op: str, value: float) -> None:
    x = cc.tensor(3.0).attach_grad()
    with cc.record():
        out = getattr(cc.ops, op)(x, axis=0)
    out.backward()
    assert out.shape == () and out.item() == value and x.grad.item() == 0  # type: ignore
