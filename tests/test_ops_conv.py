"""conv2d, conv_transpose2d and linear against nested loops, over drawn geometry."""

from __future__ import annotations

from typing import Any

import bounds
import bounds_winograd
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import run
from strategies import BATCHES, CHANNELS, DTYPES, SEEDS, Conv, convs, normal, transposed_convs

import cyconv as cc
from cyconv.geometry import conv2d_geometry

ALGORITHMS = ("auto", "direct", "im2col")
WINOGRAD = ("winograd", "auto")


def compare(
    op: str, inputs: dict[str, Any], head: Any, options: dict[str, Any], **algo: Any
) -> None:
    """Output and every gradient within the rounding error of sums of products."""
    expected = getattr(oracle, op)(*inputs.values(), **options)
    dx, dw, db = getattr(oracle, f"{op}_grads")(head, inputs["x"], inputs["w"], **options)
    rest = () if op == "linear" else (options,)
    allowed = getattr(bounds, op)(inputs["x"], inputs["w"], inputs.get("b"), head, *rest)
    if op == "conv2d":
        allowed |= winograd_bounds(inputs, head, options, algo)
    out, grads = run(op, inputs, head, **options, **algo)
    assert out.dtype == head.dtype
    bounds.check(out, expected, allowed["out"], "output")
    for name, grad in zip(grads, (dx, dw, db), strict=False):
        bounds.check(grads[name], grad, allowed[name], f"gradient of {name}")


def winograd_bounds(
    inputs: dict[str, Any], head: Any, options: dict[str, Any], algo: dict[str, Any]
) -> dict[str, Any]:
    """Those of out and of the gradients by x and w that are computed by Winograd's method."""
    if cc.backends.backend_name() != "cython":
        return {}
    from cyconv.backends import cpu_cython_conv

    x, w = inputs["x"], inputs["w"]
    directions = {"out": "forward", "x": "input_grad", "w": "weight_grad"}
    g = conv2d_geometry(x.shape, w.shape, **options)
    how = x.dtype.char, algo.get("algo", "auto")
    plans = {
        name: type(cpu_cython_conv._plan(g, *how, direction, 1)).__name__
        for name, direction in directions.items()
    }
    spread = plans["x"] == "_SpreadTiles"
    found = {
        "out": lambda: bounds_winograd.out(x, w, inputs.get("b"), head, options),
        "x": lambda: bounds_winograd.input_grad(x, w, head, options, spread),
        "w": lambda: bounds_winograd.weight_grad(x, w, head, options),
    }
    return {name: found[name]() for name, plan in plans.items() if "Tile" in plan}


def check_conv(case: Conv, **algo: Any) -> None:
    """Draw the values of a conv2d and compare."""
    shape = (case.x_shape[0], case.w_shape[0], *out_size(case))
    x, w, b, head = normal(
        case.seed, case.dtype, case.x_shape, case.w_shape, case.w_shape[:1], shape
    )
    inputs = {"x": x, "w": w} | ({"b": b} if case.bias else {})
    compare("conv2d", inputs, head, case.options, **algo)


def out_size(case: Conv) -> tuple[int, int]:
    """(OH, OW) of the convolution."""
    options = {k: v for k, v in case.options.items() if k != "groups"}
    return oracle.out_size(case.x_shape[2:], case.w_shape[2:], **options)


@pytest.mark.parametrize("algo", ALGORITHMS)
@given(case=convs())
def test_conv2d(algo: str, case: Conv) -> None:
    check_conv(case, algo=algo)


