"""`activation="relu"`: the values and gradients of `relu` after the op, in fewer passes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn, ops

CALLS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "direct": (
        lambda x, w, b, **k: ops.conv2d(x, w, b, algo="direct", **k),
        ((17, 3, 6, 5), (7, 3, 3, 3), (7,)),
    ),
    "im2col": (
        lambda x, w, b, **k: ops.conv2d(x, w, b, algo="im2col", **k),
        ((3, 40, 6, 5), (7, 40, 3, 3), (7,)),
    ),
    "strided": (
        lambda x, w, b, **k: ops.conv2d(x, w, b, stride=2, padding=1, **k),
        ((3, 4, 6, 5), (7, 4, 3, 3), (7,)),
    ),
    "winograd": (
        lambda x, w, b, **k: ops.conv2d(x, w, b, algo="winograd", padding=1, **k),
        ((9, 3, 6, 5), (7, 3, 3, 3), (7,)),
    ),
    "no image": (ops.conv2d, ((0, 3, 6, 5), (7, 3, 3, 3), (7,))),
    "linear": (ops.linear, ((5, 300), (7, 300), (7,))),
    "batch_norm": (ops.batch_norm, ((5, 3, 4, 4), (3,), (3,))),
    "batch_norm of many": (ops.batch_norm, ((33, 2, 16, 17), (2,), (2,))),
    "add": (ops.add, ((5, 3, 4, 5), (5, 3, 4, 5))),
    "add rows": (ops.add, ((70, 300), (70, 300))),
    "add, broadcast": (ops.add, ((5, 3, 4, 5), (3, 1, 1))),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_relu_after_it(name: str, dtype: str) -> None:
    op, shapes = CALLS[name]
    cc.seed(1)
    arguments = [cc.tensor(cc.randn(*shape).numpy(), dtype=dtype).attach_grad() for shape in shapes]
    found = []
    for fused in (False, True):
        with cc.record():
            out = op(*arguments, activation="relu") if fused else ops.relu(op(*arguments))
        head = np.arange(out.size, dtype=dtype).reshape(out.shape)
        out.backward(head)
        found.append([out.numpy().copy(), *(a.grad.numpy().copy() for a in arguments)])
    assert found[0][0].size == 0 or 0 < np.count_nonzero(found[0][0]) < found[0][0].size
    for separate, fused in zip(*found):
        np.testing.assert_array_equal(separate, fused)


@pytest.mark.parametrize("shape", [(6,), (0, 3, 2, 2), (5, 3, 4, 5), (70, 300), (17, 5, 19, 23)])
@pytest.mark.parametrize("backend", ["numpy", "cython"])
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_is_found_wherever_it_is(
    shape: tuple[int, ...], backend: str, threads: int, zero: float
) -> None:
    if backend == "cython":
        pytest.importorskip("cyconv.backends.cpu_cython")
    module = importlib.import_module(f"cyconv.backends.cpu_{backend}")
    before = cc.get_num_threads()
    cc.set_num_threads(threads)
    try:
        for dtype in ("float32", "float64"):
            values = np.ones(shape, dtype)
            values.reshape(-1)[::3] = np.nan
            for a in (values, module.as_batch_last(values)):
                assert not module.relu_and_search(a)[1]
                for place in {0, a.size // 2, a.size - 1} if a.size else set():
                    at = np.unravel_index(place, shape)
                    kept, a[at] = a[at], zero
                    rectified, found = module.relu_and_search(a)
                    assert found
                    np.testing.assert_array_equal(rectified, module.relu(a))
                    a[at] = kept
    finally:
        cc.set_num_threads(before)


@pytest.mark.parametrize("shape", [(5, 3, 4, 5), (70, 300), (6,), (0, 3, 2, 2)])
@pytest.mark.parametrize("uses", [2, 3])
def test_gradients_that_add_up_behind_it(shape: tuple[int, ...], uses: int) -> None:
    cc.seed(2)
    a, b = (cc.randn(*shape).attach_grad() for _ in range(2))
    found = []
    for fused in (False, True):
        with cc.record():
            out = ops.add(a, b, activation="relu") if fused else ops.relu(ops.add(a, b))
            total = ops.exp(out)
            for _ in range(uses - 1):
                total = total + ops.sigmoid(out)
        total.backward()
        found.append([a.grad.numpy().copy(), b.grad.numpy().copy()])
    gate = a.numpy() + b.numpy() > 0
    for separate, together in zip(*found):
        np.testing.assert_array_equal(separate, together)
        np.testing.assert_array_equal(together != 0, gate)


def test_nan_stays() -> None:
    x = np.full((1, 1, 4, 4), np.nan, np.float32)
    w = np.ones((1, 1, 3, 3), np.float32)
    for algo in ("direct", "im2col", "winograd"):
        assert np.isnan(ops.conv2d(x, w, algo=algo, activation="relu").numpy()).all()
    assert np.isnan(ops.add(x, x, activation="relu").numpy()).all()


@pytest.mark.parametrize("wrong", ["tanh", "", b"relu", 1, True, ops.relu])
def test_no_other_activation(wrong: Any) -> None:
    x = np.zeros((2, 1, 4, 4), np.float32)
    for call in (
        lambda: ops.conv2d(x, np.zeros((1, 1, 3, 3), np.float32), activation=wrong),
        lambda: ops.linear(x[:, 0, 0], np.zeros((1, 4), np.float32), activation=wrong),
        lambda: ops.batch_norm(x, activation=wrong),
        lambda: ops.add(x, x, activation=wrong),
    ):
        with pytest.raises(ValueError, match="activation must be 'relu' or None"):
            call()


def test_a_chain_fuses_and_says_the_same() -> None:
    class Watched(nn.ReLU):
        """Not exactly a ReLU: a chain calls it."""

    cc.seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)]
    fused = nn.Sequential(*layers, nn.ReLU(), nn.ReLU())
    plain = nn.Sequential(*layers[:2], Watched(), *layers[3:], Watched())
    x = cc.randn(2, 3, 4, 4)
    np.testing.assert_array_equal(fused(x).numpy(), plain(x).numpy())
    nodes = []
    for net in (fused, plain):
        with cc.record():
            node, count = net(x)._node, 0
        while isinstance(node, cc.autograd.Node):
            node, count = node.sources[0], count + 1
        nodes.append(count)
    assert nodes == [5, 6]  # one relu of three has nothing to be fused with
    assert [row.layer for row in nn.summarize(fused, (3, 4, 4)).rows].count("ReLU") == 3


def test_a_residual_block_fuses_and_says_the_same() -> None:
    class Watched(nn.ReLU):
        """Not exactly a ReLU: the block calls it."""

    x = cc.randn(2, 3, 4, 4).attach_grad()
    found = []
    for activation in (nn.ReLU(), Watched()):
        cc.seed(0)
        block = nn.Residual(nn.Conv2d(3, 3, 3, padding=1), activation=activation)
        with cc.record():
            out = block(x)
        name = type(out._node.op).__name__
        out.backward(cc.ones(*out.shape))
        compiled = cc.compile(block, x.detach())
        np.testing.assert_array_equal(compiled(x.detach()).numpy(), out.numpy())
        found.append([name, out.numpy().copy(), x.grad.numpy().copy()])
    assert [name for name, *_ in found] == ["Add", "ReLU"]
    for fused, plain in zip(found[0][1:], found[1][1:]):
        np.testing.assert_array_equal(fused, plain)


@pytest.mark.parametrize("end", [nn.ReLU, nn.Tanh, None])
@pytest.mark.parametrize("chains", [0, 1, 2])
def test_a_batch_norm_adds_what_goes_around_it(chains: int, end: Any) -> None:
    class Watched(nn.BatchNorm2d):
        """Not exactly a BatchNorm2d: the sum stays with the block."""

    found = []
    for norm in (nn.BatchNorm2d, Watched):
        cc.seed(0)
        x = cc.randn(5, 3, 6, 4).attach_grad()
        last, shortcut = norm(3), nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        body: nn.Module = last
        for _ in range(chains):
            body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), body)
        block = nn.Residual(body, shortcut, None if end is None else end())
        for run in (block, block, cc.compile_training(block)):
            with cc.record():
                out = run(x.detach())
            out.backward(np.sin(np.arange(out.size, dtype=np.float32)).reshape(out.shape))
        with cc.record():
            out = block(x)
        name = type(out._node.op).__name__
        out.backward(cc.ones(*out.shape))
        state = [value.copy() for value in block.state_dict().values()]
        grads = [x.grad, *(p.grad for p in block.parameters())]
        still = cc.compile(block, x.detach())(x.detach()).numpy(), block(x).numpy()
        np.testing.assert_allclose(*still, rtol=1e-5, atol=1e-5)
        found.append([name, out.numpy(), still[1], *(grad.numpy() for grad in grads), *state])
    ended = {nn.ReLU: "Add", nn.Tanh: "Tanh", None: "Add"}[end]
    fused = {"Add": "BatchNormTraining"}.get(ended, ended)
    assert [name for name, *_ in found] == [fused, ended]
    for together, apart in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_array_equal(together, apart)


def test_a_batch_norm_adds_no_other_shape() -> None:
    x = cc.zeros(2, 3, 4, 4)
    for train in (True, False):
        with cc.record(train=train), pytest.raises(ValueError) as caught:
            ops.batch_norm(x, residual=cc.zeros(2, 3, 4, 1))
        assert "residual must have the shape of the input, (2, 3, 4, 4), got" in str(caught.value)
        with cc.record(train=train), pytest.raises(TypeError, match="residual is float64"):
            ops.batch_norm(x, residual=cc.zeros(2, 3, 4, 4, dtype="float64"))
    block = nn.Residual(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(
        ValueError, match=r"layer body\.1: batch_norm: residual must have the shape"
    ):
        block(x)


def test_one_image_and_leading_axes() -> None:
    cc.seed(2)
    x, w = cc.randn(3, 6, 5), cc.randn(4, 3, 3, 3)
    fused = ops.conv2d(x, w, activation="relu").numpy()
    np.testing.assert_array_equal(fused, ops.relu(ops.conv2d(x, w)).numpy())
    rows = ops.linear(x, cc.randn(2, 5), activation="relu").numpy()
    assert rows.shape == (3, 6, 2) and rows.min() == 0
