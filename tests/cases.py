"""One small example of every op, for tests that ask the same thing of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """An op, its array arguments, and its other arguments."""

    name: str
    op: str
    inputs: dict[str, Array]
    options: dict[str, Any] = field(default_factory=dict)
    training: bool = True

    def __str__(self) -> str:
        return self.name


ELEMENTWISE = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softplus", "silu", "elu")


def every_op(n: int, c: int = 4, size: int = 6, f: int = 6, dtype: Any = "float32") -> list[Case]:
    """Every op on images (n, c, size, size), or on rows (n, c)."""
    rng = np.random.default_rng(7)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    x, rows = {"x": normal(n, c, size, size)}, {"x": normal(n, c)}
    affine = {"gamma": normal(c), "beta": normal(c)}
    running = {"running_mean": normal(c), "running_var": 1 + abs(normal(c))}
    weights, pointwise = {"w": normal(f, c, 3, 3), "b": normal(f)}, {"w": normal(f, c, 1, 1)}
    labels = {"labels": rng.integers(0, c, n)}
    strided = {"stride": 2, "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    transposed = {"w": normal(c, f, 3, 3), "b": normal(f)}
    cases = [
        Case("conv2d", "conv2d", x | weights, {"padding": 1}),
        Case("conv2d-strided", "conv2d", x | weights, strided),
        Case("conv2d-direct", "conv2d", x | weights, {"algo": "direct"}),
        Case("conv2d-im2col", "conv2d", x | weights, {"algo": "im2col"}),
        Case("conv2d-pointwise", "conv2d", x | pointwise),
        Case("conv2d-depthwise", "conv2d", x | {"w": normal(2 * c, 1, 3, 3)}, {"groups": c}),
        Case("conv_transpose2d", "conv_transpose2d", x | transposed, {"stride": 2, "padding": 1}),
        Case("linear", "linear", rows | {"w": normal(f, c), "b": normal(f)}),
        Case("max_pool2d", "max_pool2d", x, {"kernel_size": 2}),
        Case("max_pool2d-overlap", "max_pool2d", x, {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case("avg_pool2d", "avg_pool2d", x, {"kernel_size": 2}),
        Case("avg_pool2d-overlap", "avg_pool2d", x, {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case("global_avg_pool2d", "global_avg_pool2d", x),
        Case("flatten", "flatten", {"a": x["x"]}),
        Case("batch_norm", "batch_norm", x | affine | running),
        Case("batch_norm-rows", "batch_norm", rows | affine | running),
        Case("batch_norm-inference", "batch_norm", x | affine | running, training=False),
        Case("layer_norm", "layer_norm", rows | affine, {"normalized_shape": (c,)}),
        Case("layer_norm-images", "layer_norm", x, {"normalized_shape": (c, size, size)}),
        Case("group_norm", "group_norm", x | affine, {"num_groups": 2}),
        Case("softmax", "softmax", rows),
        Case("log_softmax", "log_softmax", rows),
        Case("cross_entropy", "cross_entropy", {"logits": normal(n, c)} | labels),
        Case(
            "cross_entropy-none",
            "cross_entropy",
            {"logits": normal(n, c)} | labels,
            {"reduction": "none", "label_smoothing": 0.1},
        ),
        Case("mse_loss", "mse_loss", {"input": normal(n, c), "target": normal(n, c)}),
        Case(
            "binary_cross_entropy_with_logits",
            "binary_cross_entropy_with_logits",
            {"input": normal(n, c), "target": rng.random((n, c)).astype(dtype)},
        ),
    ]
    a, positive = {"a": x["x"]}, {"a": abs(x["x"]) + 1}
    cases += [Case(name, name, x) for name in ELEMENTWISE]
    cases += [Case(name, name, a | {"b": positive["a"]}) for name in ("add", "sub", "mul", "div")]
    return [
        *cases,
        Case("matmul", "matmul", {"a": normal(n, c), "b": normal(c, f)}),
        Case("exp", "exp", a),
        Case("log", "log", positive),
        Case("sqrt", "sqrt", positive),
        Case("pow", "pow", positive, {"exponent": 1.5}),
        Case("sum", "sum", a),
        Case("sum-axes", "sum", a, {"axis": (0, 2)}),
        Case("mean", "mean", a, {"axis": 1, "keepdims": True}),
        Case("max", "max", a, {"axis": 3}),
        Case("min", "min", a, {"axis": (1, 2)}),
        Case("reshape", "reshape", a, {"shape": (n, c * size, size)}),
        Case("transpose", "transpose", a, {"axes": (1, 0, 3, 2)}),
    ]
