"""Calls of every public function with arguments of every kind, right ones and absurd ones mixed.

`main` makes them, in a process of its own: see test_fuzz. Whatever the arguments, a call returns or
raises one of `REFUSALS` with a message, soon, without a warning.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np

import cyconv as cc
from cyconv import nn
from cyconv.gradcheck import GradientError

REFUSALS = (ValueError, TypeError, IndexError, RuntimeError, MemoryError, OverflowError)
NOT_CALLED = {  # of cyconv itself
    "Tensor",  # made by the others
    "data",
    "train",
    "load",  # files have tests of their own
    "save",
    "set_backend",  # would change what is tested
    "show_config",
}
PATIENCE = 3.0  # seconds

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-300, 1e300, 1e38, -1e38, 0.5]
NUMBERS: list[Any] = [
    *(0, 1, 2, 3, 4, 5, -1, -2, 7, 16, 100, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 2**70),
    *SPECIAL,
    *(True, False, np.int64(2), np.float32(0.5), np.uint8(1), np.bool_(True), Fraction(1, 2), 1j),
    10**400,
]
ODDITIES: list[Any] = [
    *(
        None,
        "",
        "a",
        "mean",
        "sum",
        "none",
        "auto",
        "direct",
        "im2col",
        "winograd",
        "same",
        "valid",
        "tanh",
    ),
    *(b"", b"1", (), [], {}, {1}, (None,), [[]], [[1], [1, 2]], [1, "a"], {"a": 1}, object()),
    *(object, len, lambda *a: a, range(3), slice(None), ..., iter([1]), type),
    *("float32", "float64", "int64", "float16", np.float32, "cpu", "cuda", "write", "add", "less"),
]
DTYPES = [
    "f4",
    "f4",
    "f4",
    "f8",
    "f8",
    "i8",
    "i4",
    "u1",
    "?",
    "f2",
    "c8",
    "O",
    "U2",
    ">f4",
    "M8[s]",
]


class Fuzzer:
    """Random arguments from a seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.first: tuple[int, ...] = ()  # shape of the call's first tensor

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # -------------------------------------------------------------- values

    def shape(self, ndim: int | None = None) -> tuple[int, ...]:
        ndim = self.pick([0, 1, 2, 2, 3, 4, 4, 4, 5]) if ndim is None else ndim
        return tuple(self.pick([0, 1, 1, 2, 2, 3, 4, 5, 9, 17]) for _ in range(ndim))

    def array(self, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> Any:
        """An array with some special values, laid out in some way."""
        shape = self.shape() if shape is None else shape
        dtype = dtype or self.pick(DTYPES)
        values = np.asarray(self.rng.standard_normal(shape))
        if self.chance(0.2) and values.size:
            values.flat[int(self.rng.integers(values.size))] = self.pick(SPECIAL)
        if dtype in ("i8", "i4", "u1"):
            values = np.asarray(self.rng.integers(0, 5, shape))
        array = values.astype("U2" if dtype == "U2" else "i8" if dtype[0] == "M" else dtype)
        array = array.astype(dtype)
        layout = self.pick(["C", "C", "F", "last", "back", "broadcast", "read-only", "misaligned"])
        if layout == "F":
            array = np.asfortranarray(array)
        elif layout == "last" and array.ndim > 1:
            array = np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
        elif layout == "back" and array.ndim:
            array = array[::-1]
        elif layout == "broadcast":
            array = np.broadcast_to(array, (self.pick([1, 2]), *array.shape))
        elif layout == "read-only":
            array.flags.writeable = False
        elif layout == "misaligned" and array.dtype.kind in "fiu" and array.ndim:
            raw = np.zeros(array.nbytes + 1, np.uint8)
            moved = raw[1:].view(array.dtype).reshape(array.shape)
            moved[...] = array
            array = moved
        return array

    def tensor(self, shape: tuple[int, ...] | None = None) -> Any:
        dtype = self.pick(["f4", "f4", "f4", "f4", "f8", "i8", "u1", "b1"])
        values = self.array(shape, dtype)
        if dtype in ("i8", "u1"):
            values = np.clip(values, 0, 4)
        tensor = cc.tensor(values, dtype)
        if dtype in ("f4", "f8") and self.chance(0.6):
            tensor.attach_grad(self.pick(["write", "add"]))
        return tensor

    def anything(self, depth: int = 0) -> Any:
        kind = self.pick(["number", "number", "odd", "array", "tensor", "list", "tuple"])
        if kind == "number":
            return self.pick(NUMBERS)
        if kind == "odd" or depth > 1:
            return self.pick(ODDITIES)
        if kind == "array":
            return self.array()
        if kind == "tensor":
            return self.tensor()
        items = [self.anything(depth + 1) for _ in range(int(self.rng.integers(4)))]
        return items if kind == "list" else tuple(items)

    def plausible(self, name: str) -> Any:
        """Something that an argument of this name might well be."""
        if name in ("x", "a", "input", "logits", "data", "t"):
            value = self.tensor() if self.chance(0.8) else self.array()
            self.first = value.shape
            return value
        fits = self.first[1:2] or (1,)
        if name == "w":
            filters = self.pick([1, 2, 4, 7, 15])
            window = (self.pick([1, 2, 3]), self.pick([1, 2, 3]))
            return self.tensor(
                (filters, *fits, *window) if len(self.first) == 4 else (filters, *fits)
            )
        if name in ("target", "grad", "other", "value"):
            return self.tensor(self.first)
        if name in ("b", "gamma", "beta", "running_mean", "running_var"):
            return self.tensor(self.pick([fits, fits, self.first, self.shape(1)]))
        if name == "labels":
            return self.rng.integers(0, 2, self.first[:1] or 1)
        if name in ("tensors", "params", "inputs"):
            return [self.tensor((2, 3)) for _ in range(int(self.rng.integers(1, 4)))]
        if name in ("axis", "axes"):
            return self.pick([None, 0, 1, -1, (0, 1), (1, 0), (0, 2, 3, 1)])
        if name in ("shape", "x_shape", "w_shape", "normalized_shape"):
            return self.shape()
        if name in ("padding", "stride", "dilation", "kernel_size", "output_padding", "groups"):
            return self.pick([0, 1, 1, 2, 3, (1, 2), (2, 0), ((0, 1), (2, 0)), "same"])
        if name in ("function",):
            return self.pick([cc.ops.exp, cc.ops.mul, lambda *a: a[0] * 2, lambda *a: cc.ones(2)])
        if name == "index":
            return self.pick([0, -1, slice(1, None), ..., None, [0, 0], (0, 1), np.array([True])])
        return self.pick([0, 1, 2, 3, 0.5, True, False, 1e-3])

    # -------------------------------------------------------------- calls

    def arguments(self, function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
        """For this signature; sometimes one too few or too many."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except ValueError:
            parameters = []
        wild = self.pick([0.0, 0.0, 0.1, 0.1, 0.3, 1.0])
        self.first = (2, 3, 4, 5)
        for p in parameters:
            if p.name == "self":
                continue
            if p.kind is p.KEYWORD_ONLY and self.chance(0.6):
                continue  # keeps its default
            value = self.anything() if self.chance(wild) else self.plausible(p.name)
            if p.kind is p.VAR_POSITIONAL:
                positional += [value for _ in range(int(self.rng.integers(3)))]
            elif p.kind is p.KEYWORD_ONLY or (named and p.kind is p.POSITIONAL_OR_KEYWORD):
                named[p.name] = value
            elif p.kind is p.POSITIONAL_OR_KEYWORD:
                positional.append(value)
        if self.chance(0.02) and positional:
            positional.pop()
        if self.chance(0.02):
            named["nonsense"] = 1
        return positional, named


def targets() -> list[tuple[str, Callable[[Fuzzer], Callable[..., Any]]]]:
    """Everything public, as (name, what gives the function)."""
    found: list[tuple[str, Callable[[Fuzzer], Callable[..., Any]]]] = []
    for name in cc.ops.__all__:
        found += [(f"ops.{name}", lambda f, name=name: getattr(cc.ops, name))] * 3
    for name in sorted(set(cc.__all__) - NOT_CALLED):
        thing = getattr(cc, name)
        if callable(thing):
            found.append((name, lambda f, thing=thing: thing))
    for name in dir(cc.Tensor):
        member = getattr(cc.Tensor, name)
        hidden = name in ("__init__", "__array__", "__dlpack__")  # the last two are NumPy's
        ours = getattr(member, "__module__", "") == "cyconv.tensor"
        if callable(member) and ours and not hidden and (name[0] != "_" or name[:2] == "__"):
            found.append((f"Tensor.{name}", lambda f, name=name: getattr(f.tensor(), name)))
    for name in nn.__all__:
        thing = getattr(nn, name)
        if inspect.isclass(thing) and issubclass(thing, nn.Module):
            found.append((f"nn.{name}", lambda f, thing=thing: layer(f, thing)))
    for name in (name for name in dir(nn.init) if name.endswith("_") and name[0] != "_"):
        found.append((f"nn.init.{name}", lambda f, name=name: getattr(nn.init, name)))
    for name in cc.optim.__all__:
        found.append((f"optim.{name}", lambda f, name=name: getattr(cc.optim, name)))
    return found


def layer(fuzzer: Fuzzer, kind: type[Any]) -> Callable[..., Any]:
    """A function that makes a layer and then calls it."""

    def make_and_call(*args: Any, **kwargs: Any) -> Any:
        made = kind(*args, **kwargs)
        repr(made)
        return made(fuzzer.tensor())

    make_and_call.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return make_and_call


def one_call(fuzzer: Fuzzer, name: str, find: Callable[[Fuzzer], Callable[..., Any]]) -> str:
    """Make one call; returns what became of it."""
    function = find(fuzzer)
    positional, named = fuzzer.arguments(function)
    cc.seed(int(fuzzer.rng.integers(1000)))
    shown = ", ".join([*map(brief, positional), *(f"{k}={brief(v)}" for k, v in named.items())])
    print(f"{name}({shown})", file=sys.stderr, flush=True)
    mode = fuzzer.pick([nullcontext, cc.record, lambda: cc.record(train=False), cc.train_mode])
    start = time.perf_counter()
    outcome = "returned"
    try:
        with mode():
            result = function(*positional, **named)
        if isinstance(result, cc.Tensor):
            repr(result)
            if fuzzer.chance(0.7):
                result.backward(fuzzer.array() if fuzzer.chance(0.2) else None)
    except REFUSALS as error:
        assert str(error).strip(), f"{type(error).__name__} without a message"
        assert not isinstance(error, RecursionError), "too deep"
        outcome = type(error).__name__
    except GradientError as error:
        assert str(error)
    seconds = time.perf_counter() - start
    assert seconds < PATIENCE, f"took {seconds:.1f} s"
    assert not cc.is_recording() and not cc.is_training()
    cc.set_num_threads(1)
    return outcome


def brief(value: Any) -> str:
    """An argument in one short line."""
    if isinstance(value, (np.ndarray, cc.Tensor)):
        return f"{type(value).__name__}{value.shape}:{value.dtype}"
    if isinstance(value, (list, tuple)) and len(value) < 5:
        return f"{type(value).__name__}[{', '.join(map(brief, value))}]"
    return repr(value)[:60]


def main(seed: int, rounds: int) -> None:
    """Call everything so many times."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
    fuzzer, counts = Fuzzer(seed), dict[str, int]()
    everything = targets()
    # what NumPy says about overflow and division by zero is the user's to choose, by np.seterr
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            for name, find in everything:
                outcome = one_call(fuzzer, name, find)
                counts[outcome] = counts.get(outcome, 0) + 1
    print(counts)
