"""What a recorded graph holds on to: writes that it forbids, and when it lets go."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cases import Case, every_op
from running import as_tensor, is_differentiable
from separate import in_a_process

import cyconv as cc

CASES = every_op(3)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector only reference counts free memory: cycles would stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*shape: int) -> Any:
    """A tensor of ones that asks for its gradient."""
    return cc.ones(*shape).attach_grad()


# ------------------------------------------------------------------ writing in place


def recorded(case: Case) -> tuple[Any, dict[str, Any]]:
    """A case's recorded output and its arguments as tensors."""
    cc.seed(3)
    tensors = {name: as_tensor(a) for name, a in case.inputs.items()}
    for name, t in tensors.items():
        if is_differentiable(name, t):
            t.attach_grad()
    with cc.record(train=case.training):
        return getattr(cc.ops, case.op)(**tensors, **case.options), tensors


def gradients(out: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """All gradients after backward, with a head that tells elements apart."""
    head = np.random.default_rng(5).standard_normal(out.shape).astype(np.float32)
    out.backward(head)
    return {name: t.grad.numpy().copy() for name, t in tensors.items() if t.grad is not None}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_writing_to_an_argument_raises_or_does_no_harm(case: Case) -> None:
    """Each argument, between forward and backward: no gradient may come out wrong unnoticed."""
    expected = gradients(*recorded(case))
    for name in case.inputs:
        out, tensors = recorded(case)
        try:
            tensors[name][...] = 0
        except RuntimeError as error:
            assert "still needs" in str(error)
        for key, found in gradients(out, tensors).items():
            np.testing.assert_array_equal(found, expected[key], f"{key} after writing to {name}")
        tensors[name][...] = 0  # now the graph is gone


@pytest.mark.parametrize("case", CASES, ids=str)
def test_writing_to_a_recorded_result_raises(case: Case) -> None:
    out, _ = recorded(case)
    before = out.numpy().copy()
    for write in WRITES:
        with pytest.raises(RuntimeError, match="in-place write"):
            write(out)
    np.testing.assert_array_equal(out.numpy(), before)
    out.backward()
    for write in WRITES:
        write(out)


def _set(t: Any) -> None:
    t[...] = 1


def _add(t: Any) -> None:
    t += 1


def _sub(t: Any) -> None:
    t -= 1


def _mul(t: Any) -> None:
    t *= 2


def _div(t: Any) -> None:
    t /= 2


WRITES: list[Callable[[Any], None]] = [_set, _add, _sub, _mul, _div]


@pytest.mark.parametrize("write", WRITES)
def test_the_message_names_the_shape_and_a_way_out(write: Callable[[Any], None]) -> None:
    x = leaf(2, 3)
    with cc.record():
        y = x * x
    with pytest.raises(RuntimeError, match=r"shape \(2, 3\).*backward\(\) first, or .*copy"):
        write(x)
    assert y.tolist() == x.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_the_optimiser_writes_too() -> None:
    w = leaf(3)
    optimizer = cc.optim.SGD([w], lr=0.1)
    with cc.record():
        loss = (w * w).sum()
    with pytest.raises(RuntimeError, match="in-place write"):
        optimizer.step()
    loss.backward()
    optimizer.step()
    np.testing.assert_allclose(w.numpy(), [0.8] * 3, rtol=1e-6)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "detach": lambda t: t.detach(),
    "reshape": lambda t: t.reshape(6),
    "transpose": lambda t: t.transpose(),
    "T": lambda t: t.T,
    "flatten": lambda t: t.flatten(),
    "slice": lambda t: t[:, 1:],
    "row": lambda t: t[0],
    "view of a view": lambda t: t.T[1:].detach().transpose()[::2],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_share_the_guard(view: str) -> None:
    """Memory that a graph needs is protected under every name it has."""
    x = leaf(2, 3)
    before = VIEWS[view](x)
    with cc.record():
        y = (x * x).sum()
    after = VIEWS[view](x)
    for other in (before, after):
        assert np.shares_memory(other.numpy(), x.numpy())
        with pytest.raises(RuntimeError, match="in-place write"):
            other[...] = 5
    y.backward()
    after[...] = 5
    assert (before.numpy() == 5).all() and (x.numpy() == 5).any()


@pytest.mark.parametrize("view", VIEWS)
def test_a_graph_that_needs_a_view_protects_the_whole(view: str) -> None:
    x = leaf(2, 3)
    part = VIEWS[view](x).attach_grad()
    with cc.record():
        y = (part * part).sum()
    with pytest.raises(RuntimeError, match="in-place write"):
        x[...] = 5
    y.backward()
    x[...] = 5


def test_a_copy_has_no_guard() -> None:
    x = leaf(2, 3)
    for other in (x.copy(), x.astype("float32"), cc.tensor(x)):
        with cc.record():
            y = x * x
        other[...] = 5
        y.backward()
    assert (x.numpy() == 1).all()


def test_a_dropped_graph_protects_nothing() -> None:
    """The guard ends with the graph, also if nobody called backward."""
    x = leaf(3)
    with cc.record():
        y = x * x
        z = x * 3
    del y
    with pytest.raises(RuntimeError):
        x[:] = 2
    del z
    x[:] = 2
    assert x.tolist() == [2, 2, 2]


def test_writes_are_free_where_nothing_is_recorded() -> None:
    x = leaf(3)
    y = x * x
    x[:] = 2
    y += 1
    with cc.record():
        constant = cc.ones(3)
        z = constant * 3
        constant[:] = 7  # no gradient goes there, so nothing is kept
        z[:] = 7
    assert x.tolist() == [2, 2, 2] and y.tolist() == [2, 2, 2]


def test_in_place_operators_are_recorded_as_new_tensors() -> None:
    """Inside record(), `y *= 2` is differentiated, and does not change the tensor itself."""
    x = leaf(3)
    with cc.record():
        y = first = x * 3
        y *= 2
        y += x
        y -= 1
        y /= 4
        y **= 2
    y.backward()
    inner = (3 * 2 + 1 - 1) / 4  # of x = 1
    assert x.grad.tolist() == [2 * inner * (3 * 2 + 1) / 4] * 3
    assert first.tolist() == [3, 3, 3]


def test_a_copy_is_free_while_the_graph_holds_the_original() -> None:
    net = cc.nn.Linear(3, 2)
    with cc.record():
        loss = net(cc.ones(4, 3)).sum()
        copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    loss.backward()
    for other in copies:
        other.weight[...] = 1.0
        other.load_state_dict(net.state_dict())
    with cc.record():
        loss = net(cc.ones(4, 3)).sum()
        with pytest.raises(RuntimeError, match="still needs"):
            copy.copy(net.weight)[...] = 1.0  # the same memory


def test_integers_written_in_place_stay_exact() -> None:
    t = same = cc.tensor([2**24 + 1, -3], dtype="int64")
    t += 1
    t *= cc.tensor([1, 2], dtype="int64")
    t -= np.array([0, 1])
    t **= 1
    assert t is same and t.tolist() == [2**24 + 2, -5] and t.dtype == np.int64
    for wrong in (_div, lambda t: t.__iadd__(0.7), lambda t: t.__isub__(cc.ones(2))):
        with pytest.raises(TypeError, match=r"'float(64|32)'.*'int64'"):
            wrong(t)
    assert t.tolist() == [2**24 + 2, -5]


def test_an_index_array_may_change_after_use() -> None:
    x, index = leaf(4), np.array([0, 0, 3])
    chosen = cc.tensor([1], dtype="int64")
    with cc.record():
        y = x[index].sum() + x[chosen].sum()
    index[:] = 2
    chosen[:] = 2
    y.backward()
    assert x.grad.tolist() == [2, 1, 0, 1]


def test_running_statistics_may_move_between_forward_and_backward() -> None:
    def gamma_gradient(move: bool) -> Any:
        x, gamma = cc.tensor([[1.0], [2.0]]), leaf(1)
        mean, var = cc.zeros(1), cc.ones(1)
        with cc.record(train=False):
            y = cc.ops.batch_norm(x, gamma, None, mean, var)
        if move:
            with cc.train_mode():
                cc.ops.batch_norm(x, None, None, mean, var)
            assert mean.item() != 0
        y.backward()
        return gamma.grad.tolist()

    assert gamma_gradient(move=True) == gamma_gradient(move=False)


# ------------------------------------------------------------------ letting go


def network() -> tuple[list[Any], Any, list[Any]]:
    """Parameters, the loss of a small net, and weak references to what lies between."""
    cc.seed(0)
    shapes = [(4, 2, 3, 3), (4,), (5, 16), (5,)]
    params = [cc.randn(*s, scale=0.1).attach_grad() for s in shapes]
    w1, b1, w2, b2 = params
    with cc.record():
        conv = cc.ops.conv2d(cc.randn(6, 2, 6, 6), w1, b1)
        relu = cc.ops.relu(conv)
        pool = cc.ops.max_pool2d(relu, 2)
        logits = cc.ops.linear(cc.ops.flatten(pool), w2, b2)
        loss = cc.ops.cross_entropy(logits, [0, 1, 2, 3, 4, 0]) + (logits * logits).mean()
    between = [conv, relu, pool, logits]
    return params, loss, [weakref.ref(t) for t in between] + [weakref.ref(relu.data)]


def test_backward_frees_the_graph(no_collector: None) -> None:
    params, loss, between = network()
    # what an op saved is alive: relu saved its result, which no tensor holds any more
    assert between[-1]() is not None
    loss.backward()
    assert [ref() for ref in between] == [None] * len(between)
    assert all(np.isfinite(p.grad.numpy()).all() for p in params)


def test_dropping_the_loss_frees_the_graph(no_collector: None) -> None:
    params, loss, between = network()
    del loss
    assert [ref() for ref in between] == [None] * len(between)
    for p in params:
        p[...] = 0


def test_nothing_is_left_in_cycles(no_collector: None) -> None:
    refs = []
    for use in (True, False):
        params, loss, between = network()
        if use:
            loss.backward()
            refs += [weakref.ref(p.grad) for p in params]
        refs += [weakref.ref(loss), *map(weakref.ref, params), *between]
        del params, loss
    assert [ref() for ref in refs] == [None] * len(refs)


def test_a_failed_backward_leaves_no_cycle(no_collector: None) -> None:
    params, loss, _ = network()
    loss.backward()
    ref = weakref.ref(loss)
    try:
        loss.backward()
    except RuntimeError:
        pass
    else:
        pytest.fail("the graph was used twice")
    del loss, params
    assert ref() is None


def test_tensors_that_are_not_recorded_hold_nothing(no_collector: None) -> None:
    x = cc.ones(3)
    ref = weakref.ref(x)
    y = x * 2 + 1
    del x
    assert ref() is None and y.tolist() == [3, 3, 3]


CHAIN = """
    import sys
    import cyconv as cc

    def record():
        with cc.record():
            y = x
            for _ in range(1_000_000):
                y = -y
        return y

    x = cc.ones(1).attach_grad()
    (-x).item()
    before = sys.getallocatedblocks()
    {use}
    print(x.grad.tolist(), (sys.getallocatedblocks() - before) // 10_000)
"""


@pytest.mark.parametrize(
    ("use", "gradient"),
    [
        ("y = record(); y.backward()", 1),  # y is still there, but not its graph
        ("y = record(); del y", 0),
    ],
)
def test_a_million_operations_in_a_row(use: str, gradient: int) -> None:
    """No recursion in the walk nor in what frees the nodes; and nothing is left of them."""
    assert in_a_process(CHAIN.format(use=use), 300) == f"[{gradient}.0] 0\n"


def test_a_wide_graph() -> None:
    """Ten thousand uses of one tensor, all waiting at once."""
    x = leaf(1)
    with cc.record():
        rows = [x * 1 for _ in range(10_000)]
        total = cc.ops.concat(rows).sum()
    del rows
    total.backward()
    assert x.grad.tolist() == [10_000]
