"""Wrong arguments of training, nets as arguments, optimisers, schedules and files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusal import bad_integer, refuses

import cyconv as cc

BATCHES = [(np.zeros((2, 1, 4, 4), "float32"), [0, 1])]


def small() -> cc.nn.Module:
    return cc.nn.Sequential(cc.nn.Flatten(), cc.nn.Linear(16, 3))


def sgd(net: cc.nn.Module | None = None) -> cc.optim.SGD:
    return cc.optim.SGD((net or small()).parameters(), lr=0.1)


def fit(**changes: Any) -> Any:
    net = small()
    right = {"net": net, "train_loader": BATCHES, "optimizer": sgd(net), "progress": False}
    return cc.train.fit(**(right | changes))


class Gives(cc.nn.Module):
    """A net with one answer to everything."""

    def __init__(self, answer: Any):
        self.answer = answer

    def forward(self, x: Any) -> Any:
        return self.answer


NO_NETS: list[Any] = [None, 3, "lenet", [], {}, lambda x: x, np.zeros(2), cc.zeros(2), math]
WITH_A_NET: dict[str, Callable[[Any], Any]] = {
    "fit": lambda net: fit(net=net),
    "evaluate": lambda net: cc.train.evaluate(net, BATCHES),
    "predict": lambda net: cc.train.predict(net, np.zeros((1, 1, 4, 4), "float32")),
    "summary": lambda net: cc.nn.summarize(net, (1, 4, 4)),
    "compile": lambda net: cc.compile(net, cc.zeros(1, 1, 4, 4)),
    "save": lambda net: cc.save("there is no net to save", net),
}


@pytest.mark.parametrize("where", WITH_A_NET)
@pytest.mark.parametrize("value", NO_NETS, ids=lambda value: type(value).__name__)
def test_a_net_is_a_module(where: str, value: Any) -> None:
    refuses(WITH_A_NET[where], {"net": value}, (where, "net", "Module", type(value).__name__))


@pytest.mark.parametrize("where", WITH_A_NET)
def test_a_class_is_no_net(where: str) -> None:
    refuses(WITH_A_NET[where], {"net": cc.nn.ReLU}, (where, "net", "the class ReLU"))


NO_FIT: dict[str, list[Any]] = {
    "train_loader": [None, 3, 1.5, len, iter(BATCHES)],
    "test_loader": [3, 1.5, len, iter(BATCHES)],
    "loss": [None, 3, "mse", [], np.zeros(2)],
    "schedule": [3, "cosine", [], len],
    "start": [3, "a", {}, cc.train.History(), cc.train.Progress],
    "progress": [None, "a", 2, [], np.zeros(2)],
    "optimizer": [None, "sgd", [], cc.optim],
    "callbacks": [None, 3, [None], "a"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NO_FIT.items() for value in values]
)
def test_fit_refuses(name: str, value: Any) -> None:
    refuses(fit, {name: value}, ("fit", name))


NO_BATCHES: list[Any] = [
    None,
    3,
    "a",
    "abc",
    [],
    (1, 2, 3),
    np.zeros((3, 2)),
    {"x": 1, "y": 2, "z": 3},
]


@pytest.mark.parametrize("batch", NO_BATCHES, ids=repr)
def test_a_batch_is_a_pair(batch: Any) -> None:
    words = ("batches (x, y)", type(batch).__name__)
    refuses(fit, {"train_loader": [batch]}, ("fit", *words))
    refuses(fit, {"test_loader": [batch]}, ("evaluate", *words))
    refuses(cc.train.evaluate, {"net": small(), "loader": [batch]}, ("evaluate", *words))


@pytest.mark.parametrize("value", [None, 3, 0.5, "a", np.float32(1), np.ones(2), (cc.ones(1),)])
def test_a_loss_gives_a_tensor(value: Any) -> None:
    words = ("loss must return a tensor", type(value).__name__)
    refuses(fit, {"loss": lambda out, y: value}, ("fit", *words))
    given = {"net": small(), "loader": BATCHES, "loss": lambda out, y: value}
    refuses(cc.train.evaluate, given, ("evaluate", *words))


def test_evaluate_refuses() -> None:
    for loader in (None, 3, 1.5, len):
        refuses(cc.train.evaluate, {"net": small(), "loader": loader}, ("evaluate", "loader"))
    for loss in (None, 3, "mse", []):
        given = {"net": small(), "loader": BATCHES, "loss": loss}
        refuses(cc.train.evaluate, given, ("evaluate", "loss", repr(loss)))


def test_evaluate_takes_batches_that_come_once() -> None:
    assert cc.train.evaluate(small(), iter(BATCHES)).accuracy is not None


def test_a_net_of_several_outputs_has_a_loss_and_no_accuracy() -> None:
    found = cc.train.evaluate(Gives((1, 2)), BATCHES, loss=lambda out, y: cc.ones(2))
    assert found == (None, 1.0)


@pytest.mark.parametrize("shape", [(), (2,), (3, 5), (1, 5), (2, 5, 4, 4), (2, 5, 1)])
def test_predict_wants_a_row_for_each_image(shape: tuple[int, ...]) -> None:
    """Softmax would go along another axis than the classes'."""
    given = {"net": Gives(cc.zeros(*shape)), "images": np.zeros((2, 1, 4, 4), "float32")}
    refuses(cc.train.predict, given, ("predict", "net", "(n, K)", str(shape)))