# a drawn case may miss these by chance: sizes just below, at and above the kernels' block sizes
EDGES = [
    # x_shape, w_shape, options
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((1, 3, 9, 9), (5, 3, 3, 3), {"padding": 1}),
    ((15, 2, 5, 5), (11, 2, 3, 3), {"padding": 1}),
    ((16, 2, 5, 5), (12, 2, 3, 3), {"padding": 1}),
    ((17, 2, 5, 5), (13, 2, 3, 3), {"padding": 1}),
    ((33, 3, 6, 6), (25, 3, 5, 5), {"padding": 2}),
    ((64, 1, 8, 8), (20, 1, 3, 3), {}),
    ((2, 2, 1, 7), (3, 2, 1, 3), {"padding": (0, 1)}),
    ((2, 2, 7, 1), (3, 2, 3, 1), {"padding": (1, 0)}),
    ((3, 2, 2, 2), (4, 2, 5, 5), {"padding": 4}),  # a kernel larger than the image
    ((3, 2, 3, 3), (4, 2, 1, 1), {"padding": 2}),  # outputs that see nothing but padding
    ((3, 2, 4, 4), (4, 2, 2, 2), {"padding": ((3, 0), (0, 3))}),
    ((3, 2, 9, 9), (4, 2, 2, 2), {"stride": 4}),  # pixels that no window reads
    ((3, 2, 9, 8), (4, 2, 3, 3), {"stride": (3, 1), "dilation": (1, 3)}),
    ((2, 2, 11, 11), (2, 2, 3, 3), {"dilation": 5}),
    ((4, 12, 5, 5), (12, 1, 3, 3), {"groups": 12, "padding": 1}),
    ((4, 6, 5, 5), (18, 1, 3, 3), {"groups": 6, "stride": 2}),
    ((17, 26, 4, 4), (26, 13, 3, 3), {"groups": 2}),
    ((2, 130, 3, 3), (3, 130, 3, 3), {}),
    ((5, 64, 1, 1), (30, 64, 1, 1), {}),
]


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), EDGES)
def test_conv2d_at_the_edges(
    x_shape: Any, w_shape: Any, options: dict[str, Any], dtype: str, algo: str
) -> None:
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    check_conv(Conv(x_shape, w_shape, True, options, dtype, 5), algo=algo)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding"),
    [
        ((64, 16, 24, 24), (7, 16, 5, 5), 2),  # 59 MB of im2col columns
        ((64, 50, 6, 60), (5, 50, 5, 5), (0, 2)),  # 19 MB for each row of the output
    ],
)
def test_conv2d_larger_than_scratch_memory(
    x_shape: Any, w_shape: Any, padding: Any, algo: str
) -> None:
    options = {"stride": 1, "padding": padding, "dilation": 1, "groups": 1}
    check_conv(Conv(x_shape, w_shape, True, options, "float32", 6), algo=algo)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 5)])
def test_conv2d_padding_by_name(padding: str, kernel: tuple[int, int]) -> None:
    (x, w) = normal(1, "float64", (2, 3, 6, 7), (4, 3, *kernel))
    rows, columns = kernel[0] - 1, kernel[1] - 1
    if padding == "valid":
        rows = columns = 0
    pads = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    head = normal(2, "float64", (2, 4, 6 + rows - kernel[0] + 1, 7 + columns - kernel[1] + 1))[0]
    by_name = run("conv2d", {"x": x, "w": w}, head, padding=padding)
    by_number = run("conv2d", {"x": x, "w": w}, head, padding=pads)
    np.testing.assert_array_equal(by_name[0], by_number[0])
    compare("conv2d", {"x": x, "w": w}, head, {"padding": pads})


@given(case=transposed_convs())
def test_conv_transpose2d(case: Conv) -> None:
    o = case.options
    size = oracle.transposed_size(
        case.x_shape[2:],
        case.w_shape[2:],
        o["stride"],
        o["padding"],
        o["output_padding"],
        o["dilation"],
    )
    f = case.w_shape[1] * o["groups"]
    x, w, b, head = normal(
        case.seed, case.dtype, case.x_shape, case.w_shape, (f,), (case.x_shape[0], f, *size)
    )
    inputs = {"x": x, "w": w} | ({"b": b} if case.bias else {})
    compare("conv_transpose2d", inputs, head, o)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        # rows and columns that output_padding adds, which no input pixel reaches
        ((3, 1, 1, 2), (1, 1, 1, 1), {"output_padding": (0, 1), "dilation": 2}),
        ((17, 2, 3, 3), (2, 3, 1, 1), {"output_padding": 1, "stride": 2}),
        ((4, 4, 2, 3), (4, 2, 2, 2), {"output_padding": (2, 1), "stride": 3, "groups": 2}),
        ((16, 13, 4, 4), (13, 25, 3, 3), {"padding": 1, "stride": 2, "output_padding": 1}),
        ((5, 3, 4, 4), (3, 2, 3, 3), {"padding": ((2, 0), (0, 1))}),
        ((33, 6, 5, 5), (6, 1, 4, 4), {"padding": 1, "stride": 2, "groups": 6}),
    ],
)
def test_conv_transpose2d_at_the_edges(x_shape: Any, w_shape: Any, options: Any) -> None:
    f = w_shape[1] * options.get("groups", 1)
    x, w, b = normal(8, "float32", x_shape, w_shape, (f,))
    expected = oracle.conv_transpose2d(x, w, b, **options)
    (head,) = normal(9, "float32", expected.shape)
    compare("conv_transpose2d", {"x": x, "w": w, "b": b}, head, options)


