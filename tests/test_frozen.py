"""``evaluate`` and ``predict`` run large batches as a program, which says what the net says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_compiled import NETS, trained

import cyconv as cc
from cyconv import nn, ops
from cyconv.compiled import Compiled, frozen
from cyconv.train import evaluate, predict

CYTHON = pytest.mark.skipif(
    cc.backends.backend_name() != "cython", reason="for the compiled kernels"
)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETS)
def test_every_batch_is_answered_as_by_the_net(name: str) -> None:
    net, shape = trained(name)
    forward = frozen(net)
    for n in (5, 192, 64, 192, 128, 100, 1):
        x = cc.randn(n, *shape)
        close(forward(x).numpy(), net(x).numpy())


@CYTHON
def test_a_large_batch_runs_a_program_once_one_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made, used = [], []
    init, call = Compiled.__init__, Compiled.__call__

    def counted(self: Compiled, *args: Any) -> None:
        made.append(args[1].shape)
        init(self, *args)

    def noted(self: Compiled, x: Any) -> Any:
        used.append(len(x))
        return call(self, x)

    monkeypatch.setattr(Compiled, "__init__", counted)
    monkeypatch.setattr(Compiled, "__call__", noted)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1, 28, 28), dtype=np.uint8)
    predict(nn.models.lenet_bn(), pixels)
    assert made == [(256, 1, 28, 28)] and used == [256, 256]  # the other 88 go through the net


@CYTHON
def test_what_does_not_go_in_parts_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, init = [], Compiled.__init__

    def counted(self: Compiled, *args: Any) -> None:
        made.append(args[1].shape)
        init(self, *args)

    monkeypatch.setattr(Compiled, "__init__", counted)
    net = nn.Sequential(nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 3))
    found = predict(net, np.ones((512, 1, 2, 3), np.float32), batch_size=128)
    assert found.shape == (512, 3) and made == [(128, 1, 2, 3)]


def test_the_weights_are_those_of_the_call() -> None:
    net, _ = trained("lenet_bn")
    images = np.random.default_rng(0).random((256, 1, 28, 28), np.float32)
    loader = [(cc.tensor(images), np.arange(256) % 10)]
    for _ in range(3):
        x, labels = loader[0]
        out = net(x)
        expected = ops.cross_entropy(out, labels).mean().item()
        right = float((out.numpy().argmax(1) == labels).mean())
        accuracy, loss = evaluate(net, loader)
        assert accuracy == pytest.approx(right, abs=0.005) and loss == pytest.approx(expected, 1e-4)
        close(predict(net, images), ops.softmax(out).numpy())
        with cc.record():
            net(cc.randn(6, 1, 28, 28, scale=3.0))  # the running statistics move
        for parameter in net.parameters():
            parameter.data[...] *= np.float32(1.2)


def test_a_layer_of_ones_own_sees_every_batch() -> None:
    seen = []

    class Counting(nn.Module):
        def forward(self, x: cc.Tensor) -> cc.Tensor:
            seen.append(len(x))
            return ops.relu(x)

    net = nn.Sequential(Counting(), nn.Flatten(), nn.Linear(4, 3))
    predict(net, np.zeros((400, 1, 2, 2), np.float32), batch_size=128)
    assert seen == [128, 128, 128, 16]


def test_a_large_batch_that_does_not_fit_is_refused_as_a_small_one_is() -> None:
    messages = set()
    for n in (3, 128):
        with pytest.raises(ValueError) as caught:
            predict(nn.models.lenet(), np.zeros((n, 3, 28, 28), np.float32))
        messages.add(str(caught.value).replace(f"({n}, ", "(n, "))
    (message,) = messages
    assert "layer 0: conv2d" in message


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 6, 4), (33, 2, 16, 17), (128, 3, 4, 4)])
def test_batch_norm_outside_of_training_adds_and_rectifies(
    shape: tuple[int, ...], residual: bool
) -> None:
    cc.seed(1)
    c = shape[1]
    gamma, beta = cc.randn(c), cc.randn(c)
    statistics = cc.randn(c), ops.exp(cc.randn(c))
    around = cc.randn(*shape) if residual else None
    head = cc.randn(*shape)
    results = []
    for fused in (True, False):
        x, g, b = (t.detach().attach_grad() for t in (cc.ones(*shape) * 0.5 - head, gamma, beta))
        a = None if around is None else around.detach().attach_grad()
        with cc.record(train=False):
            if fused:
                out = ops.batch_norm(x, g, b, *statistics, residual=a, activation="relu")
            else:
                out = ops.batch_norm(x, g, b, *statistics)
                out = ops.relu(out if a is None else out + a)
        out.backward(head)
        grads = [t.grad for t in (x, g, b, a) if t is not None]
        results.append([out.numpy(), *(grad.numpy() for grad in grads)])
    assert (results[0][0] == 0).any() and (results[0][0] > 0).any()
    for together, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(together, apart)


def test_batch_norm_outside_of_training_only_reads_the_statistics() -> None:
    mean, var = np.float32([1.0, 2.0]), np.float32([4.0, 1.0])
    x = np.float32([[1.0, 2.0], [5.0, 3.0]])
    for array in (mean, var):
        array.flags.writeable = False
    out = ops.batch_norm(x, None, None, cc.Tensor(mean), cc.Tensor(var), eps=1e-9)
    np.testing.assert_allclose(out.numpy(), [[0, 0], [2, 1]], rtol=1e-6, atol=1e-6)
    with cc.record(train=False):  # one value per channel is enough
        assert ops.batch_norm(x[:1], None, None, cc.Tensor(mean), cc.Tensor(var)).shape == (1, 2)


@CYTHON
def test_batch_norm_that_stays_alone_is_kernel_calls_only() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3))
    for _ in range(3):
        with cc.record():
            net(cc.randn(8, 3, 6, 6, scale=2.0) + 1.0)
    x = cc.randn(128, 3, 6, 6)
    run = cc.compile(net, x)
    assert run.program.only_kernels and run._images == 64
    close(run(x).numpy(), net(x).numpy())
    net[0].running_mean.data[...] += 1  # what was compiled stays as it was
    assert abs(run(x).numpy() - net(x).numpy()).max() > 0.1


@pytest.mark.parametrize("name", ["lenet_bn", "resnet20"])
def test_training_with_the_statistics_as_they_are(name: str) -> None:
    """Compiled or not: batch norm reads running statistics where they lie."""
    net, shape = trained(name)
    forward = cc.compile_training(net)
    for step in range(4):
        x, found = cc.randn(6, *shape), []
        for run in (forward, net):
            with cc.record(train=False):
                out = run(x)
            out.backward(np.cos(np.arange(out.size, dtype=np.float32)).reshape(out.shape))
            grads = [p.grad for p in net.parameters() if p.grad is not None]
            found.append([out.numpy().copy(), *(grad.numpy().copy() for grad in grads)])
        for compiled, plain in zip(*found, strict=True):
            np.testing.assert_array_equal(compiled, plain)
        norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
        norm.running_mean.data[...] += np.float32(0.1 * step)
    assert forward.programs == 1 or cc.backends.backend_name() != "cython"
