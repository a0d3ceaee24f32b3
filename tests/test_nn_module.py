"""Module: what is inside, state, description, and where an error came from."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

import cyconv as cc
from cyconv import nn


class Twice(nn.Module):
    """A net of one's own: attributes only, one layer used twice, a list, a private tensor."""

    def __init__(self, width: int = 3):
        self.width = width
        self.first = nn.Linear(width, width)
        self.again = self.first
        self.rest = [nn.ReLU(), nn.Linear(width, 2, bias=False)]
        self.offset = cc.zeros(2)
        self._last = cc.zeros(5)

    def forward(self, x: Any) -> Any:
        x = self.again(self.first(x))
        for layer in self.rest:
            x = layer(x)
        return x + self.offset


def test_what_is_in_dicts_and_nested_lists_belongs_to_the_module() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            self.heads = {"a": nn.Linear(3, 2), "b": [nn.Parameter([1.0]), (nn.Linear(2, 1),)]}
            self.names = {"a": "left"}

    net = Nested()
    names = [
        "heads.a.weight",
        "heads.a.bias",
        "heads.b.0",
        "heads.b.1.0.weight",
        "heads.b.1.0.bias",
    ]
    assert sorted(name for name, _ in net.named_parameters()) == sorted(names)
    assert sorted(net.state_dict()) == sorted(names) and net.num_parameters() == 12
    again = Nested()
    again.load_state_dict(net.state_dict())
    assert again.heads["a"].weight.tolist() == net.heads["a"].weight.tolist()


def test_parameters_buffers_children() -> None:
    net = Twice()
    assert [name for name, _ in net.named_parameters()] == [
        "first.weight",
        "first.bias",
        "rest.1.weight",
    ]
    assert [p.shape for p in net.parameters()] == [(3, 3), (3,), (2, 3)]
    assert [name for name, _ in net.named_buffers()] == ["offset"]
    assert [name for name, _ in net.named_children()] == ["first", "again", "rest.0", "rest.1"]
    assert next(iter(net.children())) is net.first
    assert [name for name, _ in net.named_modules()] == ["", "first", "rest.0", "rest.1"]
    assert len(list(net.modules())) == 4
    assert net.num_parameters() == 9 + 3 + 6
    assert sorted(net.state_dict()) == [
        "again.bias", "again.weight", "first.bias", "first.weight", "offset", "rest.1.weight",
    ]  # fmt: skip


def test_it_computes_and_trains() -> None:
    net = Twice()
    x = cc.randn(4, 3)
    w, b = net.first.weight.numpy(), net.first.bias.numpy()
    hidden = np.maximum((x.numpy() @ w.T + b) @ w.T + b, 0)
    np.testing.assert_allclose(
        net(x).numpy(), hidden @ net.rest[1].weight.numpy().T, rtol=1e-5, atol=1e-6
    )
    with cc.record():
        loss = net(x).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_parameter() -> None:
    with pytest.raises(TypeError, match="float32 or float64"):
        nn.Parameter(cc.zeros(2, dtype="int64"))
    assert nn.Parameter([1, 2]).dtype == "float32"
    array = np.zeros(2)
    param = nn.Parameter(array)
    assert (param.dtype, param.grad) == ("float64", None)
    assert isinstance(param, cc.Tensor)
    for _ in range(2):
        with cc.record():
            out = (param * 3).sum()
        out.backward()
    assert param.grad.tolist() == [3, 3]  # overwritten, not added
    plain = cc.ones(2)
    shared = nn.Parameter(plain)
    with cc.record():
        out = (shared * shared).sum()
    with pytest.raises(RuntimeError, match="graph still needs"):
        plain[...] = 0
    out.backward()
    param.attach_grad("add")
    for _ in range(2):
        with cc.record():
            out = (param * 3).sum()
        out.backward()
    assert param.grad.tolist() == [6, 6]


def test_state_dict_is_a_copy_and_loads() -> None:
    net, other = Twice(), Twice()
    state = net.state_dict()
    assert all(type(a) is np.ndarray for a in state.values())
    other.load_state_dict(state)
    x = cc.randn(2, 3)
    np.testing.assert_array_equal(net(x).numpy(), other(x).numpy())
    net.first.weight[...] = 0
    assert state["first.weight"].any()
    assert other.first.weight.numpy().any()


