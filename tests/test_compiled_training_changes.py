"""``compile_training``: programs follow what becomes of the net, and give what is the caller's."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_compiled_training import needs_kernels, same_gradients, step

import cyconv as cc
from cyconv import nn, ops


def test_follows_what_becomes_of_the_net() -> None:
    cc.seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    call, x = cc.compile_training(net), cc.randn(6, 1, 5, 5)
    same_gradients(net, call, x)
    net[0].weight[...] = 0.5  # written in place
    same_gradients(net, call, x)
    net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()})
    same_gradients(net, call, x)
    net[3].weight.data = net[3].weight.data * 0.5  # lies elsewhere
    same_gradients(net, call, x)
    setattr(net, "3", nn.Linear(36, 2))
    same_gradients(net, call, x)
    net[0].stride = (2, 2)
    setattr(net, "3", nn.Linear(16, 2))
    same_gradients(net, call, x)
    net[0].weight._grad_mode = None  # no gradient any more
    net[0].weight.grad = None
    same_gradients(net, call, x)
    assert net[0].weight.grad is None


def test_follows_lists_of_layers_and_parameters() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            self.layers = [nn.Linear(3, 4), nn.Linear(4, 4)]
            self.shifts = [nn.Parameter(cc.ones(4))]
            self.more = {"last": [[nn.ReLU()]]}

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = ops.relu(layer(x) + self.shifts[0])
            return self.more["last"][0][0](x)

    net = Listed()
    call, x = cc.compile_training(net), cc.randn(6, 3)
    same_gradients(net, call, x)
    net.more["last"][0][0] = nn.Linear(4, 5)
    same_gradients(net, call, x)
    net.more["last"] = [[nn.Linear(4, 4)]]
    same_gradients(net, call, x)
    net.layers[1] = nn.Linear(4, 4)
    same_gradients(net, call, x)
    net.shifts[0] = nn.Parameter(cc.zeros(4) + 0.5)
    same_gradients(net, call, x)
    net.layers.append(nn.Linear(4, 4))
    same_gradients(net, call, x)


def test_gradients_that_are_added_up_have_memory_of_their_own() -> None:
    net, again = nn.Linear(3, 2), nn.Linear(3, 2)
    again.load_state_dict(net.state_dict())
    call, batches = cc.compile_training(again), [cc.randn(5, 3) for _ in range(3)]
    for round in range(3):
        for one in (net, again):
            for p in one.parameters():
                p.attach_grad("add")
                p.grad = None
        for x in batches:
            step(net, x)
            step(call, x)
        for p, q in zip(net.parameters(), again.parameters()):
            np.testing.assert_array_equal(q.grad.numpy(), p.grad.numpy(), err_msg=str(round))


@needs_kernels
def test_running_statistics_are_read_anew_outside_of_training() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    call, x = cc.compile_training(net), cc.randn(6, 1, 5, 5)

    def answers() -> Any:
        for f in (net, call):
            with cc.record(train=False):
                out = f(x)
            out.backward()
            yield out.numpy()

    for _ in range(3):
        np.testing.assert_array_equal(*answers())
        step(call, x)  # moves them
    assert call.programs == 2
    net[1].running_mean[...] = 10.0
    np.testing.assert_array_equal(*answers())


def test_dropout_draws_anew_and_may_change() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    net.last = nn.Linear(40, 40)  # type: ignore[attr-defined]
    call, x = cc.compile_training(net), cc.ones(8, 40)
    masks = [step(call, x) for _ in range(3)]
    assert not np.array_equal(masks[1], masks[2])
    net[1].p = 0.0
    cc.seed(1)
    out = step(call, x)
    cc.seed(1)
    np.testing.assert_array_equal(out, step(net, x))


class Net(nn.Module):
    """What it is given, and a function of that and x."""

    def __init__(self, function: Callable[[Any, Any], Any], **parts: Any):
        self.function = function
        vars(self).update(parts)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


REPEATED: dict[str, Callable[[], nn.Module]] = {
    # the first of each pair runs as a call of the op, and the second keeps what backward reads
    "group norm, pool": lambda: nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.MaxPool2d(1, stride=2), nn.Flatten()
    ),
    "layer norm, pool": lambda: nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.LayerNorm((4, 4)), nn.MaxPool2d(2), nn.Flatten()
    ),
    "group norm, convolution": lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3)),
    "group norm, batch norm": lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.BatchNorm2d(4)),
    "padding": lambda: Net(lambda m, x: m.conv(ops.pad2d(x, 1)), conv=nn.Conv2d(4, 4, 3)),
    "turned": lambda: Net(lambda m, x: m.conv(x.transpose(0, 1, 3, 2)), conv=nn.Conv2d(4, 4, 3)),
    "sliced": lambda: Net(lambda m, x: m.conv(x[:, :, ::2, ::2]), conv=nn.Conv2d(4, 4, 2)),
    "along the last axis": lambda: nn.Sequential(
        Net(lambda m, x: m.linear(x.reshape(-1, 6)).reshape(-1, 4, 6, 5), linear=nn.Linear(6, 5)),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2),
    ),
    "means": lambda: Net(lambda m, x: m.conv(x).mean((2, 3)), conv=nn.Conv2d(4, 3, 3)),
    "without the mean": lambda: Net(
        lambda m, x: ops.conv2d(x, m.weight - m.weight.mean(0, True)),
        weight=nn.Parameter(cc.randn(3, 4, 3, 3)),
    ),
}


@pytest.mark.parametrize("name", REPEATED)
def test_ops_that_are_called_again(name: str) -> None:
    cc.seed(0)
    net = REPEATED[name]()
    call = cc.compile_training(net)
    for _ in range(4):
        same_gradients(net, call, cc.randn(8, 4, 6, 6))


@needs_kernels
def test_it_is_busy_until_backward_is_done() -> None:
    """Else a second thread's forward would write into the memory that backward reads."""
    call, x = cc.compile_training(nn.Linear(3, 2)), cc.ones(4, 3)
    step(call, x)
    (passes,) = call._passes.values()
    run, seen = passes._backward, []

    def watched() -> None:
        seen.append(passes.busy)
        run()

    passes._backward = watched
    step(call, x)
    assert seen == [True] and not passes.busy


