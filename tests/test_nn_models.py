"""The ready-made nets, the summary table, and rebuilding from a config."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn
from cyconv.nn import models

# name, arguments, input, parameters (of the papers or counted by hand), multiply-adds per image
NETS = [
    ("lenet", {}, (2, 1, 28, 28), 129_068, 2_250_360),
    (
        "lenet",
        {"num_classes": 4, "in_channels": 3, "image_size": 32},
        (2, 3, 32, 32),
        186_254,
        None,
    ),
    ("lenet_bn", {}, (2, 1, 28, 28), 129_266, 2_250_360),
    ("vgg_small", {}, (2, 3, 32, 32), 1_148_874, 152_766_976),
    ("vgg_small", {"in_channels": 1}, (2, 1, 28, 28), 1_147_722, None),
    ("resnet20", {}, (2, 3, 32, 32), 272_474, 40_813_184),
    ("resnet20", {"num_classes": 100, "in_channels": 1}, (2, 1, 28, 28), 278_036, None),
]


@pytest.mark.parametrize(("name", "options", "shape", "count", "macs"), NETS)
def test_nets(name: str, options: Any, shape: Any, count: int, macs: int | None) -> None:
    cc.seed(0)
    net = getattr(models, name)(**options)
    assert net.num_parameters() == count
    with cc.record():
        logits = net(cc.randn(*shape))
        loss = cc.ops.cross_entropy(logits, np.zeros(shape[0], np.int64))
    assert logits.shape == (shape[0], options.get("num_classes", 10))
    assert math.isfinite(loss.item())
    loss.backward()
    for path, parameter in net.named_parameters():
        assert parameter.grad is not None, path
        assert np.isfinite(parameter.grad.numpy()).all(), path
    table = nn.summarize(net, shape)
    assert table.parameters == sum(row.parameters for row in table.rows) == count
    assert macs is None or table.macs == macs * shape[0]


@pytest.mark.parametrize("name", ["lenet", "lenet_bn", "vgg_small", "resnet20"])
def test_nets_are_rebuilt_from_their_config(name: str) -> None:
    net = getattr(models, name)()
    twin = nn.from_config(json.loads(json.dumps(net.config())))
    assert twin.config() == net.config()
    assert repr(twin) == repr(net)
    assert {k: a.shape for k, a in twin.state_dict().items()} == {
        k: a.shape for k, a in net.state_dict().items()
    }


def test_lenet_is_the_notebooks_net() -> None:
    assert (
        repr(models.lenet())
        == """Sequential(
  (0): Conv2d(1, 20, kernel_size=3)
  (1): ReLU()
  (2): AvgPool2d(kernel_size=2)
  (3): Conv2d(20, 50, kernel_size=5)
  (4): ReLU()
  (5): AvgPool2d(kernel_size=2)
  (6): Flatten()
  (7): Linear(800, 128)
  (8): ReLU()
  (9): Linear(128, 10)
)"""
    )


@pytest.mark.parametrize("size", range(14, 40))
def test_lenet_of_any_size(size: int) -> None:
    assert models.lenet(image_size=size)(cc.zeros(1, 1, size, size)).shape == (1, 10)


def test_a_small_net_learns() -> None:
    cc.seed(1)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    images = rng.standard_normal((64, 1, 14, 14)).astype(np.float32) * 0.3
    images[:, 0, 4:9, 4:9] += labels[:, None, None]
    net = models.lenet_bn(num_classes=2, image_size=14)
    optimizer = cc.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(15):
        with cc.record():
            loss = cc.ops.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    assert (net(images).argmax(axis=1).numpy() == labels).mean() > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.lenet(image_size=13), "image_size must be at least 14, got 13"),
        (lambda: models.lenet_bn(image_size="28"), "image_size must be an integer"),
        (lambda: models.lenet(num_classes=0), "out_features must be at least 1"),
        (lambda: models.vgg_small(in_channels=-3), "in_channels must be at least 1"),
        (lambda: models.resnet20(num_classes=None), "out_features must be an integer"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# ------------------------------------------------------------------ summary


def test_summary_prints_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, groups=1), nn.Residual(nn.ReLU()), nn.Flatten(), nn.Linear(200, 10)
    )
    assert net.summary((1, 7, 7)) is None
    assert (
        capsys.readouterr().out
        == """\
