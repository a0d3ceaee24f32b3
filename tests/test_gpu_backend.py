"""The GPU backend over the emulation of CuPy: tiles, training steps, copies ahead, waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import emulation
import host_kernels
import numpy as np
import pytest
import running
import test_ops_conv
from gpu_suite import OPTIMIZERS, compare_training, net_and_batches
from numpy.testing import assert_allclose
from strategies import Conv

import cyconv as cc
from cyconv.backends import CONTRACT, gpu_arrays, gpu_conv, gpu_cupy, gpu_device
from cyconv.geometry import conv2d_geometry

if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once: it does not use the kernels for the CPU", allow_module_level=True)
if not host_kernels.compiler():
    pytest.skip("no C compiler", allow_module_level=True)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(running, "device", "cuda")
    with emulation.emulated():
        yield


# ------------------------------------------------------------------ tiles, grids, indices

LARGER = [
    ((5, 4, 7, 6), (8, 4, 3, 3), {"padding": ((1, 0), (2, 1)), "stride": (2, 1)}),
    ((3, 6, 9, 5), (6, 2, 3, 2), {"groups": 3, "dilation": (2, 1), "padding": 1}),
    ((4, 3, 5, 5), (7, 3, 1, 1), {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algo", test_ops_conv.ALGORITHMS)
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), [*test_ops_conv.EDGES, *LARGER])
def test_convolution_in_many_tiles(
    monkeypatch: pytest.MonkeyPatch,
    x_shape: Any,
    w_shape: Any,
    options: Any,
    algo: str,
    dtype: str,
) -> None:
    """Scratch memory for one or a few positions, 64-bit indices, and a grid that goes round."""
    monkeypatch.setattr(gpu_conv, "SCRATCH_LIMIT", 0 if np.prod(x_shape) < 500 else 3000)
    monkeypatch.setattr(gpu_conv, "LARGEST", 1)  # so that images are no columns
    monkeypatch.setattr(gpu_arrays, "LARGEST", 1)
    monkeypatch.setattr(gpu_device, "MOST_BLOCKS", 2)
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    test_ops_conv.check_conv(Conv(x_shape, w_shape, True, options, dtype, 5), algo=algo)


@pytest.mark.parametrize("algo", ["auto", "im2col"])
def test_scratch_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, algo: str) -> None:
    monkeypatch.setattr(gpu_conv, "SCRATCH_LIMIT", 40_000)
    largest = 0
    xp = gpu_conv.xp()
    empty, matmul = xp.empty, xp.matmul

    def measured(function: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal largest
            out = function(*args)
            largest = max(largest, out.nbytes)
            return out

        return call

    monkeypatch.setattr(xp, "empty", measured(empty), raising=False)
    monkeypatch.setattr(xp, "matmul", measured(matmul), raising=False)
    x, w = cc.randn(8, 8, 10, 10).to("cuda"), cc.randn(8, 8, 5, 5).to("cuda")
    x.attach_grad(), w.attach_grad()
    with cc.record():
        y = cc.ops.conv2d(x, w, padding=2, algo=algo)
    y.backward()
    assert largest <= 40_000
    g = conv2d_geometry(x.shape, w.shape, 1, 2)
    name, reason, scratch = gpu_conv.plan_conv2d(g, np.dtype("f4"), algo)
    assert name == "im2col" and reason and 0 < scratch <= 40_000


def test_slices_and_turned_arrays() -> None:
    """Kernels take arrays without gaps only; the functions of the contract take any."""
    x = cc.randn(6, 8, 6, 6).to("cuda")
    for view in (x[1:5], x[:, ::2], x[:, :, 1:, ::-1], cc.ops.transpose(x, (1, 0, 3, 2))):
        for op in (
            lambda t: cc.ops.relu(t),
            lambda t: cc.ops.max_pool2d(t, 2),
            lambda t: cc.ops.avg_pool2d(t, 2),
            lambda t: cc.ops.batch_norm(t),
            lambda t: cc.ops.conv2d(t, cc.ones(3, t.shape[1], 3, 3, device=t.device)),
        ):
            there, here = op(view), op(cc.tensor(view.numpy()))
            assert there.device == "cuda" and here.device == "cpu"
            assert_allclose(there.numpy(), here.numpy(), rtol=1e-5, atol=1e-5)


WEIGHTS = np.array([0.5, 1.0, 2.0], np.float32)
OPTIONS = [
    lambda t: cc.ops.cross_entropy(t, [0, 1, 2, 1], weight=WEIGHTS),
    lambda t: cc.ops.cross_entropy(t, [0, 1, -100, 1], label_smoothing=0.1),
    lambda t: cc.ops.cross_entropy(t, cc.tensor([0, 1, 2, 1], "int64", t.device), weight=WEIGHTS),
    lambda t: cc.nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=2).to(t.device)(t, [0, 1, 2, 1]),
    lambda t: cc.ops.avg_pool2d(t.reshape(1, 2, 2, 3), 2, divisor_override=3),
    lambda t: cc.ops.max_pool2d(t.reshape(1, 2, 2, 3), 2, return_indices=True)[0],
    lambda t: t.max(axis=1),
]


@pytest.mark.parametrize("op", OPTIONS)
def test_what_comes_from_the_cpu_goes_where_the_input_is(op: Callable[[Any], Any]) -> None:
    results = []
    for device in ("cpu", "cuda"):
        x = cc.tensor(np.sin(np.arange(12.0)).reshape(4, 3), "float32", device).attach_grad()
        with cc.record():
            y = op(x)
        y.backward()
        assert y.device == x.grad.device == device
        results.append((y.numpy(), x.grad.numpy()))
    for there, here in zip(*results):
        assert_allclose(there, here, rtol=1e-6, atol=1e-7)


AGAIN = [
    lambda t: cc.ops.minimum(t, 0.5),
    lambda t: cc.ops.minimum(0.5, t) + cc.ops.maximum([[0.1, 0.2, 0.3]], t),
    lambda t: cc.ops.abs(-t) * cc.ops.clip(t, -0.5, 0.5),
    lambda t: cc.ops.cast(t, "float64").sum(),
    lambda t: cc.ops.pad2d(t.reshape(1, 2, 2, 3), 1),
    lambda t: cc.ops.stack([t, t.min(axis=0) - t]),
    lambda t: t * (t.argmin(axis=0) + t.argmax(axis=0)).astype("float32"),
]


@pytest.mark.parametrize("op", AGAIN)
def test_operations_that_no_other_test_runs_there(op: Callable[[Any], Any]) -> None:
    test_what_comes_from_the_cpu_goes_where_the_input_is(op)


def test_clipping_waits_once_and_weights_never() -> None:
    net, x = cc.nn.Linear(3, 4).to("cuda"), cc.randn(5, 3).to("cuda")
    here = cc.nn.Linear(3, 4)
    here.load_state_dict(net.state_dict())
    labels = np.array([0, 1, 2, 3, 0])
    emulation.waits.clear()
    with cc.record():
        loss = cc.ops.cross_entropy(net(x), labels, weight=(1.0, 2.0, 3.0, 4.0))
    loss.backward()
    assert emulation.waits == []
    norm = cc.optim.clip_grad_norm(net.parameters(), 0.01)
    assert len(emulation.waits) == 1
    with cc.record():
        loss = cc.ops.cross_entropy(here(x.to("cpu")), labels, weight=(1.0, 2.0, 3.0, 4.0))
    loss.backward()
    assert norm == pytest.approx(cc.optim.clip_grad_norm(here.parameters(), 0.01), rel=1e-5)
    assert_allclose(net.weight.grad.numpy(), here.weight.grad.numpy(), rtol=1e-4)


def test_gradcheck_stays_where_the_inputs_are() -> None:
    devices = set()

    def square(x: Any) -> Any:
        devices.add(x.device)
        return x * x

    assert cc.gradcheck(square, [cc.tensor([1.0, 2.0], "float64", "cuda")])
    assert devices == {"cuda"}


def test_winners_are_where_the_input_is() -> None:
    x = cc.tensor(np.arange(16.0).reshape(1, 1, 4, 4), "float32", "cuda")
    winners = cc.ops.max_pool2d(x, 2, return_indices=True)[1]
    assert winners.device == "cuda" and winners.numpy().tolist() == [[[[5, 7], [13, 15]]]]


@pytest.mark.parametrize("order", ["C", "F"])
def test_optimisers_write_to_any_memory_order(order: str) -> None:
    for optimizer in (lambda p: cc.optim.SGD(p, 0.1, 0.9), lambda p: cc.optim.Adam(p, 0.1)):
        results = []
        for device in ("cpu", "cuda"):
            start = np.arange(12.0).reshape(3, 4)
            memory = np.asarray(start, order=order)
            w = cc.tensor(memory, dtype="float64", device=device).attach_grad()
            steps = optimizer([w])
            for _ in range(3):
                w.grad = cc.tensor(np.sin(start), dtype="float64", device=device)
                steps.step()
            results.append(w.numpy())
        assert_allclose(results[1], results[0], rtol=1e-12)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_value_by_value(name: str) -> None:
    """Loss, every gradient, every parameter and buffer, against the NumPy backend's."""
    compare_training(name)


