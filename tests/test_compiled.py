"""``compile``: a net's kernel calls as one program says what the net says."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from separate import in_a_process

import cyconv as cc
from cyconv import nn, ops
from cyconv.backends.memory import ROOM

NETS = {
    "lenet": (nn.models.lenet, (1, 28, 28)),
    "lenet_bn": (nn.models.lenet_bn, (1, 28, 28)),
    "vgg_small": (nn.models.vgg_small, (3, 8, 8)),
    "resnet20": (nn.models.resnet20, (3, 8, 8)),
}


def trained(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A net whose running statistics have moved, and its images' shape."""
    make, shape = NETS[name]
    cc.seed(3)
    net = make(in_channels=shape[0])
    for _ in range(3):
        with cc.record():
            net(cc.randn(6, *shape, scale=2.0) + 1.0)
    return net, shape


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n", [1, 3, 16, 33])
def test_equals_the_net(name: str, n: int) -> None:
    net, shape = trained(name)
    run = cc.compile(net, np.zeros((n, *shape), np.float32))
    for seed in range(3):
        cc.seed(seed)
        x = cc.randn(n, *shape)
        expected = net(x).numpy()
        found = run(x if seed else np.ascontiguousarray(x.numpy())).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_without_batch_norm_the_bits_are_the_nets() -> None:
    net, shape = trained("lenet")
    for n in (1, 5, 16):
        x = cc.randn(n, *shape)
        np.testing.assert_array_equal(cc.compile(net, x)(x).numpy(), net(x).numpy())


class Net(nn.Module):
    """A function of the images as a net."""

    def __init__(self, function: Callable[[cc.Tensor], cc.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: cc.Tensor) -> cc.Tensor:
        return self.function(x)


def of_128(x: cc.Tensor) -> cc.Tensor:
    assert x.shape[0] == 128
    return ops.relu(x)


MIXING = {
    "mean over images": lambda x: x - x.mean(axis=0, keepdims=True),
    "largest of all": lambda x: x / x.max(),
    "statistics of all": lambda x: (x - x.mean()) / ((x * x).mean() + 1.0),
    "another image": lambda x: x + x[100],
    "a fixed number": lambda x: ops.relu(x).reshape(128, -1),
    "an assertion": of_128,
    "turned": lambda x: ops.relu(x.reshape(x.shape[0], -1)).T,
}


@pytest.mark.parametrize("name", MIXING)
def test_a_net_that_needs_the_whole_batch_gets_it(name: str) -> None:
    net = Net(MIXING[name])
    x = cc.randn(128, 1, 14, 14)
    x[64:] *= 3.0
    run = cc.compile(net, cc.zeros(*x.shape))
    assert run._images is None
    np.testing.assert_allclose(run(x).numpy(), net(x).numpy(), rtol=0, atol=1e-5)


def test_a_divisor_of_ones_own() -> None:
    net, x = Net(lambda x: ops.avg_pool2d(x, 2, divisor_override=3)), cc.randn(4, 2, 6, 6)
    np.testing.assert_array_equal(cc.compile(net, x)(x * 2.0).numpy(), net(x * 2.0).numpy())


def test_a_batch_gives_its_statistics_as_a_whole() -> None:
    """Also one so large that those of its parts are about the same where the program is checked."""
    net = Net(ops.batch_norm)
    x = cc.randn(128, 1, 64, 64)
    x[64:] *= 3.0
    run = cc.compile(net, cc.zeros(*x.shape))
    np.testing.assert_allclose(run(x).numpy(), net(x).numpy(), rtol=0, atol=1e-5)


@pytest.mark.skipif(cc.backends.backend_name() != "cython", reason="for the compiled kernels")
def test_a_large_batch_goes_through_in_parts() -> None:
    net = nn.models.lenet(image_size=14)
    x = cc.randn(192, 1, 14, 14)
    run = cc.compile(net, cc.zeros(*x.shape))
    assert run.shape == x.shape and run._images == 64
    for images in (x, np.ascontiguousarray(x.numpy()), ops.relu(x)):
        expected = net(cc.as_tensor(images)).numpy()
        np.testing.assert_allclose(run(images).numpy(), expected, rtol=0, atol=1e-5)
    assert cc.compile(net, x[:100])._images is None


def test_float64() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    for parameter in net.parameters():
        parameter.data = parameter.data.astype(np.float64)
    x = np.random.default_rng(0).random((2, 1, 2, 3))
    np.testing.assert_array_equal(cc.compile(net, x)(x).numpy(), net(x).numpy())


@pytest.mark.parametrize("images", [1, 16, 64, 256])
def test_one_call_for_the_whole_net(images: int) -> None:
    if cc.backends.backend_name() != "cython":
        pytest.skip("the kernels are not compiled")
    run = cc.compile(nn.models.lenet(), np.zeros((images, 1, 28, 28), np.float32))
    assert (run.kernel_calls, run.steps) == (6, 1)  # two convolutions, poolings, linear layers


def test_buffers_are_used_again() -> None:
    if cc.backends.backend_name() != "cython":
        pytest.skip("the kernels are not compiled")
    layers = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(12)]
    x = cc.randn(16, 4, 32, 32)
    run = cc.compile(nn.Sequential(*layers), x)
    arena = run._capture.arena
    assert arena.arrays.kept < 3 * x.data.nbytes  # two activations at a time; not twelve
    assert arena.scratch.kept == ROOM
    np.testing.assert_array_equal(run(x).numpy(), nn.Sequential(*layers)(x).numpy())


