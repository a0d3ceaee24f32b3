"""``gluon.nn``: layers; those without parameters are made by functions."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from cyconv import is_training, ops
from cyconv.autograd import Array
from cyconv.geometry import pair
from cyconv.ops.norm import BatchNormTraining
from cyconv.tensor import Tensor, apply

from ..ndarray import NDArray, Pooling, flatten, nd, relu, sigmoid, tanh
from .block import Block


class Sequential(Block):
    def add(self, *blocks: Block) -> None:
        for block in blocks:
            setattr(self, str(len(self)), block)

    def forward(self, x: Any) -> Any:
        for block in self:
            x = block(x)
        return x

    def __len__(self) -> int:
        return len(self._children())

    def __iter__(self) -> Iterator[Block]:
        return iter(self._children().values())

    def __getitem__(self, key: int) -> Block:
        return list(self)[key]


class Layer(Block):
    """A function, and how it is shown."""

    def __init__(self, words: str, function: Callable[..., NDArray], **how: Any):
        self.hint = how.pop("hint", words.partition("(")[0].lower())
        super().__init__(**how)
        self._words, self.forward = words, function  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return self._words


def Activation(activation: str, **how: Any) -> Layer:
    known = {"relu": relu, "sigmoid": sigmoid, "tanh": tanh}
    if activation not in known:
        raise ValueError(f"activation must be 'relu', 'sigmoid' or 'tanh', got {activation!r}")
    return Layer(f"Activation({activation})", known[activation], hint=activation, **how)


Flatten = partial(Layer, "Flatten", flatten)


def Dropout(rate: float, **how: Any) -> Layer:
    return Layer(f"Dropout(p = {rate}, axes=())", nd(lambda x: ops.dropout(x, rate)), **how)


def _pool(kind: str, size: Any = 2, strides: Any = None, padding: Any = 0, **how: Any) -> Layer:
    size, pad = pair("pool_size", how.pop("pool_size", size), 1), pair("padding", padding, 0)
    stride = size if strides is None else pair("strides", strides, 1)
    ceil_mode = how.pop("ceil_mode", False)
    own = {name: how.pop(name) for name in {"prefix", "params"} & how.keys()}
    words = f"{size=}, {stride=}, padding={pad}, {ceil_mode=}, global_pool=False, pool_type={kind}"
    how.update(stride=stride, pad=pad, pooling_convention="full" if ceil_mode else "valid")
    pool = partial(Pooling, kernel=size, pool_type=kind, **how)
    return Layer(f"{kind.title()}Pool2D({words}, layout=NCHW)", pool, hint="pool", **own)


MaxPool2D, AvgPool2D = partial(_pool, "max"), partial(_pool, "avg")


class _Weighted(Block):
    """An op of the input, a weight (units, inputs, ...) and a bias, then an activation."""

    def __init__(self, function: Callable[..., Tensor], shape: Any, groups: int = 1, **how: Any):
        activation, use_bias = how.pop("activation", None), how.pop("use_bias", True)
        weight, bias = how.pop("weight_initializer", None), how.pop("bias_initializer", "zeros")
        wait = {"dtype": how.pop("dtype", np.float32), "allow_deferred_init": True}
        super().__init__(**how)
        self._function, self._groups = nd(function), groups
        self.weight = self.params.get("weight", shape=shape, init=weight, **wait)
        self.bias = self.params.get("bias", shape=shape[0], init=bias, **wait) if use_bias else None
        self.act = activation and Activation(activation, prefix="")

    def forward(self, x: Any) -> Any:
        out = self._function(x, *self._settled(x.shape[1] // self._groups))
        return self.act(out) if self.act else out

    def __repr__(self) -> str:
        units, inputs, *_ = self.weight.shape
        return f"{type(self).__name__}({inputs or None} -> {units}, {self._words()})"

    def _words(self) -> str:
        return str(self.act or "linear")


class Dense(_Weighted):
    """x @ weight.T + bias; without ``flatten`` along the last axis of x."""

    def __init__(self, units: int, activation: Any = None, *, flatten: bool = True, **how: Any):
        how.setdefault("dtype", "float32")
        super().__init__(ops.linear, (units, how.pop("in_units", 0)), activation=activation, **how)
        self._flatten = flatten

    def forward(self, x: Any) -> Any:
        out = super().forward(flatten(x) if self._flatten else x.reshape((-1, x.shape[-1])))
        return out if self._flatten else out.reshape((*x.shape[:-1], -1))


class Conv2D(_Weighted):
    """See ``cyconv.ops.conv2d``. Also ``dilation``, ``groups`` and ``in_channels``."""

    hint = "conv"

    def __init__(
        self, channels: int, kernel_size: Any, strides: Any = 1, padding: Any = 0, **how: Any
    ):
        groups, dilation = how.pop("groups", 1), pair("dilation", how.pop("dilation", 1), 1)
        stride, padding = pair("strides", strides, 1), pair("padding", padding, 0)
        self._how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = channels, how.pop("in_channels", 0) // groups, *pair("kernel_size", kernel_size, 1)
        super().__init__(partial(ops.conv2d, **self._how), shape, groups, **how)

    def _words(self) -> str:
        usual = {"padding": (0, 0), "dilation": (1, 1), "groups": 1, "bias": True}
        told = {"kernel_size": self.weight.shape[2:], **self._how, "bias": bool(self.bias)}
        words = [f"{name}={value}" for name, value in told.items() if value != usual.get(name)]
        return ", ".join([*words, str(self.act)] if self.act else words)


class _Training(BatchNormTraining):
    """Going backward also moves the running statistics, of which the variance is the biased one:
    r = momentum * r + (1 - momentum) * the batch's."""

    def __init__(self, eps: float, momentum: float, running: list[NDArray]):
        super().__init__(eps, False, None, 1 - momentum)
        self.moved = running

    def backward(self, dout: Array) -> tuple[Array, ...]:
        for kept, batch in zip(self.moved, (self.mean, self.var)):
            kept.tensor.data[...] += self.momentum * (batch - kept.tensor.data)
        return super().backward(dout)


