"""Every op's gradient against finite differences; and what gradcheck itself accepts and says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from gradients import CHECKS, NOT_DIFFERENTIABLE, Check, normal

import cyconv as cc
from cyconv.autograd import Op
from cyconv.gradcheck import GradientError
from cyconv.tensor import apply


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_gradients(check: Check) -> None:
    assert cc.gradcheck(check.function, check.inputs, train=check.train)


def test_no_op_is_missing() -> None:
    checked = {check.name.split()[0] for check in CHECKS}
    assert checked == set(cc.ops.__all__) - NOT_DIFFERENTIABLE


def test_casts_between_float_dtypes() -> None:
    """float32 is too coarse for finite differences, so the gradients are compared with 1."""
    x = cc.tensor(normal(3), "float64").attach_grad()
    with cc.record():
        y = cc.ops.cast(cc.ops.cast(x, "float32"), "float64")
    y.backward()
    assert x.grad.dtype == "float64" and x.grad.tolist() == [1, 1, 1]


def test_a_whole_net() -> None:
    labels = np.array([0, 2, 1])

    def net(x: Any, w: Any, b: Any, v: Any) -> Any:
        h = cc.ops.tanh(cc.ops.conv2d(x, w, b, padding=1))
        h = cc.ops.flatten(cc.ops.avg_pool2d(h, 2))
        return cc.ops.cross_entropy(cc.ops.linear(h, v), labels)

    inputs = [normal(3, 2, 4, 4), normal(3, 2, 3, 3), normal(3), normal(4, 12)]
    assert cc.gradcheck(net, inputs)


# ------------------------------------------------------------------ gradcheck itself


class WrongAt(Op):
    """Doubles; the gradient is off by `error` at one place."""

    def __init__(self, at: Any, error: float):
        self.at, self.error = at, error

    def forward(self, a: Any) -> Any:
        return 2 * a

    def backward(self, dout: Any) -> Any:
        da = np.asarray(2 * dout)
        da[self.at] += self.error
        return da


def message_of(function: Any, inputs: list[Any]) -> str:
    with pytest.raises(GradientError) as caught:
        cc.gradcheck(function, inputs)
    return str(caught.value)


def test_the_error_names_the_place_and_the_values() -> None:
    for at in ((0, 0), (1, 2), (2, 0)):
        message = message_of(
            lambda a, b, at=at: a + apply(WrongAt(at, 0.25), b), [normal(3, 4), normal(3, 4)]
        )
        found = re.fullmatch(
            r"gradient by input 1 at (\(.*\)) is (\S+) but the difference quotient is (\S+) "
            r"\(error 0\.25; 1 of 12 elements are off\)",
            message,
        )
        assert found, message
        assert found[1] == str(at)
        assert abs(float(found[2]) - float(found[3]) - 0.25) < 1e-6


def test_the_worst_element_is_named() -> None:
    def function(a: Any) -> Any:
        return apply(WrongAt(3, 5.0), apply(WrongAt(1, 0.1), a))

    assert "input 0 at (3,)" in message_of(function, [normal(5)])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite(wrong: float) -> None:
    assert "at (2,)" in message_of(lambda a: apply(WrongAt(2, wrong), a), [normal(4)])


@pytest.mark.parametrize("error", [5e-3, -5e-3, 0.5])
def test_small_errors_are_seen(error: float) -> None:
    message_of(lambda a: apply(WrongAt((), error), a), [np.array(0.1)])


def test_a_scalar_has_a_place_too() -> None:
    assert "input 0 at () is" in message_of(lambda a: apply(WrongAt((), 1), a), [np.array(0.1)])


def test_a_gradient_of_the_wrong_shape() -> None:
    class Flat(WrongAt):
        def backward(self, dout: Any) -> Any:
            return (2 * dout).ravel()

    message = message_of(lambda a: apply(Flat(0, 0), a), [normal(2, 3)])
    assert message == "input 0 has shape (2, 3) but its gradient has shape (6,)"


def test_tolerances() -> None:
    def function(a: Any) -> Any:
        return apply(WrongAt(0, 0.01), a)

    assert cc.gradcheck(function, [normal(2)], atol=0.011)
    assert cc.gradcheck(function, [normal(2)], rtol=0.011)
    assert cc.gradcheck(cc.ops.exp, [normal(2)], eps=1e-4)


def test_it_is_an_assertion_error() -> None:
    """So that a test that calls it fails rather than breaks."""
    assert issubclass(GradientError, AssertionError)


def test_inputs_are_left_alone() -> None:
    array, tensor = normal(3), cc.tensor(normal(3), "float64")
    before = array.copy()
    assert cc.gradcheck(cc.ops.mul, [array, tensor])
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(tensor.numpy(), before)
    assert tensor.grad is None
    assert (cc.is_recording(), cc.is_training()) == (False, False)


def test_lists_and_numbers_are_taken_as_float64() -> None:
    assert cc.gradcheck(cc.ops.mul, [[1.0, 2.0], 3.0])
    assert cc.gradcheck(cc.ops.mul, ([1, 2], 3))


def test_nothing_to_differentiate() -> None:
    assert cc.gradcheck(cc.ops.exp, [np.zeros((0, 3))])


def test_the_mode_is_passed_on() -> None:
    seen = set()

    def function(a: Any) -> Any:
        seen.add(cc.is_training())
        return a * 2

    for train in (True, False):
        seen.clear()
        cc.gradcheck(function, [normal(1)], train=train)
        assert seen == {train}


def test_wrong_arguments() -> None:
    x = normal(2)
    for call, kind, words in (
        (lambda: cc.gradcheck(cc.ops.exp, [np.float32(x)]), TypeError, "input 0 must be float64"),
        (lambda: cc.gradcheck(cc.ops.mul, [x, cc.ones(2)]), TypeError, "input 1 must be float64"),
        (lambda: cc.gradcheck(cc.ops.exp, 5), TypeError, "inputs must be a list"),
        (lambda: cc.gradcheck(cc.ops.exp, ["a"]), TypeError, "numbers"),
        (lambda: cc.gradcheck(lambda a: 3, [x]), TypeError, "must return a tensor, got int"),
        (lambda: cc.gradcheck(lambda a: a.detach(), [x]), RuntimeError, "nothing was recorded"),
        (lambda: cc.gradcheck(cc.ops.exp, [x], eps=0), ValueError, "eps must be above 0"),
        (lambda: cc.gradcheck(cc.ops.exp, [x], eps="a"), TypeError, "eps must be a number"),
        (lambda: cc.gradcheck(cc.ops.exp, [x], rtol=np.nan), ValueError, "rtol must be finite"),
        (lambda: cc.gradcheck(cc.ops.exp, [x], atol=None), TypeError, "atol must be a number"),
    ):
        with pytest.raises(kind, match=words):
            call()