class Odd(nn.Module):
    """Softmax, reshaping, a sum with itself, weights that are computed, a constant."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.shift = cc.randn(3, 1, 1)

    def forward(self, x: Any) -> Any:
        h = ops.relu(self.norm(self.conv(x)) + self.shift)
        h = ops.conv2d(h, self.conv.weight.transpose(1, 0, 2, 3) * 2.0, padding=1) + x
        h = ops.conv2d(h, ops.reshape(h[:3, :, :3, :3], (3, 2, 3, 3)))
        return ops.softmax(h.reshape(h.shape[0], -1) * 0.1)


def test_a_net_of_ones_own() -> None:
    cc.seed(0)
    net = Odd()
    x = cc.randn(4, 2, 6, 6)
    run = cc.compile(net, x)
    for _ in range(2):
        other = cc.randn(4, 2, 6, 6)
        np.testing.assert_allclose(run(other).numpy(), net(other).numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("n", [1, 16])
def test_weights_are_those_of_then(name: str, n: int) -> None:
    net, shape = trained(name)
    x = cc.randn(n, *shape)
    run = cc.compile(net, x)
    before = run(x).numpy().copy()
    for parameter in net.parameters():
        parameter[...] = 0.0
    assert not net(x).numpy().any()
    np.testing.assert_array_equal(run(x).numpy(), before)


def test_the_net_is_left_as_it_was() -> None:
    net, shape = trained("resnet20")
    before = {name: p.numpy().copy() for name, p in net.named_parameters()}
    printed = str(net)
    cc.compile(net, cc.randn(1, *shape))
    assert str(net) == printed
    for name, parameter in net.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), before[name])


def test_many_threads_take_turns() -> None:
    net, shape = trained("lenet")
    inputs = [cc.randn(1, *shape) for _ in range(8)]
    run = cc.compile(net, inputs[0])
    expected = [net(x).numpy() for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(run(inputs[i]).numpy(), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_any_number_of_threads_gives_the_same_bits() -> None:
    net, shape = trained("lenet")
    x = cc.randn(3, *shape)
    before, found = cc.get_num_threads(), []
    try:
        cc.set_num_threads(4)
        run = cc.compile(net, x)
        for threads in (1, 2, 4, 7):
            cc.set_num_threads(threads)
            found.append(run(x).numpy())
    finally:
        cc.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("shape", [(1, 16, 96, 96), (17, 32, 20, 20), (64, 16, 12, 12)])
def test_fewer_threads_than_it_was_made_for(shape: tuple[int, ...]) -> None:
    """Scratch memory is that of the threads of then, and how it is shared out must be, too."""
    printed = in_a_process(
        f"""
        import numpy as np, cyconv as cc
        nn, c = cc.nn, {shape[1]}
        layers = [nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, 8, 1)]
        net, x = nn.Sequential(*layers, nn.Conv2d(8, 8, 3, groups=8)), cc.randn(*{shape})
        expected = net(x).numpy()
        for made in range(2, 8):
            cc.set_num_threads(made)
            run = cc.compile(net, x)
            for used in range(1, made):
                cc.set_num_threads(used)
                np.testing.assert_array_equal(run(x).numpy(), expected)
        print("equal")
        """,
        60,
    )
    assert printed == "equal\n"


def test_after_fork() -> None:
    printed = in_a_process(
        """
        import os, cyconv as cc
        cc.set_num_threads(2)
        x = cc.randn(2, 1, 28, 28)
        run = cc.compile(cc.nn.models.lenet(), x)
        expected = run(x).tolist()
        if os.fork() == 0:
            os._exit(0 if run(x).tolist() == expected else 3)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
        120,
    )
    assert printed.strip() == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_while_another_thread_computes() -> None:
    """Its lock is then closed, and nobody is there in the child to open it."""
    printed = in_a_process(
        """
        import os, signal, cyconv as cc
        net, x = cc.nn.Linear(3, 2), cc.ones(4, 3)
        run, train = cc.compile(net, x), cc.compile_training(net)
        with run._lock, train._lock:
            child = os.fork()
            if not child:
                signal.alarm(20)
                run(x)
                with cc.record():
                    train(x)
                os._exit(0)
        print(os.waitpid(child, 0)[1])
        """,
        60,
    )
    assert printed == "0\n"


