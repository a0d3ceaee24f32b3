"""Values and gradients recorded from PyTorch by `record_torch.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bounds
import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from running import run

import cyconv as cc

Array = NDArray[Any]
FOLDER = Path(__file__).parent / "recorded"


def load(name: str) -> list[Any]:
    """The cases of one file as pytest parameters (op, options, arrays)."""
    with np.load(FOLDER / f"{name}.npz") as file:
        flat = {key: file[key] for key in file.files}
    parameters = []
    for number, case in enumerate(json.loads(str(flat["index"]))["cases"]):
        arrays = {
            key: flat[dtype][start : start + int(np.prod(shape))].reshape(shape)
            for key, (dtype, start, shape) in case["arrays"].items()
        }
        parameters.append(
            pytest.param(case["op"], case["options"], arrays, id=f"{case['op']}-{number}")
        )
    return parameters


def under(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose name begins so, without the prefix."""
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def tolerances(op: str, options: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any]:
    """Bounds of "out" and of each gradient."""
    inputs, head = under(arrays, "in."), arrays["head"]
    x = next(iter(inputs.values()))
    if op in ("conv2d", "conv_transpose2d"):
        bound = getattr(bounds, op)
        return bound(x, inputs["w"], inputs.get("b"), head, options)
    if op == "linear":
        return bounds.linear(x, inputs["w"], inputs.get("b"), head)
    if op == "max_pool2d":
        where = oracle.max_pool2d(x, **options)[1]
        return {"out": 0.0, "x": bounds.max_pool2d(head, where, x, options["kernel_size"])}
    if op == "avg_pool2d":
        return bounds.avg_pool2d(x, head, options["kernel_size"], without(options, "kernel_size"))
    if op.endswith("_norm"):
        return norm_tolerances(op, options, inputs, head)
    if op.endswith("softmax"):
        found = bounds.softmax(x, head, options["axis"])
        value, grad = ("log", "dlog") if op == "log_softmax" else ("p", "dp")
        return {"out": found[value], "x": found[grad]}
    if op == "cross_entropy":
        return bounds.cross_entropy(x, inputs["labels"], head, **options)
    if op == "mse_loss":
        return bounds.mse_loss(x, inputs["target"], head, **options)
    if op == "binary_cross_entropy_with_logits":
        return bounds.binary_cross_entropy_with_logits(x, inputs["target"], head, **options)
    return bounds.activation(op, x, head)


def norm_tolerances(
    op: str, options: dict[str, Any], inputs: dict[str, Array], head: Array
) -> dict[str, Any]:
    """Bounds of the three norms."""
    x, gamma, beta = inputs["x"], inputs.get("gamma"), inputs.get("beta")
    if op == "layer_norm":
        axes = tuple(options["normalized_shape"])
        return bounds.layer_norm(x, head, gamma, beta, axes, options["eps"])
    if op == "group_norm":
        return bounds.group_norm(x, head, gamma, beta, options["num_groups"], options["eps"])
    if options["training"]:
        return bounds.batch_norm(x, head, gamma, beta, options["eps"])
    return bounds.batch_norm_inference(x, head, inputs, options["eps"])


def without(options: dict[str, Any], name: str) -> dict[str, Any]:
    """The other options."""
    return {k: v for k, v in options.items() if k != name}


CASES = [case for name in ("conv", "pool", "norm", "loss", "activation") for case in load(name)]


@pytest.mark.parametrize(("op", "options", "arrays"), CASES)
def test_equals_pytorch(op: str, options: dict[str, Any], arrays: dict[str, Array]) -> None:
    inputs = under(arrays, "in.")
    allowed = tolerances(op, options, arrays)
    out, grads = run(op, inputs, arrays["head"], **options)
    bounds.check(out, arrays["out"], allowed["out"], "output")
    expected = under(arrays, "grad.")
    assert sorted(grads) == sorted(expected)
    for name, grad in expected.items():
        bounds.check(grads[name], grad, allowed[name], f"gradient of {name}")


UPDATES = [case for case in CASES if under(case.values[2], "after.")]


@pytest.mark.parametrize(("op", "options", "arrays"), UPDATES)
def test_running_statistics_equal_pytorch(
    op: str, options: dict[str, Any], arrays: dict[str, Array]
) -> None:
    inputs = {k: cc.tensor(a, dtype=a.dtype) for k, a in under(arrays, "in.").items()}
    with cc.record(train=options["training"]):
        getattr(cc.ops, op)(**inputs, **without(options, "training"))
    x = abs(arrays["in.x"])
    terms = x.size // x.shape[1] + bounds.CALL
    for name, expected in under(arrays, "after.").items():
        size = x.max() if name == "running_mean" else x.max() ** 2
        bound = terms * bounds.eps(x) * (size + abs(expected))
        bounds.check(inputs[name].numpy(), expected, bound, name)


def test_every_op_was_recorded() -> None:
    count = {case.values[0]: 0 for case in CASES}
    for case in CASES:
        count[case.values[0]] += 1
    assert count["conv2d"] >= 50 and count["max_pool2d"] >= 50 and count["avg_pool2d"] >= 40
    assert count["conv_transpose2d"] >= 30 and count["cross_entropy"] >= 15
    assert len(count) == 21, sorted(count)
