"""The base of the optimisers: what they change, and what they keep for it. See ``optim.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import backends
from .arguments import number
from .autograd import Array
from .schedules import number_in
from .tensor import Tensor

Change = tuple[Array, Array, dict[str, Any]]  # a parameter, its gradient, what is kept for it


class Optimizer:
    """Base of the optimisers: the parameters, the learning rate, the state of each parameter.

    A subclass defines ``_update(w, grad, state)``, which changes the array w in place; what it
    keeps for a parameter it puts into the dict state, under the names in its ``kept``. Or it
    defines ``_update_all(work)``, with a list of such triples, of which no two share memory.

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
        self.params = parameters_in(type(self).__name__, params)
        self.state: list[dict[str, Any]] = [{} for _ in self.params]
        self._share_memory = len({id(param._uses) for param in self.params}) < len(self.params)
        self.lr = lr

    @property
    def lr(self) -> float:
        """The learning rate of the next step, at least 0; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = number(f"{type(self).__name__}: lr", value, 0)

    def step(self) -> None:
        """Change every parameter whose ``grad`` is not None, in place.

        With nothing changed RuntimeError if a recorded graph still needs a parameter's values,
        ValueError if a gradient has another shape, dtype or device than its parameter, TypeError if
        it is no tensor.
        """
        work = []
        for param, state in zip(self.params, self.state):
            given = param.grad
            if given is None:
                continue
            if not isinstance(given, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: the gradient of a parameter of shape {param.shape} "
                    f"must be a tensor, got {type(given).__name__}"
                )
            w, grad = param.data, given.data
            if grad.shape != w.shape or grad.dtype != w.dtype:
                raise ValueError(
                    f"{type(self).__name__}: a parameter of shape {param.shape} and {param.dtype} "
                    f"has a gradient of shape {grad.shape} and {grad.dtype}"
                )
            if type(grad) is not type(w):
                raise ValueError(
                    f"{type(self).__name__}: a parameter of shape {param.shape} is on "
                    f"{param.device} but its gradient is on {given.device}"
                )
            for name, value in state.items():  # the net may have moved since the last step
                if type(value) is not type(grad) and not isinstance(value, int):
                    state[name] = backends.to_device(value, param.device)
            work.append((param._write(), grad, state))
        for together in [[change] for change in work] if self._share_memory else [work]:
            self._update_all(together)

    def _update_all(self, work: list[Change]) -> None:
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
        lr = number(f"{where}: lr", number_in(f"{where}: lr", flat["lr"]), 0)
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
        own = zeros_like(param.data)
        own[...] = backends.to_device(array.astype(param.dtype, copy=False), param.device)
        return own


def zeros_like(array: Array) -> Array:
    return backends.namespace_of(array).zeros_like(array)


def parameters_in(where: str, params: Any) -> list[Tensor]:
    """``params`` as a list of tensors with attach_grad, each once; ``where`` begins the message."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"{where}: params must be an iterable of tensors, as net.parameters(), "
            f"got a {type(params).__name__}"
        )
    found: dict[int, Tensor] = {}
    for param in params:
        if not isinstance(param, Tensor):
            raise TypeError(f"{where}: params must be tensors, got a {type(param).__name__}")
        if param._grad_mode is None:
            raise ValueError(
                f"{where}: a tensor of shape {param.shape} in params has no attach_grad()"
            )
        found[id(param)] = param
    if not found:
        raise ValueError(f"{where}: params is empty")
    return list(found.values())
