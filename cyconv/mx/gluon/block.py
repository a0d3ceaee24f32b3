"""Parameters, whose shapes may be settled by the first batch, and blocks, which hold them."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..initializer import NAMED, Uniform
from ..ndarray import NDArray, load, save, zeros


class DeferredInitializationError(RuntimeError):
    """The parameter's shape is not known before the first batch."""


@dataclass(eq=False, repr=False, slots=True)  # what it does not know is refused: lr_mult, say
class Parameter:
    """An array to train; sizes of 0 in ``shape`` are not known yet.

    ``grad_req`` is "write", "add", or "null" for an array that is kept but not trained.
    """

    name: str
    grad_req: str = "write"
    shape: Any = ()
    dtype: Any = np.float32
    init: Any = None
    allow_deferred_init: bool = False
    _start: Any = None  # what fills it
    _data: NDArray | None = None
    used: Any = None  # the gradient of the last step

    def __post_init__(self) -> None:
        self.shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "grad_req" and getattr(self, "_data", None) is not None:
            self._hold(self._data.detach())  # type: ignore[union-attr]

    def __repr__(self) -> str:
        return f"Parameter {self.name} (shape={self.shape}, dtype={self.dtype})"

    def initialize(self, init: Any = None, ctx: Any = None, force_reinit: bool = False) -> None:
        """Fill by ``init``, or else by the parameter's own."""
        if self._data is not None and not force_reinit:
            return
        how = init or self.init or Uniform()
        if isinstance(how, str) and how not in NAMED:
            raise ValueError(f"initialize: init must be one of {', '.join(NAMED)}, got {how!r}")
        self._data, self._start = None, NAMED[how] if isinstance(how, str) else how
        if 0 not in self.shape:
            self.settle()
        elif not self.allow_deferred_init:
            raise ValueError(f"initialize: {self.name} has the unknown shape {self.shape}")

    def settle(self, size: int = 0) -> NDArray:
        """``data()``, filled now if it waited for the size that it does not know."""
        if self._data is None and self._start is not None:
            array = zeros([known or size for known in self.shape], dtype=self.dtype)
            self._start._init_weight(self.name, array)
            self._hold(array)
        return self.data()

    def _hold(self, array: NDArray) -> None:
        self.shape, self._data = array.shape, array
        if self.grad_req != "null":
            array.attach_grad(self.grad_req)
            self.used = array.tensor.grad

    def data(self, ctx: Any = None) -> NDArray:
        if self._data is None and self._start is None:
            raise RuntimeError(f"parameter {self.name} is not initialized; call initialize() first")
        if self._data is None:
            raise DeferredInitializationError(f"{self} waits for its shape; pass one batch first")
        return self._data

    def grad(self, ctx: Any = None) -> NDArray:
        if self.grad_req == "null":
            raise RuntimeError(f"parameter {self.name} has no gradient: grad_req is 'null'")
        return self.data().grad

    def set_data(self, data: NDArray) -> None:
        if not _fit(self.shape, data.shape):
            raise ValueError(f"parameter {self.name} has shape {self.shape}, the data {data.shape}")
        if self._data is None:
            self._hold(data.astype(self.dtype))
        else:
            self._data[:] = data


def _fit(known: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the shapes can be the same; sizes of 0 are not known."""
    return len(known) == len(shape) and all(m == n or m * n == 0 for m, n in zip(known, shape))


class ParameterDict(OrderedDict[str, Parameter]):
    """Parameters by name. ``get`` makes the missing; their names begin with ``prefix``."""

    def __init__(self, prefix: str = ""):
        super().__init__()
        self.prefix = prefix

    def __repr__(self) -> str:
        return "\n".join([f"{self.prefix} (", "\n".join(f"  {p}" for p in self.values()), ")"])

    def get(self, name: str, **settings: Any) -> Parameter:  # type: ignore[override]
        new = Parameter(self.prefix + name, **settings)
        found = self.setdefault(new.name, new)
        if new.shape and not _fit(found.shape, new.shape):
            raise ValueError(f"{found} is asked for with shape={new.shape}")
        return found

    def initialize(self, init: Any = None, ctx: Any = None, force_reinit: bool = False) -> None:
        """Fill all, each by its own init or else by ``init``."""
        for parameter in self.values():
            parameter.initialize(parameter.init or init, ctx, force_reinit)


class Block:
    """Base of layers and nets. Blocks and Parameters that are set as attributes belong to it."""

    hint = ""  # the name's beginning, if it is not that of the class

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None):
        scope, hint = _scopes[-1], self.hint or type(self).__name__.lower()
        if prefix is None:
            prefix = f"{hint}{scope._counts[hint]}_"
            scope._counts[hint] += 1
        self.prefix: str = scope.prefix + prefix
        self.name, self._counts = self.prefix.removesuffix("_"), Counter[str]()
        self.params = ParameterDict(self.prefix) if params is None else params

    @contextmanager
    def name_scope(self) -> Iterator[None]:
        """Context manager: the names of blocks that are made in it begin with this one's."""
        _scopes.append(self)
        try:
            yield
        finally:
            _scopes.pop()

    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)

    def forward(self, *args: Any) -> Any:
        raise RuntimeError(f"{type(self).__name__} does not define forward")

    def __repr__(self) -> str:
        lines = [f"  ({k}): {v!r}".replace("\n", "\n  ") for k, v in self._children().items()]
        return "\n".join([f"{type(self).__name__}(", "\n".join(lines), ")"])

    def _children(self) -> dict[str, Block]:
        return {name: thing for name, thing in vars(self).items() if isinstance(thing, Block)}

    def _parameters(self, place: str = "") -> dict[str, Parameter]:
        """All by where they are, as "0.weight"; own ones first."""
        found = {place + n: p for n, p in vars(self).items() if isinstance(p, Parameter)}
        for name, child in self._children().items():
            found |= child._parameters(f"{place}{name}.")
        return found

    def _settled(self, size: int) -> list[NDArray]:
        return [parameter.settle(size) for parameter in self._parameters().values()]

    def collect_params(self, select: str | None = None) -> ParameterDict:
        """All parameters here and below, or those whose name matches ``select``."""
        found = ParameterDict(self.params.prefix)
        found.update({n: p for n, p in self.params.items() if re.match(select or "", n)})
        for child in self._children().values():
            found.update(child.collect_params(select))
        return found

    def initialize(self, init: Any = None, ctx: Any = None, force_reinit: bool = False) -> None:
        self.collect_params().initialize(init, ctx, force_reinit)

    def save_parameters(self, filename: Any) -> None:
        save(filename, {name: p.data() for name, p in self._parameters().items()})

    def load_parameters(self, filename: Any, ctx: Any = None) -> None:
        """Read what ``save_parameters`` or MXNet wrote, named by place or by full names, which may
        lack this block's prefix."""
        loaded, full, own = load(filename), self.collect_params(), self._parameters()
        bare = {name.removeprefix(self.prefix): p for name, p in full.items()}
        named = [some for some in (own, full, bare) if some.keys() == loaded.keys()]
        if not named:
            raise ValueError(f"load_parameters: {filename} has {sorted(loaded)}, not {sorted(own)}")
        for name, parameter in named[0].items():
            parameter.set_data(loaded[name])

    save_params, load_params = save_parameters, load_parameters


_scopes: list[Any] = [SimpleNamespace(prefix="", _counts=Counter())]  # whose name_scope() we are in
