"""Optimisers: against the formulas written out here, and against values recorded from PyTorch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import optim

with np.load(Path(__file__).parent / "recorded" / "optim.npz") as _file:
    RECORDED = {key: _file[key] for key in _file.files}
CASES = json.loads(str(RECORDED["cases"]))


def parameter(values: Any, dtype: str = "float64") -> cc.nn.Parameter:
    return cc.nn.Parameter(cc.tensor(values, dtype=dtype))


def give(param: cc.Tensor, grad: Any) -> None:
    param.grad = cc.tensor(grad, dtype=param.dtype)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_trajectory_is_pytorchs(number: int) -> None:
    case = CASES[number]
    param = parameter(RECORDED["start"], case["dtype"])
    optimizer = getattr(optim, case["optimizer"])([param], **({"lr": 1e-3} | case["options"]))
    expected = RECORDED[f"case.{number}"]
    tolerance = 1e-13 if case["dtype"] == "float64" else 2e-6
    for i, grad in enumerate(RECORDED["grads"]):
        if i == len(expected) // 2:
            optimizer.lr *= 0.5
        give(param, grad)
        optimizer.step()
        np.testing.assert_allclose(param.numpy(), expected[i], rtol=tolerance, atol=tolerance)
    assert param.dtype == case["dtype"]


# ------------------------------------------------------------------ the formulas, number by number


def sgd(w: float, grads: list[float], lr: float, momentum: float, damp: float, decay: float,
        nesterov: bool) -> float:  # fmt: skip
    velocity = None
    for g in grads:
        g = g + decay * w
        if momentum == 0:
            w = w - lr * g
            continue
        velocity = g if velocity is None else momentum * velocity + (1 - damp) * g
        w = w - lr * (g + momentum * velocity if nesterov else velocity)
    return w


def adam(w: float, grads: list[float], lr: float, beta1: float, beta2: float, eps: float,
         decay: float, decoupled: bool) -> float:  # fmt: skip
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        if decoupled:
            w = w - lr * decay * w
        else:
            g = g + decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("momentum", "damp", "nesterov"),
    [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.0, True), (0.7, 0.4, False)],
)
def test_sgd_is_its_formula(momentum: float, damp: float, decay: float, nesterov: bool) -> None:
    grads = [0.5, -1.0, 2.0, 0.25]
    param = parameter([[1.5, -0.5]])
    optimizer = optim.SGD([param], 0.1, momentum, damp, decay, nesterov)
    for g in grads:
        give(param, [[g, -g]])
        optimizer.step()
    expected = [
        sgd(1.5, grads, 0.1, momentum, damp, decay, nesterov),
        sgd(-0.5, [-g for g in grads], 0.1, momentum, damp, decay, nesterov),
    ]
    np.testing.assert_allclose(param.numpy()[0], expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_adam_is_its_formula(kind: Any, decay: float) -> None:
    grads = [0.5, -1.0, 2.0, 0.25, 0.0]
    param = parameter([1.5])
    optimizer = kind([param], 0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=decay)
    for g in grads:
        give(param, [g])
        optimizer.step()
    expected = adam(1.5, grads, 0.05, 0.8, 0.95, 1e-4, decay, kind is optim.AdamW)
    np.testing.assert_allclose(param.numpy(), [expected], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: optim.SGD(params, 0.1, momentum=0.9, dampening=0.5),
        lambda params: optim.SGD(params, 0.1),
        lambda params: optim.AdamW(params, 0.1),
    ],
)
def test_parameters_do_not_mix(make: Any) -> None:
    """All at once is each alone: other dtypes, sizes, orders, and gradients that come later."""
    rng = np.random.default_rng(0)
    sizes = [((40_000,), "f4"), ((3, 5), "f8"), ((), "f4"), ((0, 2), "f4"), ((200, 90), "f4")]
    values = [np.asarray(rng.normal(size=shape), dtype) for shape, dtype in sizes]
    values.append(np.asfortranarray(rng.normal(size=(6, 7)).astype("f4")))
    together, alone = ([cc.tensor(v).attach_grad() for v in values] for _ in range(2))
    optimizers = [make(together), *(make([param]) for param in alone)]
    for step in range(3):
        for i, pair in enumerate(zip(together, alone)):
            for param in pair:
                param.grad = cc.tensor(np.cos(param.numpy())) if step or i % 2 else None
        for optimizer in optimizers:
            optimizer.step()
        for a, b in zip(together, alone):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert all((a.numpy() != v).all() for a, v in zip(together, values))


def test_defaults() -> None:
    param = parameter([1.0])
    assert optim.SGD([param], lr=1).momentum == 0
    adam_w = optim.AdamW([param])
    assert (adam_w.lr, adam_w.beta1, adam_w.beta2, adam_w.eps) == (1e-3, 0.9, 0.999, 1e-8)
    assert (adam_w.weight_decay, optim.Adam([param]).weight_decay) == (0.01, 0)


# ------------------------------------------------------------------ which parameters change


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1, 0.9), optim.Adam, optim.AdamW])
def test_without_gradient_nothing_changes(make: Any) -> None:
    used, unused = parameter([1.0]), parameter([1.0])
    optimizer = make([used, unused])
    give(used, [1.0])
    optimizer.step()
    assert used.item() != 1
    assert unused.item() == 1
    assert not any(key.endswith(".1") for key in optimizer.state_dict())
    give(unused, [1.0])  # its own first step, whatever the other one has done
    optimizer.step()
    fresh = parameter([1.0])
    give(fresh, [1.0])
    make([fresh]).step()
    assert unused.item() == fresh.item()


def test_gradient_is_left_alone_and_param_changes_in_place() -> None:
    for make in (lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.1), optim.Adam):
        param = parameter([[1.0, 2.0]])
        array = param.data
        give(param, [[3.0, 4.0]])
        make([param]).step()
        assert param.data is array
        assert param.grad is not None
        assert param.grad.tolist() == [[3.0, 4.0]]


def test_a_parameter_given_twice_counts_once() -> None:
    param = parameter([1.0])
    give(param, [1.0])
    optim.SGD([param, param], lr=0.25).step()
    assert param.item() == 0.75


def test_parameters_that_share_memory_change_one_after_the_other() -> None:
    whole = cc.zeros(8, 4096)
    views = [whole.reshape(-1).attach_grad() for _ in range(40)]
    optimizer = cc.optim.SGD(views, lr=1.0)
    for view in views:
        view.grad = cc.ones(view.size)
    for step in range(1, 6):
        optimizer.step()
        assert (whole.numpy() == -40 * step).all()


def test_trains_from_backward_and_zero_grad() -> None:
    param = parameter([3.0])
    optimizer = optim.SGD([param], lr=0.1)
    for _ in range(100):
        with cc.record():
            loss = ((param - 1) ** 2).sum()
        loss.backward()
        optimizer.step()
    assert abs(param.item() - 1) < 1e-8
    optimizer.zero_grad()
    assert param.grad is None


def test_refuses_to_write_what_a_live_graph_needs() -> None:
    first, second = parameter([1.0]), parameter([3.0])
    give(first, [1.0])
    give(second, [1.0])
    optimizer = optim.SGD([first, second], lr=0.1)
    with cc.record():
        loss = (second * second).sum()
    with pytest.raises(RuntimeError, match="graph still needs"):
        optimizer.step()
    assert (first.item(), second.item()) == (1, 3)  # the first one was not changed either
    loss.backward()
    optimizer.step()
    assert second.item() == pytest.approx(3 - 0.1 * 6)


def test_any_memory_layout_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    values, grad = rng.standard_normal((2, 4, 6)).astype(np.float32)
    unaligned = np.frombuffer(b"?" + grad.tobytes(), np.float32, grad.size, 1).reshape(grad.shape)
    layouts = (grad, np.asfortranarray(grad), np.repeat(grad, 2, axis=1)[:, ::2], unaligned)
    results = []
    for order in ("C", "F"):
        for make in (lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.1), optim.Adam):
            param = cc.nn.Parameter(np.array(values, order=order))
            optimizer = make([param])
            for array in layouts:
                param.grad = cc.Tensor(array)
                optimizer.step()
            results.append(param.numpy().copy())
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])


# ------------------------------------------------------------------ state


MAKERS = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.2),
    "adam": lambda p: optim.Adam(p, 0.01),
    "adamw": lambda p: optim.AdamW(p, 0.01),
}


@pytest.mark.skipif(cc.backends.backend_name() != "cython", reason="for the compiled kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_what_fades_is_0_before_processors_become_slow(name: str, dtype: str) -> None:
    smallest = float(np.finfo(dtype).tiny)
    optimizer = MAKERS[name]([parameter([1.0] * 40, dtype)])
    (param,) = optimizer.params
    give(param, [0.0, 1e5 * smallest, -1e5 * smallest, math.nan] * 10)
    for _ in range(60):  # 1e5 * 0.9 ** 60 is 180, and 0.2 times that still above 1 ...
        optimizer.step()
        give(param, [0.0, 0.0, 0.0, math.nan] * 10)
    state = optimizer.state_dict()
    (first,) = (state[key] for key in state if key in ("velocity.0", "m.0"))
    assert (abs(first[1::4]) > smallest).all() and (abs(first[2::4]) > smallest).all()
    for _ in range(100):  # ... and 180 * 0.9 ** 100 is 0.005, which a float of either size can be
        optimizer.step()
    for key, array in optimizer.state_dict().items():
        if array.shape:
            assert (array.reshape(10, 4)[:, :3] == 0).all() and np.isnan(array[3::4]).all(), key


@pytest.mark.parametrize("name", MAKERS)
def test_resuming_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grads = rng.standard_normal((8, 2, 3))
    one, two = (parameter(rng.standard_normal((2, 3)), "float32") for _ in range(2))
    optimizer = MAKERS[name]([one, two])
    for i, grad in enumerate(grads):
        if i == 4:
            optimizer.lr = 0.03
            file = tmp_path / "state.safetensors"
            cc.checkpoint.save_arrays(file, optimizer.state_dict())
            copies = [parameter(p.numpy(), "float32") for p in (one, two)]
            resumed = MAKERS[name](copies)
            resumed.load_state_dict(cc.checkpoint.load_arrays(file)[0])
            assert resumed.lr == 0.03
        give(one, grad)
        give(two, -grad if i != 2 else grad)
        optimizer.step()
        if i >= 4:
            give(copies[0], grad)
            give(copies[1], -grad)
            resumed.step()
    for old, new in zip((one, two), copies):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_state_dict_is_a_copy() -> None:
    param = parameter([1.0])
    optimizer = optim.SGD([param], 0.1, momentum=0.9)
    give(param, [1.0])
    optimizer.step()
    state = optimizer.state_dict()
    assert sorted(state) == ["lr", "velocity.0"]
    optimizer.step()
    assert state["velocity.0"] == [1.0]
    optimizer.load_state_dict(state)
    optimizer.step()
    assert state["velocity.0"] == [1.0]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "lr is missing"),
        ({"lr": 0.1, "velocity.0": np.zeros(2)}, "unexpected velocity.0"),
        ({"lr": 0.1, "m.7": np.zeros(2)}, "unexpected m.7"),
        ({"lr": 0.1, "m.-1": np.zeros(2)}, "unexpected m.-1"),
        ({"lr": 0.1, "m": np.zeros(2)}, "unexpected m;"),
        ({"lr": 0.1, "m.0": np.zeros(3)}, r"shape \(3,\)"),
        ({"lr": 0.1, "m.0": np.zeros(2)}, "parameter 0 has"),
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"lr": 0.1, "m.0": np.zeros(2), "v.0": np.zeros(2), "step.0": -1}, "at least 0"),
        ({"lr": 0.1, "m.0": np.zeros(2), "v.0": np.zeros(2), "step.0": np.zeros(2)}, "step.0"),
        ({"lr": "x"}, "lr"),
        ({"lr": [1, 2]}, "lr"),
        ({"lr": 0.1, 0: 1}, "unexpected 0"),
        ("lr", "lr is missing"),
        (None, "lr is missing"),
        ({"lr": 0.1, "m.0": ["a", "b"]}, "dtype <U1"),
    ],
)
def test_bad_state_changes_nothing(state: Any, message: str) -> None:
    param = parameter([1.0, 2.0])
    optimizer = optim.Adam([param], lr=0.5)
    give(param, [1.0, 1.0])
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert sorted(before) == sorted(after)
    assert all((before[key] == after[key]).all() for key in before)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p[0], 0.1), "iterable of tensors"),
        (lambda p: optim.SGD(cc.nn.Linear(2, 2), 0.1), r"net.parameters\(\)"),
        (lambda p: optim.SGD(None, 0.1), "iterable of tensors"),
        (lambda p: optim.SGD([], 0.1), "params is empty"),
        (lambda p: optim.SGD([1.0], 0.1), "params must be tensors"),
        (lambda p: optim.SGD([cc.zeros(2)], 0.1), "no attach_grad"),
        (lambda p: optim.SGD(p, -0.1), "lr must be at least 0"),
        (lambda p: optim.SGD(p, float("nan")), "lr must be finite"),
        (lambda p: optim.SGD(p, "fast"), "lr must be a number"),
        (lambda p: optim.SGD(p, 0.1, momentum=-1), "momentum must be at least 0"),
        (lambda p: optim.SGD(p, 0.1, dampening=2), "dampening must be at most 1"),
        (lambda p: optim.SGD(p, 0.1, weight_decay=-1), "weight_decay must be at least 0"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), "nesterov needs momentum"),
        (lambda p: optim.SGD(p, 0.1, 0.9, 0.1, nesterov=True), "nesterov needs momentum"),
        (lambda p: optim.SGD(p, 0.1, 0.9, nesterov="yes"), "nesterov must be True or False"),
        (lambda p: optim.Adam(p, betas=0.9), "betas must be a pair"),
        (lambda p: optim.Adam(p, betas=(0.9,)), "betas must be a pair"),
        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), r"betas\[0\] must be below 1, got 1.0"),
        (lambda p: optim.Adam(p, betas=(0.9, -0.1)), r"betas\[1\] must be at least 0"),
        (lambda p: optim.Adam(p, eps=-1), "eps must be at least 0"),
        (lambda p: optim.AdamW(p, weight_decay=-1), "AdamW: weight_decay"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make([parameter([1.0])])


def test_wrong_gradients_are_refused() -> None:
    param = parameter([1.0, 2.0])
    optimizer = optim.SGD([param], 0.1)
    param.grad = cc.zeros(3, dtype="float64")
    with pytest.raises(ValueError, match=r"gradient of shape \(3,\)"):
        optimizer.step()
    param.grad = cc.zeros(2)
    with pytest.raises(ValueError, match="float32"):
        optimizer.step()
    with pytest.raises(ValueError, match="lr"):
        optimizer.lr = -1


def test_averages_of_float32_do_not_lose_digits() -> None:
    """1 - 0.9999 in float32 is off by 2e-4."""
    w = cc.tensor([1.0, 1.0]).attach_grad()
    optimizer = optim.Adam([w], lr=1e-3, betas=(0.9999, 0.9999))
    w.grad = cc.tensor([0.3, -0.3])
    optimizer.step()
    state = optimizer.state_dict()
    np.testing.assert_allclose(state["m.0"], [3e-5, -3e-5], rtol=1e-6)
    np.testing.assert_allclose(state["v.0"], 9e-6, rtol=1e-6)
    np.testing.assert_allclose(w.numpy(), [1 - 1e-3, 1 + 1e-3], rtol=1e-7)
