"""Block: what layers and nets are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..ndarray import load, save
from .parameter import Parameter, ParameterDict

_scopes: list[Block] = []  # whose name_scope() we are in
_counts: Counter[str] = Counter()  # of the names outside of all scopes


class Block:
    """Base of layers and nets. Blocks and Parameters that are set as attributes belong to it."""

    hint = ""  # the name's beginning, if it is not that of the class

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None):
        self._children: dict[str, Block] = {}
        self._own: dict[str, Parameter] = {}
        self._inner: Counter[str] = Counter()
        counts = _scopes[-1]._inner if _scopes else _counts
        hint = self.hint or type(self).__name__.lower()
        if prefix is None:
            prefix, counts[hint] = f"{hint}{counts[hint]}_", counts[hint] + 1
        self.prefix: str = (_scopes[-1].prefix if _scopes else "") + prefix
        self.name = self.prefix.removesuffix("_")
        self.params = ParameterDict(self.prefix) if params is None else params

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, (Block, Parameter)):
            (self._children if isinstance(value, Block) else self._own)[name] = value  # type: ignore

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
        lines = [f"  ({k}): {v!r}".replace("\n", "\n  ") for k, v in self._children.items()]
        return "\n".join([f"{type(self).__name__}(", "\n".join(lines), ")"])

    def collect_params(self, select: str | None = None) -> ParameterDict:
        """All parameters here and below, or those whose name matches ``select``."""
        found = ParameterDict(self.params.prefix)
        found.update({n: p for n, p in self.params.items() if re.match(select or "", n)})
        for child in self._children.values():
            found.update(child.collect_params(select))
        return found

    def initialize(self, init: Any = None, ctx: Any = None, force_reinit: bool = False) -> None:
        """Fill all parameters; see ``ParameterDict.initialize``."""
        self.collect_params().initialize(init, ctx, force_reinit)

    def _by_place(self, place: str = "") -> dict[str, Parameter]:
        """Parameters by where they are, as "0.weight"."""
        found = {place + name: parameter for name, parameter in self._own.items()}
        for name, child in self._children.items():
            found.update(child._by_place(f"{place}{name}."))
        return found

    def save_parameters(self, filename: Any) -> None:
        """Write all parameters, named by their place, as MXNet reads them."""
        save(filename, {name: p.data() for name, p in self._by_place().items()})

    def load_parameters(
        self,
        filename: Any,
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
    ) -> None:
        """Read what ``save_parameters`` or MXNet wrote, named by place or by full names.

        ValueError if names or shapes do not fit; the flags pass over names that one side lacks.
        """
        loaded = load(filename)
        own = self._by_place() if any("." in name for name in loaded) else self.collect_params()
        missing, extra = sorted(own.keys() - loaded.keys()), sorted(loaded.keys() - own.keys())
        if (missing and not allow_missing) or (extra and not ignore_extra):
            raise ValueError(f"load_parameters: {filename} lacks {missing} and has besides {extra}")
        for name in own:
            if name in loaded:
                own[name].set_data(loaded[name])

    save_params, load_params = save_parameters, load_parameters
