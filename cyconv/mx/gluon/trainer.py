"""``gluon.Trainer``: optimisers by MXNet's names and rules."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from cyconv import optim
from cyconv.autograd import Array
from cyconv.tensor import Tensor

from .block import Parameter

DEFAULTS: dict[str, dict[str, float]] = {
    "sgd": {"learning_rate": 0.01, "wd": 0, "momentum": 0},
    "adam": {"learning_rate": 0.001, "wd": 0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "adagrad": {"learning_rate": 0.01, "wd": 0, "eps": 1e-7},
    "rmsprop": {"learning_rate": 0.001, "wd": 0, "gamma1": 0.9, "epsilon": 1e-8},
    "adadelta": {"learning_rate": 0.01, "wd": 0, "rho": 0.9, "epsilon": 1e-5},
}


class _Adam(optim.Adam):
    """As cyconv's, but epsilon is added before v is corrected for its start at zero."""

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        epsilon, steps = self.eps, state.get("step", 0) + 1
        self.eps = epsilon / math.sqrt(1 - self.beta2**steps)
        super()._update(w, grad, state)
        self.eps = epsilon


class _Rule(optim.Optimizer):
    """w -= what the method of this name returns, by settings o and what it keeps for each w."""

    def __init__(self, params: Any, name: str, o: SimpleNamespace):
        super().__init__(params, o.learning_rate)
        self._rule, self._settings = getattr(self, name), o

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        w -= self._rule(self._settings, w, grad, state)

    def adagrad(self, o: Any, w: Array, g: Array, kept: dict[str, Any]) -> Array:
        kept["s"] = kept.get("s", 0) + g * g
        return self.lr * (g / np.sqrt(kept["s"] + o.eps) + o.wd * w)

    def rmsprop(self, o: Any, w: Array, g: Array, kept: dict[str, Any]) -> Array:
        g = g + o.wd * w
        kept["s"] = o.gamma1 * kept.get("s", 0) + (1 - o.gamma1) * (g * g)
        return self.lr * g / np.sqrt(kept["s"] + o.epsilon)

    def adadelta(self, o: Any, w: Array, g: Array, kept: dict[str, Any]) -> Array:
        s, d = o.rho * kept.get("s", 0) + (1 - o.rho) * (g * g), kept.get("d", 0)
        change = np.sqrt((d + o.epsilon) / (s + o.epsilon)) * g
        kept.update(s=s, d=o.rho * d + (1 - o.rho) * (change * change))
        return change + o.wd * w


class Trainer:
    """Changes parameters by their gradients; ``optimizer`` is a name in ``DEFAULTS``."""

    def __init__(self, params: Any, optimizer: str, optimizer_params: Any = None):
        listed = list(params.values() if isinstance(params, Mapping) else params)
        if not all(isinstance(p, Parameter) for p in listed):
            raise ValueError(f"Trainer: params must be Parameters, got {params!r}")
        self._name, given = str(optimizer).lower(), optimizer_params or {}
        known = DEFAULTS.get(self._name, {})
        if not known or given.keys() - known.keys():
            raise ValueError(f"Trainer: there is no {optimizer!r} with {given}; known: {DEFAULTS}")
        self._params = [p for p in listed if p.grad_req != "null"]
        self._set = SimpleNamespace(**(known | given))
        self._optimizer: optim.Optimizer | None = None  # until the parameters have their shapes

    learning_rate = property(lambda self: self._set.learning_rate)

    def set_learning_rate(self, lr: float) -> None:
        """Change the rate. As in MXNet, a velocity goes on with the rate that it was made with."""
        if self._optimizer is not None:
            self._optimizer.lr = lr
            for state in self._optimizer.state:
                if "velocity" in state and lr:
                    state["velocity"] *= self.learning_rate / lr
        self._set.learning_rate = lr

    def _begin(self, tensors: list[Tensor]) -> optim.Optimizer:
        o = self._set
        if self._name == "sgd":
            return optim.SGD(tensors, o.learning_rate, o.momentum, weight_decay=o.wd)
        if self._name == "adam":
            return _Adam(tensors, o.learning_rate, (o.beta1, o.beta2), o.epsilon, o.wd)
        return _Rule(tensors, self._name, o)

    def step(self, batch_size: int) -> None:
        """One step with the gradients divided by ``batch_size``."""
        tensors = [p.data().leave_graphs() for p in self._params]
        self._optimizer = self._optimizer or self._begin(tensors)
        grads = [tensor.grad for tensor in tensors]
        for tensor, grad in zip(tensors, grads):
            tensor.grad = Tensor(grad.data * grad.dtype.type(1 / batch_size))
        self._optimizer.step()
        for tensor, grad in zip(tensors, grads):
            tensor.grad = grad
