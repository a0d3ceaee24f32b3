"""Recording and training, on and off: record, pause, train_mode and predict_mode."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import cyconv as cc

ENTER = [cc.record, cc.pause, cc.train_mode, cc.predict_mode]


def leaf(*values: float) -> Any:
    """A float64 tensor that asks for its gradient."""
    return cc.tensor(values, dtype="float64").attach_grad()


def modes() -> tuple[bool, bool]:
    return cc.is_recording(), cc.is_training()


def test_nothing_is_recorded_by_default() -> None:
    assert modes() == (False, False)


@pytest.mark.parametrize(
    ("enter", "inside"),
    [
        (lambda: cc.record(), (True, True)),
        (lambda: cc.record(train=False), (True, False)),
        (lambda: cc.record(train=True), (True, True)),
        (lambda: cc.pause(), (False, False)),
        (lambda: cc.pause(train=True), (False, True)),
        (lambda: cc.train_mode(), (False, True)),
        (lambda: cc.predict_mode(), (False, False)),
    ],
)
def test_each_mode(enter: Callable[[], Any], inside: tuple[bool, bool]) -> None:
    with enter():
        assert modes() == inside
    assert modes() == (False, False)


def test_modes_nest_and_come_back() -> None:
    with cc.record():
        with cc.predict_mode():
            assert modes() == (True, False)
            with cc.pause(train=True):
                assert modes() == (False, True)
                with cc.record(train=False):
                    assert modes() == (True, False)
                assert modes() == (False, True)
            assert modes() == (True, False)
        assert modes() == (True, True)
        with cc.record(train=False), cc.train_mode():
            assert modes() == (True, True)
        assert modes() == (True, True)
    assert modes() == (False, False)


@pytest.mark.parametrize("train", ["no", None, 2, 0.0, []])
def test_training_is_true_or_false(train: Any) -> None:
    for enter in (cc.record, cc.pause):
        with pytest.raises(TypeError, match=f"{enter.__name__}: train must be True or False"):
            enter(train)


@pytest.mark.parametrize("enter", ENTER)
def test_an_error_inside_ends_the_mode(enter: Callable[[], Any]) -> None:
    with cc.record(train=False):
        with pytest.raises(KeyError), enter():
            raise KeyError
        assert modes() == (True, False)


@pytest.mark.parametrize("enter", ENTER)
def test_one_object_serves_many_times(enter: Callable[[], Any]) -> None:
    mode = enter()
    with enter():
        inside = modes()
    for around in ENTER:
        with around():
            outside = modes()
            with mode, cc.record(), mode:
                within = modes()
            assert modes() == outside
            with cc.record(), mode:
                assert modes() == within
            assert modes() == outside
    with mode:
        assert modes() == inside
        with pytest.raises(KeyError), mode:
            raise KeyError
        assert modes() == inside
    assert modes() == (False, False)


def test_one_object_serves_several_threads() -> None:
    mode = cc.record()
    both = threading.Barrier(2, timeout=30)

    def work(other: Callable[[], Any]) -> tuple[bool, bool]:
        with other():
            both.wait()
            with mode:
                both.wait()
            both.wait()
            return modes()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [cc.train_mode, cc.pause])) == [(False, True), (False, False)]


def test_a_mode_may_decorate_a_function() -> None:
    @cc.predict_mode()
    def answer(depth: int) -> tuple[bool, bool]:
        return answer(depth - 1) if depth else modes()

    with cc.record():
        assert answer(2) == (True, False)
        assert modes() == (True, True)


def test_the_mode_decides_about_dropout_and_batch_norm() -> None:
    cc.seed(0)
    x = cc.randn(20, 3)
    mean, var = cc.zeros(3), cc.ones(3)

    def dropped() -> bool:
        return bool((cc.ops.dropout(x, 0.5).numpy() == 0).any())

    def moved() -> bool:
        before = mean.numpy().copy()
        cc.ops.batch_norm(x, None, None, mean, var)
        return bool((mean.numpy() != before).any())

    for enter, training in [
        (cc.record, True),
        (cc.train_mode, True),
        (cc.predict_mode, False),
        (cc.pause, False),
        (lambda: cc.record(train=False), False),
    ]:
        with enter():
            assert dropped() is training
            assert moved() is training
    assert not dropped() and not moved()


def test_what_is_paused_is_a_constant() -> None:
    x = leaf(2.0, 3.0)
    with cc.record():
        y = x * x
        with cc.pause():
            z = x * 10
        loss = (y * z).sum()
    loss.backward()
    assert x.grad.tolist() == [2 * 2 * 20, 2 * 3 * 30]


def test_a_new_thread_records_nothing() -> None:
    seen = []
    with cc.record():
        thread = threading.Thread(target=lambda: seen.append(modes()))
        thread.start()
        thread.join()
        assert modes() == (True, True)
    assert seen == [(False, False)]


def test_a_graph_may_be_walked_in_another_thread() -> None:
    x = leaf(1.0, 2.0)
    with cc.record():
        y = (x * x).sum()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(y.backward).result()
    assert x.grad.tolist() == [2, 4]


@pytest.mark.parametrize("function", [np.exp, np.asarray, lambda t: np.concatenate([t, t])])
def test_numpy_gets_no_array_of_what_is_recorded(function: Any) -> None:
    """Its result would be a constant, and gradients wrong without a word."""
    x, constant = cc.ones(3).attach_grad(), cc.ones(3)
    assert (np.asarray(function(x)) == np.asarray(function(np.ones(3, np.float32)))).all()
    with cc.record():
        for recorded in (x, x * 2):
            with pytest.raises(TypeError, match=r"no gradient flows; use cyconv\.ops"):
                function(recorded)
        function(constant)
        assert x.numpy().tolist() == (x * np.ones(3)).tolist() == [1, 1, 1]
