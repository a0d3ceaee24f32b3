"""Operators of tensors with numbers, arrays and tensors; comparisons; indexing; their gradients."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc

ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
]
COMPARISONS: list[Callable[[Any, Any], Any]] = [
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
A = np.array([[1.0, 2.0, 4.0], [8.0, 3.0, 5.0]], np.float32)
B = np.array([[2.0, 2.0, 1.0], [4.0, 6.0, 5.0]], np.float32)

OTHERS: dict[str, Any] = {
    "int": 2,
    "float": 2.5,
    "bool": True,
    "float32": np.float32(2.5),
    "float64": np.float64(2.5),
    "int64": np.int64(2),
    "0-d array": np.array(2.5),
    "list": [1.0, 2.0, 4.0],
    "tuple": (1, 2, 4),
    "float32 array": B,
    "float64 array": B.astype(np.float64),
    "int array": B.astype(np.int64),
    "row": B[0],
    "column": B[:, :1],
    "strided array": np.repeat(B, 2, axis=1)[:, ::2],
    "tensor": cc.tensor(B),
    "int tensor": cc.tensor(B, dtype="int64"),
    "uint8 tensor": cc.tensor(B, dtype="uint8"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arithmetic(op: Callable[[Any, Any], Any], other: str, dtype: str) -> None:
    """The tensor's dtype holds, on whichever side it stands."""
    x, y = cc.tensor(A, dtype=dtype), OTHERS[other]
    if isinstance(y, cc.Tensor) and y.dtype == "float32" and dtype == "float64":
        y = y.astype(dtype)
    plain = np.asarray(y).astype(dtype)
    for result, expected in ((op(x, y), op(A, plain)), (op(y, x), op(plain, A))):
        assert type(result) is cc.Tensor and result.dtype == dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons(op: Callable[[Any, Any], Any], other: str) -> None:
    y = OTHERS[other]
    for result, expected in (
        (op(cc.tensor(A), y), op(A, np.asarray(y))),
        (op(y, cc.tensor(A)), op(np.asarray(y), A)),
    ):
        assert type(result) is cc.Tensor and result.dtype == "bool"
        np.testing.assert_array_equal(result.numpy(), expected)


def test_a_number_is_compared_in_the_tensors_precision() -> None:
    assert (cc.tensor([0.1]) == 0.1).item() and not (cc.tensor([0.1]) < 0.1).item()


def test_comparisons_are_not_recorded() -> None:
    x = cc.ones(2).attach_grad()
    with cc.record():
        y = x > 0
    with pytest.raises(RuntimeError):
        y.backward()


def test_powers_signs_and_products() -> None:
    x = cc.tensor(A)
    np.testing.assert_array_equal((x**2).numpy(), A**2)
    np.testing.assert_array_equal((x**-1).numpy(), A**-1)
    np.testing.assert_allclose((x**0.5).numpy(), np.sqrt(A), rtol=1e-6)
    np.testing.assert_array_equal((x ** np.float32(2)).numpy(), A**2)
    np.testing.assert_array_equal((-x).numpy(), -A)
    np.testing.assert_array_equal(abs(-x).numpy(), A)
    for y in (B.T, cc.tensor(B.T), B.T.tolist()):
        np.testing.assert_allclose((x @ y).numpy(), A @ B.T, rtol=1e-6)
        np.testing.assert_allclose((y @ x).numpy(), B.T @ A, rtol=1e-6)


def test_two_arrays_without_a_tensor() -> None:
    assert cc.ops.add(A, B).dtype == "float32"
    assert cc.ops.add(A.astype(np.float64), B.astype(np.float64)).dtype == "float64"
    assert cc.ops.add(1, 2).item() == 3


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
def test_what_is_no_number(op: Callable[[Any, Any], Any]) -> None:
    x = cc.ones(2)
    for y in ("a", b"a", None, 1j, {}, object(), [1, "a"], [[1], [1, 2]], np.array("a")):
        for left, right in ((x, y), (y, x)):
            with pytest.raises(TypeError, match="operands must be tensors, arrays or numbers"):
                op(left, right)


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
def test_shapes_that_do_not_fit(op: Callable[[Any, Any], Any]) -> None:
    for y in (cc.ones(2), np.ones(2), [1, 2], cc.ones(3, 3)):
        with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(.*\) do not broadcast"):
            op(cc.tensor(A), y)


