"""Planted mistakes in the backward of every op class: gradcheck must find each one.

A mistake that changes nothing, like the transpose of a gradient that is symmetric, is no mistake;
every class must have enough that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gradients import CHECKS, Check

import cyconv as cc
from cyconv import ops
from cyconv.autograd import Node, Op
from cyconv.gradcheck import GradientError

Gradients = list[Any]  # of an op's inputs: arrays, or None


def op_classes(base: type[Op] = Op) -> Iterator[type[Op]]:
    """All classes of ops that cyconv itself defines, but for the one that runs those of a net."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith("cyconv.") and kind.__module__ != "cyconv.compiled_training":
            yield kind
        yield from op_classes(kind)


CLASSES = sorted(set(op_classes()), key=lambda kind: kind.__name__)


def used_by(kind: type[Op]) -> list[Check]:
    """The checks that run this class once, with as few other ops around as there are.

    Around others a mistake may cancel: two wrong signs, or what a norm projects away.
    """
    found: list[tuple[int, Check]] = []
    for check in CHECKS:
        tensors = [cc.tensor(a, "float64").attach_grad() for a in check.inputs]
        with cc.record(check.train):
            out = check.function(*tensors)
        used = [type(node.op) for node in nodes_of(out)]
        if used.count(kind) == 1:
            found.append((len(used), check))
    least = min((count for count, _ in found), default=0)
    return [check for count, check in found if count == least][:12]


def nodes_of(out: Any) -> list[Any]:
    """All recorded operations behind a tensor."""
    nodes, waiting = [], [out._node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node not in nodes:
            nodes.append(node)
            waiting += node.sources
    return nodes


# ------------------------------------------------------------------ the mistakes


def scaled(grads: Gradients) -> Gradients:
    return [None if g is None else g * 1.01 for g in grads]


def wrong_sign(grads: Gradients) -> Gradients:
    return [None if g is None else -g for g in grads]


def one_element_off(grads: Gradients) -> Gradients:
    return [*grads[:-1], _with_last(grads[-1], lambda last: last + 0.05 + 0.05 * abs(last))]


def one_element_missing(grads: Gradients) -> Gradients:
    return [_with_last(grads[0], lambda last: 0), *grads[1:]]


def transposed(grads: Gradients) -> Gradients:
    return [None if g is None else np.asarray(g).T for g in grads]


def reversed_order(grads: Gradients) -> Gradients:
    return [None if g is None else np.asarray(g)[(slice(None, None, -1),) * g.ndim] for g in grads]


def shifted(grads: Gradients) -> Gradients:
    """Everything one place further along the last axis."""
    return [None if g is None else np.roll(g, 1, axis=-1 if g.ndim else None) for g in grads]


def swapped(grads: Gradients) -> Gradients:
    """The gradients of the first two inputs exchanged."""
    return grads[:2][::-1] + grads[2:]


def first_missing(grads: Gradients) -> Gradients:
    return [None, *grads[1:]]


def last_missing(grads: Gradients) -> Gradients:
    return [*grads[:-1], None]


def averaged(grads: Gradients) -> Gradients:
    """The right sum, but spread evenly: what a wrong reduction gives."""
    return [None if g is None else np.full_like(g, np.mean(g)) for g in grads]


def _with_last(array: Any, change: Callable[[Any], Any]) -> Any:
    if array is None or not array.size:
        return array
    result = np.array(array)
    last = tuple(n - 1 for n in result.shape)
    result[last] = change(result[last])
    return result


MISTAKES: list[Callable[[Gradients], Gradients]] = [
    scaled,
    wrong_sign,
    one_element_off,
    one_element_missing,
    transposed,
    reversed_order,
    shifted,
    swapped,
    first_missing,
    last_missing,
    averaged,
]


def matters(before: Gradients, after: Gradients) -> bool:
    """True if the mistake changes a gradient by more than gradcheck's tolerance."""
    for a, b in zip(before, after, strict=True):
        if a is None:
            continue
        b = np.zeros_like(a) if b is None else np.asarray(b)
        if a.shape != b.shape:
            return True
        if (abs(a - b) > 2e-5 + 2e-3 * abs(a)).any():
            return True
    return False


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_mistake_is_found(kind: type[Op], monkeypatch: pytest.MonkeyPatch) -> None:
    checks = used_by(kind)
    assert checks, f"no check runs {kind.__name__}.backward"
    original = kind.backward
    planted = set()
    for mistake in MISTAKES:
        for check in checks:
            changed = []

            def wrong(self: Any, dout: Any, mistake: Any = mistake, changed: Any = changed) -> Any:
                grads = original(self, dout)
                alone = not isinstance(grads, tuple)
                before = [grads] if alone else list(grads)
                after = mistake(before)
                relevant = [g if need else None for g, need in zip(before, self.needs)]
                changed.append(matters(relevant, after))
                return after[0] if alone else tuple(after)

            with monkeypatch.context() as patch:
                patch.setattr(kind, "backward", wrong)
                found = ""
                try:
                    cc.gradcheck(check.function, check.inputs, train=check.train)
                except (GradientError, ValueError) as error:  # wrong shapes may not even add up
                    found = str(error)
            if any(changed):
                planted.add(mistake.__name__)
                assert found, f"{mistake.__name__} in {kind.__name__} passed {check}"
                if mistake in (scaled, wrong_sign, one_element_off):
                    assert "gradient by input" in found and "at (" in found
    assert len(planted) >= 8, f"only {planted} in {kind.__name__} matter"


def test_the_classes_are_found() -> None:
    assert len(CLASSES) >= 35 and {ops.conv.Conv2d, ops.norm.Standardise} <= set(CLASSES)
