"""``gluon.nn``: layers."""

from collections.abc import Callable, Iterator
from typing import Any

from cyconv import is_training, ops
from cyconv.autograd import Array
from cyconv.geometry import pair
from cyconv.ops.norm import BatchNormTraining
from cyconv.tensor import Tensor, apply

from ..ndarray import NDArray, op
from .block import Block


class Sequential(Block):
    """Blocks one after the other."""

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        for block in blocks:
            self._children[str(len(self._children))] = block

    def forward(self, x: Any) -> Any:
        for block in self:
            x = block(x)
        return x

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._children.values())

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, int):
            return list(self)[key]
        part = Sequential(prefix=self.prefix)
        part.add(*list(self)[key])
        return part


class Layer(Block):
    """A function of its input, and how it is shown."""

    def __init__(self, words: str, function: Callable[[NDArray], NDArray], **kwargs: Any):
        super().__init__(**kwargs)
        self._words, self.forward = words, function  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return self._words


class Activation(Layer):
    """An activation by its name: "relu", "sigmoid" or "tanh"."""

    def __init__(self, activation: str, **kwargs: Any):
        if activation not in ("relu", "sigmoid", "tanh"):
            raise ValueError(f"activation must be 'relu', 'sigmoid' or 'tanh', got {activation!r}")
        super().__init__(f"Activation({activation})", getattr(op, activation), **kwargs)


class Flatten(Layer):
    """(N, ...) -> (N, the rest)."""

    def __init__(self, **kwargs: Any):
        super().__init__("Flatten", op.flatten, **kwargs)


class Dropout(Layer):
    """In training sets each element to 0 with probability ``rate`` and scales up the others."""

    def __init__(self, rate: float, **kwargs: Any):
        drop = op.nd(lambda data: ops.dropout(data, rate))
        super().__init__(f"Dropout(p = {rate}, axes=())", drop, **kwargs)


class MaxPool2D(Layer):
    """The largest value of each window; ``strides`` is the window's size if not given.

    Also ``ceil_mode``, and of ``AvgPool2D``, which takes means, ``count_include_pad``.
    """

    hint, kind = "pool", "max"

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: Any = 0, **how: Any):
        ceil_mode, pad_counts = how.pop("ceil_mode", False), how.pop("count_include_pad", True)
        size, pad, kind = pair("pool_size", pool_size, 1), pair("padding", padding, 0), self.kind
        stride = size if strides is None else pair("strides", strides, 1)
        rule = "full" if ceil_mode else "valid"
        super().__init__(
            f"{type(self).__name__}({size=}, {stride=}, padding={pad}, {ceil_mode=}, "
            f"global_pool=False, pool_type={kind}, layout=NCHW)",
            lambda x: op.Pooling(x, size, kind, stride, pad, False, rule, pad_counts),
            **how,
        )


class AvgPool2D(MaxPool2D):
    kind = "avg"


class _Weighted(Block):
    """A weight (units, inputs, ...), a bias and an activation."""

    def __init__(self, shape: Any, activation: Any, **how: Any):
        weight, bias = how.pop("weight_initializer", None), how.pop("bias_initializer", "zeros")
        use_bias = how.pop("use_bias", True)
        wait = {"dtype": "float32", "allow_deferred_init": True}
        super().__init__(**how)
        self.weight = self.params.get("weight", shape=shape, init=weight, **wait)
        self.bias = use_bias and self.params.get("bias", shape=shape[0], init=bias, **wait)
        self.act = activation and Activation(activation, prefix="")

    def _call(self, function: Callable[..., Tensor], x: NDArray, inputs: int) -> NDArray:
        shape = self.weight.shape
        weight = self.weight.settle((shape[0], inputs, *shape[2:]))
        out = op.nd(function)(x, weight, *([self.bias.data()] if self.bias else []))
        return self.act(out) if self.act else out

    def __repr__(self) -> str:
        units, inputs, *_ = self.weight.shape
        return f"{type(self).__name__}({inputs or None} -> {units}{self._words()})"

    def _words(self) -> str:
        return f", {self.act or 'linear'}"


