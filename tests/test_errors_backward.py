"""Wrong gradients given to backward, for every op, and backward where there is nothing to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Case, every_op
from refusal import refuses
from running import as_tensor, is_differentiable

import cyconv as cc

CASES = every_op(3)


def recorded(case: Case) -> tuple[Any, dict[str, Any]]:
    """The recorded output of a case, and its tensors that have gradients."""
    tensors = {name: as_tensor(a) for name, a in case.inputs.items()}
    leaves = {n: t.attach_grad() for n, t in tensors.items() if is_differentiable(n, t)}
    with cc.record(train=case.training):
        return getattr(cc.ops, case.op)(**tensors, **case.options), leaves


def bad_heads(shape: tuple[int, ...]) -> list[Any]:
    """Gradients that are no float32 array of this shape."""
    wrong: list[Any] = [(*shape, 1), (1, *shape), (2, *shape), (0, *shape)]
    if shape:
        wrong += [(), shape[1:], (shape[0] + 1, *shape[1:]), (0, *shape[1:]), (*shape[:-1], 77)]
        wrong += [(np.prod(shape), 2), (*shape[:-1], 0)]
    heads: list[Any] = [np.ones(s, np.float32) for s in wrong]
    heads += [cc.ones(*s) for s in wrong[:3]]
    heads += [np.ones(shape, np.float64), cc.ones(*shape, dtype="float64")]
    heads += [cc.ones(*shape, dtype="int64"), np.ones(shape, complex), np.ones(shape, object)]
    heads += ["ones", b"1", {}, object(), [[1.0], [1.0, 2.0]], np.full(shape, "x"), {1.0}, len]
    return heads


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_gradients_are_refused(case: Case) -> None:
    """Refused before anything is computed: a right gradient can still be given afterwards."""
    y, leaves = recorded(case)
    for head in bad_heads(y.shape):
        words = ["backward"]
        if hasattr(head, "dtype") and head.dtype.kind in "fi":
            words.append(str(head.dtype) if head.shape == y.shape else str(tuple(head.shape)))
        refuses(y.backward, {"grad": head}, words)
    y.backward(np.ones(y.shape, np.float32))
    assert all(np.isfinite(t.grad.numpy()).all() for t in leaves.values())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_graph_can_be_used_once(case: Case) -> None:
    y, _ = recorded(case)
    y.backward()
    with pytest.raises(RuntimeError, match="backward"):
        y.backward()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_recorded(case: Case) -> None:
    tensors = {name: as_tensor(a) for name, a in case.inputs.items()}
    with pytest.raises(RuntimeError, match="record"):
        getattr(cc.ops, case.op)(**tensors, **case.options).backward()
    with cc.record(), cc.pause(), pytest.raises(RuntimeError, match="record"):
        getattr(cc.ops, case.op)(**tensors, **case.options).backward()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_belong_to_one_tensor(case: Case) -> None:
    """Writing into a gradient changes neither another one nor the array given to backward."""
    y, leaves = recorded(case)
    head = np.ones(y.shape, np.float32)
    y.backward(head)
    before = {name: t.grad.numpy().copy() for name, t in leaves.items()}
    for name, t in leaves.items():
        t.grad[...] = 77.0
        for other in leaves.keys() - {name}:
            np.testing.assert_array_equal(leaves[other].grad.numpy(), before[other])
        assert (head == 1).all()
        t.grad[...] = before[name]