SCHEDULES: list[Callable[[], cc.optim.Schedule]] = [
    lambda: cc.optim.StepLR(sgd(), 2),
    lambda: cc.optim.MultiStepLR(sgd(), [1, 2]),
    lambda: cc.optim.CosineLR(sgd(), 5),
    lambda: cc.optim.OneCycleLR(sgd(), 5),
]


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.parametrize(("changes", "words"), bad_integer("step", 0), ids=repr)
def test_a_schedule_counts_steps(
    make: Callable[[], cc.optim.Schedule], changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    schedule = make()
    refuses(schedule.lr_at, changes, (type(schedule).__name__, *words))


@pytest.mark.parametrize("grad", [3, 0.5, "a", [0.0, 0.0], np.zeros(2, "float32")], ids=repr)
def test_a_gradient_is_a_tensor(grad: Any) -> None:
    first, second = cc.ones(3).attach_grad(), cc.ones(2).attach_grad()
    first.grad = cc.ones(3)
    second.grad = grad
    optimizer = cc.optim.SGD([first, second], lr=0.1)
    refuses(optimizer.step, {}, ("SGD", "(2,)", "tensor", type(grad).__name__))
    assert first.tolist() == [1.0] * 3  # nothing has changed


@pytest.mark.parametrize("strict", [None, "a", 2, 1.0, [], np.zeros(2)], ids=repr)
def test_strict_is_a_flag(strict: Any) -> None:
    net = small()
    given = {"state": net.state_dict(), "strict": strict}
    refuses(net.load_state_dict, given, ("load_state_dict", "strict"))


@pytest.mark.parametrize("index", [2, -3, 10**30, "0", None, 1.0, [], [0], (0, 1), {}], ids=repr)
def test_a_layer_has_an_integer(index: Any) -> None:
    with pytest.raises((IndexError, TypeError)) as caught:
        small()[index]  # type: ignore[index]
    assert all(word in str(caught.value) for word in ("Sequential", "index", repr(index)))


@pytest.mark.parametrize("name", ["2", "linear", "", None, 0, (0,)], ids=repr)
def test_a_child_is_called_by_its_name(name: Any) -> None:
    with pytest.raises(ValueError, match=f"Sequential has no child named {re.escape(repr(name))}"):
        small().call_child(name, 1.0)


ARRAYS = [np.ones(2), np.zeros(0), np.array(["a", "b"]), np.array([None, 1])]


@pytest.mark.parametrize("value", [*ARRAYS, b"mean", 3, None, []], ids=repr)
def test_a_word_is_one_of_a_few(value: Any) -> None:
    cases: dict[str, Callable[[Any], Any]] = {
        "algo": lambda value: cc.nn.Conv2d(1, 1, 1, algo=value),
        "approximate": lambda value: cc.nn.GELU(value),
        "reduction": lambda value: cc.nn.MSELoss(value),
        "backend": lambda value: cc.set_backend(value),
    }
    for name, function in cases.items():
        refuses(function, {"value": value}, (name, repr(value)))


def test_gradcheck_wants_a_function() -> None:
    for value in (None, 3, "exp", cc.ones(2)):
        refuses(cc.gradcheck, {"function": value, "inputs": [[1.0]]}, ("gradcheck", "function"))


@pytest.mark.parametrize("index", ["a", 1.5, 3, -3, 2**40, object()], ids=repr)
def test_a_write_to_another_place(index: Any) -> None:
    t = cc.ones(2, 3)
    with pytest.raises(IndexError) as caught:
        t[index] = 0.0
    assert "(2, 3)" in str(caught.value) and repr(index) in str(caught.value)
    assert t.tolist() == [[1.0] * 3] * 2


FILES: dict[str, Callable[[Any], Any]] = {
    "save": lambda path: cc.save(path, small()),
    "load": cc.load,
    "save_arrays": lambda path: cc.checkpoint.save_arrays(path, {"w": [1.0]}),
    "load_arrays": cc.checkpoint.load_arrays,
    "load_metadata": cc.checkpoint.load_metadata,
}


@pytest.mark.parametrize("where", FILES)
@pytest.mark.parametrize("path", [None, 3, True, b"net", "", [], ["net"], {}, len], ids=repr)
def test_a_path_is_a_str_or_a_path(where: str, path: Any) -> None:
    refuses(FILES[where], {"path": path}, (where, "path"))


@pytest.mark.parametrize("where", ["save", "save_arrays"])
def test_a_folder_is_no_place_for_a_net(where: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "run", f"{tmp_path}/run/", "."):
        with pytest.raises(IsADirectoryError) as caught:
            FILES[where](path)
        assert str(caught.value) == f"{where}: {path} is a folder"
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]  # and no temporary file is left


def test_an_optimizer_or_a_schedule_of_another_training() -> None:
    mine, others = sgd(), sgd()
    net = small()
    with pytest.raises(ValueError, match="the optimizer was given none of the net's parameters"):
        fit(net=net, optimizer=others)
    with pytest.raises(ValueError, match="the schedule was made for another optimizer"):
        fit(schedule=cc.optim.StepLR(mine, 1))


def test_one_image_is_no_batch() -> None:
    message = r"predict: of images of shape \(1, 28, 28\), the first axis counts them: layer 1"
    with pytest.raises(ValueError, match=message):
        cc.train.predict(small(), np.zeros((1, 28, 28), np.uint8))


def test_pixels_from_0_to_255_are_scaled_everywhere() -> None:
    """In lists of batches as in a DataLoader and in predict."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2])
    floats = pixels / np.float32(255)
    net = small()
    found = [
        cc.train.evaluate(net, [(x, labels)]) for x in (floats, pixels, cc.tensor(pixels, "uint8"))
    ]
    assert found[0] == found[1] == found[2]
    weights = []
    for x in (floats, pixels):
        cc.seed(0)
        net = small()
        cc.train.fit(net, [(x, labels)], optimizer=sgd(net), progress=False)
        weights.append(net[1].weight.tolist())
    assert weights[0] == weights[1]
