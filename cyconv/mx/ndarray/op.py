"""The functions of ``nd``: MXNet's names and rules, cyconv's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cyconv import ops
from cyconv.autograd import Array, Op, source_of
from cyconv.geometry import pair
from cyconv.ops import activation, basic, elementwise, shape
from cyconv.tensor import Tensor, apply

from .ndarray import NDArray

NUMBERS = (int, float, np.generic)


def nd(function: Callable[..., Tensor], operands: bool = False) -> Callable[..., NDArray]:
    """A function of tensors as one of NDArrays of one dtype; with ``operands``, or of numbers.

    Results have at least one dimension; ``out=array`` writes them there. Integers are computed in
    float64, which is exact up to 53 bits, and cut off.
    """

    def compute(*args: Any, out: NDArray | None = None, **named: Any) -> NDArray:
        args = (named.pop("data"), *args) if "data" in named else args
        if args and not named and isinstance(args[0], NDArray):
            later = args[0].later(compute, args[1:])
            if later is not None:
                return later
        arrays = [x for x in (*args, *named.values()) if isinstance(x, NDArray)]
        dtypes = {x.tensor.data.dtype for x in arrays}
        if len(dtypes) != 1:
            what = " and ".join(map(str, dtypes)) or ", ".join(type(x).__name__ for x in args)
            raise TypeError(f"expected NDArrays of one dtype, got {what}; use nd.array or astype")
        dtype = dtypes.pop()

        def tensor(x: Any) -> Any:
            if isinstance(x, NDArray):
                return x.live() if dtype.kind == "f" else x.tensor.astype("float64")
            if operands and not isinstance(x, NUMBERS):
                raise TypeError(f"type {type(x).__name__} is not supported; use nd.array")
            return Tensor(np.asarray(x).astype(dtype)) if operands else x

        result = function(*map(tensor, args), **{name: tensor(x) for name, x in named.items()})
        if dtype.kind != "f":
            with np.errstate(invalid="ignore"):
                result = Tensor(result.data.astype(np.int64).astype(dtype))
        result = result if result.ndim else ops.reshape(result, (1,))
        return NDArray(result) if out is None else NDArray(result).copyto(out)

    return compute


class Elementwise(Op):
    """A NumPy function and its derivative by each input."""

    any_layout = True

    def __init__(self, function: Callable[..., Array], *derivatives: Callable[..., Array]):
        self.function, self.derivatives = function, derivatives

    def forward(self, *inputs: Array) -> Array:
        self.inputs = inputs
        return self.function(*inputs)

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        return tuple(
            basic.unbroadcast(dout * by(*self.inputs), x.shape) if needed else None
            for needed, by, x in zip(self.needs, self.derivatives, self.inputs)
        )


class Rectify(activation.ReLU):
    """The maximum of x and 0: at a tie the gradient goes to x."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return super().forward(x)

    def backward(self, dout: Array) -> Array:
        dx, tie = super().backward(dout), self.x == 0
        return np.where(tie, dout, dx) if tie.any() else dx


class Max(shape.Max):
    """As cyconv's, but each of several largest elements gets the whole gradient."""

    def backward(self, dout: Array) -> Array:
        return (self.a == self.out) * shape._keep_dims(dout, self.axis, self.a.shape)


def _numpy(function: Any, *derivatives: Any) -> Callable[..., Tensor]:
    return lambda *inputs: apply(Elementwise(function, *derivatives), *inputs)


def _operator(kind: type[Op]) -> Callable[..., NDArray]:
    return nd(lambda lhs, rhs: apply(kind(), lhs, rhs), operands=True)


def _comparison(relation: str) -> Callable[..., NDArray]:
    return nd(lambda lhs, rhs: ops.compare(relation, lhs, rhs).astype(lhs.dtype), operands=True)


def _maximum(lhs: Tensor, rhs: Tensor) -> Tensor:
    # where every stride is 0 there is one number, whatever the shape
    one_number = rhs.size and not any(rhs.data.strides) and rhs.shape in ((), lhs.shape)
    if one_number and rhs.data.flat[0] == 0 and source_of(rhs) is None:
        return apply(Rectify(), lhs)
    return _numpy(np.maximum, np.greater_equal, np.less)(lhs, rhs)


_copied = _numpy(lambda a: np.array(a, order="C"), np.ones_like)
_not_nan = _numpy(lambda a: np.where(a == a, a, 0), lambda a: a == a)
_modulo = _numpy(np.mod, lambda a, b: np.ones_like(a), lambda a, b: -np.floor(a / b))
_power = _numpy(np.power, lambda a, b: b * a ** (b - 1), lambda a, b: a**b * np.log(a))

