"""Cross-entropy with weights, labels that do not count, probabilities, and more axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from refusal import refuses

import cyconv as cc

RNG = np.random.default_rng(11)
K = 4
WEIGHT = RNG.random(K) + 0.2


def by_hand(
    logits: Any, labels: Any, weight: Any, smoothing: float, ignored: int
) -> tuple[list[float], list[float]]:
    """The loss and the weight of each row of logits (M, K), number by number."""
    losses, weights = [], []
    for row, label in zip(logits, labels, strict=True):
        if label == ignored:
            losses.append(0.0)
            weights.append(0.0)
            continue
        largest = max(row)
        log_total = largest + math.log(sum(math.exp(z - largest) for z in row))
        loss = (1 - smoothing) * weight[label] * (log_total - row[label])
        for k, z in enumerate(row):
            loss += smoothing / len(row) * weight[k] * (log_total - z)
        losses.append(loss)
        weights.append(weight[label])
    return losses, weights


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignored", [-100, 2, 255])
def test_values(smoothing: float, weight: Any, ignored: int) -> None:
    logits, labels = 3 * RNG.standard_normal((9, K)), RNG.integers(0, K, 9)
    labels[4] = ignored
    options = {"weight": weight, "ignore_index": ignored, "label_smoothing": smoothing}
    factors = np.ones(K) if weight is None else weight
    losses, weights = by_hand(logits, labels, factors, smoothing, ignored)
    expected = {"none": losses, "sum": sum(losses), "mean": sum(losses) / sum(weights)}
    for reduction, value in expected.items():
        got = cc.ops.cross_entropy(logits, labels, reduction=reduction, **options)
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("labels", [np.array([0, 3, -100, 1, 3]), RNG.random((5, K))])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients(smoothing: float, weight: Any, labels: Any, reduction: str) -> None:
    logits = cc.tensor(RNG.standard_normal((5, K)), "float64")
    inputs = [logits]
    if labels.ndim == 2:
        inputs.append(cc.tensor(labels, "float64"))
    assert cc.gradcheck(
        lambda x, t=labels: cc.ops.cross_entropy(
            x, t, weight=weight, label_smoothing=smoothing, reduction=reduction
        ),
        inputs,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_probabilities_of_one_class_are_its_number(smoothing: float, weight: Any) -> None:
    logits, labels = RNG.standard_normal((6, K)), RNG.integers(0, K, 6)
    options = {"label_smoothing": smoothing, "weight": weight}
    for reduction in ("none", "sum"):
        soft = cc.ops.cross_entropy(logits, np.eye(K)[labels], reduction=reduction, **options)
        hard = cc.ops.cross_entropy(logits, labels, reduction=reduction, **options)
        np.testing.assert_allclose(soft.numpy(), hard.numpy(), rtol=1e-12)
    mean = cc.ops.cross_entropy(logits, np.eye(K)[labels], **options)  # over all rows, as PyTorch's
    np.testing.assert_allclose(mean.numpy(), soft.numpy() / 6, rtol=1e-12)


@pytest.mark.parametrize("extra", [(3,), (2, 3), (0,), (2, 1, 2)])
@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT, "ignore_index": 1}])
def test_a_label_at_each_position(extra: tuple[int, ...], options: dict[str, Any]) -> None:
    logits, labels = RNG.standard_normal((5, K, *extra)), RNG.integers(0, K, (5, *extra))
    rows = np.moveaxis(logits, 1, -1).reshape(-1, K)
    got = cc.ops.cross_entropy(logits, labels, reduction="none", **options)
    expected = cc.ops.cross_entropy(rows, labels.reshape(-1), reduction="none", **options)
    np.testing.assert_array_equal(got.numpy(), expected.numpy().reshape(labels.shape))
    soft = np.moveaxis(np.eye(K)[labels], -1, 1)
    if not options:
        same = cc.ops.cross_entropy(logits, soft, reduction="none").numpy()
        np.testing.assert_allclose(same, got.numpy(), rtol=1e-12)


def test_one_sample() -> None:
    logits = RNG.standard_normal(K)
    got = cc.ops.cross_entropy(logits, 2)
    assert got.shape == () and got.item() == cc.ops.cross_entropy(logits[None], [2]).item()


def test_what_does_not_count_has_no_say_whatever_its_logits() -> None:
    x = cc.tensor([[np.nan, np.inf], [1.0, 2.0], [3.0, -np.inf]]).attach_grad()
    with cc.record():
        loss = cc.ops.cross_entropy(x, [-100, 0, 0], reduction="none")
    assert loss.numpy()[0] == 0 and loss.numpy()[2] == 0
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy()[0], [0, 0])  # type: ignore
    np.testing.assert_allclose(x.grad.numpy()[1:], [[-0.7310586, 0.7310586], [0, 0]], rtol=1e-6)  # type: ignore


def test_the_mean_of_nothing_is_nan_and_its_gradient_zero() -> None:
    x = cc.zeros(2, K).attach_grad()
    with cc.record():
        loss = cc.ops.cross_entropy(x, [-100, -100])
    loss.backward()
    assert math.isnan(loss.item()) and not x.grad.numpy().any()  # type: ignore


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_the_logits(dtype: Any) -> None:
    logits, weight = np.zeros((2, K), dtype), WEIGHT.astype(dtype)
    for options in ({"weight": weight}, {"ignore_index": 0}, {"label_smoothing": 0.1}):
        for reduction in ("mean", "sum", "none"):
            got = cc.ops.cross_entropy(logits, [0, 1], reduction=reduction, **options)
            assert got.dtype == dtype


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": np.ones(3)}, ("weight", "(4,)", "(3,)")),
        ({"weight": np.ones((4, 1))}, ("weight", "(4, 1)")),
        ({"weight": np.ones(4, "float32")}, ("weight", "float32", "float64")),
        ({"weight": "balanced"}, ("weight", "balanced")),
        ({"ignore_index": 0.5}, ("ignore_index", "0.5")),
        ({"ignore_index": None}, ("ignore_index", "None")),
        ({"ignore_index": 2**63}, ("ignore_index", str(2**63))),
        ({"labels": np.zeros((3, 4), int)}, ("labels", "(3, 4)", "(3,)")),
        ({"labels": np.zeros((3, 4), "float32")}, ("labels", "float32", "float64")),
        ({"labels": np.zeros((3, 4)), "ignore_index": 1}, ("ignore_index", "1")),
        ({"logits": np.zeros((3, 4, 2))}, ("labels", "(3, 2)", "(3,)")),
        ({"logits": np.zeros(4)}, ("labels", "()", "(3,)")),
        ({"logits": np.zeros((3, 0, 2))}, ("logits", "(3, 0, 2)")),
    ],
)
def test_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    right = {"logits": np.zeros((3, 4)), "labels": [0, 3, 1]}
    refuses(cc.ops.cross_entropy, right | changes, ("cross_entropy", *words))


def test_the_layer_passes_its_arguments_on() -> None:
    logits, labels = RNG.standard_normal((5, K)), np.array([0, 1, 2, 3, 9])
    loss = cc.nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=9, reduction="sum")
    expected = cc.ops.cross_entropy(logits, labels, weight=WEIGHT, ignore_index=9, reduction="sum")
    assert loss(logits, labels).item() == expected.item()
    assert cc.nn.CrossEntropyLoss()(logits, labels[:1].repeat(5)).shape == ()
