"""The walk back: what the gradients are, and which graphs can be walked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cyconv as cc


def leaf(*values: float, mode: str = "write") -> Any:
    """A float64 tensor that asks for its gradient."""
    return cc.tensor(values, dtype="float64").attach_grad(mode)


def grad(tensor: Any) -> Any:
    """The gradient as a list."""
    return tensor.grad.tolist()


# ------------------------------------------------------------------ what backward stores


def test_gradients_start_as_zeros_of_the_tensors_kind() -> None:
    for dtype in ("float32", "float64"):
        x = cc.ones(2, 3, dtype=dtype).attach_grad()
        assert x.grad is not None
        assert x.grad.shape == (2, 3) and x.grad.dtype == dtype
        assert (x.grad.numpy() == 0).all()


def test_attach_grad_returns_the_tensor() -> None:
    x = cc.ones(3)
    assert x.attach_grad() is x


def test_write_overwrites_and_add_adds() -> None:
    x, y = leaf(1.0, 2.0), leaf(1.0, 2.0, mode="add")
    for step in range(1, 4):
        with cc.record():
            loss = (x * 3 + y * 5).sum()
        loss.backward()
        assert grad(x) == [3, 3]
        assert grad(y) == [5 * step, 5 * step]


def test_add_does_not_touch_what_the_gradient_was() -> None:
    """Someone may have kept the old gradient."""
    x = leaf(1.0, mode="add")
    kept = x.grad
    with cc.record():
        y = x * 3
    y.backward()
    assert kept.tolist() == [0] and grad(x) == [3]


def test_add_after_the_gradient_was_forgotten() -> None:
    x = leaf(1.0, mode="add")
    x.grad = None
    with cc.record():
        y = x * 3
    y.backward()
    assert grad(x) == [3]


def test_a_tensor_that_was_not_used_keeps_its_gradient() -> None:
    x, unused = leaf(1.0), leaf(1.0)
    unused.grad = cc.tensor([7.0], dtype="float64")
    with cc.record():
        y = x * 2
    y.backward()
    assert grad(unused) == [7]


def test_attaching_again_starts_again() -> None:
    x = leaf(1.0, mode="add")
    with cc.record():
        y = x * 2
    y.backward()
    x.attach_grad()
    assert grad(x) == [0]
    for _ in range(2):
        with cc.record():
            y = x * 2
        y.backward()
    assert grad(x) == [2]


@pytest.mark.parametrize("mode", ["", "null", "Write", None, 1, True, ["add"]])
def test_a_wrong_mode(mode: Any) -> None:
    with pytest.raises(ValueError, match="attach_grad: mode"):
        cc.ones(2).attach_grad(mode)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers_have_no_gradients(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"attach_grad.*{dtype}"):
        cc.ones(2, dtype=dtype).attach_grad()


def test_the_head_gradient() -> None:
    for head in ([1.0, 10.0], np.array([1.0, 10.0]), cc.tensor([1, 10], dtype="float64")):
        x = leaf(3.0, 4.0)
        with cc.record():
            y = x * x
        y.backward(head)
        assert grad(x) == [6, 80]


def test_without_a_head_the_elements_are_summed() -> None:
    x = leaf(3.0, 4.0)
    with cc.record():
        y = x * x
    y.backward()
    assert grad(x) == [6, 8]


# ------------------------------------------------------------------ graphs


def test_diamond() -> None:
    """x reaches the loss by two ways that split and join: u = xx, v = 3u, w = u^2, loss = v w."""
    x = leaf(2.0)
    with cc.record():
        u = x * x
        loss = (u * 3) * (u**2)
    loss.backward()
    assert grad(x) == [3 * 6 * 2.0**5]  # d(3 x^6)


def test_a_chain_of_diamonds() -> None:
    """2^60 paths, each node walked once."""
    x = leaf(1.0)
    with cc.record():
        y = x
        for _ in range(60):
            y = y + y
    y.backward()
    assert grad(x) == [2.0**60]


def test_a_tensor_used_many_times() -> None:
    x = leaf(1.0, 2.0)
    with cc.record():
        total = x * 0
        for k in range(500):
            total = total + x * k
    total.backward()
    assert grad(x) == [sum(range(500))] * 2


@pytest.mark.parametrize("mode", ["write", "add"])
def test_one_op_with_the_same_input_twice(mode: str) -> None:
    x = leaf(3.0, mode=mode)
    for step in (1, 2):
        with cc.record():
            y = cc.ops.concat([x * x, x, x + x])
        y.backward()
        expected = 6 + 1 + 2
        assert grad(x) == [expected * step if mode == "add" else expected]


def test_uses_at_different_depths() -> None:
    """The walk must wait for the longest way: here x comes in at every depth."""
    x = leaf(0.5)
    with cc.record():
        y = x
        for _ in range(5):
            y = y * x
    y.backward()
    np.testing.assert_allclose(grad(x), [6 * 0.5**5], rtol=1e-15)


def test_several_leaves_and_constants() -> None:
    a, b, c = leaf(2.0), leaf(3.0), cc.tensor([4.0], dtype="float64")
    with cc.record():
        loss = a * b * c + b
    loss.backward()
    assert grad(a) == [12] and grad(b) == [9]
    assert c.grad is None


def test_two_losses_of_one_computation() -> None:
    """The first backward frees what they share, so the second one is refused whole."""
    x, w = leaf(2.0), leaf(5.0)
    with cc.record():
        shared = x * x
        first, second = shared * 3, shared * w
    first.backward()
    assert grad(x) == [12]
    with pytest.raises(RuntimeError, match="earlier backward"):
        second.backward()
    assert grad(x) == [12] and grad(w) == [0]  # no half of it was stored


def test_a_second_backward_raises() -> None:
    x = leaf(2.0)
    with cc.record():
        y = x * x
    y.backward()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"backward: .*freed.*record the computation again"):
            y.backward()
    assert grad(x) == [4]


def test_nothing_recorded_raises() -> None:
    x = leaf(2.0)
    outside = x * x
    with cc.record():
        constant = cc.ones(2) * 3
        detached = (x * x).detach()
        with cc.pause():
            paused = x * x
    for y in (outside, constant, detached, paused, cc.ones(3), x.copy(), x.astype("float32")):
        with pytest.raises(RuntimeError, match=r"backward: nothing was recorded.*record\(\)"):
            y.backward()


def test_results_of_recording_can_be_used_afterwards() -> None:
    """Recorded values take part in later records, as long as their graph lives."""
    x = leaf(2.0)
    with cc.record():
        y = x * x
    unrecorded = y * 100
    with cc.record():
        z = y * 5
    z.backward()
    assert grad(x) == [20]
    with pytest.raises(RuntimeError):
        unrecorded.backward()


def test_attach_grad_cuts_the_graph() -> None:
    """An intermediate with attach_grad becomes a leaf: what computed it gets no gradient."""
    x = leaf(2.0)
    with cc.record():
        h = x * x
        h.attach_grad()
        y = h * 3
    y.backward()
    assert grad(h) == [3] and grad(x) == [0]


def test_detach_cuts_the_graph() -> None:
    x = leaf(2.0)
    with cc.record():
        y = (x * x).detach() * x
    y.backward()
    assert grad(x) == [4]


def test_the_gradient_of_a_leaf_by_itself() -> None:
    x = leaf(2.0, 3.0)
    x.backward([5.0, 7.0])
    assert grad(x) == [5, 7]


def test_gradients_of_gradients_are_constants() -> None:
    x = leaf(2.0)
    with cc.record():
        y = x * x
        y.backward()  # backward does not record itself
        z = x.grad * x
    z.backward()
    assert grad(x) == [4]


def test_an_op_that_gives_no_gradient_to_an_input() -> None:
    """A backward may return None; what lies behind it is then left alone, but still freed."""
    from cyconv.autograd import Op
    from cyconv.tensor import apply

    class First(Op):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

        def backward(self, dout: Any) -> Any:
            return dout, None

    x, w = leaf(2.0), leaf(3.0)
    with cc.record():
        hidden = w * w
        y = apply(First(), x * x, hidden)
    y.backward()
    assert grad(x) == [4] and grad(w) == [0]
    w[:] = 1.0  # nothing holds it any more
    with pytest.raises(RuntimeError):
        hidden.backward()
