"""Making tensors: from data, of constants, of random numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cyconv as cc

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


class OwnArray:
    """Something that only knows how to become an array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([1, 2, 3], dtype)


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        range(1, 4),
        [True, 2, 3.0],
        [np.float64(1), np.int8(2), 3],
        np.array([1, 2, 3], "int8"),
        np.array([1, 2, 3], ">f8"),
        np.array([1, 2, 3], np.float16),
        np.array([1, 2, 3], np.longdouble),
        np.array([0, 1, 0, 2, 0, 3], "float32")[1::2],
        np.array([3, 2, 1])[::-1],
        np.array([(0, 1), (0, 2), (0, 3)], "u1,>f4")["f1"],  # misaligned, byte-swapped
        memoryview(bytes([1, 2, 3])),
        bytearray([1, 2, 3]),
        OwnArray(),
        [cc.tensor(1.0), cc.tensor(2.0), cc.tensor(3.0)],
        cc.tensor([1, 2, 3], dtype="int32"),
        cc.tensor([1.0, 2.0, 3.0]).attach_grad(),
    ],
    ids=lambda data: type(data).__name__,
)
def test_from_anything_with_numbers(data: Any) -> None:
    for dtype in ("float32", "float64", "int64"):
        t = cc.tensor(data, dtype=dtype)
        assert t.dtype == dtype and t.shape == (3,)
        assert t.tolist() == [1, 2, 3]
        assert t.data.dtype.isnative and t.data.flags.aligned and t.data.flags.writeable
        assert t.grad is None


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2), np.array(2), True + True])
def test_from_a_number(number: Any) -> None:
    t = cc.tensor(number)
    assert t.shape == () and t.ndim == 0 and t.size == 1 and t.item() == 2.0


def test_nested_lists() -> None:
    t = cc.tensor([[[1, 2, 3]], [[4, 5, 6]]])
    assert t.shape == (2, 1, 3) and t.ndim == 3 and t.size == 6 and len(t) == 2
    assert t.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]
    assert cc.tensor([]).shape == (0,) and cc.tensor([[], []]).shape == (2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    for name in (
        dtype,
        np.dtype(dtype),
        np.dtype(dtype).str[1:],
        np.dtype(dtype).type,
        np.dtype(dtype).newbyteorder(),
    ):
        for t in (cc.tensor([1, 0], name), cc.zeros(2, dtype=name), cc.ones(2, dtype=name)):
            assert t.dtype == dtype and t.dtype.isnative


def test_float32_is_the_default() -> None:
    made = [cc.tensor([1, 2]), cc.tensor(np.ones(2)), cc.zeros(2), cc.ones(2), cc.randn(2)]
    assert {str(t.dtype) for t in made} == {"float32"}


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "complex64",
        "int8",
        "uint64",
        "str",
        "object",
        "M8[s]",
        "f4,f4",
        "x",
        "a",
        "",
        7,
        None,
        [],
    ],
)
def test_other_dtypes_are_refused(dtype: Any) -> None:
    for make in (
        lambda: cc.tensor([1, 2], dtype=dtype),
        lambda: cc.zeros(2, dtype=dtype),
        lambda: cc.ones(2, dtype=dtype),
        lambda: cc.randn(2, dtype=dtype),
        lambda: cc.ones(2).astype(dtype),
        lambda: cc.ops.cast(cc.ones(2), dtype),
    ):
        with pytest.raises(TypeError, match="dtype must be one of float32, float64"):
            make()


@pytest.mark.parametrize(
    "data",
    [
        "1",
        b"1",
        None,
        {},
        {1},
        object(),
        [None],
        ["1", "2"],
        [1, "2"],
        1j,
        [1j],
        [[1], [1, 2]],
        [[1, 2], 3],
        10**30,
        np.array(["a"]),
        np.array([None]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "f4,f4"),
        len,
        (x for x in (1, 2)),
    ],
    ids=lambda data: str(data)[:20],
)
def test_no_numbers(data: Any) -> None:
    with pytest.raises(TypeError, match="tensor: data must be numbers in a rectangular shape"):
        cc.tensor(data)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (256, "uint8"),
        (-1, "uint8"),
        (2**31, "int32"),
        (-(2**31) - 1, "int32"),
        (2.0**63, "int64"),
        (np.uint64(2**63), "int64"),
        (math.inf, "int64"),
        (-math.inf, "int32"),
        (math.nan, "uint8"),
    ],
)
def test_values_that_do_not_fit(value: Any, dtype: str) -> None:
    with pytest.raises(ValueError, match=f"tensor: values from .* do not fit into {dtype}"):
        cc.tensor([0, value], dtype=dtype)