layer            output shape  parameters   MACs
------------------------------------------------
0       Conv2d   (1, 8, 5, 5)          80  1,800
1.body  ReLU     (1, 8, 5, 5)           0      0
2       Flatten  (1, 200)               0      0
3       Linear   (1, 10)            2,010  2,000
------------------------------------------------
total                               2,090  3,800
"""
    )


def test_summary_takes_the_batch_or_adds_it() -> None:
    net = nn.Linear(3, 2)
    assert nn.summarize(net, 3).rows[0].out_shape == (1, 2)
    assert nn.summarize(net, (5, 3)).rows[0].out_shape == (5, 2)
    assert nn.summarize(net, (5, 3)).macs == 30
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    assert nn.summarize(up, (4, 5, 5)).macs == 4 * 25 * 3 * 9


def test_summary_leaves_no_trace() -> None:
    net = nn.models.lenet_bn()
    before, attributes = net.state_dict(), [sorted(vars(m)) for m in net.modules()]
    random = cc.random.generator().bit_generator.state
    with cc.record():
        nn.summarize(net, (1, 28, 28))
    with pytest.raises(ValueError, match="layer 0: conv2d: input has 3 channels"):
        nn.summarize(net, (3, 28, 28))
    assert [sorted(vars(m)) for m in net.modules()] == attributes
    assert all((before[name] == array).all() for name, array in net.state_dict().items())
    assert cc.random.generator().bit_generator.state == random


def test_summary_of_a_shared_layer_and_of_float64() -> None:
    shared = nn.Linear(3, 3)
    table = nn.summarize(nn.Sequential(shared, nn.ReLU(), shared).astype("float64"), (2, 3))
    assert [(row.path, row.parameters, row.macs) for row in table.rows] == [
        ("0", 12, 36),
        ("1", 0, 0),
    ]
    assert (table.parameters, table.macs) == (12, 36)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4, 5), (0, 3), "ab", (1.5,), None])
def test_summary_of_no_shape(shape: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="summary: input_shape"):
        nn.summarize(nn.ReLU(), shape)


# ------------------------------------------------------------------ configs from elsewhere


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "net must be a dict"),
        ([], "net must be a dict"),
        ({}, "type None"),
        ({"type": 5}, "type 5"),
        ({"type": ["Linear"]}, "no layer of cyconv.nn"),
        ({"type": "Module"}, "no layer"),
        ({"type": "Parameter", "data": 1}, "no layer"),
        ({"type": "os.system"}, "no layer"),
        ({"type": "init"}, "no layer"),
        ({"type": "from_config"}, "no layer"),
        ({"type": "summarize", "net": 1}, "no layer"),
        ({"type": "__class__"}, "no layer"),
        ({"type": "x" * 1000}, r"\.\.\., no layer"),
        ({"type": "Linear"}, "in_features"),
        ({"type": "Linear", "in_features": 3, "out_features": -1}, "out_features must be"),
        ({"type": "Linear", "in_features": 3, "out_features": "3"}, "out_features must be"),
        ({"type": "Linear", "in_features": 3, "out_features": 3, "x": 1}, "'x'"),
        ({"type": "ReLU", "self": 1}, "ReLU"),
        ({"type": "ReLU", "": 1}, "net"),
        ({"type": "Dropout", "p": float("nan")}, "p must be finite"),
        ({"type": "Dropout", "p": 10**400}, "net"),
        (
            {"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": [[1, 1]]},
            "kernel",
        ),
        ({"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 10**30}, "kernel"),
        (
            {"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": [2**31 - 1] * 2},
            "net",
        ),
        ({"type": "Linear", "in_features": 2**31 - 1, "out_features": 2**31 - 1}, "net"),
        (
            {"type": "Linear", "in_features": 2**28, "out_features": 2**28},
            "does not fit into memory",
        ),
        ({"type": "Sequential", "layers": 5}, "must be an iterable"),
        ({"type": "Sequential", "layers": "ab"}, "layer 0 must be a Module"),
        ({"type": "Sequential", "layers": [5]}, "layer 0 must be a Module"),
        ({"type": "Sequential", "layers": [{"type": "No"}]}, r"net\.layers\.0 has type 'No'"),
        ({"type": "Sequential", "layers": [], "more": 1}, "more"),
        ({"type": "Residual", "body": None}, "body must be a Module"),
        ({"type": "ELU", "alpha": {"type": "ReLU"}}, "alpha must be a number"),
        ({"type": "Conv2d", "algo": {"a": []}}, r"net\.algo has type None"),
    ],
)
def test_from_config_refuses(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^from_config: .*{message}"):
        nn.from_config(config)


def test_from_config_refuses_endless_nesting() -> None:
    config: Any = {"type": "ReLU"}
    for _ in range(100_000):
        config = {"type": "Sequential", "layers": [config]}
    with pytest.raises(ValueError, match="nested too deeply"):
        nn.from_config(config)
    while isinstance(config, dict):  # taken apart by hand: a deep structure frees recursively
        config = config.get("layers", [None])[0]
