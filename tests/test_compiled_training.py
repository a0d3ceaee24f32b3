"""``compile_training``: programs train a net as the net itself trains, bit by bit."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn, ops

NETS = {
    "lenet": (nn.models.lenet, (1, 28, 28)),
    "lenet_bn": (nn.models.lenet_bn, (1, 28, 28)),
    "vgg_small": (nn.models.vgg_small, (3, 8, 8)),
    "resnet20": (nn.models.resnet20, (3, 8, 8)),
}
needs_kernels = pytest.mark.skipif(
    cc.backends.backend_name() != "cython", reason="the kernels are not compiled"
)


def trained(
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    compiled: bool,
    sizes: tuple[int, ...] = (6, 6, 6, 6),
    loss: Callable[..., Any] = ops.cross_entropy,
) -> tuple[list[Any], Any]:
    """Losses, gradients, weights and running statistics of a few steps; and what was called."""
    cc.seed(7)
    net = make()
    call: Any = cc.compile_training(net) if compiled else net
    optimizer = cc.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    rng = np.random.default_rng(1)
    seen: list[Any] = []
    for n in sizes:
        x, y = cc.tensor(rng.random((n, *shape), np.float32)), rng.integers(0, 3, n)
        with cc.record():
            value = loss(call(x), y)
        value.backward()
        seen += [
            value.numpy(),
            *(p.grad.numpy().copy() for p in net.parameters() if p.grad is not None),
        ]
        optimizer.step()
    return [*seen, *net.state_dict().values(), cc.randn(3).numpy()], call


def agree(*arguments: Any, **more: Any) -> Any:
    """Both ways give the same bits; what the compiled one was called through."""
    (expected, _), (found, call) = (trained(*arguments, compiled, **more) for compiled in (0, 1))
    assert len(expected) == len(found)
    for i, (right, ours) in enumerate(zip(expected, found)):
        np.testing.assert_array_equal(ours, right, err_msg=str(i))
    return call


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n", [2, 16, 33])
def test_the_bits_are_the_nets(name: str, n: int) -> None:
    make, shape = NETS[name]
    call = agree(lambda: make(in_channels=shape[0]), shape, sizes=(n,) * 4)
    assert call.programs == (cc.backends.backend_name() == "cython")


@needs_kernels
@pytest.mark.parametrize("name", NETS)
def test_one_call_each_way(name: str) -> None:
    make, shape = NETS[name]
    call = trained(lambda: make(in_channels=shape[0]), shape, True)[1]
    [passes] = call._passes.values()
    assert len(passes._forward.steps) == len(passes._backward.steps) == 1
    assert passes._forward.only_kernels and passes._backward.only_kernels


class Odd(nn.Module):
    """What has no kernels, is computed from weights, comes and goes, or is used several times."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.3)
        self.shift = nn.Parameter(np.full((3, 1, 1), 0.1, np.float32))
        self.last = nn.Linear(24, 5)

    def forward(self, x: Any) -> Any:
        h = ops.add(self.norm(self.conv(x)), self.shift, activation="relu")
        h = ops.conv2d(h, self.conv.weight.transpose(1, 0, 2, 3) * 2.0, padding=1) + x
        h = ops.conv2d(h, np.full((6, 2, 3, 3), 0.25, np.float32))
        h = h * h + ops.sigmoid(h) + self.drop(h)
        h = ops.avg_pool2d(ops.max_pool2d(h, 2, stride=1), 2, stride=1, divisor_override=3)
        return self.last(ops.softmax(h.reshape(h.shape[0], -1)) * 3.0)


def test_a_net_of_ones_own() -> None:
    agree(Odd, (2, 6, 6))