def test_a_training_step_does_not_wait() -> None:
    net, batches = net_and_batches()
    optimizer = OPTIMIZERS["adam"](net.to("cuda").parameters())
    x = [cc.tensor(x, device="cuda") for x, _ in batches]
    emulation.waits.clear()
    for images, (_, labels) in zip(x, batches, strict=True):
        with cc.record():
            loss = cc.ops.cross_entropy(net(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
    assert emulation.waits == []
    loss.item()
    assert emulation.waits == ["item"]


def test_fit_reads_losses_once_an_epoch() -> None:
    seen: list[list[str]] = []
    histories = []
    for device in ("cpu", "cuda"):
        net, batches = net_and_batches()
        optimizer = OPTIMIZERS["sgd"](net.to(device).parameters())
        emulation.waits.clear()
        history = cc.train.fit(
            net,
            batches * 3,
            optimizer=optimizer,
            epochs=2,
            progress=False,
            callbacks=[lambda now: seen.append(list(emulation.waits)) if now.batch else None],
        )
        histories.append((history.losses, net.state_dict()))
    assert seen[:24] == [[]] * 24
    assert seen[24:36] == [[]] * 12, "something in a training step waited"
    assert_allclose(histories[1][0], histories[0][0], rtol=2e-3)
    for name, values in histories[0][1].items():
        assert_allclose(histories[1][1][name], values, rtol=2e-2, atol=2e-3, err_msg=name)


def test_a_loss_that_is_not_finite_is_found_when_it_is_read() -> None:
    net, batches = net_and_batches()
    batches[1] = (batches[1][0] * np.float32(np.nan), batches[1][1])
    optimizer = OPTIMIZERS["plain"](net.to("cuda").parameters())
    with pytest.raises(FloatingPointError, match=r"became nan in epoch 0, batch 1; .* than 0\.1"):
        cc.train.fit(net, batches, optimizer=optimizer, progress=False)


def test_losses_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyconv.history.MOST_WAITING", 3)
    history = cc.train.History()
    for i in range(7):
        history.add(cc.tensor(float(i), device="cuda"), "a batch", 0.1)
    assert emulation.waits == ["get", "get"]
    assert len(history.losses) == 7 and history.losses == history.losses
    assert emulation.waits == ["get"] * 3


# ------------------------------------------------------------------ copies


@pytest.mark.parametrize("behind", [False, True])
def test_batches_arrive_as_they_were(behind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies happen as late as they may: pinned memory that is written too early would show."""
    monkeypatch.setattr(emulation, "behind", behind)
    rng = np.random.default_rng(0)
    batches = [(rng.random((n, 2, 3, 4), np.float32), np.arange(n)) for n in (5, 5, 5, 0, 9, 2, 9)]
    kept = []
    for x, y in cc.data.prefetch.on_device(batches, "cuda"):
        assert x.device == "cuda" and isinstance(y, np.ndarray)
        # where the GPU keeps up its copy must be there now
        kept.append((x if behind else x.data._array.copy(), y))
    assert len(kept) == len(batches)
    for (x, y), (images, labels) in zip(kept, batches, strict=True):
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(y, labels)


def test_a_batch_is_on_its_way_while_the_one_before_is_in_use() -> None:
    asked: list[int] = []

    def batches() -> Iterator[Any]:
        for i in range(4):
            asked.append(i)
            yield np.full((2, 1, 2, 2), i, np.float32), np.zeros(2, int)

    for i, (x, _) in enumerate(cc.data.prefetch.on_device(batches(), "cuda")):
        assert asked == list(range(min(i + 2, 4)))
        assert (x.numpy() == i).all()


def test_targets_of_floats_move_along_and_labels_do_not() -> None:
    y = cc.randn(3, 2)
    (pair,) = cc.data.prefetch.on_device([(cc.randn(3, 2), y)], "cuda")
    assert pair[1].device == "cuda" and (pair[1].numpy() == y.numpy()).all()
    labels = cc.tensor([0, 1, 1], dtype="int64")
    (pair,) = cc.data.prefetch.on_device([(cc.randn(3, 2), labels)], "cuda")
    assert isinstance(pair[1], np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_copies_there_and_back_keep_values_and_memory_order(dtype: str) -> None:
    whole = np.arange(120).reshape(2, 3, 4, 5).astype(dtype)
    for a in (whole, whole.transpose(3, 1, 0, 2), whole[:, ::2], whole[0, 0, 0, 0], whole[:0]):
        there = gpu_device.to_gpu(a)
        back = gpu_device.to_host(there)
        np.testing.assert_array_equal(back, a)
        assert back.dtype == a.dtype and back.shape == a.shape
    turned = whole.transpose(3, 1, 0, 2)
    assert gpu_device.to_gpu(turned).strides == turned.strides
    swapped = whole.astype(whole.dtype.newbyteorder())
    assert gpu_device.to_host(gpu_device.to_gpu(swapped)).dtype.isnative


# ------------------------------------------------------------------ the contract's small print


def test_results_lie_batch_last() -> None:
    x = gpu_device.to_gpu(np.ones((3, 4, 6, 6), np.float32))
    w = gpu_device.to_gpu(np.ones((5, 4, 3, 3), np.float32))
    out = gpu_cupy.conv2d(x, w, None, conv2d_geometry(x.shape, w.shape))
    for a in (out, gpu_cupy.relu(x), gpu_cupy.empty((3, 4, 2, 2), "f4")):
        assert a.transpose(1, 2, 3, 0).flags.c_contiguous
    assert gpu_cupy.as_batch_last(out) is out
    assert all(callable(getattr(gpu_cupy, name)) for name in CONTRACT)


def test_labels_on_the_gpu_are_not_looked_at() -> None:
    logits = cc.randn(4, 3).to("cuda").attach_grad()
    labels = cc.tensor([0, 1, 3, -1], dtype="int64", device="cuda")
    emulation.waits.clear()
    with cc.record():
        losses = cc.ops.cross_entropy(logits, labels, reduction="none")
    losses.backward()
    assert emulation.waits == []
    assert np.isnan(losses.numpy()).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 3"):
        cc.ops.cross_entropy(logits, labels.numpy())
