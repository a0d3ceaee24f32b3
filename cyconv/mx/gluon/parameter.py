"""Parameters, whose shapes may be settled by the first batch, and dicts of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from ..initializer import NAMED, Uniform
from ..ndarray import NDArray, zeros


class DeferredInitializationError(RuntimeError):
    """The parameter's shape is not known before the first batch."""


class Parameter:
    """An array to train. A size of 0 in ``shape`` is not known yet.

    ``grad_req`` is "write", "add", or "null" for an array that is kept but not trained.
    """

    def __init__(
        self,
        name: str,
        grad_req: str = "write",
        shape: Any = (),
        dtype: Any = np.float32,
        init: Any = None,
        allow_deferred_init: bool = False,
    ):
        self.name, self.grad_req, self.dtype, self.init = name, grad_req, dtype, init
        self.shape: tuple[int, ...] = (shape,) if isinstance(shape, int) else tuple(shape)
        self._may_wait = allow_deferred_init
        self._start: Any = None  # what fills it
        self._data: NDArray | None = None

    def __repr__(self) -> str:
        return f"Parameter {self.name} (shape={self.shape}, dtype={self.dtype})"

    def initialize(
        self,
        init: Any = None,
        ctx: Any = None,
        force_reinit: bool = False,
        default_init: Any = None,
    ) -> None:
        """Fill by ``init``, the parameter's own or ``default_init``, in this order."""
        if self._data is not None and not force_reinit:
            return
        how = init or self.init or default_init or Uniform()
        if isinstance(how, str) and how not in NAMED:
            raise ValueError(f"initialize: init must be one of {', '.join(NAMED)}, got {how!r}")
        self._data, self._start = None, NAMED[how] if isinstance(how, str) else how
        if 0 not in self.shape:
            self.settle(self.shape)
        elif not self._may_wait:
            raise ValueError(f"initialize: {self.name} has the unknown shape {self.shape}")

    def settle(self, shape: tuple[int, ...]) -> NDArray:
        """``data()``, filled now if it waited for its whole shape."""
        if self._data is None and self._start is not None:
            array = zeros(shape, dtype=self.dtype)
            self._start._init_weight(self.name, array)
            self._hold(array)
        return self.data()

    def _hold(self, array: NDArray) -> None:
        self.shape, self._data = array.shape, array
        if self.grad_req != "null":
            array.attach_grad(self.grad_req)
        self.used = array.tensor.grad  # the gradient that a Trainer has used, or of no backward

    def data(self, ctx: Any = None) -> NDArray:
        """The array; RuntimeError before it is filled."""
        if self._data is not None:
            return self._data
        if self._start is None:
            raise RuntimeError(f"parameter {self.name} is not initialized; call initialize() first")
        raise DeferredInitializationError(
            f"parameter {self.name} has the unknown shape {self.shape}; pass one batch first"
        )

    def grad(self, ctx: Any = None) -> NDArray:
        """The gradient; RuntimeError if ``grad_req`` is "null"."""
        if self.data().grad is None:
            raise RuntimeError(f"parameter {self.name} has no gradient: grad_req is 'null'")
        return self.data().grad

    def set_data(self, data: NDArray) -> None:
        """Copy ``data``; ValueError if its shape does not fit."""
        known = [size for size, new in zip(self.shape, data.shape) if size in (0, new)]
        if len(known) != max(len(self.shape), data.ndim):
            raise ValueError(f"parameter {self.name} has shape {self.shape}, the data {data.shape}")
        if self._data is None:
            self._hold(data.astype(self.dtype))
        else:
            self._data[:] = data


class ParameterDict(OrderedDict[str, Parameter]):
    """Parameters by name. ``get`` makes the missing; their names begin with ``prefix``."""

    def __init__(self, prefix: str = ""):
        super().__init__()
        self.prefix = prefix

    def __repr__(self) -> str:
        return "\n  ".join([f"{self.prefix} (", *map(str, self.values())]) + "\n)"

    def get(self, name: str, **settings: Any) -> Parameter:  # type: ignore[override]
        """The parameter ``prefix + name``, made with these settings if there is none."""
        new = Parameter(self.prefix + name, **settings)
        old = self.setdefault(new.name, new)
        if any(size not in (0, own) for size, own in zip(new.shape, old.shape)):
            raise ValueError(
                f"parameter {old.name} has shape {old.shape}, asked for is {new.shape}"
            )
        return old

    def initialize(self, init: Any = None, ctx: Any = None, force_reinit: bool = False) -> None:
        """Fill all, each by its own init or else by ``init``."""
        for parameter in self.values():
            parameter.initialize(None, ctx, force_reinit, init)
