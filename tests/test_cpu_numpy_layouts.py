"""The NumPy backend: arrays of any layout give the same bits, results are batch-last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cyconv.backends import cpu_numpy as backend
from cyconv.geometry import Conv2dGeometry, Pool2dGeometry, conv2d_geometry, pool2d_geometry

Array = NDArray[Any]

LAYOUTS = (
    "batch-last",
    "planes apart",
    "Fortran",
    "reversed",
    "read-only",
    "byte-swapped",
    "misaligned",
)


def integers(shape: tuple[int, ...], seed: int = 0, dtype: str = "float64") -> Array:
    """Small integers, whose sums of products are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def laid_out(a: Array, layout: str) -> Array:
    """The same values in another memory layout."""
    if layout == "batch-last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)
    if layout == "planes apart":
        if a.ndim < 2:
            return np.repeat(a, 2)[::2]
        padded = np.zeros((a.shape[1], a[:, 0].size + 7), a.dtype)[:, : a[:, 0].size]
        planes = padded.reshape(*np.moveaxis(a, 0, -1).shape)
        planes[...] = np.moveaxis(a, 0, -1)
        return np.moveaxis(planes, -1, 0)
    if layout == "Fortran":
        return np.asfortranarray(a)
    if layout == "reversed":
        return np.flip(np.flip(a).copy())
    if layout == "read-only":
        a = a.copy()
        a.flags.writeable = False
        return a
    if layout == "byte-swapped":
        return a.astype(a.dtype.newbyteorder())
    b = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


def everything(g: Conv2dGeometry, p: Pool2dGeometry, lay: Any, dtype: str) -> list[Array]:
    """The results of all functions, for inputs that went through ``lay``."""
    rng = np.random.default_rng(0)

    def given(*shape: int) -> Array:
        return lay(rng.standard_normal(shape).astype(dtype))

    x, w, b, dout = given(*g.x_shape), given(*g.w_shape), given(g.f), given(*g.out_shape)
    pooled, gamma, logits = given(*p.out_shape), given(g.c), given(g.n, 5)
    target = lay(rng.integers(0, 5, g.n))
    out, argmax = backend.max_pool2d(x, p)
    normal = backend.batch_norm(x, gamma, gamma, 1e-5)
    losses, log_probs = backend.cross_entropy(logits, target, 0.1)
    return [
        backend.conv2d(x, w, b, g),
        backend.conv2d_input_grad(dout, w, g),
        backend.conv2d_weight_grad(x, dout, g),
        backend.channel_sum(dout),
        out,
        backend.max_pool2d_backward(pooled, lay(argmax), p),
        backend.avg_pool2d(x, p),
        backend.avg_pool2d_backward(pooled, p),
        *normal,
        *backend.batch_norm_backward(given(*g.x_shape), x, gamma, None, normal[1], normal[3]),
        losses,
        log_probs,
        backend.cross_entropy_backward(given(g.n), lay(log_probs), target, 0.1),
        backend.relu(x),
        backend.relu_backward(given(*g.x_shape), lay(backend.relu(x))),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_bits(layout: str, dtype: str) -> None:
    g = conv2d_geometry((5, 4, 6, 5), (6, 2, 3, 3), 1, 1, 1, 2)
    p = pool2d_geometry("pool", g.x_shape, 3, 2, 1)
    inputs: list[tuple[Array, bytes]] = []

    def lay(a: Array) -> Array:
        b = laid_out(a, layout)
        inputs.append((b, b.tobytes()))
        return b

    plain = everything(g, p, np.ascontiguousarray, dtype)
    for result, expected in zip(everything(g, p, lay, dtype), plain):
        assert result.dtype == np.dtype(dtype)
        assert result.dtype.isnative
        assert result.tobytes() == expected.tobytes()
    for a, before in inputs:
        assert a.tobytes() == before


def test_activations_are_batch_last() -> None:
    g = conv2d_geometry((5, 4, 6, 5), (6, 4, 3, 3))
    p = pool2d_geometry("pool", g.x_shape, 2)
    x, w, dout = integers(g.x_shape), integers(g.w_shape), integers(g.out_shape)
    out, argmax = backend.max_pool2d(x, p)
    mean = inv_std = np.ones(4)
    results = [
        backend.empty((5, 4, 6, 5), "float32"),
        backend.empty((5, 4), "float32"),
        backend.conv2d(x, w, None, g),
        backend.conv2d_input_grad(dout, w, g),
        out,
        argmax,
        backend.max_pool2d_backward(out, argmax, p),
        backend.avg_pool2d(x, p),
        backend.avg_pool2d_backward(out, p),
        backend.batch_norm(x, None, None, 1e-5)[0],
        backend.batch_norm_backward(x, x, None, None, mean, inv_std)[0],
        backend.cross_entropy(integers((5, 3)), np.zeros(5, int), 0.0)[1],
        backend.cross_entropy_backward(np.ones(5), integers((5, 3)), np.zeros(5, int), 0.0),
        backend.relu(x),
        backend.relu_backward(x, x),
    ]
    for result in results:
        assert np.moveaxis(result, 0, -1).flags.c_contiguous
        assert backend.as_batch_last(result) is result


def test_as_batch_last() -> None:
    a = integers((4, 3, 2, 5), dtype="float32")
    apart = laid_out(a, "planes apart")
    assert backend.as_batch_last(apart) is apart
    for other in (
        a,
        a[:, ::-1],
        apart[:, ::-1],
        np.moveaxis(laid_out(np.moveaxis(apart, 0, -1), "misaligned"), -1, 0),
        apart.astype(">f4"),
    ):
        copy = backend.as_batch_last(other)
        assert copy is not other
        assert copy.dtype == np.float32
        assert np.moveaxis(copy, 0, -1).flags.c_contiguous
        np.testing.assert_array_equal(copy, other)
    # one image in plain order, and an image of one pixel, are batch-last already
    for same in (a[:1].copy(), integers((1, 7)), np.asfortranarray(integers((3, 7)))):
        assert backend.as_batch_last(same) is same
    repeated = np.broadcast_to(a[:, :1], a.shape)
    assert 0 not in backend.as_batch_last(repeated).strides
    for ndim in (0, 1, 3):
        cube = np.array(integers((2,) * ndim))
        assert backend.as_batch_last(cube) is cube
        assert backend.as_batch_last(cube.astype(">f8")).dtype.isnative


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_empty_batches(kernel: int, groups: int) -> None:
    g = conv2d_geometry((0, 4, 5, 5), (4, 4 // groups, kernel, kernel), 1, 1, 1, groups)
    p = pool2d_geometry("pool", g.x_shape, 2)
    for result in everything(g, p, np.ascontiguousarray, "float32"):
        assert result.dtype == np.float32
        assert not np.isnan(result).any()
    assert backend.conv2d(np.zeros(g.x_shape), np.ones(g.w_shape), None, g).shape == g.out_shape
    dw = backend.conv2d_weight_grad(np.zeros(g.x_shape), np.zeros(g.out_shape), g)
    np.testing.assert_array_equal(dw, np.zeros(g.w_shape))
