"""The optimisers' updates in plain NumPy, in place on a parameter and what is kept for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def sgd_step(
    ws: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array | None],
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """One step of gradient descent in place on parameters and velocities (None without momentum).

    velocity = momentum * velocity + (1 - dampening) * grad. Velocities start at zero, and the first
    step of a parameter is called with dampening 0: PyTorch starts with the undamped gradient.
    """
    for w, grad, velocity in zip(ws, grads, velocities):
        if weight_decay:
            grad = grad + float(weight_decay) * w
        if velocity is not None:
            velocity *= float(momentum)
            velocity += float(1 - dampening) * grad if dampening else grad
            grad = grad + float(momentum) * velocity if nesterov else velocity
        w -= float(lr) * grad


def adam_step(
    ws: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam, or with ``decoupled`` of AdamW, in place on parameters, ms and vs.

    step counts from 1.
    Sources: Kingma and Ba, "Adam", 2014; Loshchilov and Hutter, "Decoupled Weight Decay", 2017.
    """
    for w, grad, m, v in zip(ws, grads, ms, vs):
        if decoupled:
            w *= float(1 - lr * weight_decay)
        elif weight_decay:
            grad = grad + float(weight_decay) * w
        m += float(1 - beta1) * (grad - m)
        v += float(1 - beta2) * (np.square(grad) - v)
        root = np.sqrt(v) / math.sqrt(1 - beta2**step) + float(eps)
        w -= float(lr / (1 - beta1**step)) * m / root


def move_running(
    running: tuple[Array, Array] | None, momentum: float | None, mean: Array, var: Array, count: int
) -> None:
    """Move running mean and variance towards a batch's, of its variances the unbiased one."""
    if running is None or momentum is None or not count:
        return
    for kept, newest in zip(running, (mean, var * (count / (count - 1)))):
        kept *= 1 - momentum
        kept += (momentum * newest).astype(kept.dtype)
