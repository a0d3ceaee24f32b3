"""The table of a net's layers: output shapes, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..autograd import pause
from ..creation import zeros
from ..geometry import integer
from .module import Module, Parameter


class Row(NamedTuple):
    """One layer: its path in the net, its class, what it gave, and what it costs."""

    path: str
    layer: str
    out_shape: tuple[int, ...]
    parameters: int
    macs: int


class Summary(NamedTuple):
    """A net's layers in the order in which they ran; ``str`` is the table."""

    rows: list[Row]
    parameters: int
    macs: int

    def __str__(self) -> str:
        lines = [("layer", "", "output shape", "parameters", "MACs")]
        lines += [
            (row.path, row.layer, str(row.out_shape), f"{row.parameters:,}", f"{row.macs:,}")
            for row in self.rows
        ]
        lines.append(("total", "", "", f"{self.parameters:,}", f"{self.macs:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(5)]
        table = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, table))
        return "\n".join([table[0], rule, *table[1:-1], rule, table[-1]])


def summarize(net: Module, input_shape: Any) -> Summary:
    """Run ``net`` once on zeros, without recording, and note what each layer gives.

    ``input_shape`` is (N, C, H, W) or (N, C), or without N, which then is 1. A layer that runs
    twice has one row: the last output, the sum of its MACs. Shared parameters count once.
    """
    sizes = input_shape if isinstance(input_shape, (tuple, list)) else (input_shape,)
    shape = tuple(integer("summary: input_shape", size, 1) for size in sizes)
    if len(shape) not in (1, 2, 3, 4):
        raise ValueError(f"summary: input_shape must have 1 to 4 sizes, got {input_shape!r}")
    if len(shape) % 2:  # images and features have 4 and 2 dimensions: the batch is missing
        shape = (1, *shape)
    first = next(net.parameters(), None)
    dtype, device = (first.dtype, first.device) if first is not None else ("float32", "cpu")
    rows: dict[int, Row] = {}
    listed = [(path, m) for path, m in net.named_modules() if _does_work(m)]
    try:
        for path, module in listed:
            # an attribute of the instance hides the method of its class, for the length of this run
            vars(module)["forward"] = _noting(path or "net", module, rows)
        with pause(train=False):
            net(zeros(shape, dtype=dtype, device=device))
    finally:
        for _, module in listed:
            vars(module).pop("forward", None)
    total = sum(row.macs for row in rows.values())
    return Summary(list(rows.values()), net.num_parameters(), total)


def _does_work(module: Module) -> bool:
    """True for layers; False for modules that only pass their input from child to child."""
    return next(module.children(), None) is None or _own_parameters(module) > 0


def _own_parameters(module: Module) -> int:
    return sum(p.size for _, p in module._members() if isinstance(p, Parameter))


def _noting(path: str, module: Module, rows: dict[int, Row]) -> Callable[..., Any]:
    """``module.forward``, and a note of each call in ``rows``."""
    forward = module.forward

    def noted(x: Any, *more: Any) -> Any:
        out = forward(x, *more)
        before = rows.get(id(module))
        macs = module.macs(x.shape, out.shape) + (before.macs if before else 0)
        name = type(module).__name__
        rows[id(module)] = Row(path, name, out.shape, _own_parameters(module), macs)
        return out

    return noted
