"""Run an op of cyconv forward and backward through the public names, arrays in and arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv as cc

Array = NDArray[Any]

device = "cpu"  # where tests compute; those of the GPU backend set it


def run(
    op: str, inputs: dict[str, Array], head: Any = None, *, training: bool = True, **options: Any
) -> tuple[Array, dict[str, Array]]:
    """The op's output, and its gradients by every float input that is not a running statistic.

    `head` is the gradient by the output, ones if None. Also checks what every gradient owes its
    tensor: the same shape and dtype.
    """
    tensors = {name: as_tensor(a) for name, a in inputs.items()}
    wanted = [name for name in inputs if is_differentiable(name, tensors[name])]
    for name in wanted:
        tensors[name].attach_grad()
    with cc.record(train=training):
        out = getattr(cc.ops, op)(**tensors, **options)
    out.backward(head)
    grads = {}
    for name in wanted:
        grads[name] = tensors[name].grad.numpy()
        assert grads[name].shape == tensors[name].shape, name
        assert grads[name].dtype == tensors[name].dtype, name
    return out.numpy(), grads


def as_tensor(a: Array) -> Any:
    """A tensor of the array's own dtype."""
    return cc.tensor(a, dtype=a.dtype, device=device)


def is_differentiable(name: str, array: Any) -> bool:
    """Float arguments have gradients, except the statistics that batch norm keeps."""
    return np.issubdtype(array.dtype, np.floating) and not name.startswith("running")
