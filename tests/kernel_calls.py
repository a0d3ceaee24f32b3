"""A valid call of every entry of the compiled kernels, and arguments that spoil it.

`main` makes the calls, in a process of its own: see test_kernel_guards. Arrays that a kernel writes
lie between guards, bytes that nothing may change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
N, C, F, G, SIZE = 19, 4, 6, 2, 5
WINDOW = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
OUT = (3, 3)  # of a 5 x 5 image under WINDOW
POOL = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0), "dilation": (1, 1)}
POOLED = (3, 2)
GUARD = 4096  # bytes on either side
REFUSALS = (TypeError, ValueError, OverflowError, MemoryError, BufferError)


@dataclass
class Call:
    """An entry with valid arguments; `writes` names those that it fills."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    writes: tuple[str, ...] = ()
    guards: list[Array] = field(default_factory=list)

    def protect(self) -> Call:
        """Move every array between guards."""
        for name, value in self.arguments.items():
            if isinstance(value, np.ndarray):
                self.arguments[name] = self.between_guards(value)
        return self

    def between_guards(self, array: Array) -> Array:
        """A copy of the array in the same memory order, with guards around it."""
        axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        whole = np.full(array.nbytes + 2 * GUARD, 77, np.uint8)
        inner = whole[GUARD : GUARD + array.nbytes].view(array.dtype)
        moved = inner.reshape([array.shape[a] for a in axes]).transpose(np.argsort(axes))
        moved[...] = array
        self.guards.append(whole)
        return moved

    def harm(self) -> str:
        """What was written outside the arrays."""
        for whole in self.guards:
            outside = np.concatenate([whole[:GUARD], whole[-GUARD:]])
            if not (outside == 77).all():
                return f"{(outside != 77).sum()} bytes beside an array of {len(whole) - 2 * GUARD}"
        return ""


def images(dtype: str, n: int, c: int, h: int, w: int, seed: int = 0) -> Array:
    """Random images in batch-last memory."""
    values = np.random.default_rng(seed).standard_normal((c, h, w, n)).astype(dtype)
    return values.transpose(3, 0, 1, 2)


def line(dtype: str, n: int) -> Array:
    """Random numbers."""
    return np.random.default_rng(n).standard_normal(n).astype(dtype)


