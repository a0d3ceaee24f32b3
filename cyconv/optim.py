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
from collections.abc import Iterable, Iterator
from typing import Any

from . import backends
from .arguments import ABOVE_0, BELOW_1, flag, integer, number
from .optimizer import Change, Optimizer, parameters_in, zeros_like
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
    "clip_grad_norm",
]


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Make the gradients shorter, all by one factor, if together they are longer than ``max_norm``.

    Called between ``backward`` and the optimiser's step, it keeps a batch with huge gradients from
    throwing the weights far away.

    Parameters
    ----------
    params : as for ``Optimizer``; those without ``grad`` do not count
    max_norm : above 0

    Returns
    -------
    The norm before, the root of the sum of all squares. If it is NaN or infinite, nothing changes.

    Raises
    ------
    TypeError : params is not that, or max_norm no number
    ValueError : no parameter, or one without ``attach_grad``; max_norm is not above 0

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013.

    >>> import cyconv as cc
    >>> w = cc.tensor([3.0, -4.0]).attach_grad()
    >>> with cc.record():
    ...     loss = (w * w).sum() / 2.0
    >>> loss.backward()
    >>> cc.optim.clip_grad_norm([w], 1.0), w.grad
    (5.0, tensor([ 0.6, -0.8]))
    """
    most = number("clip_grad_norm: max_norm", max_norm, ABOVE_0)
    found = parameters_in("clip_grad_norm", params)
    grads = [param.grad.data for param in found if param.grad is not None]
    squares = [(grad.astype("float64") ** 2).sum() for grad in grads]
    norm = math.sqrt(float(sum(squares)))  # which waits for a GPU, once
    if most < norm < math.inf:
        for grad in grads:
            grad *= grad.dtype.type(most / norm)
    return norm


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
        self.momentum = number("SGD: momentum", momentum, 0)
        self.dampening = number("SGD: dampening", dampening, 0, 1)
        self.weight_decay = number("SGD: weight_decay", weight_decay, 0)
        self.nesterov = flag("SGD: nesterov", nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum above 0 and no dampening, got momentum {momentum} "
                f"and dampening {dampening}"
            )

    def _update_all(self, work: list[Change]) -> None:
        fresh = [self.momentum > 0 and not state for _, _, state in work]
        for (w, _, state), first in zip(work, fresh):
            if first:
                state["velocity"] = zeros_like(w)
        for first, ws, grads, states in _alike(work, fresh):
            backends.backend_of(ws[0]).sgd_step(
                ws,
                grads,
                [state["velocity"] if self.momentum else None for state in states],
                self.lr,
                self.momentum,
                0.0 if first else self.dampening,  # the first velocity is the gradient itself
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
        self.beta1 = number(f"{name}: betas[0]", betas[0], 0, BELOW_1)
        self.beta2 = number(f"{name}: betas[1]", betas[1], 0, BELOW_1)
        self.eps = number(f"{name}: eps", eps, 0)
        self.weight_decay = number(f"{name}: weight_decay", weight_decay, 0)

    def _update_all(self, work: list[Change]) -> None:
        for w, _, state in work:
            if not state:
                state.update(m=zeros_like(w), v=zeros_like(w), step=0)
            state["step"] += 1
        for step, ws, grads, states in _alike(work, [state["step"] for _, _, state in work]):
            backends.backend_of(ws[0]).adam_step(
                ws,
                grads,
                [state["m"] for state in states],
                [state["v"] for state in states],
                step,
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


def _alike(work: list[Change], how: list[Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Parameters that one call of a backend can change, with what ``how`` says of all of them.

    Yields that, the parameters, their gradients and their states.
    """
    groups: dict[Any, list[Change]] = {}
    for change, value in zip(work, how):
        w = change[0]
        groups.setdefault((value, type(w), w.dtype.char), []).append(change)
    for (value, _, _), changes in groups.items():
        yield value, *zip(*changes)
