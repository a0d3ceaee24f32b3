"""Schedules: the learning rate as a function of the number of steps; public in ``cyconv.optim``.

Whether a step is a batch or an epoch is the caller's choice: ``schedule.step()`` goes one further.
Each class is one formula, ``lr_at(t)``, with t = 0 for the rate before the first ``step()`` and
lr standing for ``base_lr``, the optimiser's rate when the schedule was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import ABOVE_0, integer, number

if TYPE_CHECKING:
    from .optim import Optimizer


class Schedule:
    """Base of the schedules. A subclass defines ``lr_at``; it sets its arguments before it calls
    this constructor, which sets the optimiser's rate to ``lr_at(0)``.

    Parameters
    ----------
    optimizer : an ``Optimizer``, whose rate now becomes ``base_lr``

    Raises
    ------
    TypeError : optimizer has no ``lr``

    >>> import cyconv as cc
    >>> class InverseLR(cc.optim.Schedule):
    ...     def lr_at(self, step):
    ...         return self.base_lr / (1 + step)
    >>> optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], lr=1.0)
    >>> schedule = InverseLR(optimizer)
    >>> schedule.step()
    >>> optimizer.lr, schedule.lr_at(3)
    (0.5, 0.25)
    >>> schedule.load_state_dict(schedule.state_dict())
    """

    def __init__(self, optimizer: Optimizer):
        if not hasattr(optimizer, "lr"):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be an Optimizer, "
                f"got a {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.count = 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, step: int) -> float:
        """The learning rate after ``step`` steps (>= 0); RuntimeError unless a subclass says it.

        TypeError or ValueError for another ``step``.
        """
        raise RuntimeError(f"{type(self).__name__} does not define lr_at")

    def step(self) -> None:
        """Set the optimiser's learning rate for the next step."""
        self.count += 1
        self.optimizer.lr = self.lr_at(self.count)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Where the schedule stands: {"count": ..., "base_lr": ...}, arrays of shape ()."""
        return {"count": np.array(self.count), "base_lr": np.array(self.base_lr)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, a ``state_dict()``; sets the optimiser's learning rate.

        ValueError or TypeError, with nothing changed, if it holds something else.
        """
        where = f"{type(self).__name__}: load_state_dict"
        if not isinstance(state, Mapping) or set(state) != {"count", "base_lr"}:
            raise ValueError(f"{where}: expected count and base_lr, got {_names(state)}")
        count = integer(f"{where}: count", number_in(f"{where}: count", state["count"]), 0)
        start = f"{where}: base_lr"
        self.base_lr = number(start, number_in(start, state["base_lr"]), 0)
        self.count = count
        self.optimizer.lr = self.lr_at(count)


class StepLR(Schedule):
    """lr * gamma^floor(t / step_size): a drop every ``step_size`` steps.

    Parameters
    ----------
    optimizer : an ``Optimizer``
    step_size : int, at least 1
    gamma : at least 0

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range

    >>> import cyconv as cc
    >>> optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], lr=8.0)
    >>> schedule = cc.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> [schedule.lr_at(t) for t in range(5)]
    [8.0, 8.0, 4.0, 4.0, 2.0]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size = integer("StepLR: step_size", step_size, 1)
        self.gamma = number("StepLR: gamma", gamma, 0)
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        step = integer("StepLR: step", step, 0)
        return self.base_lr * self.gamma ** (step // self.step_size)


class MultiStepLR(Schedule):
    """lr * gamma^k, where k is how many of the ``milestones`` are <= t: a drop at each of them.

    Parameters
    ----------
    optimizer : an ``Optimizer``
    milestones : list or tuple of steps, ints at least 0, in any order
    gamma : at least 0

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range

    >>> import cyconv as cc
    >>> optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], lr=8.0)
    >>> schedule = cc.optim.MultiStepLR(optimizer, milestones=[1, 4], gamma=0.5)
    >>> [schedule.lr_at(t) for t in range(5)]
    [8.0, 4.0, 4.0, 4.0, 2.0]
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1):
        if not isinstance(milestones, (list, tuple)):
            raise TypeError(f"MultiStepLR: milestones must be a list of steps, got {milestones!r}")
        self.milestones = sorted(integer("MultiStepLR: milestones", m, 0) for m in milestones)
        self.gamma = number("MultiStepLR: gamma", gamma, 0)
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        step = integer("MultiStepLR: step", step, 0)
        return self.base_lr * self.gamma ** sum(m <= step for m in self.milestones)


