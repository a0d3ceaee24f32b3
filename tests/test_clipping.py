"""``clip_grad_norm``, and ``fit`` with it."""

from __future__ import annotations

import numpy as np
import pytest

import cyconv as cc
from cyconv import optim


def test_long_gradients_are_clipped_together() -> None:
    net = cc.nn.Linear(3, 2)
    with cc.record():
        loss = 100.0 * net(cc.ones(4, 3)).sum()
    loss.backward()
    before = np.concatenate([p.grad.numpy().ravel() for p in net.parameters()])
    norm = float(np.linalg.norm(before))
    unused = cc.nn.Linear(2, 2)
    params = [*net.parameters(), *unused.parameters()]
    for most, factor in ((2 * norm, 1.0), (0.5, 0.5 / norm)):
        assert optim.clip_grad_norm(params, most) == pytest.approx(norm)
        after = np.concatenate([p.grad.numpy().ravel() for p in net.parameters()])
        np.testing.assert_allclose(after, factor * before, rtol=1e-6)
    net.bias.grad[0] = np.nan
    assert np.isnan(optim.clip_grad_norm(params, 0.1)) and net.bias.grad[1].item() == after[-1]
    huge = cc.tensor([0.0]).attach_grad()
    huge.grad = cc.tensor([3e38])
    assert optim.clip_grad_norm([huge], 1.0) == pytest.approx(3e38)
    assert huge.grad.item() == pytest.approx(1)
    with pytest.raises(ValueError, match="clip_grad_norm: max_norm must be above 0, got 0"):
        optim.clip_grad_norm(params, 0)


def test_fit_clips() -> None:
    net, again = cc.nn.Linear(3, 2), cc.nn.Linear(3, 2)
    again.load_state_dict(net.state_dict())
    x, y = cc.ones(4, 3) * 1000.0, np.array([0, 0, 1, 0])
    cc.train.fit(
        net, [(x, y)], optimizer=optim.SGD(net.parameters(), 0.1), clip_norm=0.5, progress=False
    )
    steps = optim.SGD(again.parameters(), 0.1)
    with cc.record():
        loss = cc.ops.cross_entropy(again(x), y)
    loss.backward()
    assert optim.clip_grad_norm(again.parameters(), 0.5) > 0.5
    steps.step()
    np.testing.assert_array_equal(net.weight.numpy(), again.weight.numpy())
