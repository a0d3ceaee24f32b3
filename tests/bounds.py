"""How far a correct result may lie from the exact one, derived from the number of rounded steps.

The rounding errors of a sum of K products add up to at most K * eps * sum(|a * b|) whatever the
order of the terms (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, section
3.1, with eps = 2 u, which leaves room for the error of a recorded value). So the tolerance of a
convolution is a convolution of absolute values. The other bounds follow their formulas in the same
way; a call of exp, log, tanh or erf counts as `CALL` roundings.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import oracle_norm_loss as more
from numpy.typing import NDArray

Array = NDArray[Any]
CALL = 8


def eps(a: Array) -> float:
    """The spacing of numbers near 1 in the array's dtype."""
    return float(np.finfo(a.dtype).eps)


def check(got: Array, expected: Array, bound: Any, what: str) -> None:
    """Fail unless |got - expected| <= bound everywhere, and NaN and infinities agree exactly."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    expected = expected.astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=what)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(got - expected), 0.0)
    # the smallest normal number: below it a result may have been rounded to a multiple of less
    bound = np.broadcast_to(bound + np.finfo(got.dtype).tiny, expected.shape)
    bad = ~(error <= bound)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise AssertionError(
            f"{what}: {int(bad.sum())} of {bad.size} values are off; at {at} got {got[at]!r}, "
            f"expected {expected[at]!r}, error {error[at]:.3g}, allowed {bound[at]:.3g}"
        )


def conv2d(
    x: Array, w: Array, b: Array | None, dout: Array, options: dict[str, Any]
) -> dict[str, Array]:
    """Bounds of out, x, w and b (the gradients) of conv2d."""
    c, f = w.shape[1], w.shape[0] // options.get("groups", 1)
    taps, pixels = w.shape[2] * w.shape[3], dout.shape[2] * dout.shape[3]
    magnitude = oracle.conv2d(abs(x), abs(w), None if b is None else abs(b), **options)
    dx, dw, db = oracle.conv2d_grads(abs(dout), abs(x), abs(w), **options)
    per_weight = len(x) * pixels + 4
    return {
        "out": (c * taps + 4) * eps(x) * magnitude,
        "x": (f * taps + 4) * eps(x) * dx,
        "w": per_weight * eps(x) * dw,
        "b": per_weight * eps(x) * db,
    }


def conv_transpose2d(
    x: Array, w: Array, b: Array | None, dout: Array, options: dict[str, Any]
) -> dict[str, Array]:
    """Bounds of conv_transpose2d."""
    c, f = w.shape[0] // options.get("groups", 1), w.shape[1]
    taps, pixels = w.shape[2] * w.shape[3], x.shape[2] * x.shape[3]
    magnitude = oracle.conv_transpose2d(abs(x), abs(w), None if b is None else abs(b), **options)
    dx, dw, db = oracle.conv_transpose2d_grads(abs(dout), abs(x), abs(w), **options)
    return {
        "out": (c * taps + 4) * eps(x) * magnitude,
        "x": (f * taps + 4) * eps(x) * dx,
        "w": (len(x) * pixels + 4) * eps(x) * dw,
        "b": (len(x) * dout[0, 0].size + 4) * eps(x) * db,
    }


def linear(x: Array, w: Array, b: Array | None, dout: Array) -> dict[str, Array]:
    """Bounds of linear."""
    dx, dw, db = oracle.linear_grads(abs(dout), abs(x), abs(w))
    return {
        "out": (x.shape[1] + 4)
        * eps(x)
        * oracle.linear(abs(x), abs(w), None if b is None else abs(b)),
        "x": (w.shape[0] + 4) * eps(x) * dx,
        "w": (len(x) + 4) * eps(x) * dw,
        "b": (len(x) + 4) * eps(x) * db,
    }


def max_pool2d(dout: Array, where: Array, x: Array, kernel_size: Any) -> Array:
    """Bound of the gradient; the output is exact."""
    taps = math.prod(oracle.pair(kernel_size))
    return (taps + 4) * eps(dout) * oracle.max_pool2d_grads(abs(dout), where, x)


def avg_pool2d(
    x: Array, dout: Array, kernel_size: Any, options: dict[str, Any]
) -> dict[str, Array]:
    """Bounds of avg_pool2d."""
    steps = (math.prod(oracle.pair(kernel_size)) + 4) * eps(x)
    return {
        "out": steps * oracle.avg_pool2d(abs(x), kernel_size, **options),
        "x": steps * oracle.avg_pool2d_grads(abs(dout), x, kernel_size, **options),
    }


def normalisation(
    x: Array,
    dout: Array,
    gamma: Array | None,
    beta: Array | None,
    axes: tuple[int, ...],
    sums: tuple[int, ...],
    smallest: float,
) -> dict[str, Array]:
    """Bounds of (x - mean) / deviation * gamma + beta over `axes`, where `smallest` is its eps.

    With R = max|x| / deviation, rounding the mean of K values moves (x - mean) / deviation by
    K u R, and rounding the variance changes it by the factor 1 + K u. `sums` are the axes over
    which the gradients of gamma and beta add up; gamma and beta broadcast against x.
    """
    unit, x, dout = eps(x), x.astype(np.float64), abs(dout.astype(np.float64))
    k = math.prod(x.shape[i] for i in axes) + CALL
    xhat, inv_std = more.normalise(x, axes, smallest)
    r = 1 + abs(x).max(axis=axes, keepdims=True, initial=0) * inv_std
    d_xhat = k * unit * (r + abs(xhat))
    scale = 1.0 if gamma is None else abs(gamma)
    shift = 0.0 if beta is None else abs(beta)
    # of inv_std * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)), each xhat off by d_xhat
    dxhat = dout * scale
    along = (dxhat * abs(xhat)).mean(axis=axes, keepdims=True)
    d_along = (dxhat * d_xhat).mean(axis=axes, keepdims=True)
    parts = dxhat + dxhat.mean(axis=axes, keepdims=True) + abs(xhat) * along
    n = math.prod(x.shape[i] for i in sums) + 4
    return {
        "out": scale * d_xhat + 4 * unit * (scale * abs(xhat) + shift),
        "x": inv_std * (2 * k * unit * parts + d_xhat * along + abs(xhat) * d_along),
        "gamma": (dout * (d_xhat + n * unit * abs(xhat))).sum(axis=sums),
        "beta": n * unit * dout.sum(axis=sums),
    }


def batch_norm(
    x: Array, dout: Array, gamma: Array | None, beta: Array | None, smallest: float = 1e-5
) -> dict[str, Array]:
    """Bounds of batch_norm in training."""
    axes = (0, *range(2, x.ndim))
    g, b = (None if a is None else a.reshape(-1, *[1] * (x.ndim - 2)) for a in (gamma, beta))
    return normalisation(x, dout, g, b, axes, axes, smallest)


def batch_norm_inference(
    x: Array, dout: Array, inputs: dict[str, Array], smallest: float = 1e-5
) -> dict[str, Array]:
    """Bounds of batch_norm with given statistics: every element stands alone."""
    columns = {k: abs(more.per_channel(a, x.ndim, 0.0)) for k, a in inputs.items() if k != "x"}
    axes = (0, *range(2, x.ndim))
    inv_std = 1 / np.sqrt(columns["running_var"] + smallest)
    size = (abs(x) + columns["running_mean"]) * inv_std
    gamma, n = columns.get("gamma", np.ones(1)), x.size // x.shape[1] + CALL
    return {
        "out": CALL * eps(x) * (gamma * size + columns.get("beta", 0.0)),
        "x": CALL * eps(x) * abs(dout) * gamma * inv_std,
        "gamma": n * eps(x) * (abs(dout) * size).sum(axis=axes),
        "beta": n * eps(x) * abs(dout.astype(np.float64)).sum(axis=axes),
    }


def layer_norm(
    x: Array,
    dout: Array,
    gamma: Array | None,
    beta: Array | None,
    normalized_shape: tuple[int, ...],
    smallest: float = 1e-5,
) -> dict[str, Array]:
    """Bounds of layer_norm."""
    lead = x.ndim - len(normalized_shape)
    axes, sums = tuple(range(lead, x.ndim)), tuple(range(lead))
    return normalisation(x, dout, gamma, beta, axes, sums, smallest)


def group_norm(
    x: Array,
    dout: Array,
    gamma: Array | None,
    beta: Array | None,
    num_groups: int,
    smallest: float = 1e-5,
) -> dict[str, Array]:
    """Bounds of group_norm, seen as a normalisation of (N, groups, C/groups, pixels)."""
    split = (len(x), num_groups, x.shape[1] // num_groups, -1)
    g, b = (None if a is None else a.reshape(split[1], split[2], 1) for a in (gamma, beta))
    found = normalisation(x.reshape(split), dout.reshape(split), g, b, (2, 3), (0, 3), smallest)
    return {
        "out": found["out"].reshape(x.shape),
        "x": found["x"].reshape(x.shape),
        "gamma": found["gamma"].ravel(),
        "beta": found["beta"].ravel(),
    }


def softmax(x: Array, dout: Array, axis: int) -> dict[str, Array]:
    """Bounds of softmax ("p", "dp") and log_softmax ("log", "dlog"): value and gradient.

    x - max is off by u |x - max|, which is the relative error it causes in exp(x - max). A value
    below the smallest normal number may have become 0.
    """
    unit, tiny = eps(x), float(np.finfo(x.dtype).tiny)
    x, dout = x.astype(np.float64), abs(dout.astype(np.float64))
    k = x.shape[axis] + 2 * CALL
    log_p = more.log_softmax(x, axis)
    shift = x.max(axis=axis, keepdims=True) - x
    p = np.exp(log_p)
    dp = unit * p * (k + shift) + tiny
    return {
        "p": dp,
        "dp": 3 * dp * dout
        + p * ((2 * k * unit * p + 2 * dp) * dout).sum(axis=axis, keepdims=True)
        + dp * (dout * p).sum(axis=axis, keepdims=True),
        "log": unit * (k + shift + abs(log_p)),
        "dlog": 2 * unit * dout + (dp + k * unit * p) * dout.sum(axis=axis, keepdims=True),
    }


def reduced(each: Array, terms: int, unit: float, reduction: str) -> Array:
    """Bound of reduced losses that are at most `each` and were rounded `terms` times."""
    total = terms + (0 if reduction == "none" else each.size)
    return np.asarray(total * unit * more.reduce(each, reduction))


def cross_entropy(
    logits: Array, labels: Array, head: Array, label_smoothing: float, reduction: str
) -> dict[str, Array]:
    """Bounds of cross_entropy."""
    rows = softmax(logits, np.ones_like(logits), 1)
    targets = more.smooth_targets(labels, logits.shape[1], label_smoothing)
    share = abs(more.spread(head, (len(logits),), reduction))[:, None]
    each = (targets * (rows["log"] / eps(logits))).sum(axis=1)
    return {
        "out": reduced(each, logits.shape[1] + CALL, eps(logits), reduction),
        "logits": share * (rows["p"] + CALL * eps(logits) * targets),
    }


def mse_loss(x: Array, target: Array, head: Array, reduction: str) -> dict[str, Array]:
    """Bounds of mse_loss."""
    dx, dtarget = more.mse_loss_grads(abs(head), x, target, reduction)
    each = (x.astype(np.float64) - target) ** 2
    return {
        "out": reduced(each, 4, eps(x), reduction),
        "input": CALL * eps(x) * abs(dx),
        "target": CALL * eps(x) * abs(dtarget),
    }


def binary_cross_entropy_with_logits(
    x: Array, target: Array, head: Array, reduction: str
) -> dict[str, Array]:
    """Bounds of binary_cross_entropy_with_logits; max(x, 0) - x * target may cancel."""
    share = abs(more.spread(head, x.shape, reduction))
    return {
        "out": reduced(1 + abs(x.astype(np.float64)), 2 * CALL, eps(x), reduction),
        "input": 2 * CALL * eps(x) * share,
        "target": 2 * CALL * eps(x) * abs(x) * share,
    }


def activation(name: str, x: Array, dout: Array) -> dict[str, Array]:
    """Bounds of an activation: relative for its value (gelu's cdf has an absolute error, so |x|).

    Derivatives such as 1 - tanh(x)**2 cancel, so theirs is relative to 1 + |x|. Far out on the
    negative side exp(-x) may overflow and a factor of x be lost below the smallest normal number.
    """
    unit, x64 = CALL * eps(x), abs(x.astype(np.float64))
    value = abs(more.ACTIVATIONS[name][0](x.astype(np.float64))) + (x64 if name == "gelu" else 0.0)
    smallest = float(np.finfo(x.dtype).tiny)
    return {"out": unit * value + x64 * smallest, "x": unit * (1 + x64) * abs(dout)}
