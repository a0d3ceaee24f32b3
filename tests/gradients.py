"""Calls of every op that gradcheck can differentiate: float64, small, and away from kinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cyconv as cc
from cyconv import ops

Array = NDArray[Any]
NOT_DIFFERENTIABLE = {"argmax", "argmin", "compare", "explain_conv2d"}


@dataclass(frozen=True)
class Check:
    """A function of tensors, and where to differentiate it."""

    name: str
    function: Callable[..., Any]
    inputs: list[Array]
    train: bool = True

    def __str__(self) -> str:
        return self.name


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normal numbers."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def apart(*shape: int) -> Array:
    """Different numbers, none closer than 0.1 to another or to 0: no kink is near."""
    count = int(np.prod(shape))
    values = 0.1 * (np.arange(count) - count // 2) + 0.05
    return np.random.default_rng(count).permutation(values).reshape(shape)


def positive(*shape: int) -> Array:
    """Numbers from 0.5 to 2."""
    return np.random.default_rng(shape).uniform(0.5, 2, shape)


def call(op: str, inputs: list[Array], train: bool = True, **options: Any) -> Check:
    """A check of one op called with these arrays and options."""
    shown = ",".join(f"{k}={v}" for k, v in options.items()).replace(" ", "")
    shapes = " ".join("x".join(map(str, a.shape)) or "scalar" for a in inputs)

    def function(*tensors: Any) -> Any:
        return getattr(ops, op)(*tensors, **options)

    return Check(f"{op} {shapes} {shown}".strip(), function, inputs, train)


def elementwise() -> Iterator[Check]:
    """Activations and arithmetic."""
    for name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softplus", "silu", "elu"):
        for shape in ((2, 3, 2, 2), (5, 3), ()):
            yield call(name, [apart(*shape)])
    yield call("leaky_relu", [apart(4, 3)], negative_slope=-0.5)
    yield call("gelu", [normal(4, 3)], approximate="tanh")
    yield call("elu", [apart(4, 3)], alpha=0.3)
    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        for left, right in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((), (2,))):
            spread = apart(int(np.prod(left)) + int(np.prod(right)))
            a, b = np.split(spread, [int(np.prod(left))])
            yield call(name, [a.reshape(left), b.reshape(right)])
    for name in ("exp", "neg", "abs"):
        yield call(name, [apart(2, 3)])
    for name in ("log", "sqrt"):
        yield call(name, [positive(2, 3)])
    for exponent in (3, -2, 0.5, 1, 0):
        yield call("pow", [positive(2, 3)], exponent=exponent)
    yield call("clip", [apart(4, 3)], low=-0.3, high=0.3)
    yield call("clip", [apart(4, 3)], low=0.1)
    yield call("cast", [normal(2, 3)], dtype="float64")


def products() -> Iterator[Check]:
    """Matrix products and fully connected layers."""
    for left, right in (
        ((2, 3), (3, 4)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (4, 3, 2)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
    ):
        yield call("matmul", [normal(*left), normal(*right, seed=1)])
    yield call("linear", [normal(3, 4), normal(5, 4), normal(5)])
    yield call("linear", [normal(9, 3), normal(7, 3)])
    yield call("linear", [normal(1, 1), normal(1, 1), normal(1)])


def shapes() -> Iterator[Check]:
    """Reductions and changes of shape."""
    for axis in (None, 0, -1, (0, 2), (1,)):
        for keepdims in (False, True):
            for name in ("sum", "mean", "max", "min"):
                yield call(name, [apart(2, 3, 2)], axis=axis, keepdims=keepdims)
    yield call("reshape", [normal(2, 6)], shape=(3, -1))
    yield call("transpose", [normal(2, 3, 4)])
    yield call("transpose", [normal(2, 3, 4)], axes=(1, 2, 0))
    yield call("flatten", [normal(2, 3, 2, 2)])
    for index in (
        1,
        slice(None, None, -1),
        (..., None, 0),
        [1, 1, 0],
        np.array([[True, False]] * 3).T,
    ):
        yield call("getitem", [normal(2, 3)], index=index)
    for axis in (0, 1, -1):
        for join in (ops.concat, ops.stack):
            yield Check(
                f"{join.__name__} axis={axis}",
                lambda *ts, axis=axis, join=join: join(ts, axis=axis),
                [normal(2, 3, seed=i) for i in range(3)],
            )
    yield call("pad2d", [normal(2, 1, 3, 2)], padding=((1, 0), (2, 3)))


def convolutions() -> Iterator[Check]:
    """conv2d and its transpose in every geometry: each option alone, and all together."""
    x, w, b = (4, 5), (3, 2), ((1, 2), (0, 1))  # image, window, asymmetric padding
    for options in (
        {},
        {"stride": 2},
        {"stride": (1, 3)},
        {"padding": 1},
        {"padding": (2, 1)},
        {"padding": b},
        {"padding": "same"},
        {"dilation": (1, 2)},
        {"stride": 2, "padding": b, "dilation": (1, 3)},
        {"stride": (3, 2), "padding": 3, "dilation": 2},
    ):
        for algo in ("direct", "im2col"):
            inputs = [normal(2, 2, *x), normal(3, 2, *w), normal(3)]
            yield call("conv2d", inputs, algo=algo, **options)
    for groups, c, f in ((2, 2, 3), (3, 1, 1), (3, 1, 2)):
        inputs = [normal(2, groups * c, *x), normal(groups * f, c, *w), normal(groups * f)]
        yield call("conv2d", inputs, groups=groups, stride=2, padding=b)
    yield call("conv2d", [normal(1, 2, *x), normal(3, 2, *x)])  # one output pixel
    yield call("conv2d", [normal(9, 1, 3, 3), normal(7, 1, 2, 2)])  # more than one vector
    yield call("conv2d", [normal(8, 3, 3, 2), normal(2, 3, 1, 1)], stride=(2, 1))
    for padding in (0, 1, ((2, 0), (0, 3))):
        inputs = [normal(2, 2, 5, 6), normal(3, 2, 3, 3), normal(3)]
        yield call("conv2d", inputs, padding=padding, algo="winograd")
    for options in (
        {},
        {"stride": 2, "output_padding": 1},
        {"padding": (1, 0)},
        {"padding": ((1, 0), (0, 2)), "stride": (3, 2)},
        {"dilation": 2},
        {"groups": 2, "stride": 2, "dilation": (2, 1), "output_padding": (1, 0)},
    ):
        yield call("conv_transpose2d", [normal(2, 4, 3, 2), normal(4, 2, *w)], **options)
    yield call("conv_transpose2d", [normal(2, 2, 2, 3), normal(2, 3, *w), normal(3)], stride=2)


def pools() -> Iterator[Check]:
    """Max and average pooling."""
    for options in (
        {},
        {"stride": 1},
        {"stride": (1, 3)},
        {"padding": 1},
        {"padding": ((1, 0), (0, 1)), "stride": 2},
        {"ceil_mode": True, "stride": 3},
        {"ceil_mode": True, "padding": 1, "stride": 3},
    ):
        for kernel in (2, (3, 2)):
            yield call("max_pool2d", [apart(2, 2, 5, 6)], kernel_size=kernel, **options)
            for padded in (True, False):
                yield call(
                    "avg_pool2d",
                    [normal(2, 2, 5, 6)],
                    kernel_size=kernel,
                    count_include_pad=padded,
                    **options,
                )
    yield call("max_pool2d", [apart(9, 1, 5, 6)], kernel_size=2, dilation=(2, 3), stride=1)
    yield call("global_avg_pool2d", [normal(2, 3, 3, 2)])
    yield call("global_max_pool2d", [apart(2, 3, 3, 2)])


def norms() -> Iterator[Check]:
    """Batch, layer and group norm; dropout."""
    for shape in ((5, 3), (2, 3, 2, 2), (3, 2, 3)):
        c = shape[1]
        affine = [1 + 0.3 * normal(c), normal(c, seed=1)]
        yield call("batch_norm", [normal(*shape), *affine])
        yield call("batch_norm", [normal(*shape)], eps=0.5)
        running = {"running_mean": cc.tensor(normal(c, seed=2), "float64")}
        running["running_var"] = cc.tensor(positive(c), "float64")
        yield call("batch_norm", [normal(*shape), *affine], train=False, **running)
        for options in ({}, {"activation": "relu"}):
            yield Check(
                f"batch_norm and a sum {shape} {options}",
                lambda x, g, b, r, options=options: ops.batch_norm(x, g, b, residual=r, **options),
                [normal(*shape), *affine, normal(*shape, seed=3)],
            )
        yield call("group_norm", [normal(*shape)], num_groups=1)
        yield (
            call("group_norm", [normal(*shape)], num_groups=c)
            if len(shape) > 2
            else call("layer_norm", [normal(*shape)], normalized_shape=c)
        )
    yield Check(
        "group_norm affine",
        lambda x, g, b: ops.group_norm(x, 2, g, b),
        [normal(2, 4, 2, 1), 1 + normal(4), normal(4, seed=1)],
    )
    for size in ((2,), (3, 2)):
        yield Check(
            f"layer_norm over {size}",
            lambda x, g, b, size=size: ops.layer_norm(x, size, g, b),
            [normal(4, 3, 2), 1 + normal(*size), normal(*size, seed=1)],
        )

    def dropped(x: Any) -> Any:
        cc.seed(1)
        return ops.dropout(x, 0.4)

    yield Check("dropout with a seed", dropped, [normal(4, 5)])
    yield call("dropout", [normal(4, 5)], train=False)


def losses() -> Iterator[Check]:
    """Softmax and the losses."""
    for name in ("softmax", "log_softmax"):
        yield call(name, [normal(3, 4)])
        yield call(name, [normal(2, 3, 4)], axis=1)
    labels = np.array([0, 3, 3])
    for reduction in ("mean", "sum", "none"):
        for smoothing in (0.0, 0.2, 1.0):
            options = {"label_smoothing": smoothing, "reduction": reduction}
            yield call("cross_entropy", [normal(3, 4)], labels=labels, **options)
            some = np.array([0.5, 2.0, 1.0, 3.0])
            weighted = {**options, "weight": some, "ignore_index": int(labels[0])}
            yield call("cross_entropy", [normal(3, 4)], labels=labels, **weighted)
        pair = [normal(3, 2), normal(3, 2, seed=1)]
        yield call("mse_loss", pair, reduction=reduction)
        targets = [apart(3, 2), np.random.default_rng(0).random((3, 2))]
        yield call("binary_cross_entropy_with_logits", targets, reduction=reduction)


CHECKS = [
    check
    for family in (elementwise, products, shapes, convolutions, pools, norms, losses)
    for check in family()
]
