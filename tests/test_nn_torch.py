"""A net of most kinds of layers: weights read from PyTorch, trained to PyTorch's own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cyconv as cc
from cyconv import nn

with np.load(Path(__file__).parent / "recorded" / "optim.npz") as _file:
    RECORDED = {key: _file[key] for key in _file.files if key.startswith("net.")}


def state(which: str) -> dict[str, np.ndarray]:
    prefix = f"net.{which}."
    named = {k.removeprefix(prefix): a for k, a in RECORDED.items() if k.startswith(prefix)}
    return {k: a for k, a in named.items() if not k.endswith("num_batches_tracked")}


def net() -> nn.Sequential:
    return nn.Sequential(
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
    )


def test_names_and_shapes_are_pytorchs() -> None:
    assert {k: a.shape for k, a in net().state_dict().items()} == {
        k: a.shape for k, a in state("first").items()
    }


def test_training_ends_at_pytorchs_weights() -> None:
    model = net().astype("float64")
    model.load_state_dict(state("first"))
    optimizer = cc.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    losses = []
    for images, labels in zip(RECORDED["net.images"], RECORDED["net.labels"]):
        with cc.record():
            loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, RECORDED["net.losses"], rtol=1e-10)
    trained = model.state_dict()
    for name, expected in state("last").items():
        np.testing.assert_allclose(trained[name], expected, rtol=1e-8, atol=1e-10, err_msg=name)
    logits = model(RECORDED["net.images"][0])
    np.testing.assert_allclose(logits.numpy(), RECORDED["net.logits"], rtol=1e-8, atol=1e-10)