@pytest.mark.parametrize("op", ARITHMETIC)
def test_tensors_of_two_float_dtypes(op: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match="operands are float32 and float64"):
        op(cc.ones(2), cc.ones(2, dtype="float64"))


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3, 2, 3)), ((), (2,)), ((2,), ())])
def test_matrix_products_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="matmul: shapes"):
        cc.ones(*shapes[0]) @ cc.ones(*shapes[1])
    with pytest.raises(ValueError, match=r"matmul: stacks .* do not broadcast"):
        cc.ones(3, 2, 2) @ cc.ones(2, 2, 2)


@pytest.mark.parametrize("exponent", [cc.ones(2), np.ones(2), "2", None, 1j, [2], True])
def test_wrong_exponents(exponent: Any) -> None:
    with pytest.raises(TypeError, match=r"pow: .*exponent must be a number"):
        cc.ones(2) ** exponent


# ------------------------------------------------------------------ gradients under broadcasting

SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (1, 3)),
    ((2, 3), (2, 1)),
    ((2, 3), ()),
    ((2, 1), (1, 3)),
    ((1, 1), (4, 2, 3)),
    ((5, 4, 2, 3), (4, 1, 1)),
    ((1, 4, 1, 3), (5, 1, 2, 1)),
    ((0, 3), (3,)),
    ((0, 3), (1, 3)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("op", ARITHMETIC)
def test_broadcast_gradients(
    op: Callable[[Any, Any], Any], left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    """A repeated element gets the sum: checked by repeating it by hand first."""
    rng = np.random.default_rng(1)
    for a_shape, b_shape in ((left, right), (right, left)):
        a, b = (cc.tensor(1 + rng.random(s), dtype="float64") for s in (a_shape, b_shape))
        full = np.broadcast_shapes(a_shape, b_shape)
        head = rng.standard_normal(full)
        for t in (a, b):
            t.attach_grad()
        with cc.record():
            y = op(a, b)
        y.backward(head)
        wide = [
            cc.tensor(np.broadcast_to(t.numpy(), full), "float64").attach_grad() for t in (a, b)
        ]
        with cc.record():
            z = op(*wide)
        z.backward(head)
        for t, w in zip((a, b), wide, strict=True):
            assert t.grad.shape == t.shape
            extra = tuple(range(len(full) - t.ndim))
            ones = tuple(i + len(extra) for i, n in enumerate(t.shape) if n == 1)
            expected = w.grad.numpy().sum(axis=(*extra, *ones)).reshape(t.shape)
            np.testing.assert_allclose(t.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_reflected_operators_are_recorded() -> None:
    x = cc.tensor([2.0, 4.0]).attach_grad()
    head = np.array([1.0, 10.0], np.float32)
    for result, slope in (
        (lambda: 3 - x, [-1, -1]),
        (lambda: 8 / x, [-2, -0.5]),
        (lambda: 3 + x, [1, 1]),
        (lambda: 3 * x, [3, 3]),
        (lambda: head - x, [-1, -1]),
        (lambda: head * x, [1, 10]),
    ):
        with cc.record():
            y = result()
        y.backward(head)
        np.testing.assert_allclose(x.grad.numpy(), np.array(slope) * head, rtol=1e-6)


def test_the_gradient_of_a_quotient_of_tiny_numbers() -> None:
    a, b = (cc.tensor([1e-23]).attach_grad() for _ in range(2))
    with cc.record():
        y = a / b
    y.backward()
    np.testing.assert_allclose([a.grad.item(), b.grad.item()], [1e23, -1e23], rtol=1e-6)


# ------------------------------------------------------------------ indexing

INDICES: dict[str, Any] = {
    "integer": 1,
    "negative": -1,
    "NumPy integer": np.int64(1),
    "0-d array": np.array(1),
    "slice": slice(1, None),
    "steps back": slice(None, None, -2),
    "empty slice": slice(2, 2),
    "ellipsis": ...,
    "ellipsis and integer": (..., 0),
    "new axis": None,
    "new axis inside": (slice(None), None, 1),
    "two integers": (1, 2),
    "integer and slice": (1, slice(None, None, 2)),
    "list": [0, 2],
    "repeated": [1, 1, 0, 1],
    "array": np.array([2, 0]),
    "array of bytes' size": np.array([2, 0], np.uint8),
    "2-d array": np.array([[0, 1], [1, 1]]),
    "two arrays": ([0, 1, 1], [2, 0, 0]),
    "arrays that broadcast": ([[0], [2]], [1, 1, 3]),
    "array and slice": (slice(None), [3, 0, 0]),
    "array and integer": ([0, 2, 2], 1),
    "arrays apart": ([0, 2], slice(None), [1, 1]),
    "no elements": [],
    "mask": np.array([True, False, True]),
    "mask as a list": [True, False, True],
    "2-d mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "empty mask": np.zeros(3, bool),
    "mask and integer": (np.array([True, False, True]), 1),
    "True": True,
    "False": False,
    "tensor": cc.tensor([2, 0, 2], dtype="int64"),
    "tensor of one integer": cc.tensor(1, dtype="int64"),
    "tensor of bools": cc.tensor([True, False, True], dtype="bool"),
    "tensors in a tuple": (cc.tensor([2, 0], dtype="int32"), cc.tensor([1, 1], dtype="uint8")),
}


def plain(index: Any) -> Any:
    """The index as NumPy takes it."""
    if isinstance(index, tuple):
        return tuple(plain(i) for i in index)
    return index.numpy() if isinstance(index, cc.Tensor) else index


@pytest.mark.parametrize("name", INDICES)
def test_reading(name: str) -> None:
    """Values as NumPy's, and for each picked element its gradient, summed over all picks."""
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    index = INDICES[name]
    x = cc.tensor(array, dtype="float64").attach_grad()
    with cc.record():
        y = x[index]
    expected = array[plain(index)]
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y.numpy(), expected)
    head = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(head)
    gradient = np.zeros_like(array)
    np.add.at(gradient, plain(index), head)
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-15)


@pytest.mark.parametrize("name", INDICES)
def test_writing(name: str) -> None:
    array = np.zeros((3, 4, 2))
    x = cc.tensor(array, dtype="float64")
    index = INDICES[name]
    x[index] = 5
    array[plain(index)] = 5
    np.testing.assert_array_equal(x.numpy(), array)
    values = np.random.default_rng(2).standard_normal(array[plain(index)].shape)
    x[index] = cc.tensor(values, dtype="float64")
    array[plain(index)] = values
    np.testing.assert_array_equal(x.numpy(), array)


def test_comparisons_as_masks() -> None:
    x = cc.tensor([-1.0, 2.0, -3.0, 4.0]).attach_grad()
    with cc.record():
        y = (x[x > 0] ** 2).sum()
    y.backward()
    assert x.grad.tolist() == [0, 4, 0, 8]
    x[x < 0] = 0
    assert x.tolist() == [0, 2, 0, 4]


@pytest.mark.parametrize("index", [3, -4, (0, 0, 0, 0), [0, 3], "a", 1.0, [0.5], {}, object, 1j])
def test_wrong_indices(index: Any) -> None:
    x = cc.zeros(3, 4, 2)
    with pytest.raises(IndexError, match=r"index .* of a tensor of shape \(3, 4, 2\)"):
        x[index]
    with pytest.raises((IndexError, ValueError)):
        x[index] = 1


def test_values_that_do_not_fit() -> None:
    x = cc.zeros(3, 4)
    with pytest.raises(ValueError, match=r"shape \(3,\) into .* of a tensor of shape \(3, 4\)"):
        x[:] = np.ones(3)
    for value in ("a", "1", None, {}, 1j, [[1], [1, 2]], object()):
        with pytest.raises(TypeError, match="assignment: operands must be tensors"):
            x[0] = value
    assert (x.numpy() == 0).all()


def test_a_tensor_written_into_itself() -> None:
    x = cc.tensor([1.0, 2.0, 3.0])
    x[1:] = x[:-1]
    assert x.tolist() == [1, 1, 2]
    x[:] = x[::-1]
    assert x.tolist() == [2, 1, 1]


# ------------------------------------------------------------------ methods


def test_methods_are_the_ops() -> None:
    x = cc.tensor(A)
    for method, expected in (
        (x.sum(), A.sum()),
        (x.sum(0), A.sum(0)),
        (x.sum((0, 1), keepdims=True), A.sum((0, 1), keepdims=True)),
        (x.mean(1), A.mean(1)),
        (x.max(-1, keepdims=True), A.max(-1, keepdims=True)),
        (x.min(0), A.min(0)),
        (x.argmin(1), A.argmin(1)),
        ((x > 0).sum(0), (A > 0).sum(0)),
        ((x > 0).mean(), (A > 0).mean()),
        (cc.tensor([[1, 2], [3, 5]], "int64").mean(1), np.array([1.5, 4])),
        (cc.ops.stack([x, 2 * x], axis=-1), np.stack([A, 2 * A], axis=-1)),
        (x.argmax(), A.argmax()),
        (x.argmax(1), A.argmax(1)),
        (x.exp(), np.exp(A)),
        (x.log(), np.log(A)),
        (x.sqrt(), np.sqrt(A)),
        (x.reshape(3, 2), A.reshape(3, 2)),
        (x.reshape((3, -1)), A.reshape(3, -1)),
        (x.reshape([6]), A.reshape(6)),
        (x.T, A.T),
        (x.transpose(), A.T),
        (x.transpose(1, 0), A.T),
        (x.transpose((1, 0)), A.T),
        (x.transpose([-1, 0]), A.T),
        (x.flatten(), A),
    ):
        assert type(method) is cc.Tensor and method.shape == expected.shape
        np.testing.assert_allclose(method.numpy(), expected, rtol=1e-6)


def test_wrong_arguments_of_methods() -> None:
    x = cc.tensor(A)
    for call, words in (
        (lambda: x.sum(2), "sum: axis 2"),
        (lambda: x.sum((0, 0)), "sum: axis .* twice"),
        (lambda: x.sum((0, (1,))), "sum: axis"),
        (lambda: x.sum(b"\0"), "sum: axis"),
        (lambda: x.mean(0, keepdims="no"), "mean: keepdims"),
        (lambda: x.max("rows"), "max: axis"),
        (lambda: cc.zeros(0).max(), "max: .*no largest"),
        (lambda: cc.zeros(0).min(), "min: .*no smallest"),
        (lambda: cc.zeros(0).argmin(), "argmin: .*no smallest"),
        (lambda: cc.ops.stack([]), "stack: tensors must be a list of at least one"),
        (lambda: cc.ops.stack([x, x[0]]), "stack: shapes .* differ"),
        (lambda: cc.ops.stack([x], axis=3), "stack: axis 3"),
        (lambda: x.argmax(-3), "argmax: axis -3"),
        (lambda: x.argmax((0, 1)), "argmax: axis"),
        (lambda: cc.zeros(2, 0).argmax(1), "argmax: .*no largest"),
        (lambda: x.reshape(4), "reshape: shape .* does not fit"),
        (lambda: x.reshape(-1, -1), "reshape"),
        (lambda: x.reshape(-2, 3), "reshape: size must be at least -1"),
        (lambda: x.transpose(0), "transpose: axes"),
        (lambda: x.transpose(0, 0), "transpose: axis .* twice"),
        (lambda: cc.zeros(3).flatten(), "flatten"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
