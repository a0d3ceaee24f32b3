"""The table of a net's layers: output shapes, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arguments import integer
from ..autograd import pause
from ..creation import zeros
from .containers import module_in
from .module import Module, Parameter


class Row(NamedTuple):
    """One layer: its path in the net, its class, what it gave, and what it costs.

    Parameters
    ----------
    path : names of children, as "3.body.0"; "net" for a net that is one layer
    layer : the name of the class
    out_shape : of its last output
    parameters : how many numbers it has to train, those of its children left out
    macs : multiply-adds of one forward pass over the whole batch

    >>> import cyconv as cc
    >>> cc.nn.summarize(cc.nn.Linear(4, 2), (5, 4)).rows
    [Row(path='net', layer='Linear', out_shape=(5, 2), parameters=10, macs=40)]
    """

    path: str
    layer: str
    out_shape: tuple[int, ...]
    parameters: int
    macs: int


class Summary(NamedTuple):
    """A net's layers in the order in which they ran; ``str`` is the table.

    Parameters
    ----------
    rows : a ``Row`` for each layer
    parameters : of the whole net; shared ones count once
    macs : the sum of the rows

    >>> import cyconv as cc
    >>> summary = cc.nn.summarize(cc.nn.models.lenet(), (1, 28, 28))
    >>> type(summary).__name__, len(summary.rows), summary.parameters, summary.macs
    ('Summary', 10, 129068, 2250360)
    """

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

    A layer that runs twice has one row: the last output, the sum of its MACs (multiply-adds).

    Parameters
    ----------
    net : a Module, which gets zeros of the dtype and on the device of its parameters
    input_shape : (N, C, H, W) or (N, C), or without N, which then is 1

    Returns
    -------
    A ``Summary``.

    Raises
    ------
    TypeError : net is no Module; a size that is no integer
    ValueError : a size below 1, or more than four; a shape that the net does not take

    >>> import cyconv as cc
    >>> net = cc.nn.Sequential(cc.nn.Linear(4, 3), cc.nn.ReLU(), cc.nn.Linear(3, 2))
    >>> print(cc.nn.summarize(net, 4))
    layer          output shape  parameters  MACs
    ---------------------------------------------
    0      Linear  (1, 3)                15    12
    1      ReLU    (1, 3)                 0     0
    2      Linear  (1, 2)                 8     6
    ---------------------------------------------
    total                                23    18
    """
    module_in("summary: net", net)
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