class Dense(nn.Module):
    """Everything goes everywhere, weights are shared: gradients of three uses add up."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(64, 3)

    def forward(self, x: Any) -> Any:
        a = ops.relu(self.conv(x))
        b = self.conv(a) + a
        c = ops.add(self.conv(b) + a, b, activation="relu")
        return self.head((a + b + c).flatten())


def test_gradients_add_up() -> None:
    agree(Dense, (4, 4, 4))


def test_layers_of_all_kinds() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=4, stride=2, padding=1),
            nn.GroupNorm(2, 8),
            nn.GELU(),
            nn.Conv2d(8, 8, 5, padding=2, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(8, 4, 2, stride=2),
            nn.Conv2d(4, 4, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Residual(nn.Conv2d(4, 4, 3, padding=1), activation=nn.ReLU()),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 9, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.LayerNorm(16),
            nn.Linear(16, 3),
        )

    agree(make, (4, 11, 11))


def test_batches_of_several_shapes() -> None:
    make, shape = NETS["lenet"]
    call = agree(make, shape, sizes=(8, 5, 8, 5, 5, 8, 1, 2, 3, 1, 4, 8))
    assert call.programs == 4 * (cc.backends.backend_name() == "cython")


def test_float64_and_another_loss() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 3)).astype("float64")

    def loss(out: Any, y: np.ndarray) -> Any:
        return ops.mse_loss(out, np.eye(3)[y]) + (out * out).mean() * 0.1

    cc.seed(0)
    x = np.random.default_rng(0).random((5, 1, 4, 4))
    nets = make(), make()
    nets[1].load_state_dict(nets[0].state_dict())
    call = cc.compile_training(nets[1])
    for _ in range(3):
        for f in (nets[0], call):
            with cc.record():
                value = loss(f(cc.tensor(x, dtype="float64")), np.array([0, 1, 2, 1, 0]))
            value.backward()
        for p, q in zip(*(net.parameters() for net in nets)):
            np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def step(call: Any, x: Any) -> Any:
    with cc.record():
        out = call(x)
    out.backward()
    return out.numpy()


def same_gradients(net: nn.Module, call: Any, x: Any) -> None:
    out = step(net, x)
    expected = [None if p.grad is None else p.grad.numpy().copy() for p in net.parameters()]
    for p in net.parameters():
        p.grad = None
    np.testing.assert_array_equal(step(call, x), out)
    for p, right in zip(net.parameters(), expected):
        assert (p.grad is None) == (right is None)
        if right is not None:
            np.testing.assert_array_equal(p.grad.numpy(), right)


def test_two_batches_at_a_time() -> None:
    """The second goes through the net, as the program's memory still belongs to the first."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    call = cc.compile_training(net)
    a, b = cc.randn(3, 1, 5, 5), cc.randn(3, 1, 5, 5)
    expected = []
    for _ in range(3):
        for f in (net, call):
            with cc.record():
                first, second = f(a), f(b)
                loss = (first * second).sum()
            loss.backward()
            expected.append([p.grad.numpy().copy() for p in net.parameters()])
    for grads in expected[1:]:
        for found, right in zip(grads, expected[0]):
            np.testing.assert_array_equal(found, right)


def test_a_batch_without_backward_is_no_obstacle() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    call, x = cc.compile_training(net), cc.randn(3, 4)
    for _ in range(2):
        with cc.record():
            call(x)
    same_gradients(net, call, x)
    with cc.record():
        call(x)
    same_gradients(net, call, x)
    assert call.programs == (cc.backends.backend_name() == "cython")


def test_outside_of_recording_it_is_the_net() -> None:
    make, shape = NETS["lenet_bn"]
    net = make()
    call, x = cc.compile_training(net), cc.randn(4, *shape)
    step(call, x)
    np.testing.assert_array_equal(call(x).numpy(), net(x).numpy())
    with cc.record(train=False):
        out = call(x)
    np.testing.assert_array_equal(out.numpy(), net(x).numpy())


def test_an_input_may_have_a_gradient_and_be_an_array() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    call, x = cc.compile_training(net), cc.randn(3, 1, 2, 2)
    same_gradients(net, call, x.numpy())
    x.attach_grad()
    step(call, x)
    np.testing.assert_allclose(x.grad.numpy()[0].ravel(), net[1].weight.numpy().sum(axis=0))


def test_parameters_are_guarded_until_backward() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    call, x = cc.compile_training(net), cc.randn(3, 4)
    for _ in range(2):
        with cc.record():
            out = call(x)
        with pytest.raises(RuntimeError, match="recorded graph still needs"):
            net[1].weight[...] = 0.0
        out.backward()
        with pytest.raises(RuntimeError, match="already used"):
            out.backward()
        net[1].weight[...] = 1.0


