"""fit, evaluate and predict, on any net and any batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import data, nn, optim
from cyconv.train import Epoch, History, Progress, evaluate, fit, predict

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 1, 6, 6)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 50)
DATASET = data.ArrayDataset(IMAGES, LABELS)


def small_net(seed: int = 0) -> nn.Sequential:
    """With everything that has a state of its own: batch norm's statistics, dropout's numbers."""
    cc.seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(64, 3),
    )  # fmt: skip


def loader(batch_size: int = 8, **options: Any) -> data.DataLoader:
    return data.DataLoader(DATASET, batch_size, shuffle=True, seed=3, **options)


def sgd(net: nn.Module, lr: float = 0.05) -> optim.SGD:
    return optim.SGD(net.parameters(), lr, momentum=0.9)


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in net.state_dict().items()}


# ------------------------------------------------------------------ fit


def test_fit_is_the_loop_that_one_would_write() -> None:
    net, again = small_net(), small_net()
    optimizer = sgd(again)
    schedule = optim.CosineLR(optimizer, 14)
    cc.seed(5)
    moving, rates, rows = None, [], []
    batches = loader()
    for _ in range(2):
        for x, y in batches:
            with cc.record():
                loss = cc.ops.cross_entropy(again(x), y)
            loss.backward()
            rates.append(optimizer.lr)
            optimizer.step()
            schedule.step()
            value = loss.item()
            moving = value if moving is None else 0.99 * moving + 0.01 * value
        right = again(cc.tensor(IMAGES / np.float32(255))).numpy().argmax(1) == LABELS
        rows.append((moving, right.mean(), rates[-1]))

    cc.seed(5)
    optimizer = sgd(net)
    history = fit(
        net,
        loader(),
        [(IMAGES[:10] / np.float32(255), LABELS[:10])],
        optimizer=optimizer,
        schedule=optim.CosineLR(optimizer, 14),
        epochs=2,
        progress=False,
    )
    assert bits(net) == bits(again)
    assert isinstance(history, History)
    assert len(history.losses) == 14
    assert [row.epoch for row in history.rows] == [0, 1]
    for row, (loss, accuracy, rate) in zip(history.rows, rows):
        assert row.loss == pytest.approx(loss, rel=1e-12)
        assert row.train_accuracy == pytest.approx(accuracy)
        assert row.learning_rate == rate
        assert row.seconds > 0 and row.images_per_second > 0
    right = again(cc.tensor(IMAGES[:10] / np.float32(255))).numpy().argmax(1) == LABELS[:10]
    assert history.rows[-1].test_accuracy == right.mean()


def test_it_learns() -> None:
    cc.seed(0)
    net = nn.models.lenet()
    train = data.Subset(data.MNIST.built_in(), range(1500))
    optimizer = optim.Adam(net.parameters(), 3e-3)
    history = fit(
        net,
        data.DataLoader(train, 32, shuffle=True),
        data.DataLoader(data.Subset(data.MNIST.built_in(train=False), range(500)), 250),
        optimizer=optimizer,
        progress=False,
    )
    assert history.rows[0].test_accuracy > 0.8  # type: ignore[operator]


@pytest.mark.parametrize("stops", [[3], [7], [1, 2, 8], [6, 13]], ids=str)
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(stops: list[int]) -> None:
    """Stopped after those batches of 14, with dropout, batch norm, augmentation and a schedule."""

    def train(stops: list[int]) -> tuple[dict[str, bytes], History]:
        net = small_net()
        optimizer = sgd(net)
        schedule = optim.OneCycleLR(optimizer, 14)
        cc.seed(9)
        now = Progress()

        def stop(now: Progress) -> None:
            now.stop = len(now.history.losses) in stops and now.batch > 0

        while now.epoch < 2:
            history = fit(
                net,
                loader(augment=data.RandomCrop(1)),
                loader(),
                optimizer=optimizer,
                schedule=schedule,
                epochs=2,
                progress=False,
                callbacks=[stop],
                start=now,
            )
            assert history is now.history
            if now.stop:
                assert len(history.losses) == stops[0]
                stops = stops[1:]
        assert not stops
        return bits(net), history

    expected, whole = train([])
    found, history = train(stops)
    assert found == expected
    assert history.losses == whole.losses
    untimed = [row[:5] for row in whole.rows]
    assert [row[:5] for row in history.rows] == untimed


def test_stopping_while_the_accuracy_is_measured() -> None:
    net, now = small_net(), Progress()

    class StopsUs(list):
        def __iter__(self) -> Iterator[Any]:
            now.stop = True
            yield self[0]
            pytest.fail("one more batch was measured")

    test = [(IMAGES / np.float32(255), LABELS)] * 2
    optimizer = sgd(net)
    fit(net, loader(), StopsUs(test), optimizer=optimizer, progress=False, start=now)
    assert (now.epoch, now.batch, now.history.rows) == (0, 7, [])
    before = bits(net)
    fit(net, loader(), test, optimizer=optimizer, progress=False, start=now)
    assert (now.epoch, now.batch, len(now.history.rows)) == (1, 0, 1)
    assert now.history.rows[0].learning_rate == 0.05
    assert bits(net) == before


def test_a_list_of_batches_goes_on_in_the_middle_too() -> None:
    pairs = [(IMAGES[i : i + 10] / np.float32(255), LABELS[i : i + 10]) for i in range(0, 50, 10)]
    net, again, now = small_net(), small_net(), Progress()

    def stop(now: Progress) -> None:
        now.stop = now.batch == 2

    cc.seed(2)
    fit(net, pairs, optimizer=sgd(net), progress=False)
    cc.seed(2)
    optimizer = sgd(again)
    fit(again, pairs, optimizer=optimizer, progress=False, callbacks=[stop], start=now)
    fit(again, pairs, optimizer=optimizer, progress=False, start=now)
    assert len(now.history.losses) == 5
    assert bits(net) == bits(again)


def test_callbacks_see_every_batch_and_every_epoch() -> None:
    net, seen = small_net(), []
    fit(
        net,
        loader(20),
        optimizer=sgd(net),
        epochs=2,
        progress=False,
        callbacks=(
            function for function in [lambda now: seen.append((now.epoch, now.batch, now.images))]
        ),
    )
    one = [(0, 1, 20), (0, 2, 40), (0, 3, 50)]
    assert seen == [*one, (1, 0, 0), *((1, k, n) for _, k, n in one), (2, 0, 0)]


@pytest.mark.parametrize("kind", ["list", "no length", "tensors", "own loader"])
def test_any_batches_will_do(kind: str) -> None:
    pairs: list[Any] = [(IMAGES[i : i + 10] / np.float32(255), LABELS[i : i + 10]) for i in (0, 10)]

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return iter(pairs)

    class OwnLoader(Loader, data.DataLoader):
        pass

    if kind == "tensors":
        pairs = [(cc.tensor(x), cc.tensor(y, dtype="int64")) for x, y in pairs]
    net, again = small_net(), small_net()
    cc.seed(1)
    fit(net, pairs, optimizer=sgd(net), epochs=2, progress=False)
    cc.seed(1)
    batches = OwnLoader(DATASET, 9) if kind == "own loader" else Loader()
    history = fit(again, batches, pairs[:1], optimizer=sgd(again), epochs=2, progress=False)
    assert bits(net) == bits(again)
    assert history.rows[1].test_accuracy is not None
    assert history.rows[1].train_accuracy == evaluate(net, pairs).accuracy


def test_a_regression_has_no_accuracy() -> None:
    x = RNG.standard_normal((40, 5)).astype(np.float32)
    y = x @ np.ones((5, 1), np.float32)
    net = nn.Linear(5, 1)
    batches = data.DataLoader(data.ArrayDataset(x, y), 10)
    history = fit(
        net,
        batches,
        batches,
        optimizer=optim.SGD(net.parameters(), 0.1),
        loss=cc.ops.mse_loss,
        epochs=20,
        progress=False,
    )
    assert history.rows[0].train_accuracy is None
    assert history.rows[0].test_accuracy is None
    found = evaluate(net, batches, loss=cc.ops.mse_loss)
    assert found.accuracy is None
    assert found.loss < 1e-3


def test_the_notebooks_loss_is_one_per_image() -> None:
    net, again = small_net(), small_net()

    def each(out: Any, y: Any) -> cc.Tensor:
        return cc.ops.cross_entropy(out, y, reduction="none")

    cc.seed(1)
    one = fit(net, loader(10), optimizer=sgd(net, 0.01), loss=each, progress=False)
    cc.seed(1)
    ten = fit(again, loader(10), optimizer=sgd(again, 0.1), progress=False)
    assert one.losses == pytest.approx(ten.losses, rel=1e-4)  # a sum of ten: ten times the gradient


def test_the_train_accuracy_is_that_of_the_images_as_they_are() -> None:
    seen = []

    def blank(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(len(images))
        return np.zeros_like(images)

    net = small_net()
    history = fit(net, loader(20, augment=blank), optimizer=sgd(net), progress=False)
    assert seen == [20, 20, 10]  # in training only
    assert history.rows[0].train_accuracy == evaluate(net, loader()).accuracy


def test_the_train_accuracy_is_of_what_the_transforms_give() -> None:
    def dark(image: np.ndarray) -> np.ndarray:
        return image - 0.5

    def wrong(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images * 2, (labels + 1) % 3

    net = small_net()
    batches = loader(transform=dark, batch_transform=wrong)
    history = fit(net, batches, optimizer=sgd(net), epochs=3, progress=False)
    answers = net(cc.tensor(IMAGES / np.float32(255) * 2 - 1)).numpy().argmax(1)
    assert history.rows[-1].train_accuracy == (answers == (LABELS + 1) % 3).mean()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_advice(bad: float) -> None:
    net = small_net()
    states = [bits(net)]

    def loss(out: Any, y: Any) -> cc.Tensor:
        value = cc.ops.cross_entropy(out, y)
        return value * bad if len(states) == 3 else value

    message = rf"the loss became {bad} in epoch 0, batch 2; try a learning rate smaller than 0.05, "
    with pytest.raises(FloatingPointError, match=message + "for instance 0.005, unless"):
        fit(
            net,
            loader(),
            optimizer=sgd(net),
            loss=loss,
            progress=False,
            callbacks=[lambda now: states.append(bits(net))],
        )
    weights = {k: v for k, v in bits(net).items() if "running" not in k}
    assert weights.items() <= states[-1].items()


def test_a_learning_rate_that_is_far_too_large_is_noticed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 10), nn.Tanh(), nn.Linear(10, 3))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="smaller than 1e\\+38"):
        fit(net, loader(), optimizer=sgd(net, 1e38), epochs=5, progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train_loader": iter([])}, TypeError, "train_loader must be iterable again and again"),
        ({"train_loader": 5}, TypeError, "fit: train_loader must be iterable, got int"),
        ({"test_loader": zip()}, TypeError, "test_loader must be iterable again and again"),
        ({"train_loader": []}, ValueError, "fit: train_loader has no batches"),
        ({"epochs": -1}, ValueError, "fit: epochs must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "fit: epochs"),
        ({"optimizer": "sgd"}, TypeError, "fit: optimizer must be an Optimizer, got str"),
        ({"callbacks": 5}, TypeError, "fit: callbacks must be functions, got 5"),
    ],
    ids=str,
)
def test_mistakes(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    net = small_net()
    with pytest.raises(error, match=message):
        fit(net, **{"train_loader": loader(), "optimizer": sgd(net), **arguments})


def test_no_epoch_changes_nothing() -> None:
    net = small_net()
    before = bits(net)
    assert fit(net, loader(), optimizer=sgd(net), epochs=0).rows == []
    assert bits(net) == before


# ------------------------------------------------------------------ evaluate and predict


def test_evaluate_weighs_images_not_batches() -> None:
    net = small_net()
    whole = evaluate(net, [(IMAGES / np.float32(255), LABELS)])
    parts = evaluate(net, loader(7))
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    each = evaluate(net, loader(7), loss=lambda o, y: cc.ops.cross_entropy(o, y, reduction="none"))
    assert each.loss == pytest.approx(whole.loss, rel=1e-6)
    right = predict(net, IMAGES).argmax(axis=1) == LABELS
    assert whole.accuracy == right.mean()
    assert all(map(math.isnan, evaluate(net, [])))  # type: ignore[arg-type]


def test_evaluation_changes_nothing_even_in_training_mode() -> None:
    net = small_net()
    expected, before = evaluate(net, loader()), bits(net)
    with cc.record():
        assert evaluate(net, loader()) == expected
        predict(net, IMAGES)
    assert bits(net) == before


def test_predict_gives_probabilities() -> None:
    net = small_net()
    probabilities = predict(net, IMAGES, batch_size=7)
    assert probabilities.shape == (50, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    logits = net(cc.tensor(IMAGES / np.float32(255))).numpy()
    np.testing.assert_allclose(
        probabilities, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-5
    )
    same = predict(net, cc.tensor(IMAGES / np.float32(255)))
    np.testing.assert_allclose(same, probabilities, rtol=1e-5)
    assert predict(net, IMAGES[:0]).shape == (0, 3)
    assert predict(net.astype("float64"), IMAGES[:2]).dtype == np.float64


def test_mistakes_in_predict() -> None:
    net = small_net()
    for images, error, message in [
        (np.zeros((2, 1, 6, 6), int), TypeError, "images must be uint8, float32 or float64"),
        (np.zeros(6, np.float32), ValueError, r"shape \(n, C, H, W\), got \(6,\)"),
        (np.zeros((2, 3, 6, 6), np.uint8), ValueError, "3 channels"),
    ]:
        with pytest.raises(error, match=message):
            predict(net, images)
    with pytest.raises(ValueError, match="predict: batch_size must be at least 1"):
        predict(net, IMAGES, batch_size=0)


def test_an_epoch_has_the_columns_of_the_file() -> None:
    assert Epoch._fields == (
        "epoch", "loss", "train_accuracy", "test_accuracy", "learning_rate", "seconds",
        "images_per_second",
    )  # fmt: skip