class CosineLR(Schedule):
    """Half a cosine from lr down to ``min_lr``, after a linear rise over ``warmup_steps``.

    With W = warmup_steps and T = total_steps (W included)::

        lr * (t + 1) / (W + 1)                                           for t < W,
        min_lr + (lr - min_lr) * (1 + cos(pi * (t - W) / (T - W))) / 2   for W <= t < T,
        min_lr                                                           from T on.

    Parameters
    ----------
    optimizer : an ``Optimizer``
    total_steps : int, at least 1
    min_lr : at least 0
    warmup_steps : int from 0 to total_steps - 1

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range

    Sources: Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2016,
    equation 5, without restarts; Goyal et al., "Accurate, large minibatch SGD", 2017 (warmup).

    >>> import cyconv as cc
    >>> optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], lr=8.0)
    >>> schedule = cc.optim.CosineLR(optimizer, total_steps=5, warmup_steps=1)
    >>> [round(schedule.lr_at(t), 2) for t in range(7)]
    [4.0, 8.0, 6.83, 4.0, 1.17, 0.0, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, min_lr: float = 0.0, warmup_steps: int = 0
    ):
        self.total_steps = integer("CosineLR: total_steps", total_steps, 1)
        self.min_lr = number("CosineLR: min_lr", min_lr, 0)
        self.warmup_steps = integer("CosineLR: warmup_steps", warmup_steps, 0)
        if self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"CosineLR: warmup_steps must be below total_steps {total_steps}, "
                f"got {warmup_steps}"
            )
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        step = integer("CosineLR: step", step, 0)
        if step < self.warmup_steps:
            return self.base_lr * (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return _half_cosine(self.base_lr, self.min_lr, done)


class OneCycleLR(Schedule):
    """Up to ``max_lr`` and down to almost nothing, each along half a cosine.

    With P = warmup_fraction * total_steps - 1, L = total_steps - 1, start = max_lr / div_factor,
    end = start / final_div_factor, and half(a, b, x) = b + (a - b) * (1 + cos(pi * x)) / 2::

        half(start, max_lr, t / P)             for t <= P,
        half(max_lr, end, (t - P) / (L - P))   for P < t < L,
        end                                    from L on.

    The same as PyTorch's, without its cycle of the momentum.

    Parameters
    ----------
    optimizer : an ``Optimizer``
    total_steps : int, at least 1
    max_lr : at least 0; the optimiser's rate if not given
    warmup_fraction : from 0 to 1
    div_factor, final_div_factor : above 0

    Raises
    ------
    TypeError : an argument of another type
    ValueError : one out of its range

    Source: Smith, "A disciplined approach to neural network hyper-parameters: Part 1", 2018.

    >>> import cyconv as cc
    >>> optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], lr=8.0)
    >>> schedule = cc.optim.OneCycleLR(optimizer, total_steps=10)
    >>> [round(schedule.lr_at(t), 2) for t in range(10)]
    [0.32, 4.16, 8.0, 7.6, 6.49, 4.89, 3.11, 1.51, 0.4, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        max_lr: float | None = None,
        warmup_fraction: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        self.total_steps = integer("OneCycleLR: total_steps", total_steps, 1)
        self.max_lr = None if max_lr is None else number("OneCycleLR: max_lr", max_lr, 0)
        self.warmup_fraction = number("OneCycleLR: warmup_fraction", warmup_fraction, 0, 1)
        self.div_factor = number("OneCycleLR: div_factor", div_factor, ABOVE_0)
        self.final_div_factor = number("OneCycleLR: final_div_factor", final_div_factor, ABOVE_0)
        super().__init__(optimizer)

    def lr_at(self, step: int) -> float:
        step = integer("OneCycleLR: step", step, 0)
        top = self.base_lr if self.max_lr is None else self.max_lr
        start = top / self.div_factor
        last = self.total_steps - 1
        peak = self.warmup_fraction * self.total_steps - 1
        if step <= peak and peak > 0:
            return _half_cosine(start, top, step / peak)
        done = (step - peak) / (last - peak) if last > peak else 1.0
        return _half_cosine(top, start / self.final_div_factor, done)


def number_in(where: str, value: Any) -> Any:
    """The Python number in an array of size 1, as a state_dict holds it."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"{where} must be one number, got {value!r}")
    return array.item()


def _half_cosine(start: float, end: float, done: float) -> float:
    """From ``start`` at done = 0 to ``end`` at done = 1 and beyond."""
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def _names(state: Any) -> str:
    return ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
