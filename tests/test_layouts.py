"""The memory layout of an array must not change a bit of any result, forward or backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, every_op
from numpy.typing import NDArray
from running import is_differentiable, run

import cyconv as cc

Array = NDArray[Any]


def fortran(a: Array) -> Array:
    """The first axis is the fastest."""
    return np.asfortranarray(a)


def batch_last(a: Array) -> Array:
    """As the kernels like it: (C, H, W, N) in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)


def padded_channels(a: Array) -> Array:
    """Batch-last, with room between the planes of different channels."""
    if a.ndim < 2:
        return a
    planes = np.moveaxis(a, 0, -1)
    roomy = np.full((planes.shape[0], planes[0].size + 3), np.nan).astype(a.dtype)
    inner = roomy[:, : planes[0].size].reshape(planes.shape)
    assert np.shares_memory(inner, roomy)
    inner[...] = planes
    return np.moveaxis(inner, -1, 0)


def negative_strides(a: Array) -> Array:
    """Every axis backwards."""
    everywhere = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[everywhere])[everywhere]


def images_backwards(a: Array) -> Array:
    """As the kernels like it, but the last image first."""
    return batch_last(a[::-1])[::-1]


def channels_backwards(a: Array) -> Array:
    """As the kernels like it, but the last channel first."""
    return batch_last(a[:, ::-1])[:, ::-1] if a.ndim > 1 else a


def every_other(a: Array) -> Array:
    """Every axis with gaps."""
    roomy = np.full([2 * n for n in a.shape], 99).astype(a.dtype)
    inner = roomy[(slice(None, None, 2),) * a.ndim]
    inner[...] = a
    return inner


def read_only(a: Array) -> Array:
    """Not writeable."""
    a = a.copy()
    a.setflags(write=False)
    return a


def misaligned(a: Array) -> Array:
    """One byte off."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    inner = memory[1:].view(a.dtype).reshape(a.shape)
    inner[...] = a
    assert a.nbytes == 0 or not inner.flags.aligned
    return inner


def byte_swapped(a: Array) -> Array:
    """The other byte order."""
    return a.astype(a.dtype.newbyteorder("S"))


def swapped_misaligned_fortran(a: Array) -> Array:
    """Several at a time."""
    return read_only(misaligned(byte_swapped(a)).T.copy().T)


LAYOUTS: list[Callable[[Array], Array]] = [
    fortran,
    batch_last,
    padded_channels,
    negative_strides,
    images_backwards,
    channels_backwards,
    every_other,
    read_only,
    misaligned,
    byte_swapped,
    swapped_misaligned_fortran,
]

SMALL = every_op(3)
CASES = [*SMALL, *every_op(17, c=12, size=7, f=13), *every_op(5, c=18, dtype="float64")]


def results(case: Case, layout: Callable[[Array], Array], head: Array) -> dict[str, Array]:
    """The output, and each gradient, with every array and the gradient given to backward so laid.

    Each gradient is computed in a run of its own, in which the other arguments are arrays.
    """
    odd = {name: layout(a) for name, a in case.inputs.items()}
    head = layout(head) if head.ndim else head
    found = {n: one_gradient(case, odd, n, head) for n in differentiable(case)}
    constants = {n: running_tensor(n, a) for n, a in odd.items()}
    with mode(case):
        found["out"] = getattr(cc.ops, case.op)(**constants, **case.options).numpy()
    return found


def differentiable(case: Case) -> list[str]:
    """The arguments that have gradients."""
    return [name for name, a in case.inputs.items() if is_differentiable(name, a)]


def one_gradient(case: Case, odd: dict[str, Array], name: str, head: Array) -> Array:
    """The gradient by one argument, the others being constants."""
    arguments = {n: running_tensor(n, a) for n, a in odd.items()}
    leaf = cc.as_tensor(odd[name]).attach_grad()  # shares the memory where it can
    with cc.record(train=case.training):
        y = getattr(cc.ops, case.op)(**arguments | {name: leaf}, **case.options)
    y.backward(head)
    return np.asarray(leaf.grad)


def running_tensor(name: str, a: Array) -> Any:
    """Running statistics must be tensors; everything else may be an array."""
    if not name.startswith("running"):
        return a
    return cc.tensor(a, dtype=a.dtype.newbyteorder("="))


def mode(case: Case) -> Any:
    """Training or not, without recording."""
    return cc.train_mode() if case.training else cc.predict_mode()


def same_bits(a: Array, b: Array, what: str) -> None:
    """Equal to the bit, so also zeros of the same sign."""
    assert a.shape == b.shape and a.dtype.newbyteorder("=") == b.dtype.newbyteorder("="), what
    same = a.astype(b.dtype).tobytes() == b.tobytes()
    np.testing.assert_array_equal(a, b, err_msg=what)
    assert same, f"{what}: equal numbers but not equal bits"


def contiguous(a: Array) -> Array:
    """The layout that the others are compared with."""
    return np.ascontiguousarray(a)


def head_of(case: Case) -> Array:
    """A gradient for the case's output."""
    out, _ = run(case.op, case.inputs, training=case.training, **case.options)
    return np.asarray(np.random.default_rng(3).standard_normal(out.shape)).astype(out.dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts_give_equal_bits(case: Case) -> None:
    head = head_of(case)
    expected = results(case, contiguous, head)
    for layout in LAYOUTS:
        found = results(case, layout, head)
        for name, array in expected.items():
            same_bits(found[name], array, f"{name} of {case}, {layout.__name__}")


def repeated(a: Array) -> Iterator[tuple[Array, Array]]:
    """Views with zero strides, along one axis and along all, and contiguous copies of them."""
    channels = batch_last(a)[:, :1] if a.ndim > 1 else a
    for part in (a[:1], channels, a.ravel()[0]):
        view = np.broadcast_to(part, a.shape)
        yield view, view.copy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zero_strides_give_equal_bits(case: Case) -> None:
    head = head_of(case)
    heads = list(repeated(head)) if head.ndim else []
    for name in differentiable(case):
        for (view, copy), (head, flat_head) in zip(
            repeated(case.inputs[name]), heads, strict=False
        ):
            a = one_gradient(case, case.inputs | {name: view}, name, head)
            b = one_gradient(case, case.inputs | {name: copy}, name, flat_head)
            same_bits(a, b, f"gradient of {name} of {case}")


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_memory_mapped_arrays_give_equal_bits(case: Case, tmp_path: Path) -> None:
    mapped = {}
    for name, array in case.inputs.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        mapped[name] = np.load(path, mmap_mode="r")
    head = head_of(case)
    for name in differentiable(case):
        found = one_gradient(case, mapped, name, head)
        same_bits(found, one_gradient(case, case.inputs, name, head), name)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_arguments_are_not_written_to(case: Case) -> None:
    before = {name: a.copy() for name, a in case.inputs.items()}
    head = head_of(case)
    head_before = head.copy()
    for name in differentiable(case):
        one_gradient(case, case.inputs, name, head)
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(head, head_before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_outlive_their_tensors(case: Case) -> None:
    """Memory is used again only when nothing looks at it any more."""
    with mode(case):
        arguments = {n: running_tensor(n, a) for n, a in case.inputs.items()}
        out = getattr(cc.ops, case.op)(**arguments, **case.options)
        view, exported = out.numpy()[...], memoryview(out.numpy())
        expected = view.copy()
        del out
        for _ in range(3):
            changed = {n: a + 1 if a.dtype.kind == "f" else a for n, a in arguments.items()}
            getattr(cc.ops, case.op)(**changed, **case.options)
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_array_equal(np.asarray(exported), expected)
