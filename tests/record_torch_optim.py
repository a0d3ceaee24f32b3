"""Record from PyTorch, into `recorded/optim.npz`, what the tests of optim and nn compare with.

Only re-recording needs torch: `pip install torch==2.13.0`, then run this file.

"cases" is JSON: for each case the optimiser's class and arguments and the dtype. "start" and
"grads" are what all of them begin with and are given; "case.i" holds the parameter after each
step, in whose middle the learning rate is halved. "schedules" is JSON: class, arguments in
cyconv's words, and the learning rates before each step. "net.*" is one small net: its first
weights, the batches, the losses of a training by SGD, the last weights, and its logits outside of
training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler

STEPS = 12
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": [0.8, 0.99], "eps": 1e-3}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2}),
    ("AdamW", {"lr": 0.05, "betas": [0.5, 0.9], "weight_decay": 0.0}),
]


def trajectory(name: str, options: dict[str, Any], start: np.ndarray, grads: np.ndarray) -> Any:
    """The parameter after each step."""
    param = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = getattr(torch.optim, name)([param], **({"lr": 1e-3} | options))
    seen = []
    for i, grad in enumerate(grads):
        if i == STEPS // 2:
            optimizer.param_groups[0]["lr"] *= 0.5
        param.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        seen.append(param.detach().numpy().copy())
    return np.stack(seen)


def schedules() -> list[dict[str, Any]]:
    """Learning rates of each schedule."""
    recorded = []

    def add(name: str, options: dict[str, Any], make: Any, steps: int) -> None:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        schedule = make(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        recorded.append({"schedule": name, "options": options, "rates": rates})

    add("StepLR", {"step_size": 3}, lambda o: lr_scheduler.StepLR(o, 3), 12)
    add(
        "StepLR",
        {"step_size": 1, "gamma": 0.9},
        lambda o: lr_scheduler.StepLR(o, 1, gamma=0.9),
        12,
    )
    add(
        "MultiStepLR",
        {"milestones": [2, 5, 6], "gamma": 0.5},
        lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 6], gamma=0.5),
        10,
    )
    add("CosineLR", {"total_steps": 20}, lambda o: lr_scheduler.CosineAnnealingLR(o, 20), 20)
    add(
        "CosineLR",
        {"total_steps": 7, "min_lr": 0.01},
        lambda o: lr_scheduler.CosineAnnealingLR(o, 7, eta_min=0.01),
        8,
    )
    for total, fraction, div, final in ((20, 0.3, 25.0, 1e4), (33, 0.25, 10.0, 100.0)):
        add(
            "OneCycleLR",
            {
                "total_steps": total,
                "max_lr": 0.7,
                "warmup_fraction": fraction,
                "div_factor": div,
                "final_div_factor": final,
            },
            lambda o, t=total, p=fraction, d=div, f=final: lr_scheduler.OneCycleLR(
                o,
                0.7,
                total_steps=t,
                pct_start=p,
                div_factor=d,
                final_div_factor=f,
                cycle_momentum=False,
            ),
            total - 1,
        )
    return recorded


def net() -> dict[str, np.ndarray]:
    """A net with most kinds of layers, trained for six steps in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 1), padding=(1, 0), dilation=(1, 2), groups=4),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.GroupNorm(3, 6),
        nn.GELU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(6 * 16, 12),
        nn.LayerNorm(12),
        nn.Tanh(),
        nn.Linear(12, 7),
        nn.BatchNorm1d(7),
        nn.SiLU(),
        nn.Linear(7, 5, bias=False),
    ).double()
    out = {f"net.first.{k}": v.numpy().copy() for k, v in model.state_dict().items()}
    rng = np.random.default_rng(7)
    images = np.round(rng.standard_normal((6, 9, 2, 8, 8)) * 64) / 64
    labels = rng.integers(0, 5, (6, 9))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    losses = []
    for x, y in zip(images, labels):
        optimizer.zero_grad()
        loss = loss_of(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out |= {f"net.last.{k}": v.numpy().copy() for k, v in model.state_dict().items()}
    model.eval()
    out["net.logits"] = model(torch.from_numpy(images[0])).detach().numpy()
    return out | {"net.images": images, "net.labels": labels, "net.losses": np.array(losses)}


def main() -> None:
    rng = np.random.default_rng(2)
    start = np.round(rng.standard_normal((3, 4)) * 64) / 64
    grads = np.round(rng.standard_normal((STEPS, 3, 4)) * 64) / 64
    arrays: dict[str, np.ndarray] = {"start": start, "grads": grads}
    cases = []
    for dtype in ("float64", "float32"):
        for name, options in CASES:
            arrays[f"case.{len(cases)}"] = trajectory(
                name, options, start.astype(dtype), grads.astype(dtype)
            )
            cases.append({"optimizer": name, "options": options, "dtype": dtype})
    arrays["cases"] = np.array(json.dumps(cases))
    arrays["schedules"] = np.array(json.dumps(schedules()))
    np.savez_compressed(Path(__file__).parent / "recorded" / "optim.npz", **arrays, **net())


if __name__ == "__main__":
    main()