abs, exp, log, sqrt = nd(ops.abs), nd(ops.exp), nd(ops.log), nd(ops.sqrt)
relu, sigmoid, tanh, negative = nd(ops.relu), nd(ops.sigmoid), nd(ops.tanh), nd(ops.neg)
softmax, log_softmax, linear = nd(ops.softmax), nd(ops.log_softmax), nd(ops.linear)
square, copy = nd(lambda data: ops.pow(data, 2)), nd(_copied)
sign, floor = nd(_numpy(np.sign, np.zeros_like)), nd(_numpy(np.floor, np.zeros_like))
arccos = nd(_numpy(np.arccos, lambda a: -1 / np.sqrt(1 - a * a)))
clip = nd(lambda data, a_min, a_max: apply(elementwise.Clip(a_min, a_max), data))
add = _operator(basic.Add)
subtract, multiply, divide = _operator(basic.Sub), _operator(basic.Mul), _operator(basic.Div)
_larger, modulo = nd(_maximum, operands=True), nd(_modulo, operands=True)
equal, not_equal = _comparison("equal"), _comparison("not_equal")
lesser, lesser_equal = _comparison("less"), _comparison("less_equal")
greater, greater_equal = _comparison("greater"), _comparison("greater_equal")


def elemwise_add(lhs: NDArray, rhs: NDArray, out: NDArray | None = None) -> NDArray:
    """The sum of two NDArrays of one shape."""
    if lhs.shape != rhs.shape:
        raise ValueError(f"elemwise_add: shapes {lhs.shape} and {rhs.shape} are not equal")
    return add(lhs, rhs, out=out)


def maximum(lhs: Any, rhs: Any) -> NDArray:
    """The larger of two NDArrays, or of one and a number; at a tie the gradient is the first's."""
    return _larger(rhs, lhs) if isinstance(lhs, NUMBERS) else _larger(lhs, rhs)


def power(lhs: Any, rhs: Any) -> NDArray:
    """lhs to the power of rhs, which are NDArrays or numbers."""
    if isinstance(rhs, NUMBERS):
        return nd(lambda x: ops.pow(x, float(rhs)))(lhs)
    return nd(_power, operands=True)(lhs, rhs)


def _reduction(function: Callable[..., Tensor]) -> Callable[..., NDArray]:
    """Over all axes, ``axis`` (an int or several), or with ``exclude`` all but these."""

    def reduce(x: Tensor, axis: Any = None, keepdims: Any = False, exclude: Any = False) -> Tensor:
        axes = None if axis is None or axis == () else shape._axes("axis", axis, x.ndim)
        if exclude and axes is not None:
            kept = {axes} if isinstance(axes, int) else axes
            axes = tuple(i for i in range(x.ndim) if i not in kept)
        return function(x, axes, keepdims)

    return nd(reduce)


sum, mean = _reduction(ops.sum), _reduction(ops.mean)
max = _reduction(lambda x, *how: apply(Max(*how), x))
nansum = _reduction(lambda x, *how: ops.sum(_not_nan(x), *how))


def norm(data: NDArray, ord: int = 2, axis: Any = None, keepdims: bool = False) -> NDArray:
    """The length of the vector (``ord=2``), or the sum of absolute values (``ord=1``)."""
    if ord not in (1, 2):
        raise ValueError(f"norm: ord must be 1 or 2, got {ord!r}")
    total = sum(square(data) if ord == 2 else abs(data), axis, keepdims)
    return sqrt(total) if ord == 2 else total


def argmax(data: NDArray, axis: int | None = None, keepdims: bool = False) -> NDArray:
    """Where the largest element is, the first of equals, in the dtype of ``data``."""
    where = ops.argmax(data.tensor, axis).data.astype(data.dtype)
    shown = np.expand_dims(where, axis) if keepdims and axis is not None else where
    return NDArray(Tensor(np.atleast_1d(shown)))


def one_hot(indices: NDArray, depth: int, on_value: float = 1, off_value: float = 0) -> NDArray:
    """(...) class numbers -> (..., depth): ``on_value`` at the class, ``off_value`` elsewhere."""
    hit = indices.asnumpy(np.int64)[..., None] == np.arange(depth)
    return NDArray(Tensor(np.where(hit, np.float32(on_value), np.float32(off_value))))


def take(a: NDArray, indices: NDArray, axis: int = 0) -> NDArray:
    """The elements at ``indices`` along an axis; beyond the ends those at the ends."""
    where = indices.asnumpy().astype(np.int64).clip(0, a.shape[axis] - 1)
    return nd(lambda x: ops.getitem(x, (slice(None),) * (axis % a.ndim) + (where,)))(a)