def test_load_state_dict_keeps_dtype_and_memory() -> None:
    layer = nn.Linear(2, 3)
    array = layer.weight.data
    layer.load_state_dict({"weight": np.ones((3, 2)), "bias": [1, 2, 3]})
    assert layer.weight.data is array
    assert layer.weight.dtype == layer.bias.dtype == "float32"
    assert layer.bias.tolist() == [1, 2, 3]
    layer.load_state_dict({"weight": cc.zeros(3, 2), "bias": cc.zeros(3)})
    assert not layer.weight.numpy().any()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "load_state_dict: missing: weight, bias$"),
        ({"weight": np.ones((3, 2))}, "load_state_dict: missing: bias$"),
        (
            {"weight": np.ones((3, 2)), "bias": np.ones(3), "scale": 1, "b": 2},
            "load_state_dict: unexpected: scale, b$",
        ),
        (
            {"weight": np.ones((2, 3)), "bias": np.ones(3)},
            r"another shape: weight \(2, 3\) where the net has \(3, 2\)$",
        ),
        (
            {"weight": np.ones((2, 3)), "x": 1},
            "missing: bias; unexpected: x; of another shape: weight",
        ),
        ({"weight": [["a"]], "bias": np.ones(3)}, "weight must be an array of numbers"),
        ([1, 2], "state must be a dict, got list"),
        (None, "state must be a dict"),
    ],
)
def test_load_state_dict_says_what_is_wrong_and_changes_nothing(state: Any, message: str) -> None:
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        layer.load_state_dict(state)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_not_strict() -> None:
    layer = nn.Linear(2, 3)
    layer.load_state_dict({"bias": np.ones(3), "more": 5}, strict=False)
    assert layer.bias.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="another shape"):
        layer.load_state_dict({"bias": np.ones(4)}, strict=False)


def test_many_missing_names_are_counted() -> None:
    with pytest.raises(ValueError, match=r"missing: 0\.weight, .* and 102 more$"):
        nn.models.resnet20().load_state_dict({})


def test_load_state_dict_during_recording_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = net.state_dict()
    with cc.record():
        loss = net[1](cc.ones(1, 2)).sum()  # the first layer's weights are free
    with pytest.raises(RuntimeError, match="graph still needs"):
        net.load_state_dict({name: array + 1 for name, array in before.items()})
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    loss.backward()


def test_astype_and_to() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert net.astype("float64") is net
    assert {a.dtype.name for a in net.state_dict().values()} == {"float64"}
    assert net(cc.zeros(2, 1, 5, 5, dtype="float64")).dtype == "float64"
    assert net.to("cpu") is net
    with pytest.raises(TypeError, match="float32 or float64"):
        net.astype("int64")
    with pytest.raises(TypeError, match="dtype"):
        net.astype("complex")
    with pytest.raises(ValueError, match="device"):
        net.to("moon")


def test_deepcopy_is_independent() -> None:
    net = nn.models.lenet_bn()
    twin = copy.deepcopy(net)
    twin[0].weight[...] = 0
    assert net[0].weight.numpy().any()
    assert isinstance(twin[0].weight, nn.Parameter)
    with cc.record():
        loss = twin(cc.ones(2, 1, 28, 28)).sum()
    loss.backward()
    assert twin[0].weight.grad is not None
    assert net[0].weight.grad is None


# ------------------------------------------------------------------ description


def test_repr_is_a_tree() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 20, kernel_size=3, padding=((1, 0), (2, 2)), bias=False),
        nn.Residual(nn.Sequential(nn.MaxPool2d(2, stride=1)), activation=nn.ReLU()),
        nn.LayerNorm((2, 3)),
        nn.Dropout(0.25),
        nn.Sequential(),
    )
    assert (
        repr(net)
        == """Sequential(
  (0): Conv2d(1, 20, kernel_size=3, padding=((1, 0), (2, 2)), bias=False)
  (1): Residual(
    (body): Sequential(
      (0): MaxPool2d(kernel_size=2, stride=1)
    )
    (activation): ReLU()
  )
  (2): LayerNorm((2, 3))
  (3): Dropout(p=0.25)
  (4): Sequential()
)"""
    )


