"""Checking gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import autograd
from .arguments import ABOVE_0, number, shown
from .creation import as_tensor
from .tensor import Tensor


class GradientError(AssertionError):
    """What ``gradcheck`` raises when a gradient differs from the finite difference.

    >>> import cyconv as cc
    >>> cc.gradcheck(lambda x: x * x.detach(), [[3.0]])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    cyconv.gradcheck.GradientError: gradient by input 0 at (0,) is ... (error ...; 1 of 1 ...)
    """


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    train: bool = True,
) -> bool:
    """Compare the gradients of ``function(*inputs)`` with central differences.

    The result, a tensor of any shape, is weighted with fixed random numbers and summed; then each
    element of each input is moved by ``eps`` both ways: two calls of ``function`` per element.

    Parameters
    ----------
    function : takes tensors, returns a tensor; must give the same result when called again, so
        random ops like dropout need ``train=False`` or a seed set inside
    inputs : a list of float64 tensors or arrays (float32 is too coarse for a difference quotient);
        numbers and lists become float64
    eps : how far an element is moved, above 0
    atol, rtol : the gradient g may differ from the difference d by atol + rtol * abs(d)
    train : whether the function runs in training mode

    Returns
    -------
    True.

    Raises
    ------
    GradientError : they differ; names the worst element, its two values and the error
    TypeError : an input is not float64; function cannot be called or does not return a tensor
    ValueError : eps is not above 0
    RuntimeError : the result depends on no input

    >>> import numpy as np
    >>> import cyconv as cc
    >>> cc.gradcheck(cc.ops.exp, [np.linspace(-1, 1, 5)])
    True
    """
    eps = number("gradcheck: eps", eps, ABOVE_0)
    atol, rtol = number("gradcheck: atol", atol), number("gradcheck: rtol", rtol)
    if not isinstance(inputs, Sequence):
        raise TypeError(f"gradcheck: inputs must be a list of arrays, got {shown(inputs)}")
    if not callable(function):
        raise TypeError(f"gradcheck: function must be callable, got {function!r}")
    arrays, devices = [], []
    for i, given in enumerate(inputs):
        tensor = as_tensor(given, np.float64)
        if tensor.dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} must be float64, got {tensor.dtype}")
        arrays.append(tensor.numpy().copy())
        devices.append(tensor.device)

    def copies() -> list[Tensor]:
        return [Tensor(array.copy()).to(device) for array, device in zip(arrays, devices)]

    tensors = [tensor.attach_grad() for tensor in copies()]
    with autograd.record(train):
        out = function(*tensors)
    if not isinstance(out, Tensor):
        raise TypeError(f"gradcheck: function must return a tensor, got {type(out).__name__}")
    weights = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)
    weights *= np.random.default_rng(1).choice([-1.0, 1.0], out.shape)
    out.backward(weights)

    def value() -> float:
        with autograd.train_mode() if train else autograd.predict_mode():
            result = function(*copies())
        return float((result.numpy() * weights).sum())

    for i, (array, tensor) in enumerate(zip(arrays, tensors)):
        assert tensor.grad is not None  # attach_grad made it
        gradient = tensor.grad.numpy()
        if gradient.shape != array.shape:
            raise GradientError(
                f"input {i} has shape {array.shape} but its gradient has shape {gradient.shape}"
            )
        difference = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            before = array[index]
            array[index] = before + eps
            above = value()
            array[index] = before - eps
            difference[index] = (above - value()) / (2 * eps)
            array[index] = before
        error = np.abs(gradient - difference)
        excess = error - (atol + rtol * np.abs(difference))
        if excess.size and not (excess <= 0).all():  # not (<= 0): NaN is an error too
            at = np.unravel_index(np.argmax(np.nan_to_num(excess, nan=np.inf)), excess.shape)
            place = tuple(int(j) for j in at)
            raise GradientError(
                f"gradient by input {i} at {place} is {gradient[at]:.9g} but the difference "
                f"quotient is {difference[at]:.9g} (error {error[at]:.3g}; "
                f"{int((~(excess <= 0)).sum())} of {excess.size} elements are off)"
            )
    return True