def test_results_are_the_callers() -> None:
    """A later batch leaves outputs of before as they are."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    call = cc.compile_training(net)
    outs = [step(call, cc.ones(3, 4) * float(k)) for k in range(4)]
    for k, out in enumerate(outs):
        expected = net(cc.ones(3, 4) * float(k)).numpy()
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    make, shape = NETS["lenet_bn"]
    before = cc.get_num_threads()
    expected = trained(make, shape, True, sizes=(24,) * 3)[0]
    try:
        cc.set_num_threads(threads)
        found = trained(make, shape, True, sizes=(24,) * 3)[0]
    finally:
        cc.set_num_threads(before)
    for right, ours in zip(expected, found):
        np.testing.assert_array_equal(ours, right)


@needs_kernels
def test_memory_is_used_again() -> None:
    """A layer more takes one array more, for its gradient by the weights; no scratch, no other.

    The array may lie in what was scratch memory before, of at most twice its size.
    """
    x = cc.randn(16, 4, 32, 32)
    sizes = []
    for count in (6, 18):
        layers = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(count)]
        call = cc.compile_training(nn.Sequential(*layers))
        step(call, x)
        [passes] = call._passes.values()
        gc.collect()
        sizes.append(passes._trace.capture.arena.arrays.kept)
    assert 11 * x.data.nbytes < sizes[1] - sizes[0] < 24 * x.data.nbytes


@needs_kernels
def test_memory_is_given_back() -> None:
    """Of a net that was trained only its weights and gradients stay in memory."""
    net = nn.Conv2d(4, 4, 3, padding=1)
    call = cc.compile_training(net)
    step(call, cc.randn(16, 4, 32, 32))
    step(call, cc.randn(8, 4, 32, 32))
    arenas = [passes._trace.capture.arena for passes in call._passes.values()]
    assert all(arena.arrays.free and arena.scratch.free for arena in arenas)
    del call
    gc.collect()
    assert net.weight.grad is not None
    assert not any(arena.arrays.free or arena.scratch.free for arena in arenas)


class Outside(nn.Module):
    def __init__(self) -> None:
        self.last = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.last(cc.tensor(np.tanh(x.numpy())))


class Branches(Outside):
    def forward(self, x: Any) -> Any:
        return self.last(x + 1.0 if float(x.sum().item()) == 0 else x - 1.0)


@needs_kernels
@pytest.mark.parametrize("net", [Outside(), Branches()])
def test_what_cannot_be_repeated_is_refused(net: nn.Module) -> None:
    call = cc.compile_training(net)
    with cc.record():
        out = call(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="outside of cyconv's operations, or takes another way"):
        out.backward()


def test_refusals() -> None:
    with pytest.raises(TypeError, match="compile_training: net must be a Module, got list"):
        cc.compile_training([])  # type: ignore[arg-type]
    call = cc.compile_training(nn.Linear(3, 2))
    with cc.record(), pytest.raises(ValueError, match="3"):
        call(cc.ones(2, 4))
    same_gradients(call.net, call, cc.ones(2, 3))


class Counting(nn.Module):
    def __init__(self) -> None:
        self.last = nn.Linear(784, 10)
        self.calls: list[int] = []

    def forward(self, x: Any) -> Any:
        if cc.is_recording():
            self.calls.append(1)
        return self.last(x.flatten())


@needs_kernels
def test_fit_compiles_nets_of_cyconvs_layers() -> None:
    digits = cc.data.MNIST.built_in(train=False)
    loader = cc.data.DataLoader(digits, batch_size=64, shuffle=True)
    histories = []
    for how in (None, True, False):
        cc.seed(0)
        net = nn.models.lenet_bn()
        optimizer = cc.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        histories.append(
            cc.train.fit(net, loader, optimizer=optimizer, progress=False, compile=how).losses
        )
    assert histories[0] == histories[1] == histories[2]
    called = []
    for how in (None, True):
        own = Counting()
        optimizer = cc.optim.SGD(own.parameters(), lr=0.05)
        cc.train.fit(own, loader, optimizer=optimizer, progress=False, compile=how)
        called.append(len(own.calls))
    assert called[0] == len(loader) > called[1] <= 4  # two shapes, each twice


def test_fit_says_what_compile_must_be() -> None:
    net = nn.Linear(3, 2)
    optimizer = cc.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="fit: compile must be True or False"):
        cc.train.fit(net, [], optimizer=optimizer, compile="yes")  # type: ignore[arg-type]
