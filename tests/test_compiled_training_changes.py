"""``compile_training``: programs follow what becomes of the net, and give what is the caller's."""

from __future__ import annotations

from typing import Any

import numpy as np
from test_compiled_training import same_gradients, step

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
