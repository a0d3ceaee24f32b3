"""Each layer: its op with its own arguments, its parameters, its config, its mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn, ops

IMAGES = (3, 4, 9, 8)
FEATURES = (5, 6)

# layer, its input's shape, and the same by ops
CASES: list[tuple[nn.Module, tuple[int, ...], Callable[[Any, Any], Any]]] = [
    (
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=2, groups=2),
        IMAGES,
        lambda m, x: ops.conv2d(
            x, m.weight, m.bias, stride=(2, 1), padding=((1, 0), (2, 1)), dilation=2, groups=2
        ),
    ),
    (
        nn.Conv2d(4, 5, 3, padding="same", bias=False, algo="im2col"),
        IMAGES,
        lambda m, x: ops.conv2d(x, m.weight, padding=1, algo="im2col"),
    ),
    (
        nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2),
        IMAGES,
        lambda m, x: ops.conv_transpose2d(
            x, m.weight, m.bias, stride=2, padding=1, output_padding=1, dilation=2, groups=2
        ),
    ),
    (nn.Linear(6, 7), FEATURES, lambda m, x: ops.linear(x, m.weight, m.bias)),
    (nn.Linear(6, 7, bias=False), FEATURES, lambda m, x: ops.linear(x, m.weight)),
    (
        nn.MaxPool2d(3, 2, (1, 0), 2, True),
        IMAGES,
        lambda m, x: ops.max_pool2d(x, 3, stride=2, padding=(1, 0), dilation=2, ceil_mode=True),
    ),
    (
        nn.AvgPool2d((3, 2), 2, 1, True, False),
        IMAGES,
        lambda m, x: ops.avg_pool2d(
            x, (3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False
        ),
    ),
    (nn.AvgPool2d(2), IMAGES, lambda m, x: ops.avg_pool2d(x, 2)),
    (nn.GlobalAvgPool2d(), IMAGES, lambda m, x: ops.global_avg_pool2d(x)),
    (nn.GlobalMaxPool2d(), IMAGES, lambda m, x: ops.global_max_pool2d(x)),
    (
        nn.BatchNorm2d(4, eps=0.1),
        IMAGES,
        lambda m, x: ops.batch_norm(x, m.weight, m.bias, m.running_mean, m.running_var, eps=0.1),
    ),
    (
        nn.BatchNorm1d(6, affine=False),
        FEATURES,
        lambda m, x: ops.batch_norm(x, None, None, m.running_mean, m.running_var),
    ),
    (
        nn.LayerNorm((9, 8), eps=0.1),
        IMAGES,
        lambda m, x: ops.layer_norm(x, (9, 8), m.weight, m.bias, eps=0.1),
    ),
    (nn.LayerNorm(6, affine=False), FEATURES, lambda m, x: ops.layer_norm(x, 6)),
    (
        nn.GroupNorm(2, 4, eps=0.1),
        IMAGES,
        lambda m, x: ops.group_norm(x, 2, m.weight, m.bias, eps=0.1),
    ),
    (nn.Dropout(0.3), IMAGES, lambda m, x: x),
    (nn.Flatten(), IMAGES, lambda m, x: ops.flatten(x)),
    (nn.ReLU(), IMAGES, lambda m, x: ops.relu(x)),
    (nn.LeakyReLU(0.2), IMAGES, lambda m, x: ops.leaky_relu(x, 0.2)),
    (nn.Sigmoid(), FEATURES, lambda m, x: ops.sigmoid(x)),
    (nn.Tanh(), FEATURES, lambda m, x: ops.tanh(x)),
    (nn.GELU(), FEATURES, lambda m, x: ops.gelu(x)),
    (nn.GELU("tanh"), FEATURES, lambda m, x: ops.gelu(x, "tanh")),
    (nn.Softplus(), FEATURES, lambda m, x: ops.softplus(x)),
    (nn.SiLU(), FEATURES, lambda m, x: ops.silu(x)),
    (nn.ELU(0.5), FEATURES, lambda m, x: ops.elu(x, 0.5)),
    (nn.Softmax(), FEATURES, lambda m, x: ops.softmax(x, -1)),
    (nn.Softmax(axis=1), IMAGES, lambda m, x: ops.softmax(x, 1)),
    (nn.Identity(), FEATURES, lambda m, x: x),
]
IDS = [repr(layer) for layer, _, _ in CASES]


def randomised(layer: nn.Module) -> nn.Module:
    """Every parameter and buffer random, so that each one's place in the op shows."""
    rng = np.random.default_rng(3)
    state = layer.state_dict()
    layer.load_state_dict({name: rng.uniform(0.5, 2, a.shape) for name, a in state.items()})
    return layer