def test_the_ends_of_the_ranges_fit() -> None:
    for dtype in ("uint8", "int32", "int64"):
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max]
        assert cc.tensor(ends, dtype=dtype).tolist() == ends
    assert cc.tensor([1.9, -1.9], dtype="int32").tolist() == [1, -1]
    assert cc.tensor([0.5, 0, math.nan], dtype="bool").tolist() == [True, False, True]


@pytest.mark.parametrize("make", [cc.zeros, cc.ones, cc.randn])
def test_shapes(make: Any) -> None:
    assert make(2, 3).shape == make((2, 3)).shape == make([2, 3]).shape == (2, 3)
    assert make(4).shape == make(np.int64(4)).shape == (4,)
    assert make().shape == make(()).shape == ()
    assert make(0).shape == (0,) and make(2, 0, 3).size == 0


@pytest.mark.parametrize("make", [cc.zeros, cc.ones, cc.randn])
@pytest.mark.parametrize("size", [-1, 1.0, "2", None, True, (2,), 1j, 2**63])
def test_wrong_shapes(make: Any, size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{make.__name__}: size must be"):
        make(3, size)


def test_shapes_beyond_all_memory() -> None:
    for make in (cc.zeros, cc.ones, cc.randn):
        for shape in ((2**62,), (2**31, 2**31, 2**31), (2**50,)):
            with pytest.raises((ValueError, MemoryError)):
                make(*shape)


def test_values() -> None:
    assert cc.zeros(2, 2).tolist() == [[0, 0], [0, 0]]
    assert cc.ones(2, dtype="int64").tolist() == [1, 1]
    assert cc.ones(2, dtype="bool").tolist() == [True, True]


def test_random_numbers() -> None:
    cc.seed(4)
    first = cc.randn(20_000, scale=3.0, dtype="float64").numpy()
    assert abs(first.mean()) < 5 * 3 / math.sqrt(20_000)  # five standard deviations
    assert abs(first.std() - 3) < 5 * 3 / math.sqrt(2 * 20_000)
    cc.seed(4)
    np.testing.assert_array_equal(cc.randn(20_000, scale=3.0, dtype="float64").numpy(), first)
    assert (cc.randn(20_000, scale=3.0, dtype="float64").numpy() != first).any()
    cc.seed(5)
    assert (cc.randn(20_000, scale=3.0, dtype="float64").numpy() != first).any()


@pytest.mark.parametrize("scale", ["1", None, [1, 2], 1j, True, math.nan, math.inf, np.ones(2)])
def test_a_wrong_scale(scale: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="randn: scale must be"):
        cc.randn(2, scale=scale)


@pytest.mark.parametrize("n", [-1, 1.0, "1", None, True, [1]])
def test_a_wrong_seed(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seed must be"):
        cc.seed(n)


@pytest.mark.parametrize("device", ["gpu", "", None, 0, "cuda:1"])
def test_an_unknown_device(device: Any) -> None:
    makes = [cc.zeros, cc.ones, cc.randn, lambda n, device: cc.tensor([n], device=device)]
    for make in [*makes, lambda n, device: cc.ones(n).to(device)]:
        with pytest.raises(ValueError, match=f"device must be .*{device!r}"):
            make(2, device=device)


def test_on_the_cpu() -> None:
    x = cc.tensor([1.0], device="cpu")
    assert x.device == "cpu" and x.to("cpu") is x


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("kind", [np.asmatrix, lambda a: np.ma.masked_array(a, a > 3)])
def test_subclasses_of_arrays_become_plain_arrays(kind: Any) -> None:
    values = np.array([[1.0, 2], [3, 4]])
    x = cc.as_tensor(kind(values))
    assert type(x.data) is np.ndarray
    assert (x * x).tolist() == [[1.0, 4.0], [9.0, 16.0]] and x.sum().item() == 10
