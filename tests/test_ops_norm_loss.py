"""Normalisation, softmax and losses against their formulas in float64."""

from __future__ import annotations

from typing import Any

import bounds
import numpy as np
import oracle_norm_loss as oracle
import pytest
import running
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from running import run
from strategies import BATCHES, DTYPES, SEEDS, normal

import cyconv as cc

Array = NDArray[Any]
SHAPES = st.one_of(
    st.tuples(BATCHES, st.integers(1, 14)),
    st.tuples(BATCHES, st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
)
FEW = st.integers(1, 5)
ANY_SHAPES = st.one_of(SHAPES, st.tuples(FEW, FEW, FEW), st.tuples(FEW, FEW, FEW, FEW, FEW))
OFFSETS = st.sampled_from([0.0, 0.0, 3.0, 1000.0])  # E[x^2] - E[x]^2 would not survive the last
SCALES = st.sampled_from([1e-3, 1.0, 50.0])
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])


def compare(
    results: tuple[Array, dict[str, Array]],
    out: Array,
    grads: dict[str, Array],
    allowed: dict[str, Any],
) -> None:
    """Output and every gradient within `allowed`."""
    bounds.check(results[0], out, allowed["out"], "output")
    assert sorted(results[1]) == sorted(grads)
    for name, grad in grads.items():
        bounds.check(results[1][name], grad, allowed[name], f"gradient of {name}")


# --- normalisation ----------------------------------------------------------------------


@given(shape=SHAPES, offset=OFFSETS, scale=SCALES, affine=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_batch_norm_in_training(
    shape: tuple[int, ...], offset: float, scale: float, affine: bool, dtype: str, seed: int
) -> None:
    if np.prod(shape) == shape[1]:
        shape = (2, *shape[1:])  # one value a channel has no variance
    c = shape[1:2]
    x, gamma, beta, mean, head = normal(seed, dtype, shape, c, c, c, shape)
    x = (x * scale + offset).astype(dtype)
    inputs = {"x": x} | ({"gamma": gamma, "beta": beta} if affine else {})
    g, b = inputs.get("gamma"), inputs.get("beta")
    out, batch_mean, batch_var = oracle.batch_norm(x, g, b)
    names = ("x", "gamma", "beta")
    grads = dict(zip(names, oracle.batch_norm_grads(head, x, g), strict=True))
    grads = {k: v for k, v in grads.items() if k in inputs}
    allowed = bounds.batch_norm(x, head, g, b)
    compare(run("batch_norm", inputs, head), out, grads, allowed)

    running = {"running_mean": cc.tensor(mean, dtype), "running_var": cc.tensor(mean**2, dtype)}
    with cc.record():
        cc.ops.batch_norm(cc.tensor(x, dtype), g, b, **running, momentum=0.3)
    terms = (x.size // x.shape[1] + bounds.CALL) * bounds.eps(x)
    largest = abs(x).max()
    expected = 0.7 * mean.astype(np.float64) + 0.3 * batch_mean
    bound = terms * (largest + abs(mean))
    bounds.check(running["running_mean"].numpy(), expected, bound, "running mean")
    expected = 0.7 * mean.astype(np.float64) ** 2 + 0.3 * batch_var
    # two passes: the rounded mean enters the variance squared
    bound = terms * (1e-5 + batch_var + mean**2) + (terms * largest) ** 2
    bounds.check(running["running_var"].numpy(), expected, bound, "running variance")


@given(shape=ANY_SHAPES, dtype=DTYPES, seed=SEEDS)
def test_batch_norm_in_inference(shape: tuple[int, ...], dtype: str, seed: int) -> None:
    c = shape[1:2]
    x, gamma, beta, mean, head = normal(seed, dtype, shape, c, c, c, shape)
    var = (mean**2 + 0.1).astype(dtype)
    inputs = {"x": x, "gamma": gamma, "beta": beta, "running_mean": mean, "running_var": var}
    names = ("x", "gamma", "beta")
    grads = oracle.batch_norm_inference_grads(head, x, gamma, mean, var)
    compare(
        run("batch_norm", inputs, head, training=False),
        oracle.batch_norm_inference(x, gamma, beta, mean, var),
        dict(zip(names, grads, strict=True)),
        bounds.batch_norm_inference(x, head, inputs),
    )


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_values_far_from_zero_that_drift(seed: int) -> None:
    rng, device = np.random.default_rng(seed), running.device
    drift = np.linspace(-30, 50, 400 * 64, dtype=np.float32).reshape(20, 20, 64)
    x = rng.standard_normal((64, 2, 20, 20), np.float32)
    x += 3e4 + drift.transpose(2, 0, 1)[:, None]
    mean, var = cc.zeros(2, device=device), cc.zeros(2, device=device)
    with cc.record():
        tensor = cc.tensor(x, device=device)
        cc.ops.batch_norm(tensor, running_mean=mean, running_var=var, momentum=1)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), exact.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), exact.var((0, 2, 3), ddof=1), rtol=1e-6)