def test_layers_and_statistics_under_private_names() -> None:
    nets = []
    for _ in range(2):
        cc.seed(0)
        nets.append(Net(lambda m, x: m._norm(m.conv(x)), conv=nn.Conv2d(4, 2, 3)))
        nets[-1]._norm = nn.BatchNorm2d(2)
    call = cc.compile_training(nets[1])
    for _ in range(3):
        x = cc.randn(8, 4, 6, 6)
        np.testing.assert_array_equal(step(call, x), step(nets[0], x))
        for name in ("running_mean", "running_var"):
            mine, right = (getattr(net._norm, name).numpy() for net in nets[::-1])
            np.testing.assert_array_equal(mine, right)
    nets[1]._norm = nn.GroupNorm(1, 2)
    same_gradients(nets[1], call, x)


def test_numbers_in_lists_and_dicts() -> None:
    net = Net(
        lambda m, x: m.linear(x) * (m.scales[0] * m.options["k"]),
        linear=nn.Linear(3, 2),
        scales=[2.0, 1.0],
        options={"k": 3.0},
        losses=[],
    )
    call, x = cc.compile_training(net), cc.randn(5, 3)
    same_gradients(net, call, x)
    net.scales[0] = 10.0
    same_gradients(net, call, x)
    net.options["k"] = 0.5
    same_gradients(net, call, x)
    programs = list(call._passes.values())
    net.losses.append(1.0)  # a record changes nothing
    same_gradients(net, call, x)
    assert list(call._passes.values()) == programs


@needs_kernels
def test_what_backward_reads_is_guarded() -> None:
    net = Net(
        lambda m, x: (x * m.weight) * m.factor,
        weight=nn.Parameter(cc.ones(3)),
        factor=cc.ones(3),
        unread=cc.ones(3),
    )
    call, x = cc.compile_training(net), cc.randn(5, 3)
    for _ in range(3):
        with cc.record():
            out = call(x)
        net.unread[...] = 2.0
        with pytest.raises(RuntimeError, match="still needs"):
            net.factor[...] = 5.0
        out.backward()
        net.factor[...] = 2.0


def test_an_abandoned_first_batch_holds_nothing() -> None:
    net = nn.Linear(3, 2)
    call = cc.compile_training(net)
    with cc.record():
        out = call(cc.ones(4, 3))
    del out
    gc.collect()
    net.load_state_dict(net.state_dict())
    same_gradients(net, call, cc.ones(4, 3))


@needs_kernels
def test_a_net_that_keeps_something_of_each_batch() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            self.last = self.linear(x)
            return self.last * 2.0

    call = cc.compile_training(Keeps())
    for _ in range(2):
        step(call, cc.randn(4, 3))
    (passes,) = call._passes.values()
    step(call, cc.randn(4, 3))
    assert list(call._passes.values()) == [passes]
    same_gradients(call.net, call, cc.randn(4, 3))