class BatchNorm(Block):
    """Over all axes but 1; ``center=False`` leaves beta at 0, ``scale=False`` gamma at 1."""

    def __init__(self, axis: int = 1, momentum: float = 0.9, epsilon: float = 1e-5, **how: Any):
        trained = {"gamma": how.pop("scale", True), "beta": how.pop("center", True)}
        wait = {"shape": how.pop("in_channels", 0), "allow_deferred_init": True}
        super().__init__(**how)
        if axis != 1:
            raise ValueError(f"BatchNorm: axis must be 1, got {axis!r}")
        self._momentum, self._epsilon = momentum, epsilon
        for name in ("gamma", "beta", "running_mean", "running_var"):
            start = "ones" if name in ("gamma", "running_var") else "zeros"
            req = "write" if trained.get(name) else "null"
            setattr(self, name, self.params.get(name, init=start, grad_req=req, **wait))

    def forward(self, x: NDArray) -> NDArray:
        gamma, beta, *running = self._settled(x.shape[1])

        def normalised(*tensors: Tensor) -> Tensor:
            if is_training():
                return apply(_Training(self._epsilon, self._momentum, running), *tensors)
            return ops.batch_norm(*tensors, *(r.tensor for r in running), eps=self._epsilon)

        return nd(normalised)(x, gamma, beta)

    def __repr__(self) -> str:
        gamma = self._parameters()["gamma"]
        words = f"axis=1, eps={self._epsilon}, momentum={self._momentum}, "
        words += f"fix_gamma={gamma.grad_req == 'null'}, use_global_stats=False"
        return f"BatchNorm({words}, in_channels={gamma.shape[0] or None})"