def test_a_first_value_far_from_the_others_costs_no_digits() -> None:
    x = np.random.default_rng(0).standard_normal((32, 1, 8, 8)).astype(np.float32)
    x[0, 0, 0, 0] = 1e4
    mean, var = cc.zeros(1, device=running.device), cc.zeros(1, device=running.device)
    with cc.record():
        tensor = cc.tensor(x, device=running.device)
        cc.ops.batch_norm(tensor, running_mean=mean, running_var=var, momentum=1)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), exact.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), exact.var((0, 2, 3), ddof=1), rtol=1e-6)


def test_batch_norm_in_inference_leaves_the_statistics_alone() -> None:
    mean, var = cc.ones(3), cc.ones(3)
    with cc.record(train=False):
        cc.ops.batch_norm(cc.randn(4, 3), cc.ones(3), cc.zeros(3), mean, var)
    assert mean.tolist() == [1, 1, 1] and var.tolist() == [1, 1, 1]


@pytest.mark.parametrize("eps", [1e-5, 1.0])
def test_batch_norm_of_equal_values(eps: float) -> None:
    """No variance: the output is beta, and the running variance tends to 0."""
    x, beta = np.full((8, 2, 3, 3), 7.0, np.float32), np.array([1.0, -1.0], np.float32)
    mean, var = cc.zeros(2), cc.ones(2)
    with cc.record():
        out = cc.ops.batch_norm(x, np.ones(2, np.float32), beta, mean, var, eps=eps)
    np.testing.assert_allclose(out.numpy(), np.broadcast_to(beta[:, None, None], x.shape))
    np.testing.assert_allclose(mean.numpy(), 0.7, rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), 0.9, rtol=1e-6)


def test_running_variance_far_below_eps() -> None:
    """It is the batch's own variance, not what is left of 1 / inv_std**2 - eps."""
    (x,) = normal(3, "float32", (64, 2, 4, 4))
    x *= np.float32(1e-3)
    var = cc.zeros(2)
    with cc.record():
        cc.ops.batch_norm(x, None, None, cc.zeros(2), var, momentum=1.0, eps=1.0)
    np.testing.assert_allclose(var.numpy(), oracle.batch_norm(x, None, None)[2], rtol=1e-4)