def test_refusals() -> None:
    net, _ = trained("lenet")
    run = cc.compile(net, np.zeros((2, 1, 28, 28), np.float32))
    with pytest.raises(ValueError, match=r"compiled for shape \(2, 1, 28, 28\) and float32, got"):
        run(np.zeros((3, 1, 28, 28), np.float32))
    with pytest.raises(ValueError, match="float64"):
        run(np.zeros((2, 1, 28, 28)))
    with pytest.raises(TypeError, match="net must be a Module, got function"):
        cc.compile(lambda x: x, np.zeros((2, 3), np.float32))

    class Two(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x

    with pytest.raises(TypeError, match="must return one tensor, got tuple"):
        cc.compile(Two(), np.zeros((2, 3), np.float32))


class Outside(nn.Module):
    """Leaves cyconv's operations on its way."""

    def forward(self, x: Any) -> Any:
        return ops.relu(cc.tensor(x.numpy() * 2.0))


class Branches(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + 1.0 if float(x.sum().item()) == 0 else x - 1.0


class Counts(nn.Module):
    """Gives NaN for what is below 0, and nothing else for a sum with one."""

    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return ops.sqrt(x).sum(1) * float(self.calls)


@pytest.mark.parametrize("net", [Outside(), Branches(), Counts()])
def test_what_cannot_be_repeated_is_refused(net: nn.Module) -> None:
    with pytest.raises(ValueError, match="outside of cyconv's operations, or takes another way"):
        cc.compile(net, np.zeros((2, 3), np.float32))


def test_packed_weights_are_not_written_over() -> None:
    """The first layer's output is gone when the third packs weights, which are just as large."""
    net = nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 3, padding=(1, 0)))
    x = cc.randn(1, 1, 1, 37)
    np.testing.assert_allclose(cc.compile(net, x)(x), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickle.dumps])
def test_programs_stay_in_their_process(copied: Callable[[Any], Any]) -> None:
    net = nn.Linear(3, 2)
    for program in (cc.compile(net, cc.zeros(4, 3)), cc.compile_training(net)):
        with pytest.raises(TypeError, match="cannot be copied or pickled; compile a copy"):
            copied(program)


def test_a_layer_whose_forward_was_replaced_is_not_folded() -> None:
    cc.seed(0)
    for at in (0, 1, None):
        net, x = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), cc.randn(4, 2, 6, 6)
        net[1].running_mean[...] = 3.0
        layer = net if at is None else net[at]
        whole = layer.forward
        layer.forward = lambda x, *more, whole=whole: whole(x, *more) * 2.0 + 7.0
        np.testing.assert_allclose(cc.compile(net, x)(x).numpy(), net(x).numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv2d(4, 5, 3), nn.BatchNorm2d(1)), (8, 4, 6, 6)),
        ((nn.Conv2d(4, 1, 3), nn.BatchNorm2d(5)), (8, 4, 6, 6)),
        ((nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)), (4, 6, 6)),
        ((nn.Linear(6, 5), nn.BatchNorm1d(5)), (8, 4, 6, 6)),
    ],
)
def test_what_the_net_refuses_is_refused(layers: Any, shape: tuple[int, ...]) -> None:
    net, x = nn.Sequential(*layers), cc.ones(*shape)
    with pytest.raises(ValueError) as said:
        net(x)
    with pytest.raises(ValueError) as found:
        cc.compile(net, x)
    assert str(found.value) == str(said.value)