def calls(k: Any, dtype: str) -> dict[str, Call]:
    """One for each entry of the modules of one build; a few entries have two."""
    x, out = images(dtype, N, C, SIZE, SIZE), images(dtype, N, F, *OUT)
    pooled = images(dtype, N, C, *POOLED)
    taps = C // G * 6
    packed = line(dtype, k.conv.packed_size(G, F // G, taps)[0])
    scratch = line(dtype, 2 * k.conv.scratch_size(taps))
    back = line(dtype, k.conv.packed_size(G, C // G, F // G * 6)[0])
    back_scratch = line(dtype, 2 * k.conv.scratch_size(F // G * 6))
    winograd = dict(zip(("n", "c", "f", "oh", "ow"), (N, C, F, *out.shape[2:])))
    turned = line(dtype, k.winograd.packed_size(C, F))
    tiles = line(dtype, 2 * k.winograd.scratch_size(*winograd.values()))
    sizes = k.conv_weight_grad.scratch_size(x, out, G, **WINDOW)
    argmax = np.zeros((C, *POOLED, N), np.int32).transpose(3, 0, 1, 2)
    average = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 1, 0, 1)}
    gammas = {name: line(dtype, C) for name in ("gamma", "beta", "mean", "var", "inv_std")}
    logits, labels = images(dtype, N, C, 1, 1), np.arange(N) % C
    steps = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.01}
    adam = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01}
    w = {name: line(dtype, 40) for name in ("w", "grad", "velocity", "m", "v")}
    correlate = {"groups": G, **WINDOW, "transposed": False, "direct": True, "threads": 2}
    bn = {"gamma": gammas["gamma"], "mean": gammas["mean"], "inv_std": gammas["inv_std"]}
    pack = {"groups": G, "rows": F // G, "cols": C // G, "taps": 6, "swapped": False, "threads": 2}
    table: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
        "conv.scratch_size": (k.conv.scratch_size, {"taps": 4}, ()),
        "conv.packed_size": (k.conv.packed_size, {"groups": 2, "fg": 3, "taps": 4}, ()),
        "conv.correlate": (
            k.conv.correlate,
            {"x": x, "w": packed, "out": out, "scratch": scratch, **correlate},
            ("out", "scratch"),
        ),
        "conv.correlate im2col": (
            k.conv.correlate,
            {"x": x, "w": packed, "out": out, "scratch": scratch, **correlate, "direct": False},
            ("out", "scratch"),
        ),
        "conv.correlate transposed": (
            k.conv.correlate,
            {"x": out, "w": back, "out": x, "scratch": back_scratch, **correlate}
            | {"transposed": True},
            ("out", "scratch"),
        ),
        "conv.pack_weights": (
            k.conv.pack_weights,
            {"w": line(dtype, F * taps), "bias": line(dtype, F), "out": packed, **pack},
            ("out",),
        ),
        "winograd.scratch_size": (k.winograd.scratch_size, winograd, ()),
        "winograd.packed_size": (k.winograd.packed_size, {"c": C, "f": F}, ()),
        "winograd.pack_weights": (
            k.winograd.pack_weights,
            {"w": line(dtype, F * C * 9), "u": turned, "rows": F, "cols": C}
            | {"swapped": False, "threads": 2},
            ("u",),
        ),
        "winograd.correlate": (
            k.winograd.correlate,
            {"x": x, "u": turned, "bias": line(dtype, F), "out": out, "scratch": tiles}
            | {"top": 1, "left": 1, "threads": 2},
            ("out", "scratch"),
        ),
        "conv_weight_grad.scratch_size": (
            k.conv_weight_grad.scratch_size,
            {"x": x, "dout": out, "groups": G, **WINDOW},
            (),
        ),
        "conv_weight_grad.weight_grad": (
            k.conv_weight_grad.weight_grad,
            {"x": x, "dout": out, "dw": line(dtype, F * taps), "scratch": line(dtype, 2 * sizes)}
            | {"groups": G, **WINDOW, "threads": 2},
            ("dw", "scratch"),
        ),
        "pool.max_pool": (
            k.pool.max_pool,
            {"x": x, "out": pooled, "argmax": argmax, **POOL, "threads": 2},
            ("out", "argmax"),
        ),
        "pool.max_pool_backward": (
            k.pool.max_pool_backward,
            {"dout": pooled, "argmax": argmax, "dx": x, **POOL, "threads": 2},
            ("dx",),
        ),
        "pool.avg_pool": (
            k.pool.avg_pool,
            {"src": x, "dst": pooled, **average, "count_include_pad": True, "transposed": False}
            | {"threads": 2},
            ("dst",),
        ),
        "pool.avg_pool transposed": (
            k.pool.avg_pool,
            {"src": pooled, "dst": x, **average, "count_include_pad": False, "transposed": True}
            | {"threads": 2},
            ("dst",),
        ),
        "norm.channel_sum": (
            k.norm.channel_sum,
            {"a": x, "out": line(dtype, C), "threads": 2},
            ("out",),
        ),
        "norm.batch_norm": (
            k.norm.batch_norm,
            {"x": x, "out": images(dtype, N, C, SIZE, SIZE), **gammas, "eps": 1e-5, "threads": 2},
            ("out", "mean", "var", "inv_std"),
        ),
        "norm.batch_norm_backward": (
            k.norm.batch_norm_backward,
            {"dout": x, "x": x, "dx": x, **bn, "dgamma": line(dtype, C), "dbeta": line(dtype, C)}
            | {"threads": 2},
            ("dx", "dgamma", "dbeta"),
        ),
        "loss.cross_entropy": (
            k.loss.cross_entropy,
            {"logits": logits, "target": labels, "smoothing": 0.1, "losses": line(dtype, N)}
            | {"log_probs": logits},
            ("losses", "log_probs"),
        ),
        "loss.cross_entropy_backward": (
            k.loss.cross_entropy_backward,
            {"dlosses": line(dtype, N), "log_probs": logits, "target": labels, "smoothing": 0.1}
            | {"dlogits": logits},
            ("dlogits",),
        ),
        "elementwise.relu": (
            k.elementwise.relu,
            {"x": x, "out": x, "threads": 2},
            ("out",),
        ),
        "elementwise.relu_backward": (
            k.elementwise.relu_backward,
            {"dout": x, "out": x, "dx": x, "threads": 2},
            ("dx",),
        ),
        "elementwise.sgd_step": (
            k.elementwise.sgd_step,
            {name: w[name] for name in ("w", "grad", "velocity")}
            | {**steps, "nesterov": True, "threads": 2},
            ("w", "velocity"),
        ),
        "elementwise.adam_step": (
            k.elementwise.adam_step,
            {name: w[name] for name in ("w", "grad", "m", "v")}
            | {"step": 1, **adam, "decoupled": True, "threads": 2},
            ("w", "m", "v"),
        ),
        "elementwise.to_batch_last": (
            k.elementwise.to_batch_last,
            {"src": line(dtype, x.size), "dst": x, "threads": 2},
            ("dst",),
        ),
    }
    return {name: Call(f, dict(a), writes).protect() for name, (f, a, writes) in table.items()}


# ------------------------------------------------------------------ garbage


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
    if value is None:
        return name not in ("bias", "gamma", "beta", "velocity")
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