@given(n=BATCHES, c=CHANNELS, f=CHANNELS, bias=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_linear(n: int, c: int, f: int, bias: bool, dtype: str, seed: int) -> None:
    x, w, b, head = normal(seed, dtype, (n, c), (f, c), (f,), (n, f))
    compare("linear", {"x": x, "w": w} | ({"b": b} if bias else {}), head, {})


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 800, 128), (128, 128, 10), (3, 1000, 2)])
def test_linear_of_network_sizes(shape: tuple[int, int, int]) -> None:
    n, c, f = shape
    x, w, b, head = normal(3, "float32", (n, c), (f, c), (f,), (n, f))
    compare("linear", {"x": x, "w": w, "b": b}, head, {})


@given(case=convs())
def test_transpose_is_the_adjoint(case: Conv) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>, whatever either of them computes."""
    shape = (case.x_shape[0], case.w_shape[0], *out_size(case))
    x, w, y = normal(case.seed, "float64", case.x_shape, case.w_shape, shape)
    options = case.options
    out, _ = run("conv2d", {"x": x, "w": w}, y, **options)
    smallest = oracle.transposed_size(
        shape[2:], w.shape[2:], options["stride"], options["padding"], 0, options["dilation"]
    )
    unread = tuple(n - m for n, m in zip(x.shape[2:], smallest, strict=True))  # at the far edges
    if min(smallest) < 1 or min(unread) < 0:
        return
    back, _ = run("conv_transpose2d", {"x": y, "w": w}, output_padding=unread, **options)
    assert back.shape == x.shape
    terms = out.size + x.size
    size = float((abs(out) * abs(y)).sum() + (abs(x) * abs(back)).sum())
    difference = float((out * y).sum()) - float((x * back).sum())
    assert abs(difference) <= terms * np.finfo("float64").eps * (size + 1)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_nan_and_infinity_stay_where_they_belong(algo: str) -> None:
    """Only windows that see the NaN are NaN, and neither an image's neighbours nor padding are."""
    x = np.ones((17, 2, 6, 6), np.float32)
    x[3, 0, 2, 2], x[5, 1, 0, 0] = np.nan, np.inf
    w = np.ones((3, 2, 3, 3), np.float32)
    head = np.ones((17, 3, 6, 6), np.float32)
    head[3, 0, 2, 2], head[5, 1, 0, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):  # inf - inf
        out, grads = run("conv2d", {"x": x, "w": w}, head, padding=1, algo=algo)
        dx, _, _ = oracle.conv2d_grads(head, x, w, padding=1)
    np.testing.assert_array_equal(out, oracle.conv2d(x, w, padding=1))
    np.testing.assert_array_equal(grads["x"], dx)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_bias_gradient_alone(algo: str) -> None:
    """An op must not compute, or need, gradients that nobody asked for."""
    import cyconv as cc

    x, w, b, head = normal(1, "float64", (3, 2, 5, 5), (4, 2, 3, 3), (4,), (3, 4, 3, 3))
    bias = cc.tensor(b, dtype="float64").attach_grad()
    with cc.record():
        y = cc.ops.conv2d(x, w, bias, algo=algo)
    y.backward(head)
    bounds.check(bias.grad.numpy(), head.sum(axis=(0, 2, 3)), 1e-14 * head.size, "db")


