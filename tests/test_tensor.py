"""Tensors: copies and views, arrays, and what they are as Python values."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import cyconv as cc

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


# ------------------------------------------------------------------ copies and views


def test_tensor_copies() -> None:
    array = np.ones(3, np.float32)
    t = cc.tensor(array)
    again = cc.tensor(t)
    array[:] = 7
    t[:] = 5
    assert t.tolist() == [5, 5, 5] and again.tolist() == [1, 1, 1]


def test_as_tensor_does_not() -> None:
    for dtype in ("float32", "float64"):
        array = np.ones(3, dtype)
        t = cc.as_tensor(array)
        assert t.dtype == dtype and np.shares_memory(t.data, array)
        assert cc.as_tensor(t) is t
    assert cc.as_tensor(np.ones(3, ">f8")).data.dtype.isnative
    assert cc.as_tensor([1, 2]).dtype == cc.as_tensor(np.array([1, 2])).dtype == "float32"
    assert cc.as_tensor([1, 2], "float64").dtype == "float64"


def test_a_read_only_array_is_not_written_to() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    t = cc.as_tensor(array)
    t[0] = 5
    assert t.tolist() == [5, 1, 1] and array.tolist() == [1, 1, 1]


def test_copy_and_detach() -> None:
    x = cc.ones(2, 3, 4, 5).attach_grad()
    copied, detached = x.copy(), x.detach()
    x[0] = 9
    assert (copied.numpy() == 1).all()
    assert (detached.numpy()[0] == 9).all() and np.shares_memory(detached.data, x.data)
    assert copied.grad is None and detached.grad is None


def test_copies_keep_the_memory_order() -> None:
    x = cc.ops.conv2d(cc.ones(5, 2, 4, 4), cc.ones(3, 2, 2, 2))
    for other in (x.copy(), x.astype("float64"), cc.tensor(x)):
        assert other.data.strides[0] == other.data.itemsize  # images side by side
    assert copy.deepcopy(x).tolist() == x.tolist()


def test_astype() -> None:
    x = cc.tensor([1.5, 0.0, -2.5])
    assert x.astype("int64").tolist() == [1, 0, -2]
    assert x.astype("bool").tolist() == [True, False, True]
    same = x.astype("float32")
    assert same is not x and not np.shares_memory(same.data, x.data)


# ------------------------------------------------------------------ to arrays


def test_numpy_is_a_read_only_view() -> None:
    x = cc.ones(2, 3)
    array = x.numpy()
    assert np.shares_memory(array, x.data) and not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 5
    x[:] = 5  # the tensor itself can still be written to
    assert (array == 5).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_asarray(dtype: str) -> None:
    x = cc.ones(2, 3, dtype=dtype)
    array = np.asarray(x)
    assert type(array) is np.ndarray and array.dtype == dtype and array.shape == (2, 3)
    assert np.shares_memory(array, x.data) and not array.flags.writeable
    other = np.array(x)
    assert not np.shares_memory(other, x.data) and other.flags.writeable
    assert np.asarray(x, dtype="float64").dtype == "float64"
    assert np.stack([x, x]).shape == (2, 2, 3)


def test_array_protocol() -> None:
    x = cc.ones(2)
    assert x.__array__(copy=True) is not x.data and x.__array__(copy=True).flags.writeable
    assert np.shares_memory(x.__array__(copy=False), x.data)
    assert np.shares_memory(x.__array__(np.float32, copy=False), x.data)
    with pytest.raises(ValueError, match="float32 needs a copy for float64"):
        x.__array__(np.float64, copy=False)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
def test_dlpack(dtype: str) -> None:
    x = cc.tensor(np.arange(24).reshape(1, 2, 3, 4), dtype=dtype)
    array = np.from_dlpack(x)
    np.testing.assert_array_equal(array, x.numpy())
    assert np.shares_memory(array, x.data)
    assert x.__dlpack_device__()[0] == 1  # the CPU's number


def test_dlpack_of_batch_last_memory_and_of_gradients() -> None:
    x = cc.randn(5, 2, 4, 4).attach_grad()
    with cc.record():
        y = cc.ops.conv2d(x, cc.ones(3, 2, 2, 2))
    y.backward()
    for t in (y, x.grad):
        np.testing.assert_array_equal(np.from_dlpack(t), t.numpy())


def test_dlpack_to_torch_and_back() -> None:
    torch = pytest.importorskip("torch")
    x = cc.randn(5, 2, 4, 4)
    there = torch.from_dlpack(x)
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    np.testing.assert_array_equal(cc.tensor(there).numpy(), x.numpy())


# ------------------------------------------------------------------ as Python values


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_one_value(shape: tuple[int, ...]) -> None:
    x = cc.ones(*shape) * 2.5
    assert x.item() == 2.5 and type(x.item()) is float
    assert float(x) == 2.5 and int(x) == 2 and bool(x) and not bool(x * 0)
    assert f"{x:.3f}" == "2.500" and f"{x:>8}" == "     2.5"
    assert type(cc.tensor([3], dtype="int64").item()) is int
    assert type(cc.tensor([3], dtype="bool").item()) is bool


def test_more_than_one_value() -> None:
    x = cc.ones(2, 3)
    for convert in (float, int, lambda t: t.item()):
        with pytest.raises(ValueError, match=r"item\(\) needs a tensor of size 1.*\(2, 3\)"):
            convert(x)
    for unclear in (x, cc.zeros(0)):
        with pytest.raises(ValueError, match=r"truth of a tensor of shape .* is ambiguous"):
            bool(unclear)


def test_length_and_iteration() -> None:
    x = cc.tensor([[1, 2], [3, 4], [5, 6]])
    assert len(x) == 3 and [row.tolist() for row in x] == [[1, 2], [3, 4], [5, 6]]
    a, b, c = x
    assert np.shares_memory(b.data, x.data) and c[1].item() == 6 and a.shape == (2,)
    assert list(cc.zeros(0, 3)) == []
    assert 3 in cc.tensor([1, 3]) and 2 not in cc.tensor([1, 3])
    with pytest.raises(TypeError, match="len"):
        len(cc.tensor(1.0))
    with pytest.raises(TypeError):
        iter(cc.tensor(1.0))


def test_iteration_is_recorded() -> None:
    x = cc.tensor([1.0, 2.0]).attach_grad()
    with cc.record():
        first, second = x
        y = first * second * second
    y.backward()
    assert x.grad.tolist() == [4, 4]


def test_as_keys() -> None:
    """Hashed by identity, as == compares elements."""
    x, y = cc.ones(2), cc.ones(2)
    assert {x: 1, y: 2}[y] == 2 and len({x, y, x}) == 2


def test_printing() -> None:
    assert repr(cc.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(cc.tensor(3.0)) == str(cc.tensor(3.0)) == "tensor(3.)"
    assert repr(cc.ones(2, dtype="float64")) == "tensor([1., 1.], dtype=float64)"
    assert repr(cc.tensor([[1], [2]], dtype="int64")) == (
        "tensor([[1],\n        [2]], dtype=int64)"
    )
    assert repr(cc.zeros(0)) == "tensor([])"
    assert repr(cc.zeros(2, 0, 3)) == "tensor([], shape=(2, 0, 3))"
    assert f"{cc.ones(2)}" == "tensor([1., 1.])"
    assert len(repr(cc.ones(1000, 1000))) < 500


def test_no_new_attributes() -> None:
    """A misspelt `t.gard = None` is an error."""
    with pytest.raises(AttributeError):
        cc.ones(2).gard = None  # type: ignore[attr-defined]


def test_two_numbers_are_added_and_rectified() -> None:
    assert cc.ops.add(1.0, 2.0, activation="relu").item() == 3
    assert cc.ops.add(cc.tensor(-3.0), 2.0, activation="relu").item() == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_with_numbers_lists_and_arrays(dtype: str) -> None:
    x = cc.tensor([1.0, 5.0], dtype)
    for other in (3.0, [3.0, 3.0], np.full(2, 3.0), np.float32(3), cc.tensor(3.0, dtype)):
        for pair in ((x, other), (other, x)):
            low, high = cc.ops.minimum(*pair), cc.ops.maximum(*pair)
            assert (low.tolist(), high.tolist()) == ([1, 3], [3, 5])
            assert low.dtype == high.dtype == dtype
    with pytest.raises(TypeError, match=r"^minimum"):
        cc.ops.minimum(cc.ones(2), cc.ones(2, dtype="float64"))