@pytest.mark.parametrize(("layer", "shape", "by_ops"), CASES, ids=IDS)
def test_a_layer_is_its_op(layer: nn.Module, shape: tuple[int, ...], by_ops: Any) -> None:
    layer = randomised(layer)
    x = cc.tensor(np.random.default_rng(1).standard_normal(shape))
    out = layer(x)
    np.testing.assert_array_equal(out.numpy(), by_ops(layer, x).numpy())
    assert layer(x.numpy()).shape == out.shape  # arrays are taken too
    rebuilt = nn.from_config(json.loads(json.dumps(layer.config())))
    assert type(rebuilt) is type(layer)
    assert (rebuilt.config(), repr(rebuilt)) == (layer.config(), repr(layer))
    rebuilt.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(rebuilt(x).numpy(), out.numpy())


@pytest.mark.parametrize(("layer", "shape", "by_ops"), CASES, ids=IDS)
def test_gradients_reach_every_parameter(layer: Any, shape: tuple[int, ...], by_ops: Any) -> None:
    layer.zero_grad()
    x = cc.tensor(np.random.default_rng(1).standard_normal(shape)).attach_grad()
    with cc.record():
        loss = (layer(x) * cc.randn(*layer(x).shape)).sum()
    loss.backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape
        assert parameter.grad.numpy().any(), name
    assert x.grad.shape == x.shape


def test_the_algorithm_reaches_the_op() -> None:
    layer = nn.Conv2d(1, 1, 1, algo="im2col")
    layer.algo = "fft"
    with pytest.raises(ValueError, match="conv2d: algo must be one of"):
        layer(cc.zeros(1, 1, 2, 2))


def test_every_layer_is_tested_here() -> None:
    modules = {
        name for name in nn.__all__
        if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }  # fmt: skip
    losses = {"CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss"}
    containers = {"Module", "Sequential", "Residual"}
    assert modules == {type(layer).__name__ for layer, _, _ in CASES} | losses | containers


def test_losses() -> None:
    logits, labels = cc.randn(4, 3), np.array([0, 2, 1, 1])
    assert nn.CrossEntropyLoss()(logits, labels).item() == ops.cross_entropy(logits, labels).item()
    smoothed = nn.CrossEntropyLoss(0.2, "none")
    np.testing.assert_array_equal(
        smoothed(logits, labels).numpy(),
        ops.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none").numpy(),
    )
    target = cc.tensor(np.random.default_rng(0).random((4, 3)))
    for reduction in ("mean", "sum"):
        assert (
            nn.MSELoss(reduction)(logits, target).item()
            == ops.mse_loss(logits, target, reduction=reduction).item()
        )
        assert (
            nn.BCEWithLogitsLoss(reduction)(logits, target).item()
            == ops.binary_cross_entropy_with_logits(logits, target, reduction=reduction).item()
        )
    assert nn.from_config(smoothed.config()).config() == smoothed.config()


def test_batch_norm_moves_its_statistics_in_training_only() -> None:
    layer = nn.BatchNorm2d(2, momentum=0.25)
    x = cc.tensor(np.random.default_rng(0).standard_normal((8, 2, 3, 3)) * 3 + 1)
    layer(x)
    with cc.record(train=False):
        layer(x)
    assert layer.running_mean.tolist() == [0, 0]
    with cc.record():
        layer(x)
    mean = x.numpy().mean(axis=(0, 2, 3))
    var = x.numpy().var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.75 + 0.25 * var, rtol=1e-5)
    assert {name for name, _ in layer.named_buffers()} == {"running_mean", "running_var"}


