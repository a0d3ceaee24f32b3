"""One picture of a data set. What a ``transform`` does to it waits for the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cyconv.tensor import Tensor

from . import op
from .ndarray import NDArray

# Steps that give the same bits in a batch as alone, and the types of the argument that they need.
FITTING: dict[Any, tuple[type, ...]] = {
    **dict.fromkeys((op.add, op.subtract, op.multiply, op.divide), (int, float)),
    NDArray.astype: (type, str),
    op.transpose: (tuple,),
}


class Sample(NDArray):
    """``pictures[at]`` after ``steps``, functions and their other arguments, which are taken when
    the values are asked for, or for a whole batch at once: a call for each costs more than its sum.
    """

    __slots__ = ("_at", "_pictures", "_steps", "_taken")

    def __init__(self, pictures: np.ndarray, at: int, steps: tuple[Any, ...] = ()):
        self._pictures, self._at, self._steps, self._checked = pictures, at, steps, 0
        self._taken: Tensor | None = None

    @property
    def tensor(self) -> Tensor:  # type: ignore[override]
        if self._taken is None:
            self._taken = _after(self._pictures[self._at], self._steps)
        return self._taken

    def later(self, function: Callable[..., NDArray], args: tuple[Any, ...]) -> NDArray | None:
        fits = len(args) == 1 and type(args[0]) in FITTING.get(function, ())
        if self._taken is not None or not fits or args[0] == 0:  # 0 and -0 are equal, not the same
            return None
        return Sample(self._pictures, self._at, (*self._steps, (function, *args)))

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        later = self.later(NDArray.astype, (dtype,))
        return super().astype(dtype, copy) if later is None else later


def _after(array: np.ndarray, steps: tuple[Any, ...], batch: bool = False) -> Tensor:
    x = NDArray(Tensor(array))
    for function, *args in steps:
        if batch and function is op.transpose:
            args = [(0, *(axis + (axis >= 0) for axis in args[0]))]
        x = function(x, *args)
    return x.tensor


def together(samples: Sequence[NDArray]) -> NDArray:
    """The samples as a batch: (N, ...)."""
    first, alike = samples[0], [x for x in samples if isinstance(x, Sample) and x._taken is None]
    if isinstance(first, Sample) and len(alike) == len(samples):
        pictures, steps = first._pictures, first._steps
        if all(x._pictures is pictures and x._steps == steps for x in alike):
            return NDArray(_after(pictures[[x._at for x in alike]], steps, batch=True))
    return NDArray(Tensor(np.array([x.tensor.data for x in samples])))