class Dense(_Weighted):
    """x @ weight.T + bias; without ``flatten`` along the last axis of x.

    Also ``in_units``, ``use_bias``, ``weight_initializer`` and ``bias_initializer``.
    """

    def __init__(self, units: int, activation: Any = None, *, flatten: bool = True, **how: Any):
        super().__init__((units, how.pop("in_units", 0)), activation, **how)
        self._flatten = flatten

    def forward(self, x: NDArray) -> NDArray:
        rows = op.flatten(x) if self._flatten else x.reshape((-1, x.shape[-1]))
        out = self._call(ops.linear, rows, rows.shape[1])
        return out if self._flatten else out.reshape((*x.shape[:-1], -1))


class Conv2D(_Weighted):
    """Convolution of (N, C, H, W); see ``cyconv.ops.conv2d``.

    Also ``dilation``, ``groups``, ``in_channels``, ``activation`` and what ``Dense`` takes.
    """

    hint = "conv"

    def __init__(
        self, channels: int, kernel_size: Any, strides: Any = 1, padding: Any = 0, **how: Any
    ):
        self._how = {
            "stride": pair("strides", strides, 1),
            "padding": pair("padding", padding, 0),
            "dilation": pair("dilation", how.pop("dilation", 1), 1),
            "groups": how.pop("groups", 1),
        }
        inputs = how.pop("in_channels", 0) // self._how["groups"]
        shape = (channels, inputs, *pair("kernel_size", kernel_size, 1))
        super().__init__(shape, how.pop("activation", None), **how)

    def forward(self, x: NDArray) -> NDArray:
        inputs = x.shape[1] // self._how["groups"]
        return self._call(lambda *arrays: ops.conv2d(*arrays, **self._how), x, inputs)

    def _words(self) -> str:
        plain = {"padding": (0, 0), "dilation": (1, 1), "groups": 1}
        told = {"kernel_size": self.weight.shape[2:], **self._how, "bias": bool(self.bias)}
        words = [
            f"{k}={v}" for k, v in told.items() if v != plain.get(k) and (k, v) != ("bias", True)
        ]
        return ", ".join(["", *words, *([str(self.act)] if self.act else [])])


class _BatchNorm(BatchNormTraining):
    """Moves the running statistics, the biased variance among them, when it goes backward."""

    def __init__(self, eps: float, momentum: float, running: list[NDArray]):
        super().__init__(eps)
        self.momentum, self.running = momentum, running

    def backward(self, dout: Array) -> tuple[Array, ...]:
        for kept, batch in zip(self.running, (self.mean, self.var)):
            kept.tensor.data[...] = self.momentum * kept.tensor.data + (1 - self.momentum) * batch
        return super().backward(dout)


class BatchNorm(Block):
    """Batch norm over all axes but 1. ``backward`` moves the running statistics: each becomes
    momentum * itself + (1 - momentum) * the batch's, of which the variance is the biased one.

    ``center=False`` leaves beta at 0, ``scale=False`` gamma at 1.
    """

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
        gamma, beta, *running = (p.settle(x.shape[1:2]) for p in self._own.values())

        def normalised(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
            if is_training():
                return apply(_BatchNorm(self._epsilon, self._momentum, running), x, gamma, beta)
            return ops.batch_norm(x, gamma, beta, *(r.tensor for r in running), eps=self._epsilon)

        return op.nd(normalised)(x, gamma, beta)

    def __repr__(self) -> str:
        channels = self._own["gamma"].shape[0] or None
        words = f"axis=1, eps={self._epsilon}, momentum={self._momentum}, "
        fixed = self._own["gamma"].grad_req == "null"
        words += f"fix_gamma={fixed}, use_global_stats=False, in_channels={channels}"
        return f"BatchNorm({words})"
