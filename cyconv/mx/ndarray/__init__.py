"""``mxnet.nd``: MXNet's names and rules, cyconv's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import cyconv
from cyconv import ops
from cyconv.autograd import Array, Op, source_of
from cyconv.nn import init
from cyconv.ops import activation, basic, elementwise, inputs, reduce
from cyconv.random import generator
from cyconv.tensor import Tensor, apply

from .array import NDArray, Sample
from .serialization import WIDER, load, save  # noqa: F401


def nd(function: Callable[..., Tensor], operands: bool = False, waits: Any = ()) -> Any:
    """A function of tensors as one of NDArrays of one dtype; with ``operands``, or of numbers.

    Results have at least one dimension; ``out=array`` writes them there. Integers are computed in
    float64, which is exact up to 53 bits, and cut off. With an argument of the type ``waits``, and
    not 0, a ``Sample`` may wait: then one and many give the same bits.
    """

    def compute(*args: Any, out: NDArray | None = None, **named: Any) -> NDArray:
        late = len(args) == 2 and type(args[0]) is Sample and out is None
        if late and isinstance(args[1], waits) and args[1]:
            return args[0].then(compute, args[1])
        if named:
            args = (*(named.pop(name) for name in ("data", "lhs", "rhs") if name in named), *args)
        dtypes = {x.tensor.data.dtype for x in (*args, *named.values()) if isinstance(x, NDArray)}
        if len(dtypes) != 1:
            what = " and ".join(map(str, dtypes)) or ", ".join(type(x).__name__ for x in args)
            raise TypeError(f"expected NDArrays of one dtype, got {what}; use nd.array or astype")
        dtype = dtypes.pop()

        def tensor(x: Any) -> Any:
            if isinstance(x, NDArray):
                return x.live() if dtype.kind == "f" else x.tensor.astype("float64")
            if operands and not isinstance(x, (int, float, np.generic)):
                raise TypeError(f"type {type(x).__name__} is not supported; use nd.array")
            return Tensor(np.asarray(x).astype(dtype)) if operands else x

        result = function(*map(tensor, args), **{name: tensor(x) for name, x in named.items()})
        if dtype.kind != "f":
            with np.errstate(invalid="ignore"):
                result = Tensor(result.data.astype(np.int64).astype(dtype))
        array = NDArray(result if result.ndim else ops.reshape(result, (1,)))
        return array if out is None else array.copyto(out)

    return compute


class Elementwise(Op):
    """A NumPy function and its derivative by each input."""

    any_layout = True

    def __init__(self, function: Callable[..., Array], *derivatives: Callable[..., Any]):
        self.function, self.derivatives = function, derivatives

    def forward(self, *inputs: Array) -> Array:
        self.inputs = inputs
        return self.function(*inputs)

    def backward(self, dout: Array) -> tuple[Array | None, ...]:
        return tuple(
            basic.unbroadcast(dout * by(*self.inputs), x.shape) if needed else None
            for needed, by, x in zip(self.needs, self.derivatives, self.inputs)
        )


class Rectified(activation.ReLU):
    """As cyconv's, but the gradient at 0 is 1, as of ``maximum`` with zeros, which come second."""

    def forward(self, x: Array) -> Array:
        out, zero = cyconv.backends.backend_of(x).relu_and_search(x)
        self.closed = x < 0 if zero and cyconv.is_recording() else None
        self.rectified = None if zero else out  # then no other op is to go back through it
        return out

    def backward(self, dout: Array) -> Array:
        return super().backward(dout if self.closed is None else np.where(self.closed, 0, dout))


class LogisticRegression(activation.Sigmoid):
    """The sigmoid for the logistic loss: that one's gradient, whatever becomes of the result."""

    def __init__(self, label: Tensor):
        self.label = label.data

    def backward(self, dout: Array) -> Array:
        return (self.out - self.label.reshape(dout.shape)) * (len(dout) / dout.size)


class Max(reduce.Max):
    """As cyconv's, but each of several largest elements gets the whole gradient."""

    def backward(self, dout: Array) -> Array:
        return (self.a == self.out) * reduce._keep_dims(dout, self.axis, self.a.shape)


