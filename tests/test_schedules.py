"""Schedules: against values recorded from PyTorch, and against their documented formulas."""

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
    RECORDED = json.loads(str(_file["schedules"]))


def optimizer(lr: float = 0.4) -> optim.SGD:
    return optim.SGD([cc.nn.Parameter(cc.zeros(1))], lr)


def rates(schedule: optim.Schedule, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.lr)
        schedule.step()
    return seen


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["schedule"])
def test_rates_are_pytorchs(case: dict[str, Any]) -> None:
    schedule = getattr(optim, case["schedule"])(optimizer(), **case["options"])
    seen = rates(schedule, len(case["rates"]))
    np.testing.assert_allclose(seen, case["rates"], rtol=1e-12, atol=1e-17)


def test_cosine_with_warmup() -> None:
    schedule = optim.CosineLR(optimizer(0.8), total_steps=10, min_lr=0.1, warmup_steps=3)
    expected = [0.2, 0.4, 0.6]
    expected += [0.1 + 0.7 * (1 + math.cos(math.pi * (t - 3) / 7)) / 2 for t in range(3, 10)]
    expected += [0.1] * 5  # and it stays there
    np.testing.assert_allclose(rates(schedule, 15), expected, rtol=1e-14)


def test_one_cycle_peaks_once_and_ends_low() -> None:
    schedule = optim.OneCycleLR(optimizer(0.5), total_steps=100)
    seen = np.array(rates(schedule, 130))
    assert seen[0] == pytest.approx(0.5 / 25)
    assert seen.argmax() == 29
    assert seen.max() == pytest.approx(0.5)
    assert (np.diff(seen[:30]) > 0).all()
    assert (np.diff(seen[29:100]) < 0).all()
    np.testing.assert_allclose(seen[99:], 0.5 / 25 / 1e4, rtol=1e-12)


@pytest.mark.parametrize("total", [1, 2, 3, 4])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_one_cycle_of_any_length(total: int, fraction: float) -> None:
    schedule = optim.OneCycleLR(optimizer(), total, warmup_fraction=fraction)
    seen = rates(schedule, total + 3)
    assert all(0 < rate <= 0.4 * (1 + 1e-12) for rate in seen)
    assert seen[-1] == pytest.approx(0.4 / 25 / 1e4)


MAKERS = [
    lambda o: optim.StepLR(o, 2),
    lambda o: optim.MultiStepLR(o, [3, 1]),
    lambda o: optim.CosineLR(o, 9, warmup_steps=2),
    lambda o: optim.OneCycleLR(o, 9),
]


@pytest.mark.parametrize("make", MAKERS)
def test_resuming(make: Any) -> None:
    schedule = make(optimizer())
    rates(schedule, 4)
    resumed = make(optimizer(123.0))
    resumed.load_state_dict(schedule.state_dict())
    assert rates(resumed, 8) == rates(schedule, 8)


@pytest.mark.parametrize(
    "state",
    [{}, {"count": 1}, {"count": -1, "base_lr": 1.0}, {"count": 1, "base_lr": -1.0},
     {"count": 1.5, "base_lr": 1.0}, {"count": 1, "base_lr": 1.0, "x": 0},
     {"count": np.zeros(2), "base_lr": 1.0}, {"count": 1, "base_lr": "a"}, [1, 2], None],
)  # fmt: skip
def test_bad_state_changes_nothing(state: Any) -> None:
    schedule = optim.StepLR(optimizer(), 1)
    schedule.step()
    before = schedule.optimizer.lr, schedule.count, schedule.base_lr
    with pytest.raises((ValueError, TypeError), match="StepLR: load_state_dict"):
        schedule.load_state_dict(state)
    assert (schedule.optimizer.lr, schedule.count, schedule.base_lr) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.StepLR(o, 0), "step_size must be at least 1"),
        (lambda o: optim.StepLR(o, 1.5), "step_size must be an integer"),
        (lambda o: optim.StepLR(o, 1, gamma=-1), "gamma must be at least 0"),
        (lambda o: optim.MultiStepLR(o, 5), "milestones must be a list"),
        (lambda o: optim.MultiStepLR(o, [1, "a"]), "milestones must be an integer"),
        (lambda o: optim.CosineLR(o, 0), "total_steps must be at least 1"),
        (lambda o: optim.CosineLR(o, 5, min_lr=-1), "min_lr must be at least 0"),
        (lambda o: optim.CosineLR(o, 5, warmup_steps=5), "warmup_steps must be below"),
        (lambda o: optim.OneCycleLR(o, 5, max_lr=-1), "max_lr must be at least 0"),
        (lambda o: optim.OneCycleLR(o, 5, warmup_fraction=2), "warmup_fraction must be at most 1"),
        (lambda o: optim.OneCycleLR(o, 5, div_factor=0), "div_factor must be above 0, got 0"),
        (lambda o: optim.OneCycleLR(o, 5, final_div_factor=0), "final_div_factor must be above 0"),
        (lambda o: optim.StepLR(None, 1), "optimizer must be an Optimizer"),
        (lambda o: optim.StepLR(0.1, 1), "optimizer must be an Optimizer"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(optimizer())