@pytest.mark.parametrize("algo", WINOGRAD)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "f", "padding", "kernel"),
    [
        ((16, 16, 8, 8), 16, 1, 3),
        ((33, 17, 7, 9), 29, 1, 3),
        ((64, 20, 6, 4), 14, ((0, 2), (1, 0)), 3),
        ((3, 2, 5, 6), 3, 2, 3),
        ((17, 40, 12, 13), 33, 0, 3),
        ((48, 16, 3, 3), 16, 3, 3),
        # the gradient by x spreads tiles of the output, here beyond the image, too
        ((33, 18, 10, 14), 40, 0, 3),
        ((33, 9, 13, 10), 12, 1, 5),
        # the weight gradient takes these tiles in chunks: sums along lanes, products with channels
        # as lanes, each thread's own, and of all threads
        ((32, 32, 20, 20), 40, 1, 3),
        ((40, 19, 14, 13), 47, 2, 5),
        ((32, 52, 16, 16), 52, 1, 3),
        ((32, 68, 16, 16), 68, 1, 3),
        ((16, 33, 8, 8), 40, 2, 5),
        ((35, 34, 7, 9), 50, 0, 5),
        ((17, 20, 13, 13), 50, 0, 5),
        ((64, 20, 6, 5), 14, ((0, 2), (1, 3)), 5),
        ((3, 2, 5, 6), 3, 5, 5),
        # few images: lanes are tiles, in strips of their rows, the last of which is shorter
        ((1, 20, 13, 13), 50, 0, 5),
        ((2, 17, 9, 31), 29, 1, 3),
        ((3, 16, 17, 16), 16, ((0, 2), (1, 3)), 5),
        ((1, 40, 45, 120), 17, 1, 3),
    ],
)
def test_winograd(
    algo: str, dtype: str, x_shape: tuple[int, ...], f: int, padding: Any, kernel: int
) -> None:
    """Tails of images, of channels and of tiles; paddings up to and beyond the kernel's reach."""
    options = {"stride": 1, "padding": padding}
    case = Conv(x_shape, (f, x_shape[1], kernel, kernel), True, options, dtype, seed=3)
    check_conv(case, algo=algo)


@pytest.mark.parametrize("algo", WINOGRAD)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "f", "padding", "kernel"),
    [
        ((16, 16, 16, 16), 16, 1, 3),
        ((33, 17, 15, 31), 29, 1, 3),
        ((64, 20, 6, 9), 14, ((1, 2), (3, 0)), 3),
        ((35, 34, 32, 30), 17, 0, 3),  # the gradient by x is direct
        ((3, 2, 5, 6), 3, 3, 3),
        ((16, 16, 18, 32), 17, 2, 5),
        ((33, 17, 13, 21), 29, ((0, 2), (3, 1)), 5),
        ((64, 3, 30, 31), 14, 3, 7),
        ((33, 5, 17, 16), 29, ((4, 2), (0, 6)), 7),
        ((3, 2, 5, 6), 3, 7, 7),
        # lanes are tiles
        ((1, 20, 32, 32), 50, 1, 3),
        ((2, 17, 63, 31), 29, 1, 3),
        ((3, 40, 33, 100), 16, ((1, 2), (1, 3)), 3),
        ((1, 17, 31, 64), 18, 2, 5),
        ((1, 3, 64, 61), 20, 3, 7),
        ((3, 4, 35, 120), 9, ((2, 0), (5, 3)), 7),
    ],
)
def test_winograd_of_stride_2(
    algo: str, dtype: str, x_shape: tuple[int, ...], f: int, padding: Any, kernel: int
) -> None:
    options = {"stride": 2, "padding": padding}
    case = Conv(x_shape, (f, x_shape[1], kernel, kernel), True, options, dtype, seed=3)
    check_conv(case, algo=algo)


def test_winograd_needs_kernels_that_it_knows() -> None:
    x, w = np.zeros((2, 3, 8, 8), np.float32), np.zeros((4, 3, 5, 7), np.float32)
    with pytest.raises(ValueError, match=r"algo='winograd' needs 3x3 or 5x5 .*\(4, 3, 5, 7\)"):
        cc.ops.conv2d(x, w, algo="winograd")
    for kernel, stride in ((7, 1), (5, 3)):
        w = np.zeros((4, 3, kernel, kernel), np.float32)
        with pytest.raises(ValueError, match=rf"algo='winograd'.*stride \({stride}, {stride}\)"):
            cc.ops.conv2d(x, w, stride=stride, algo="winograd")