def _numpy(function: Any, *derivatives: Any) -> Callable[..., Tensor]:
    return lambda *inputs: apply(Elementwise(function, *derivatives), *inputs)


_copied = _numpy(lambda a: np.array(a, order="C"), lambda a: 1)
_not_nan = _numpy(lambda a: np.where(a == a, a, 0), lambda a: a == a)
_larger = _numpy(np.maximum, np.greater_equal, np.less)  # at a tie the gradient is the first's
_power = _numpy(np.power, lambda a, b: b * a ** (b - 1), lambda a, b: a**b * np.log(a))
_modulo = _numpy(np.mod, lambda a, b: 1, lambda a, b: -np.floor(a / b))


def _operator(function: Callable[..., Tensor]) -> Callable[..., NDArray]:
    return nd(function, operands=True, waits=(int, float))


def _reduction(function: Callable[..., Tensor]) -> Callable[..., NDArray]:
    """Over all axes, ``axis`` (an int or several), or with ``exclude`` all but these."""

    def reduce(x: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Any:
        axes = inputs.axes_in("axis", None if axis == () else axis, x.ndim)
        if exclude and axes is not None:
            axes = tuple(i for i in range(x.ndim) if i not in np.atleast_1d(axes))
        return function(x, axes, keepdims)

    return nd(reduce)


def _maximum(a: Tensor, b: Tensor) -> Tensor:
    if not a.ndim:  # a number, which gets no gradient
        a, b = b, a
    number = b.shape in ((), a.shape) and not any(b.data.strides)  # or one repeated number
    rectified = number and source_of(b) is None and b.size and not b.data.item(0)
    return apply(Rectified(), a) if rectified else _larger(a, b)


def _reshaped(x: Tensor, shape: Any, exact: bool = True) -> Tensor:
    """A size 0 is the input's own, one of -1 fills up, if ``exact`` with nothing left; otherwise
    numbers that are too many are left out."""
    sizes = [shape] if isinstance(shape, int) else list(shape)
    sizes = [x.shape[i] if size == 0 and i < x.ndim else size for i, size in enumerate(sizes)]
    fixed = math.prod(size for size in sizes if size != -1)
    used = x.size if -1 in sizes else fixed
    if -1 in sizes and fixed and not exact:
        used -= x.size % fixed
    if 0 < used < x.size:
        x = ops.getitem(ops.reshape(x, (-1,)), slice(used))
    return ops.reshape(x, sizes)


def _dot(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The product over the last axis of a and the first of b; 2-d ones may be transposed before."""
    a, b = a.T if transpose_a else a, b.T if transpose_b else b
    pixels = ops.reshape(a, (-1, a.shape[-1], 1, 1)), ops.reshape(b, (b.shape[0], -1, 1, 1))
    return ops.reshape(ops.conv_transpose2d(*pixels), a.shape[:-1] + b.shape[1:])


def _tiled(x: Tensor, reps: Any) -> Tensor:
    places = np.tile(np.arange(x.size).reshape(x.shape), reps)
    return ops.getitem(ops.reshape(x, (-1,)), places)


def _swapped(x: Tensor, dim1: int, dim2: int) -> Tensor:
    swapped = {dim1: dim2, dim2: dim1}
    return _copied(ops.transpose(x, [swapped.get(axis, axis) for axis in range(x.ndim)]))


abs, exp, log, sqrt = nd(ops.abs), nd(ops.exp), nd(ops.log), nd(ops.sqrt)
relu, sigmoid, tanh, negative = nd(ops.relu), nd(ops.sigmoid), nd(ops.tanh), nd(ops.neg)
softmax, log_softmax, copy = nd(ops.softmax), nd(ops.log_softmax), nd(_copied)
sign, floor = nd(_numpy(np.sign, np.zeros_like)), nd(_numpy(np.floor, np.zeros_like))
square = nd(lambda x: ops.pow(x, 2))
arccos = nd(_numpy(np.arccos, lambda a: -1 / np.sqrt(1 - a * a)))
clip = nd(lambda x, a_min, a_max: apply(elementwise.Clip(a_min, a_max), x))
add, subtract, multiply = _operator(ops.add), _operator(ops.sub), _operator(ops.mul)
divide, modulo = _operator(ops.div), _operator(_modulo)
maximum = nd(_maximum, operands=True)
power = _operator(lambda a, b: _power(a, b) if b.ndim else ops.pow(a, b.item()))
sum, mean = _reduction(ops.sum), _reduction(ops.mean)
max = _reduction(lambda x, *how: apply(Max(*how), x))
nansum = _reduction(lambda x, *how: ops.sum(_not_nan(x), *how))
view, reshape = nd(_reshaped), nd(lambda x, shape: _copied(_reshaped(x, shape, False)))
transpose = nd(lambda x, axes=None: _copied(ops.transpose(x, axes)), waits=tuple)
# a copy, in whatever order the numbers lie
flatten = nd(lambda x: ops.cast(ops.flatten(x if x.ndim > 1 else x[:, None]), x.dtype))
concat = nd(lambda *xs, dim=1: ops.concat(xs, dim))
dot, tile, swapaxes = nd(_dot), nd(_tiled), nd(_swapped)
# one number, until it is written to
zeros_like = nd(lambda x: Tensor(np.ndarray(x.shape, x.dtype, bytes(8), 0, (0,) * x.ndim)))
ones_like = nd(lambda x: Tensor(np.ones_like(x.data)))


def elemwise_add(lhs: NDArray, rhs: NDArray, **how: Any) -> NDArray:
    """The sum of two arrays of one shape."""
    if lhs.shape != rhs.shape:
        raise ValueError(f"elemwise_add: shapes {lhs.shape} and {rhs.shape} differ")
    return add(lhs, rhs, **how)


def norm(data: NDArray, ord: int = 2, axis: Any = None, keepdims: bool = False) -> NDArray:
    if ord not in (1, 2):
        raise ValueError(f"norm: ord must be 1 or 2, got {ord!r}")
    return sqrt(sum(square(data), axis, keepdims)) if ord == 2 else sum(abs(data), axis, keepdims)


def argmax(data: NDArray, axis: int | None = None, keepdims: bool = False) -> NDArray:
    where = ops.argmax(data.tensor, axis).data.astype(data.dtype)
    return NDArray(Tensor(np.expand_dims(where, axis or 0) if keepdims else np.atleast_1d(where)))


def one_hot(indices: NDArray, depth: int, on_value: float = 1, off_value: float = 0) -> NDArray:
    hit = indices.asnumpy(np.int64)[..., None] == np.arange(depth)
    return NDArray(Tensor(np.where(hit, np.float32(on_value), np.float32(off_value))))


def take(a: NDArray, indices: NDArray, axis: int = 0) -> NDArray:
    """The elements at ``indices`` along an axis; beyond the ends those at the ends."""
    where = indices.asnumpy(np.int64).clip(0, a.shape[axis] - 1)
    return nd(lambda x: ops.getitem(x, (slice(None),) * (axis % a.ndim) + (where,)))(a)


def Convolution(data: NDArray, weight: NDArray, bias: Any = None, **how: Any) -> NDArray:
    """``cyconv.ops.conv2d``; ``kernel`` and ``num_filter`` must be those of the weight."""
    filters, _, *sizes = weight.shape
    asked = how.pop("num_filter", filters), *how.pop("kernel", sizes)
    if asked != (filters, *sizes):
        raise ValueError(f"Convolution: num_filter and kernel {asked} do not fit {weight.shape=}")
    arrays = [data, weight] if how.pop("no_bias", False) or bias is None else [data, weight, bias]
    names = {"pad": "padding", "dilate": "dilation", "num_group": "groups"}
    how = {names.get(name, name): value for name, value in how.items()}
    return nd(lambda *tensors: ops.conv2d(*tensors, **how))(*arrays)


def Pooling(data: NDArray, kernel: Any = None, pool_type: str = "max", **how: Any) -> NDArray:
    """Max or average ("avg") pooling; ``pooling_convention="full"`` rounds the size up.

    A window that would see no pixel is left out, where MXNet gives -3.4e38.
    """
    rule = how.pop("pooling_convention", "valid")
    if pool_type not in ("max", "avg") or rule not in ("valid", "full"):
        raise ValueError(f"Pooling: unknown {pool_type=} or pooling_convention={rule!r}")
    if how.pop("global_pool", False):
        return nd(getattr(ops, f"global_{pool_type}_pool2d"))(data)
    how.update(ceil_mode=rule == "full", stride=how.pop("stride", 1), padding=how.pop("pad", 0))
    return nd(lambda x: getattr(ops, f"{pool_type}_pool2d")(x, kernel, **how))(data)


LogisticRegressionOutput = nd(lambda data, label: apply(LogisticRegression(label), data))

# ------------------------------------------------------------------ new arrays


def array(source_array: Any, ctx: Any = None, dtype: Any = None) -> NDArray:
    """A copy of numbers, lists or arrays: float32, or an NDArray's own dtype, if none is given."""
    if dtype is None:
        dtype = source_array.dtype if isinstance(source_array, NDArray) else "float32"
    values = np.array(source_array, order="C")
    return NDArray(cyconv.tensor(values.astype(dtype) if values.dtype == object else values, dtype))


def _new(function: Callable[..., Any]) -> Callable[..., NDArray]:
    return lambda *args, ctx=None, dtype=None, **named: array(function(*args, **named), ctx, dtype)


def _filled(function: Callable[..., Tensor]) -> Callable[..., NDArray]:
    return lambda shape, ctx=None, dtype=None: NDArray(function(shape, dtype=dtype or "float32"))


zeros, ones = _filled(cyconv.zeros), _filled(cyconv.ones)
empty = zeros  # what lies in memory by chance would make no two runs alike
eye = _new(lambda N, M=0, k=0: np.eye(N, M or N, k))
random_normal = _new(lambda loc=0, scale=1, shape=1: init.normal_(cyconv.zeros(shape), scale, loc))
random_uniform = _new(lambda low=0, high=1, shape=1: init.uniform_(cyconv.zeros(shape), low, high))


def arange(start: Any, stop: Any = None, step: Any = 1, ctx: Any = None, dtype: Any = None) -> Any:
    """start + i * step, reckoned in the dtype of the result; ``arange(n)`` is 0, 1, ... n - 1."""
    places = array(range(len(np.arange(start, stop, step))), dtype=dtype)
    return places * step + (0 if stop is None else start)


def sample_multinomial(data: NDArray, shape: Any = (), dtype: Any = "int32") -> NDArray:
    """Numbers 0 to k - 1 drawn with the probabilities ``data`` (k,), or of each row of (n, k)."""
    rows = data.asnumpy(np.float64).reshape(-1, data.shape[-1])
    drawn = [generator().choice(row.size, shape, p=row / row.sum()) for row in rows]
    return array(np.reshape(drawn, data.shape[:-1] + np.shape(drawn[0]) or 1), dtype=dtype)


# ------------------------------------------------------------------ operators and methods

_operators = {"add": add, "sub": subtract, "mul": multiply, "truediv": divide, "mod": modulo}
for _name, _function in {**_operators, "pow": power}.items():
    setattr(NDArray, f"__{_name}__", _function)
    setattr(NDArray, f"__r{_name}__", lambda x, other, call=_function: call(other, x))
for _name, _function in _operators.items():
    setattr(NDArray, f"__i{_name}__", lambda x, other, call=_function: call(x, other).copyto(x))
for _name, _relation in zip(("eq", "ne", "lt", "le", "gt", "ge"), basic.RELATIONS):
    _compare = lambda a, b, which=_relation: ops.compare(which, a, b).astype(a.dtype)  # noqa: E731
    setattr(NDArray, f"__{_name}__", nd(_compare, operands=True))
_names = "abs argmax clip copy exp flatten log log_softmax max mean nansum norm one_hot ones_like"
_names += " relu sigmoid sign softmax sqrt square sum swapaxes take tanh tile transpose zeros_like"
for _name in _names.split():
    setattr(NDArray, _name, globals()[_name])
NDArray.T, NDArray.__neg__, NDArray.__abs__ = property(transpose), negative, abs  # type: ignore
