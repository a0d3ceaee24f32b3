"""Arguments that spoil the calls of kernel_calls.

`main` and `overlapping` make the calls, in a process of their own: see test_kernel_guards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_calls import Array, Call, calls

REFUSALS = (TypeError, ValueError, OverflowError, MemoryError, BufferError)


class NoMemory:
    """Says what it is, but has no memory."""

    def __init__(self) -> None:
        self.__array_interface__ = {"shape": (3,), "typestr": "<f4", "version": 3}


def garbage(call: Call, name: str) -> Iterator[tuple[str, Any]]:
    """Values that the argument must not have, with a word for each."""
    value = call.arguments[name]
    for odd in (None, 5, 1.5, "x", b"xxxx", object(), [1.0], {}, NoMemory(), float):
        yield f"{odd!r}", odd
    if isinstance(value, np.ndarray):
        yield from spoiled(call, value)
    elif isinstance(value, tuple):
        for odd in ((), (1,), (1, 1, 1), (1,) * 9, (0, 1), (1, 0), (-1, 1), (1, -(2**70))):
            yield f"{odd!r}", odd
        for odd in (2**31, 2**62, 2**63, 2**100, 1.5, "a", None, float("nan"), (1, 1), [1]):
            yield f"({odd!r}, 1)", (odd, 1)
            yield f"(1, {odd!r})", (1, odd)
        yield "a list", list(value)
    else:
        for odd in (0, -1, 3, 7, 1025, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 2**64, 10**400):
            yield f"{odd!r}", odd
        for odd in (float("nan"), float("inf"), 1j, np.ones(2), True, False):
            yield f"{odd!r}", odd


def spoiled(call: Call, a: Array) -> Iterator[tuple[str, Any]]:
    """The array in every shape, type and layout but the right one."""
    for dtype in ("f2", "f4", "f8", "g", "i4", "i8", "u1", "?", "F", "D", "S4", "M8[s]", "f4,f4"):
        if dtype != a.dtype.str[1:]:
            yield f"dtype {dtype}", call.between_guards(np.zeros_like(a, dtype, order="K"))
    yield "objects", a.astype(object)
    yield "byte-swapped", call.between_guards(a.astype(a.dtype.newbyteorder()))
    yield "memory", memoryview(bytes(a.nbytes))
    yield "scalar", call.between_guards(np.zeros((), a.dtype))
    for axis in range(a.ndim):
        yield f"axis {axis} longer", call.between_guards(np.concatenate([a, a], axis))
        for size in (0, 1, a.shape[axis] - 1):
            if size != a.shape[axis]:
                shorter = np.take(a, range(size), axis)
                yield f"axis {axis} of {size}", call.between_guards(shorter)
        yield f"axis {axis} gone", a.take(0, axis)
        if a.shape[axis] == 1:
            continue
        yield f"axis {axis} backwards", np.flip(a, axis)
        yield (
            f"axis {axis} doubled",
            np.repeat(a, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)],
        )
        yield f"axis {axis} without stride", np.broadcast_to(a.take([0], axis), a.shape)
    yield "one axis more", a[None]
    yield "flat", call.between_guards(a.reshape(-1)) if a.ndim > 1 else a[:, None]
    if a.ndim > 1:
        yield "C order", np.ascontiguousarray(a)
        yield "Fortran order", np.asfortranarray(a)
        yield "axes reversed", a.T
    raw = np.zeros(a.nbytes + 1, np.uint8)
    order = np.argsort([-s for s in a.strides])
    shifted = raw[1:].view(a.dtype).reshape([a.shape[i] for i in order])
    yield "misaligned", shifted.transpose(np.argsort(order))
    locked = call.between_guards(a)
    locked.flags.writeable = False
    yield "read-only", locked


# ------------------------------------------------------------------ the calls


def attempt(name: str, call: Call, changes: dict[str, Any], what: str) -> bool:
    """Call with some arguments replaced; True if it was refused. Stops at any harm."""
    print(f"{name}: {what}", file=sys.stderr, flush=True)
    arguments = {**call.arguments, **changes}
    inputs = {
        key: (value, value.tobytes())
        for key, value in arguments.items()
        if key not in call.writes and isinstance(value, np.ndarray) and not value.dtype.hasobject
    }
    try:
        call.function(*arguments.values())
        refused = False
    except REFUSALS as error:
        assert str(error), f"{type(error).__name__} without a message"
        refused = True
    harm = call.harm()
    assert not harm, f"{name}: {what}: {harm}"
    for key, (value, before) in inputs.items():
        assert value.tobytes() == before, f"{name}: {what}: wrote into its input {key}"
    return refused


def must_be_refused(call: Call, name: str, what: str, value: Any) -> bool:
    """Not everything above is wrong everywhere; what surely is."""
    right = call.arguments[name]
    if not isinstance(right, np.ndarray):
        if isinstance(right, tuple):
            return name != "padding" or not isinstance(value, tuple) or len(value) < 2
        return isinstance(value, (str, bytes, list, dict, type, NoMemory)) and not isinstance(
            right, bool
        )
    if "longer" in what or " of " in what:
        if {"kernel", "top"} & set(call.arguments) and what[5] in "23":
            return False  # a window does not say how large the image is
        if call.function.__name__ == "channel_sum" and what[5] in "023":
            return name == "out"
    if what in ("misaligned", "read-only"):
        return what == "read-only" and name in call.writes
    if what in ("one axis more", "flat") and name in ("w", "grad", "velocity", "m", "v"):
        return False  # optimisers change arrays of any shape
    if value is None:
        return name not in ("bias", "gamma", "beta", "gate", "velocity", "rectified")
    if isinstance(value, np.ndarray) and right.dtype == np.int32:
        return value.shape != right.shape or value.itemsize != 4
    return not (isinstance(value, np.ndarray) and value.strides == right.strides)


def main(dtype: str, seed: int) -> None:
    """Every garbage in every argument; then a thousand calls with several at a time."""
    from cyconv import kernels

    built = kernels.Kernels(kernels.choose())[np.dtype(dtype).char]
    counts = {"refused": 0, "taken": 0}
    for name in calls(built, dtype):
        for argument in calls(built, dtype)[name].arguments:
            call = calls(built, dtype)[name]
            attempt(name, call, {}, "valid")
            for what, value in garbage(call, argument):
                refused = attempt(name, call, {argument: value}, f"{argument} = {what}")
                counts["refused" if refused else "taken"] += 1
                if must_be_refused(call, argument, what, value):
                    assert refused, f"{name} took {argument} = {what}"
    rng = np.random.default_rng(seed)
    names = list(calls(built, dtype))
    for _ in range(1500):
        name = names[rng.integers(len(names))]
        call = calls(built, dtype)[name]
        changes, words = {}, []
        for argument in rng.permutation(list(call.arguments))[: rng.integers(2, 5)]:
            options = list(garbage(call, argument))
            what, value = options[rng.integers(len(options))]
            changes[argument] = value
            words.append(f"{argument} = {what}")
        refused = attempt(name, call, changes, ", ".join(words))
        counts["refused" if refused else "taken"] += 1
    print(counts["refused"], counts["taken"])


def overlapping(dtype: str) -> None:
    """Every array that is written shares memory with every other one; only a crash is wrong."""
    from cyconv import kernels

    built = kernels.Kernels(kernels.choose())[np.dtype(dtype).char]
    for name, valid in calls(built, dtype).items():
        arrays = [key for key, value in valid.arguments.items() if isinstance(value, np.ndarray)]
        for written in valid.writes:
            for other in arrays:
                for shift in (0, 16, 333):
                    if other != written:
                        overlap(name, calls(built, dtype)[name], written, other, shift)


def overlap(name: str, call: Call, written: str, other: str, shift: int) -> None:
    """Call with two arrays in one piece of memory, the second beginning `shift` numbers later."""
    a, b = call.arguments[written], call.arguments[other]
    if a.dtype != b.dtype:
        return
    whole = call.between_guards(np.ones(a.size + b.size + shift, a.dtype))
    for key, array, begin in ((written, a, 0), (other, b, shift)):
        axes = sorted(range(array.ndim), key=lambda axis, s=array.strides: -s[axis])
        memory = whole[begin : begin + array.size].reshape([array.shape[i] for i in axes])
        call.arguments[key] = memory.transpose(np.argsort(axes))
        call.arguments[key][...] = array
    print(f"{name}: {written} over {other} + {shift}", file=sys.stderr, flush=True)
    try:
        call.function(*call.arguments.values())
    except REFUSALS as error:
        assert str(error)
    harm = call.harm()
    assert not harm, f"{name}: {written} over {other}: {harm}"
