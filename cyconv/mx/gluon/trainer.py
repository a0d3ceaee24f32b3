"""``gluon.Trainer``, and the rules of MXNet's optimisers.

w is a parameter, g its gradient; s and d, kept for each parameter, begin at 0.
"""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from cyconv import optim
from cyconv.autograd import Array
from cyconv.tensor import Tensor

from .parameter import Parameter

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
    """w -= what the method of this name returns."""

    def __init__(self, params: Any, name: str, settings: SimpleNamespace):
        super().__init__(params, settings.learning_rate)
        self._rule, self._set = getattr(self, name), settings

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        w -= self._rule(w, grad, state, self._set)

    def adagrad(self, w: Array, g: Array, kept: dict[str, Any], o: SimpleNamespace) -> Array:
        """s += g^2; w -= lr * (g / sqrt(s + eps) + wd * w) (Duchi, Hazan and Singer 2011)."""
        kept["s"] = kept.get("s", 0) + g * g
        return self.lr * (g / np.sqrt(kept["s"] + o.eps) + o.wd * w)

    def rmsprop(self, w: Array, g: Array, kept: dict[str, Any], o: SimpleNamespace) -> Array:
        """g += wd * w; s = gamma1 * s + (1 - gamma1) * g^2; w -= lr * g / sqrt(s + epsilon)."""
        g = g + o.wd * w
        kept["s"] = o.gamma1 * kept.get("s", 0) + (1 - o.gamma1) * (g * g)
        return self.lr * g / np.sqrt(kept["s"] + o.epsilon)

    def adadelta(self, w: Array, g: Array, kept: dict[str, Any], o: SimpleNamespace) -> Array:
        """s = rho * s + (1 - rho) * g^2; c = sqrt((d + epsilon) / (s + epsilon)) * g;
        w -= c + wd * w; d = rho * d + (1 - rho) * c^2 (Zeiler 2012)."""
        s, d = o.rho * kept.get("s", 0) + (1 - o.rho) * (g * g), kept.get("d", 0)
        c = np.sqrt((d + o.epsilon) / (s + o.epsilon)) * g
        kept.update(s=s, d=o.rho * d + (1 - o.rho) * (c * c))
        return c + o.wd * w


class Trainer:
    """Changes parameters by their gradients; ``optimizer`` is a name in ``DEFAULTS``."""

    def __init__(self, params: Any, optimizer: str, optimizer_params: Any = None):
        listed = list(params.values() if isinstance(params, Mapping) else params)
        if not all(isinstance(p, Parameter) for p in listed):
            raise ValueError(f"Trainer: params must be Parameters, got {params!r}")
        name, given = str(optimizer).lower(), optimizer_params or {}
        if name not in DEFAULTS or given.keys() - DEFAULTS[name].keys():
            raise ValueError(f"Trainer: there is no {optimizer!r} with {given}; known: {DEFAULTS}")
        self._params = [p for p in listed if p.grad_req != "null"]
        self._optimizer: optim.Optimizer | None = None  # until the parameters have their shapes
        self._name, self._set = name, SimpleNamespace(**(DEFAULTS[name] | given))

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

    def step(self, batch_size: int, ignore_stale_grad: bool = False) -> None:
        """One step with the gradients divided by ``batch_size``.

        UserWarning, raised, for a gradient that is not new; or such parameters are left alone.
        """
        tensors = [p.data().leave_graphs().tensor for p in self._params]
        grads = [tensor.grad for tensor in tensors]
        self._optimizer = self._optimizer or self._begin(tensors)
        for parameter, grad in zip(self._params, grads):
            if grad is parameter.used and not ignore_stale_grad:
                raise UserWarning(
                    f"the gradient of {parameter.name} is not new: no backward() since the last "
                    "step() has reached it; ignore_stale_grad=True leaves it alone"
                )
        for parameter, tensor, grad in zip(self._params, tensors, grads):
            scaled = Tensor(grad.data * grad.dtype.type(1 / batch_size))
            tensor.grad = None if grad is parameter.used else scaled
            parameter.used = grad
        self._optimizer.step()
        for tensor, grad in zip(tensors, grads):
            tensor.grad = grad
