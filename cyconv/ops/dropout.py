"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import autograd, random
from ..arguments import number
from ..autograd import Array, Op
from ..backends import beside, namespace_of
from ..tensor import Tensor, apply
from .inputs import tensor_in


class Dropout(Op):
    any_layout = True
    keeps_inputs = False

    def __init__(self, p: float):
        self.p = p

    def forward(self, x: Array) -> Array:
        kept = random.generator().random(x.shape, dtype=np.float32) >= self.p
        scale = 0.0 if self.p == 1 else 1 / (1 - self.p)
        mask = namespace_of(x).empty_like(x)  # in x's own memory order
        mask[...] = beside(kept, x)
        mask *= x.dtype.type(scale)
        self.mask = mask
        return x * mask

    def backward(self, dout: Array) -> Array:
        return dout * self.mask


def dropout(x: Any, p: float = 0.5) -> Tensor:
    """In training mode set each element to 0 with probability p and scale the rest by 1/(1-p).

    Outside training mode x is returned as it is. The random numbers come from ``cyconv.seed``'s
    stream.

    Parameters
    ----------
    x : any shape, float32 or float64
    p : from 0 to 1

    Returns
    -------
    A tensor of the shape and dtype of x.

    Raises
    ------
    ValueError : p outside 0 to 1
    TypeError : x holds no numbers, or is a tensor of integers

    Source: Srivastava et al., "Dropout", 2014.

    >>> import cyconv as cc
    >>> cc.seed(0)
    >>> with cc.train_mode():
    ...     cc.ops.dropout([1.0, 1.0, 1.0, 1.0])
    tensor([2., 2., 2., 0.])
    """
    tensor = tensor_in("dropout", "input", x)
    probability = number("dropout: p", p, 0, 1)
    if not autograd.is_training() or probability == 0:
        return tensor
    return apply(Dropout(probability), tensor)
