"""What normalisation, losses and activations mean: the textbook formulas in float64.

The second half of `oracle.py`, with the same rules: nothing of cyconv, `_grads` functions take the
gradient of the output first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from oracle import Array, f64

# --- normalisation --------------------------------------------------------------------


def normalise(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """((x - mean) / deviation, 1 / deviation) over `axes`, with the biased variance."""
    centred = x - x.mean(axis=axes, keepdims=True)
    inv_std = 1 / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    return centred * inv_std, inv_std


def normalise_grad(dxhat: Array, xhat: Array, inv_std: Array, axes: tuple[int, ...]) -> Array:
    """Gradient of `normalise`: what moves the mean or the deviation is taken out."""
    along_mean = dxhat.mean(axis=axes, keepdims=True)
    along_std = (dxhat * xhat).mean(axis=axes, keepdims=True)
    return inv_std * (dxhat - along_mean - xhat * along_std)


def per_channel(a: ArrayLike | None, ndim: int, default: float) -> Array:
    """(C,) shaped to broadcast against (N, C, ...)."""
    a = f64(default) if a is None else f64(a)
    return a if a.ndim == 0 else a.reshape(-1, *[1] * (ndim - 2))


def batch_norm(
    x: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Training: (out, mean, unbiased variance) with the statistics of the batch, per channel."""
    x = f64(x)
    axes = (0, *range(2, x.ndim))
    xhat, _ = normalise(x, axes, eps)
    out = xhat * per_channel(gamma, x.ndim, 1.0) + per_channel(beta, x.ndim, 0.0)
    count = x.size // x.shape[1]
    return out, x.mean(axis=axes), x.var(axis=axes) * count / max(count - 1, 1)


def batch_norm_grads(
    dout: ArrayLike, x: ArrayLike, gamma: ArrayLike | None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta) in training."""
    dout, x = f64(dout), f64(x)
    axes = (0, *range(2, x.ndim))
    xhat, inv_std = normalise(x, axes, eps)
    dx = normalise_grad(dout * per_channel(gamma, x.ndim, 1.0), xhat, inv_std, axes)
    return dx, (dout * xhat).sum(axis=axes), dout.sum(axis=axes)


def batch_norm_inference(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
) -> Array:
    """With given statistics."""
    x = f64(x)
    m, v = per_channel(mean, x.ndim, 0.0), per_channel(var, x.ndim, 1.0)
    xhat = (x - m) / np.sqrt(v + eps)
    return xhat * per_channel(gamma, x.ndim, 1.0) + per_channel(beta, x.ndim, 0.0)


def batch_norm_inference_grads(
    dout: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta): the statistics are constants, so every element stands alone."""
    dout, x = f64(dout), f64(x)
    axes = (0, *range(2, x.ndim))
    inv_std = 1 / np.sqrt(per_channel(var, x.ndim, 1.0) + eps)
    xhat = (x - per_channel(mean, x.ndim, 0.0)) * inv_std
    dx = dout * per_channel(gamma, x.ndim, 1.0) * inv_std
    return dx, (dout * xhat).sum(axis=axes), dout.sum(axis=axes)


