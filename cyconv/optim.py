"""Optimisers, which change parameters by their gradients, and schedules of the learning rate::

    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = CosineLR(optimizer, total_steps=1000)
    ...
    loss.backward()
    optimizer.step()
    schedule.step()

w is a parameter, g its gradient, t the number of steps, counted from 1 in the optimisers'
formulas and from 0 in the schedules'. Every ``state_dict()`` is a flat dict of arrays, which
``checkpoint.save_arrays`` can write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import backends
from .autograd import Array
from .geometry import flag, integer
from .nn.module import bounded
from .schedules import CosineLR, MultiStepLR, OneCycleLR, Schedule, StepLR, number_in
from .tensor import Tensor

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "Schedule",
    "StepLR",
]

JUST_BELOW_1 = math.nextafter(1, 0)


class Optimizer:
    """Base of the optimisers: the parameters, the learning rate, the state of each parameter.

    A subclass defines ``_update(w, grad, state)``, which changes the array w in place; what it
    keeps for a parameter it puts into the dict state, under the names in its ``kept``.

    Parameters
    ----------
    params : an iterable of tensors with ``attach_grad``, as ``net.parameters()``; one that comes
        twice counts once
    lr : learning rate, at least 0

    Raises
    ------
    TypeError : params is not that, or lr no number
    ValueError : no parameter, or one without ``attach_grad``; lr below 0 or not finite

    >>> import numpy as np
    >>> import cyconv as cc
    >>> class SignDescent(cc.optim.Optimizer):
    ...     def _update(self, w, grad, state):
    ...         w -= self.lr * np.sign(grad)
    >>> w = cc.tensor([1.0, -3.0]).attach_grad()
    >>> optimizer = SignDescent([w], lr=0.5)
    >>> with cc.record():
    ...     loss = (w * w).sum()
    >>> loss.backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.5, -2.5])
    >>> optimizer.load_state_dict(optimizer.state_dict())
    >>> optimizer.zero_grad()
    >>> optimizer.lr, w.grad
    (0.5, None)
    """

    kept: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Tensor], lr: float):
        name = type(self).__name__
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{name}: params must be an iterable of tensors, as net.parameters(), "
                f"got a {type(params).__name__}"
            )
        self.params: list[Tensor] = []
        seen: set[int] = set()
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"{name}: params must be tensors, got a {type(param).__name__}")
            if param._grad_mode is None:
                raise ValueError(
                    f"{name}: a tensor of shape {param.shape} in params has no attach_grad()"
                )
            if id(param) not in seen:
                seen.add(id(param))
                self.params.append(param)
        if not self.params:
            raise ValueError(f"{name}: params is empty")
        self.state: list[dict[str, Any]] = [{} for _ in self.params]
        self.lr = lr

    @property
    def lr(self) -> float:
        """The learning rate of the next step, at least 0; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = bounded(f"{type(self).__name__}: lr", value, 0)

    def step(self) -> None:
        """Change every parameter whose ``grad`` is not None, in place.

        With nothing changed RuntimeError if a recorded graph still needs a parameter's values,
        ValueError if a gradient has another shape, dtype or device than its parameter, TypeError if
        it is no tensor.
        """
        work = []
        for param, state in zip(self.params, self.state):
            if param.grad is None:
                continue
            if not isinstance(param.grad, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: the gradient of a parameter of shape {param.shape} "
                    f"must be a tensor, got {type(param.grad).__name__}"
                )
            grad = param.grad.data
            if grad.shape != param.shape or grad.dtype != param.dtype:
                raise ValueError(
                    f"{type(self).__name__}: a parameter of shape {param.shape} and {param.dtype} "
                    f"has a gradient of shape {grad.shape} and {grad.dtype}"
                )
            if type(grad) is not type(param.data):
                raise ValueError(
                    f"{type(self).__name__}: a parameter of shape {param.shape} is on "
                    f"{param.device} but its gradient is on {param.grad.device}"
                )
            for name, value in state.items():  # the net may have moved since the last step
                if type(value) is not type(grad) and not isinstance(value, int):
                    state[name] = backends.to_device(value, param.device)
            work.append((param._write(), grad, state))
        for w, grad, state in work:
            self._update(w, grad, state)

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        raise RuntimeError(f"{type(self).__name__} does not define _update")

    def zero_grad(self) -> None:
        """Forget all gradients (``grad`` becomes None); needed with ``attach_grad("add")`` only."""
        for param in self.params:
            param.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of the learning rate and of what is kept per parameter, as {"velocity.0": array}.

        The other settings are the constructor's and not part of it.
        """
        flat = {"lr": np.array(self.lr)}
        for i, state in enumerate(self.state):
            for name, value in state.items():
                array = value if isinstance(value, int) else backends.to_numpy(value)
                flat[f"{name}.{i}"] = np.array(array, order="C")
        return flat

    def load_state_dict(self, flat: Mapping[str, Any]) -> None:
        """Go back to ``flat``, a ``state_dict()`` of this class for the same parameters.

        ValueError or TypeError, with nothing changed, if names, shapes or values do not fit.
        """
        where = f"{type(self).__name__}: load_state_dict"
        states: list[dict[str, Any]] = [{} for _ in self.params]
        if not isinstance(flat, Mapping) or "lr" not in flat:
            raise ValueError(f"{where}: lr is missing")
        lr = bounded(f"{where}: lr", number_in(f"{where}: lr", flat["lr"]), 0)
        for key, value in flat.items():
            if key == "lr":
                continue
            name, _, index = str(key).rpartition(".")
            i = int(index) if index.isdecimal() else -1
            if name not in self.kept or not 0 <= i < len(states):
                raise ValueError(
                    f"{where}: unexpected {key}; {len(states)} parameters keep {self.kept}"
                )
            states[i][name] = self._loaded(f"{where}: {key}", name, value, self.params[i])
        for i, state in enumerate(states):
            if state and len(state) < len(self.kept):
                raise ValueError(
                    f"{where}: parameter {i} has {sorted(state)} but needs {self.kept}"
                )
        self.lr, self.state = lr, states

    def _loaded(self, where: str, name: str, value: Any, param: Tensor) -> Any:
        """One array of a state_dict, copied to where and how the parameter lies."""
        array = np.asarray(value)
        if array.shape != param.shape or array.dtype.kind not in "iuf":
            raise ValueError(
                f"{where} has shape {array.shape} and dtype {array.dtype}, its parameter shape "
                f"{param.shape} and dtype {param.dtype}"
            )
        own = _zeros_like(param.data)
        own[...] = backends.to_device(array.astype(param.dtype, copy=False), param.device)
        return own


class SGD(Optimizer):
    """Gradient descent, with momentum if ``momentum`` is above 0::

        g += weight_decay * w
        w -= lr * g                              without momentum, else
        v = momentum * v + (1 - dampening) * g   (v = g at a parameter's first step)
        w -= lr * v                              or with nesterov
        w -= lr * (g + momentum * v)

    The same as PyTorch's.

    Parameters
    ----------
    params, lr : as for ``Optimizer``
    momentum : the share of the old velocity v in the new one, at least 0
    dampening : from 0 to 1
    weight_decay : at least 0
    nesterov : whether to look ahead; needs momentum and no dampening

    Raises
    ------
    TypeError, ValueError : as from ``Optimizer``, and for another argument out of its range

    Sources: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964
    (momentum); Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013 (Nesterov's).

    >>> import cyconv as cc
    >>> w = cc.tensor([1.0]).attach_grad()
    >>> optimizer = cc.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     with cc.record():
    ...         loss = 5.0 * w.sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     print(round(w.item(), 3))  # velocities 5 and 0.9 * 5 + 5
    0.5
    -0.45
    """

    kept = ("velocity",)

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(params, lr)
        self.momentum = bounded("SGD: momentum", momentum, 0)
        self.dampening = bounded("SGD: dampening", dampening, 0, 1)
        self.weight_decay = bounded("SGD: weight_decay", weight_decay, 0)
        self.nesterov = flag("SGD: nesterov", nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum above 0 and no dampening, got momentum {momentum} "
                f"and dampening {dampening}"
            )

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        dampening = self.dampening
        if self.momentum and not state:
            state["velocity"] = _zeros_like(w)
            dampening = 0.0  # the first velocity is the gradient itself
        backends.backend_of(w).sgd_step(
            w,
            grad,
            state["velocity"] if self.momentum else None,
            self.lr,
            self.momentum,
            dampening,
            self.weight_decay,
            self.nesterov,
        )


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square::

        g += weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    params, lr : as for ``Optimizer``
    betas : (beta1, beta2), each at least 0 and below 1
    eps, weight_decay : at least 0

    Raises
    ------
    TypeError, ValueError : as from ``Optimizer``, and for another argument out of its range

    Source: Kingma and Ba, "Adam: A method for stochastic optimization", 2014, algorithm 1.

    >>> import cyconv as cc
    >>> w = cc.tensor([1.0]).attach_grad()
    >>> optimizer = cc.optim.Adam([w], lr=0.01)
    >>> with cc.record():
    ...     loss = 5.0 * w.sum()
    >>> loss.backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)  # the first step is lr, whatever the gradient's size
    0.99
    """

    kept = ("m", "v", "step")
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr)
        name = type(self).__name__
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"{name}: betas must be a pair of numbers, got {betas!r}")
        self.beta1 = bounded(f"{name}: betas[0]", betas[0], 0, JUST_BELOW_1)
        self.beta2 = bounded(f"{name}: betas[1]", betas[1], 0, JUST_BELOW_1)
        self.eps = bounded(f"{name}: eps", eps, 0)
        self.weight_decay = bounded(f"{name}: weight_decay", weight_decay, 0)

    def _update(self, w: Array, grad: Array, state: dict[str, Any]) -> None:
        if not state:
            state.update(m=_zeros_like(w), v=_zeros_like(w), step=0)
        state["step"] += 1
        backends.backend_of(w).adam_step(
            w,
            grad,
            state["m"],
            state["v"],
            state["step"],
            self.lr,
            self.beta1,
            self.beta2,
            self.eps,
            self.weight_decay,
            self.decoupled,
        )

    def _loaded(self, where: str, name: str, value: Any, param: Tensor) -> Any:
        if name == "step":
            return integer(where, number_in(where, value), 0, 2**53)
        return super()._loaded(where, name, value, param)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: first w *= 1 - lr * weight_decay.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay : as for ``Adam``

    Raises
    ------
    TypeError, ValueError : as from ``Adam``

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2017.

    >>> import cyconv as cc
    >>> w = cc.tensor([1.0]).attach_grad()
    >>> optimizer = cc.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> optimizer.step()  # the gradient is still zero: only the decay is left
    >>> round(w.item(), 4)
    0.95
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


def _zeros_like(array: Array) -> Array:
    return backends.namespace_of(array).zeros_like(array)