def test_repr_of_ones_own_modules() -> None:
    assert repr(Twice()).startswith("Twice(\n  (first): Linear(3, 3)\n  (again): Linear(3, 3)\n")

    class Plain(nn.Module):
        def __init__(self, thing: object):
            self.kept = thing

    assert repr(Plain(object())) == "Plain()"
    with pytest.raises(TypeError, match=r"config: Plain: thing is an argument"):
        Plain(1).config()


def test_config_holds_only_what_json_holds() -> None:
    layer = nn.Conv2d(np.int64(4), 8, (np.int32(3), 1), groups=2, bias=False)
    config = layer.config()
    assert config == {
        "type": "Conv2d", "in_channels": 4, "out_channels": 8, "kernel_size": [3, 1], "stride": 1,
        "padding": 0, "dilation": 1, "groups": 2, "bias": False, "algo": "auto",
    }  # fmt: skip
    assert json.loads(json.dumps(config)) == config
    assert Twice(5).config() == {"type": "Twice", "width": 5}

    class Odd(nn.Module):
        def __init__(self, thing: object):
            self.thing = thing

    with pytest.raises(TypeError, match="thing is a set"):
        Odd({1}).config()


# ------------------------------------------------------------------ where an error came from


def test_errors_name_the_layer() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1))
    net = nn.Sequential(nn.ReLU(), nn.Residual(nn.Sequential(inner)))
    with pytest.raises(ValueError, match=r"^layer 1\.body\.0\.1: conv2d: input has 3 channels"):
        net(cc.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"^layer 0: conv2d: input has 3 channels"):
        nn.Sequential(nn.Conv2d(1, 1, 1))(cc.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"^conv2d: input has 3 channels"):
        nn.Conv2d(1, 1, 1)(cc.zeros(1, 3, 2, 2))


def test_errors_keep_their_cause() -> None:
    try:
        nn.Sequential(nn.Sequential(nn.Linear(2, 2)))(cc.zeros(1, 3))
    except ValueError as error:
        assert str(error.__cause__).startswith("linear: ")
    else:
        pytest.fail("no error")


def test_a_module_without_forward() -> None:
    with pytest.raises(RuntimeError, match="Module does not define forward"):
        nn.Module()(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), cc.ops.relu), "layer 1 must be a Module"),
        (lambda: nn.Sequential([nn.ReLU()]), "layer 0 must be a Module"),
        (lambda: nn.Residual(None), "body must be a Module"),
        (lambda: nn.Residual(nn.ReLU(), shortcut=1), "shortcut must be a Module"),
        (lambda: nn.Residual(nn.ReLU(), activation="relu"), "activation must be a Module"),
    ],
)
def test_containers_take_modules_only(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_sequential_is_a_sequence() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3
    assert [type(layer).__name__ for layer in net] == ["Linear", "ReLU", "Linear"]
    assert net[-1] is net.layers[2]
    assert net[:2].state_dict().keys() == {"0.weight", "0.bias"}
    assert net[:2][0] is net[0]
    many = nn.Sequential(*(nn.ReLU() for _ in range(12)))
    assert [name for name, _ in many.named_children()] == [str(i) for i in range(12)]
    x = cc.ones(1)
    assert nn.Sequential()(x) is x


def test_residual() -> None:
    x = cc.tensor([[-2.0, 1.0]])
    assert nn.Residual(nn.Identity())(x).tolist() == [[-4, 2]]
    assert nn.Residual(nn.ReLU(), nn.Identity(), nn.ReLU())(x).tolist() == [[0, 2]]
    with pytest.raises(ValueError, match=r"body gives shape \(1, 3\) but the shortcut \(1, 2\)"):
        nn.Residual(nn.Linear(2, 3))(x)


def test_keywords_reach_forward_and_children_in_lists_their_name() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.blocks = [nn.Linear(3, 2)]

        def forward(self, x: Any, scale: float = 1.0) -> Any:
            return self.call_child("blocks.0", x) * scale

    layer = Scaled()
    twice = layer(cc.ones(4, 3), scale=2.0).numpy()
    np.testing.assert_array_equal(twice, 2 * layer(cc.ones(4, 3)).numpy())
    with pytest.raises(ValueError, match=r"layer blocks\.0: linear: input has 5 features"):
        layer(cc.ones(4, 5))
