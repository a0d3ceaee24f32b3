"""One image (C, H, W) is a batch of one; a fully connected layer takes any leading axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv.backends import backend_of, cpu_numpy
from cyconv.geometry import conv2d_geometry

RNG = np.random.default_rng(5)


def normal(*shape: int) -> Any:
    """Random numbers."""
    return RNG.standard_normal(shape)


W, B, FILTERS = normal(6, 2, 3, 2), normal(6), normal(4, 3, 3, 2)
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("conv2d", (W, B), {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2}),
    ("conv2d", (W, None), {"groups": 2, "algo": "direct"}),
    ("conv_transpose2d", (FILTERS,), {"stride": 2, "padding": 1, "dilation": (2, 1)}),
    ("conv_transpose2d", (FILTERS, B), {"stride": 2, "output_padding": 1, "groups": 2}),
    ("max_pool2d", (3,), {"stride": 2, "padding": 1, "dilation": (1, 2), "ceil_mode": True}),
    ("avg_pool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}),
    ("avg_pool2d", (2,), {"stride": 3, "ceil_mode": True, "divisor_override": 3}),
    ("global_avg_pool2d", (), {}),
    ("global_max_pool2d", (), {}),
    ("pad2d", (((1, 0), (2, 3)),), {}),
]


@pytest.mark.parametrize(("op", "others", "options"), CASES)
def test_as_a_batch_of_one(op: str, others: tuple[Any, ...], options: dict[str, Any]) -> None:
    image = normal(4, 7, 6)
    one, batch = cc.as_tensor(image).attach_grad(), cc.as_tensor(image[None]).attach_grad()
    with cc.record():
        out = getattr(cc.ops, op)(one, *others, **options)
        expected = getattr(cc.ops, op)(batch, *others, **options)
    assert out.shape == expected.shape[1:]
    np.testing.assert_array_equal(out.numpy(), expected.numpy()[0])
    head = normal(*out.shape)
    out.backward(head)
    expected.backward(head[None])
    np.testing.assert_array_equal(one.grad.numpy(), batch.grad.numpy()[0])  # type: ignore


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_strides_over_rows_of_every_width(n: int, stride: int, dtype: Any) -> None:
    w = RNG.integers(-2, 3, (3, 2, 4, 3)).astype(dtype)
    for width in range(2, 80):
        x = RNG.integers(-2, 3, (n, 2, 5, width)).astype(dtype)
        g = conv2d_geometry(x.shape, w.shape, stride, ((1, 2), (2, 1)), 1, 1)
        found = backend_of(x).conv2d(x, w, None, g, "im2col")
        np.testing.assert_array_equal(found, cpu_numpy.conv2d(x, w, None, g))


def test_the_winners_of_one_image() -> None:
    out, indices = cc.ops.max_pool2d(np.array([[[1.0, 5], [2, 3]]]), 2, return_indices=True)
    assert out.tolist() == [[[5.0]]] and indices.tolist() == [[[1]]]


def test_layers_take_one_image() -> None:
    net = cc.nn.Sequential(cc.nn.Conv2d(1, 3, 3), cc.nn.ReLU(), cc.nn.MaxPool2d(2))
    assert net(cc.zeros(1, 8, 8)).shape == (3, 3, 3)


def test_the_plan_of_one_image() -> None:
    assert cc.ops.explain_conv2d((1, 8, 8), (3, 1, 3, 3)).out_shape == (1, 3, 6, 6)


@pytest.mark.parametrize("lead", [(), (1,), (2, 3), (2, 0, 3), (2, 1, 2, 2)])
def test_linear_takes_leading_axes(lead: tuple[int, ...]) -> None:
    w, b = cc.as_tensor(normal(4, 5)).attach_grad(), cc.as_tensor(normal(4)).attach_grad()
    x = cc.as_tensor(normal(*lead, 5)).attach_grad()
    with cc.record():
        out = cc.ops.linear(x, w, b)
    np.testing.assert_allclose(out.numpy(), x.numpy() @ w.numpy().T + b.numpy(), rtol=1e-12)
    head = normal(*lead, 4)
    out.backward(head)
    rows, heads = x.numpy().reshape(-1, 5), head.reshape(-1, 4)
    np.testing.assert_allclose(x.grad.numpy(), head @ w.numpy(), rtol=1e-12)  # type: ignore
    np.testing.assert_allclose(w.grad.numpy(), heads.T @ rows, rtol=1e-12, atol=1e-12)  # type: ignore
    np.testing.assert_allclose(b.grad.numpy(), heads.sum(0), rtol=1e-12, atol=1e-12)  # type: ignore


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("features", [1, 3, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("outputs", [1, 4, 5, 16, 19])
def test_linear_of_one_image_at_every_remainder(features: int, outputs: int, dtype: Any) -> None:
    x, w, b = (normal(*s).astype(dtype) for s in ((1, features), (outputs, features), (outputs,)))
    expected = x.astype(np.float64) @ w.T.astype(np.float64) + b
    tolerance = 4 * features * np.finfo(dtype).eps
    found = cc.ops.linear(x, w, b).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(x).max() * 4)
    assert found.dtype == dtype


def test_a_sequence_of_one_size_is_that_size() -> None:
    x, w = normal(1, 1, 7, 7), normal(1, 1, 3, 3)
    one = cc.ops.conv2d(x, w, stride=(2,), padding=[1], dilation=(2,))
    both = cc.ops.conv2d(x, w, stride=2, padding=1, dilation=2)
    np.testing.assert_array_equal(one.numpy(), both.numpy())
    assert cc.ops.avg_pool2d(x, (3,), stride=(2,), padding=(1,)).shape == (1, 1, 4, 4)