def test_dropout_drops_in_training_only() -> None:
    layer, x = nn.Dropout(0.25), cc.ones(40, 50)
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())
    with cc.record():
        dropped = layer(x).numpy()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((dropped == 0).mean() - 0.25) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels must be at least 1"),
        (lambda: nn.Conv2d(1, 2.5, 3), "Conv2d: out_channels must be an integer"),
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: kernel_size must be at least 1"),
        (lambda: nn.Conv2d(1, 1, (1, 2, 3)), "Conv2d: kernel_size must be"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), "stride must be at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "padding must be at least 0"),
        (lambda: nn.Conv2d(1, 1, 3, padding="all"), "padding must be 'same', 'valid', an integer"),
        (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), "'same' needs stride 1"),
        (lambda: nn.Conv2d(1, 1, 3, dilation=0), "Conv2d: dilation must be at least 1"),
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "do not both split into groups=4"),
        (lambda: nn.Conv2d(4, 6, 3, groups=0), "Conv2d: groups must be at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, bias="no"), "Conv2d: bias must be True or False"),
        (lambda: nn.Conv2d(1, 1, 3, algo="fft"), "Conv2d: algo must be one of"),
        (lambda: nn.ConvTranspose2d(4, 6, 3, groups=4), "do not both split into groups=4"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=1), "output_padding must be smaller"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, stride="a"), "stride must be an integer"),
        (lambda: nn.Linear(0, 1), "Linear: in_features must be at least 1"),
        (lambda: nn.Linear(1, True), "Linear: out_features must be an integer"),
        (lambda: nn.Linear(1, 1, bias=2), "Linear: bias must be True or False"),
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size must be at least 1"),
        (lambda: nn.MaxPool2d(2, padding=2), "MaxPool2d: padding must be at most half"),
        (lambda: nn.MaxPool2d(2, stride=0), "MaxPool2d: stride must be at least 1"),
        (lambda: nn.MaxPool2d(2, ceil_mode="up"), "MaxPool2d: ceil_mode must be True or False"),
        (lambda: nn.AvgPool2d(2, padding=2), "AvgPool2d: padding must be at most half"),
        (lambda: nn.AvgPool2d(2, count_include_pad=3), "count_include_pad must be True or"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be at least 1"),
        (lambda: nn.BatchNorm1d(2, eps=0), "BatchNorm1d: eps must be above 0, got 0"),
        (lambda: nn.BatchNorm2d(2, momentum=1.5), "BatchNorm2d: momentum must be at most 1"),
        (lambda: nn.LayerNorm(()), "normalized_shape must name at least one axis"),
        (lambda: nn.LayerNorm((3, "a")), "normalized_shape must be an integer"),
        (lambda: nn.LayerNorm(3, eps=float("nan")), "LayerNorm: eps must be finite"),
        (lambda: nn.GroupNorm(3, 4), "4 channels do not split into num_groups=3"),
        (lambda: nn.Dropout(1.5), "Dropout: p must be at most 1"),
        (lambda: nn.Dropout("a"), "Dropout: p must be a number"),
        (lambda: nn.LeakyReLU(None), "negative_slope must be a number"),
        (lambda: nn.ELU(float("inf")), "alpha must be finite"),
        (lambda: nn.GELU("erf"), "approximate must be 'none' or 'tanh'"),
        (lambda: nn.Softmax(1.0), "Softmax: axis must be an integer"),
        (lambda: nn.CrossEntropyLoss(2), "label_smoothing must be at most 1"),
        (lambda: nn.MSELoss("max"), "MSELoss: reduction must be 'mean', 'sum' or 'none'"),
        (lambda: nn.BCEWithLogitsLoss(None), "BCEWithLogitsLoss: reduction must be"),
        (lambda: nn.BatchNorm2d(2)(cc.zeros(3, 2)), r"must have shape \(N, 2, H, W\)"),
        (lambda: nn.BatchNorm1d(2)(cc.zeros(3, 2, 1, 1)), r"must have shape \(N, 2\)"),
        (lambda: nn.BatchNorm2d(2)(cc.zeros(1, 3, 2, 2)), r"\(N, 2, H, W\), got \(1, 3"),
        (lambda: nn.GroupNorm(2, 4)(cc.zeros(1, 6, 2, 2)), r"must have shape \(N, 4"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