def _reshaped(data: Tensor, shape: Any) -> Tensor:
    """A size 0 is the input's own, one of -1 fills up; numbers that are too many are left out."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    sizes = [data.shape[i] if size == 0 and i < data.ndim else size for i, size in enumerate(sizes)]
    fixed = math.prod(size for size in sizes if size != -1)
    used = fixed * (data.size // fixed) if -1 in sizes and fixed else fixed
    if 0 < used < data.size:
        data = ops.getitem(ops.reshape(data, (-1,)), slice(used))
    return ops.reshape(data, sizes)


def _tiled(data: Tensor, reps: Any) -> Tensor:
    """The array repeated ``reps`` times along the last axes."""
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    ndim = data.ndim + len(times[data.ndim :])
    data = ops.reshape(data, (1,) * (ndim - data.ndim) + data.shape)
    for axis, count in enumerate(times, ndim - len(times)):
        data = ops.concat([data] * count, axis)
    return data


def _dot(lhs: Tensor, rhs: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The product over lhs' last and rhs' first axis; 2-d ones may be transposed before."""
    a, b = lhs.T if transpose_a else lhs, rhs.T if transpose_b else rhs
    if a.ndim == b.ndim == 2 and b.size and a.shape[1] == b.shape[0]:
        return ops.linear(a, b.T)
    out = ops.matmul(a, b if b.ndim < 3 else b.reshape(b.shape[0], -1))
    return out if b.ndim < 3 else ops.reshape(out, a.shape[:-1] + b.shape[1:])


def _swapped(data: Tensor, dim1: int, dim2: int) -> Tensor:
    axes = list(range(data.ndim))
    axes[dim1], axes[dim2] = axes[dim2], axes[dim1]
    return _copied(ops.transpose(data, axes))


def Convolution(
    data: NDArray,
    weight: NDArray,
    bias: NDArray | None = None,
    kernel: Any = None,
    stride: Any = 1,
    dilate: Any = 1,
    pad: Any = 0,
    num_filter: int | None = None,
    num_group: int = 1,
    no_bias: bool = False,
) -> NDArray:
    """``cyconv.ops.conv2d``; ``kernel`` and ``num_filter`` must be those of the weight."""
    f, _, *sizes = weight.shape
    if (num_filter or f) != f or pair("Convolution: kernel", kernel or sizes, 1) != tuple(sizes):
        raise ValueError(f"Convolution: {num_filter=} and {kernel=} do not fit {weight.shape=}")
    how = {"stride": stride, "padding": pad, "dilation": dilate, "groups": num_group}
    arrays = [data, weight] if no_bias or bias is None else [data, weight, bias]
    return nd(lambda *tensors: ops.conv2d(*tensors, **how))(*arrays)


def Pooling(
    data: NDArray,
    kernel: Any = None,
    pool_type: str = "max",
    stride: Any = 1,
    pad: Any = 0,
    global_pool: bool = False,
    pooling_convention: str = "valid",
    count_include_pad: bool = True,
) -> NDArray:
    """Max or average ("avg") pooling; "full" in place of "valid" rounds the size up.

    A window that would see no pixel is left out, where MXNet gives -3.4e38.
    """
    if pool_type not in ("max", "avg") or pooling_convention not in ("valid", "full"):
        raise ValueError(f"Pooling: unknown {pool_type=} or {pooling_convention=}")
    if global_pool:
        return nd(ops.global_max_pool2d if pool_type == "max" else ops.global_avg_pool2d)(data)
    how = {"stride": stride, "padding": pad, "ceil_mode": pooling_convention == "full"}
    if pool_type == "max":
        return nd(ops.max_pool2d)(data, kernel, **how)
    return nd(ops.avg_pool2d)(data, kernel, count_include_pad=count_include_pad, **how)


view, reshape = nd(_reshaped), nd(lambda data, shape: _copied(_reshaped(data, shape)))
transpose = nd(lambda data, axes=None: _copied(ops.transpose(data, axes)))
flatten = nd(lambda data: ops.flatten(data) if data.ndim > 1 else ops.reshape(data, (-1, 1)))
concat = nd(lambda *data, dim=1: ops.concat(data, dim))
tile, dot, swapaxes = nd(_tiled), nd(_dot), nd(_swapped)

METHODS = ["abs", "argmax", "clip", "copy", "exp", "flatten", "log", "log_softmax", "max", "mean"]
METHODS += ["nansum", "norm", "one_hot", "relu", "sigmoid", "sign", "softmax", "sqrt", "square"]
METHODS += ["sum", "swapaxes", "take", "tanh", "tile", "transpose"]
for _name in METHODS:
    setattr(NDArray, _name, globals()[_name])