def layer_norm(
    x: ArrayLike,
    normalized_shape: tuple[int, ...],
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Each sample over its last axes; gamma and beta have `normalized_shape`."""
    x = f64(x)
    xhat, _ = normalise(x, tuple(range(x.ndim - len(normalized_shape), x.ndim)), eps)
    out = xhat if gamma is None else xhat * f64(gamma)
    return out if beta is None else out + f64(beta)


def layer_norm_grads(
    dout: ArrayLike,
    x: ArrayLike,
    normalized_shape: tuple[int, ...],
    gamma: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta)."""
    dout, x = f64(dout), f64(x)
    lead = x.ndim - len(normalized_shape)
    axes = tuple(range(lead, x.ndim))
    xhat, inv_std = normalise(x, axes, eps)
    dxhat = dout if gamma is None else dout * f64(gamma)
    samples = tuple(range(lead))
    dx = normalise_grad(dxhat, xhat, inv_std, axes)
    return dx, (dout * xhat).sum(axis=samples), dout.sum(axis=samples)


def group_norm(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Each sample over each group of channels; gamma and beta are per channel."""
    x = f64(x)
    grouped = x.reshape(x.shape[0], num_groups, -1)
    xhat = normalise(grouped, (2,), eps)[0].reshape(x.shape)
    return xhat * per_channel(gamma, x.ndim, 1.0) + per_channel(beta, x.ndim, 0.0)


def group_norm_grads(
    dout: ArrayLike,
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(dx, dgamma, dbeta)."""
    dout, x = f64(dout), f64(x)
    by_group = (x.shape[0], num_groups, -1)
    xhat, inv_std = normalise(x.reshape(by_group), (2,), eps)
    dxhat = (dout * per_channel(gamma, x.ndim, 1.0)).reshape(by_group)
    dx = normalise_grad(dxhat, xhat, inv_std, (2,)).reshape(x.shape)
    axes = (0, *range(2, x.ndim))
    return dx, (dout * xhat.reshape(x.shape)).sum(axis=axes), dout.sum(axis=axes)


# --- softmax and losses -----------------------------------------------------------------


def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """x - log(sum(exp(x))), shifted by the maximum so that nothing overflows."""
    shifted = f64(x) - f64(x).max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_grads(dout: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """dx."""
    dout = f64(dout)
    return dout - np.exp(log_softmax(x, axis)) * dout.sum(axis=axis, keepdims=True)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x))."""
    return np.exp(log_softmax(x, axis))


def softmax_grads(dout: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """dx."""
    dout, p = f64(dout), softmax(x, axis)
    return p * (dout - (dout * p).sum(axis=axis, keepdims=True))


def reduce(losses: Array, reduction: str) -> Array:
    """ "none", "sum" or "mean" over everything."""
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / losses.size}[reduction]


def spread(dout: ArrayLike, shape: tuple[int, ...], reduction: str) -> Array:
    """Gradient of `reduce`."""
    return np.broadcast_to(f64(dout), shape) / (math.prod(shape) if reduction == "mean" else 1)


def smooth_targets(labels: NDArray[Any], classes: int, smoothing: float) -> Array:
    """Each label as a distribution: 1 - smoothing on the label, the rest spread evenly over all."""
    return (1 - smoothing) * np.eye(classes)[np.asarray(labels)] + smoothing / classes


def cross_entropy(
    logits: ArrayLike,
    labels: NDArray[Any],
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """-sum(target * log_softmax(logits)) for each row."""
    log_p = log_softmax(logits, 1)
    targets = smooth_targets(labels, log_p.shape[1], label_smoothing)
    return reduce(-(targets * log_p).sum(axis=1), reduction)


def cross_entropy_grads(
    dout: ArrayLike,
    logits: ArrayLike,
    labels: NDArray[Any],
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Array:
    """dlogits = (probabilities - target) * share of the loss."""
    p = softmax(logits, 1)
    targets = smooth_targets(labels, p.shape[1], label_smoothing)
    return (p - targets) * spread(dout, (len(p),), reduction)[:, None]


def mse_loss(x: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Array:
    """(x - target) squared."""
    return reduce((f64(x) - f64(target)) ** 2, reduction)


def mse_loss_grads(
    dout: ArrayLike, x: ArrayLike, target: ArrayLike, reduction: str = "mean"
) -> tuple[Array, Array]:
    """(dx, dtarget)."""
    difference = f64(x) - f64(target)
    dx = 2 * difference * spread(dout, difference.shape, reduction)
    return dx, -dx


def binary_cross_entropy_with_logits(
    x: ArrayLike, target: ArrayLike, reduction: str = "mean"
) -> Array:
    """-target * log(sigmoid(x)) - (1 - target) * log(1 - sigmoid(x)), by softplus."""
    x, target = f64(x), f64(target)
    return reduce(target * softplus(-x) + (1 - target) * softplus(x), reduction)


def binary_cross_entropy_with_logits_grads(
    dout: ArrayLike, x: ArrayLike, target: ArrayLike, reduction: str = "mean"
) -> tuple[Array, Array]:
    """(dx, dtarget)."""
    x, target = f64(x), f64(target)
    share = spread(dout, x.shape, reduction)
    return (sigmoid(x) - target) * share, -x * share


# --- activations ------------------------------------------------------------------------


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), with the exponential of a number that is never positive."""
    x = f64(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x))."""
    x = f64(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x: Array) -> Array:
    """Probability that a standard normal variable is below x."""
    return f64(np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[float])(x))


def normal_pdf(x: Array) -> Array:
    """Density of the standard normal distribution."""
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def silu_slope(x: Array) -> Array:
    """Derivative of x * sigmoid(x)."""
    s = sigmoid(x)
    return s + x * s * sigmoid(-x)


# name: (function, derivative), both of float64 arrays
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda x: np.where(x < 0, 0.0, x), lambda x: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "gelu": (lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
    "softplus": (softplus, sigmoid),
    "silu": (lambda x: x * sigmoid(x), silu_slope),
    "elu": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0))),
    ),
}
