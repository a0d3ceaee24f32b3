"""``gluon.Trainer``: optimisers by MXNet's names and rules.

Each rule changes the array w by its gradient g, the settings o, and what it keeps for w.
"""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from cyconv.autograd import Array
from cyconv.backends import backend_of

from .block import Parameter


def _sgd(w: Array, g: Array, o: Any, kept: dict[str, Any]) -> None:
    velocity = kept.setdefault("velocity", np.zeros_like(w)) if o.momentum else None
    rate = o.learning_rate  # MXNet's velocity holds it
    backend_of(w).sgd_step([w], [rate * g], [velocity], 1.0, o.momentum, 0.0, rate * o.wd, False)


def _adam(w: Array, g: Array, o: Any, kept: dict[str, Any]) -> None:
    m, v = (kept.setdefault(name, np.zeros_like(w)) for name in "mv")
    kept["t"] = t = kept.get("t", 0) + 1
    epsilon = o.epsilon / math.sqrt(1 - o.beta2**t)  # added before v is corrected for its start
    how = o.learning_rate, o.beta1, o.beta2, epsilon, o.wd, False
    backend_of(w).adam_step([w], [g], [m], [v], t, *how)


def _adagrad(w: Array, g: Array, o: Any, kept: dict[str, Any]) -> None:
    kept["s"] = kept.get("s", 0) + g * g
    w -= o.learning_rate * (g / np.sqrt(kept["s"] + o.eps) + o.wd * w)


def _rmsprop(w: Array, g: Array, o: Any, kept: dict[str, Any]) -> None:
    g = g + o.wd * w
    kept["s"] = o.gamma1 * kept.get("s", 0) + (1 - o.gamma1) * (g * g)
    w -= o.learning_rate * g / np.sqrt(kept["s"] + o.epsilon)


def _adadelta(w: Array, g: Array, o: Any, kept: dict[str, Any]) -> None:
    kept["s"] = o.rho * kept.get("s", 0) + (1 - o.rho) * g * g
    change = np.sqrt(kept.get("d", 0 * g) + o.epsilon) / np.sqrt(kept["s"] + o.epsilon) * g
    kept["d"] = o.rho * kept.get("d", 0) + (1 - o.rho) * change * change
    w -= change + o.wd * w


RULES: dict[str, tuple[Any, dict[str, float]]] = {
    "sgd": (_sgd, {"learning_rate": 0.01, "momentum": 0}),
    "adam": (_adam, {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
    "adagrad": (_adagrad, {"learning_rate": 0.01, "eps": 1e-7}),
    "rmsprop": (_rmsprop, {"learning_rate": 0.001, "gamma1": 0.9, "epsilon": 1e-8}),
    "adadelta": (_adadelta, {"learning_rate": 0.01, "rho": 0.9, "epsilon": 1e-5}),
}


class Trainer:
    """Changes parameters by their gradients; ``optimizer`` is a name in ``RULES``."""

    def __init__(self, params: Any, optimizer: str, optimizer_params: Any = None):
        listed = list(params.values() if isinstance(params, Mapping) else params)
        if not all(isinstance(p, Parameter) for p in listed):
            raise ValueError(f"Trainer: params must be Parameters, got {params!r}")
        self._rule, known = RULES.get(str(optimizer).lower(), (None, {}))
        given = optimizer_params or {}
        if not known or given.keys() - known.keys() - {"wd"}:
            raise ValueError(f"Trainer: no {optimizer!r} with {given}, only {[*(known or RULES)]}")
        self._settings = SimpleNamespace(**({"wd": 0} | known | given))
        self._work: list[Any] = [(p, {}) for p in listed]

    learning_rate = property(lambda self: self._settings.learning_rate)

    def set_learning_rate(self, lr: float) -> None:
        self._settings.learning_rate = lr

    @np.errstate(all="ignore")
    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """One step with the gradients divided by ``batch_size``. A gradient that no backward has
        renewed raises UserWarning, as MXNet does, or is left alone."""
        work = [(p, kept) for p, kept in self._work if p.grad_req != "null"]
        stale = [p.name for p, _ in work if p.grad().tensor is p.used]
        if stale and not ignore_stale_grad:
            raise UserWarning(f"no backward() since the last step() has reached {stale}")
        for parameter, kept in work:
            tensor, grad = parameter.data().leave_graphs(), parameter.grad().tensor
            if grad is not parameter.used:
                parameter.used = grad
                scaled = grad.data * grad.data.dtype.type(1 / batch_size)
                self._rule(tensor._write(), scaled, self._settings, kept)