@given(
    shape=ANY_SHAPES,
    last=st.integers(1, 3),
    offset=OFFSETS,
    affine=st.booleans(),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_layer_norm(
    shape: tuple[int, ...], last: int, offset: float, affine: bool, dtype: str, seed: int
) -> None:
    axes = shape[max(1, len(shape) - last) :]
    x, gamma, beta, head = normal(seed, dtype, shape, axes, axes, shape)
    x = (x + offset).astype(dtype)
    inputs = {"x": x} | ({"gamma": gamma, "beta": beta} if affine else {})
    g, b = inputs.get("gamma"), inputs.get("beta")
    names = ("x", "gamma", "beta")
    grads = dict(zip(names, oracle.layer_norm_grads(head, x, axes, g), strict=True))
    compare(
        run("layer_norm", inputs, head, normalized_shape=axes),
        oracle.layer_norm(x, axes, g, b),
        {k: v for k, v in grads.items() if k in inputs},
        bounds.layer_norm(x, head, g, b, axes),
    )


@given(
    n=BATCHES,
    groups=st.integers(1, 4),
    each=st.integers(1, 4),
    size=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    offset=OFFSETS,
    affine=st.booleans(),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_group_norm(
    n: int,
    groups: int,
    each: int,
    size: tuple[int, ...],
    offset: float,
    affine: bool,
    dtype: str,
    seed: int,
) -> None:
    shape, c = (n, groups * each, *size), (groups * each,)
    x, gamma, beta, head = normal(seed, dtype, shape, c, c, shape)
    x = (x + offset).astype(dtype)
    inputs = {"x": x} | ({"gamma": gamma, "beta": beta} if affine else {})
    g, b = inputs.get("gamma"), inputs.get("beta")
    names = ("x", "gamma", "beta")
    grads = dict(zip(names, oracle.group_norm_grads(head, x, groups, g), strict=True))
    compare(
        run("group_norm", inputs, head, num_groups=groups),
        oracle.group_norm(x, groups, g, b),
        {k: v for k, v in grads.items() if k in inputs},
        bounds.group_norm(x, head, g, b, groups),
    )


# --- softmax and losses -----------------------------------------------------------------


@given(shape=SHAPES, axis=st.integers(-2, 1), scale=SCALES, dtype=DTYPES, seed=SEEDS)
def test_softmax(shape: tuple[int, ...], axis: int, scale: float, dtype: str, seed: int) -> None:
    x, head = normal(seed, dtype, shape, shape)
    x = (x * scale).astype(dtype)
    found = bounds.softmax(x, head, axis)
    compare(
        run("softmax", {"x": x}, head, axis=axis),
        oracle.softmax(x, axis),
        {"x": oracle.softmax_grads(head, x, axis)},
        {"out": found["p"], "x": found["dp"]},
    )
    compare(
        run("log_softmax", {"x": x}, head, axis=axis),
        oracle.log_softmax(x, axis),
        {"x": oracle.log_softmax_grads(head, x, axis)},
        {"out": found["log"], "x": found["dlog"]},
    )


@given(
    n=BATCHES,
    k=st.integers(1, 20),
    scale=SCALES,
    smoothing=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    reduction=REDUCTIONS,
    dtype=DTYPES,
    seed=SEEDS,
)
def test_cross_entropy(
    n: int, k: int, scale: float, smoothing: float, reduction: str, dtype: str, seed: int
) -> None:
    (x,) = normal(seed, dtype, (n, k))
    x = (x * scale).astype(dtype)
    labels = np.random.default_rng(seed).integers(0, k, n)
    options: Any = {"label_smoothing": smoothing, "reduction": reduction}
    expected = oracle.cross_entropy(x, labels, **options)
    (head,) = normal(seed + 1, dtype, expected.shape)
    head = np.asarray(head, dtype)
    compare(
        run("cross_entropy", {"logits": x, "labels": labels}, head, **options),
        expected,
        {"logits": oracle.cross_entropy_grads(head, x, labels, **options)},
        bounds.cross_entropy(x, labels, head, **options),
    )


@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits"])
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    scale=SCALES,
    reduction=REDUCTIONS,
    dtype=DTYPES,
    seed=SEEDS,
)
def test_elementwise_losses(
    name: str, shape: tuple[int, ...], scale: float, reduction: str, dtype: str, seed: int
) -> None:
    (x,) = normal(seed, dtype, shape)
    x = (x * scale).astype(dtype)
    target = np.random.default_rng(seed).random(shape).astype(dtype)
    expected = getattr(oracle, name)(x, target, reduction)
    head = np.asarray(normal(seed + 1, dtype, expected.shape)[0], dtype)
    dx, dtarget = getattr(oracle, f"{name}_grads")(head, x, target, reduction)
    compare(
        run(name, {"input": x, "target": target}, head, reduction=reduction),
        expected,
        {"input": dx, "target": dtarget},
        getattr(bounds, name)(x, target, head, reduction),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("huge", [1e4, 1e30])
def test_huge_logits_stay_finite(huge: float, dtype: str) -> None:
    x = np.array([[huge, 0.0, -huge], [-huge, -huge, -huge], [0.0, huge, huge]], dtype)
    labels = np.array([0, 1, 2])
    p, _ = run("softmax", {"x": x})
    third = 1 / 3
    np.testing.assert_allclose(p, [[1.0, 0, 0], [third, third, third], [0, 0.5, 0.5]], rtol=1e-6)
    losses, grads = run("cross_entropy", {"logits": x, "labels": labels}, reduction="none")
    np.testing.assert_allclose(losses, [0, np.log(3), np.log(2)], rtol=1e-6, atol=1e-12)
    assert np.isfinite(grads["logits"]).all()
    targets = np.ones_like(x)
    losses, grads = run(
        "binary_cross_entropy_with_logits", {"input": x, "target": targets}, reduction="none"
    )
    np.testing.assert_allclose(losses[0], [0, np.log(2), huge], rtol=1e-6, atol=1e-12)
    assert np.isfinite(grads["input"]).all()


def test_labels_of_every_integer_dtype() -> None:
    (x,) = normal(1, "float32", (4, 3))
    expected = run("cross_entropy", {"logits": x, "labels": np.array([0, 2, 1, 0])})[0]
    for dtype in ("uint8", "int8", "int16", "int32", ">i4", "uint64"):
        labels: Any = np.array([0, 2, 1, 0], dtype)
        with cc.record():
            assert cc.ops.cross_entropy(x, labels).item() == expected
    assert cc.ops.cross_entropy(x, [0, 2, 1, 0]).item() == expected
    assert cc.ops.cross_entropy(x, cc.tensor([0, 2, 1, 0], "int64")).item() == expected
