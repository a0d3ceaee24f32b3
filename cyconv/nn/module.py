"""Module: what every layer and every net is. It holds parameters and calls ops.

There is no bookkeeping behind the scenes. A module's attributes are its state: a ``Parameter`` is
trained, any other ``Tensor`` is a buffer (saved, not trained), a ``Module`` is a child, and a list
or tuple may hold several of these. Names that begin with an underscore are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import backends
from ..arguments import flag
from ..creation import as_tensor, float_dtype
from ..tensor import FLOATS, Tensor


class Parameter(Tensor):
    """A tensor that is trained: ``backward`` stores the gradient by it in ``grad``.

    ``grad`` is None until the first ``backward``.

    Parameters
    ----------
    data : a float32 or float64 tensor or array, whose memory the parameter shares; other arrays,
        lists and numbers are copied as float32

    Raises
    ------
    TypeError : data holds no numbers, or is a tensor of integers

    >>> import cyconv as cc
    >>> scale = cc.nn.Parameter(cc.ones(3))
    >>> with cc.record():
    ...     loss = (scale * 2.0).sum()
    >>> loss.backward()
    >>> scale.grad
    tensor([2., 2., 2.])
    """

    __slots__ = ()

    def __init__(self, data: Any):
        source = as_tensor(data)
        if source.dtype.name not in FLOATS:
            raise TypeError(f"Parameter: data must be float32 or float64, got {source.dtype}")
        super().__init__(source.data)
        self._uses = source._uses
        self._grad_mode = "write"  # as attach_grad(), without a first gradient of zeros


class Module:
    """Base of all layers and nets: define ``forward``, set parameters and layers as attributes, or
    put them into lists and dicts that are attributes. A ``Parameter`` is trained and saved, another
    tensor only saved; what has a name that begins with ``_`` is neither, nor are layers in it.

    Constructor arguments are kept under their own names, so that ``config`` and ``repr`` can
    show them. Whether dropout and batch norm behave as in training is not a property of a module:
    ``record()`` turns training on, everywhere else it is off.

    Weights are float32 on the CPU until ``astype`` or ``to``. Calling a layer takes a tensor, or an
    array of its weights' dtype or of integers, as they are (pixels from 0 to 255 are scaled by a
    ``DataLoader`` or ``fit``), and returns a tensor; ValueError or TypeError if shape or dtype do
    not fit.

    >>> import cyconv as cc
    >>> class Scaled(cc.nn.Module):
    ...     def __init__(self, features):
    ...         self.features = features
    ...         self.linear = cc.nn.Linear(features, 1)
    ...         self.scale = cc.nn.Parameter([2.0])
    ...     def forward(self, x):
    ...         return self.call_child("linear", x) * self.scale
    >>> net = Scaled(4)
    >>> net(cc.zeros(5, 4)).shape, net.num_parameters(), net.config()
    ((5, 1), 6, {'type': 'Scaled', 'features': 4})
    >>> [name for name, _ in net.named_parameters()]
    ['scale', 'linear.weight', 'linear.bias']
    >>> [p.shape for p in net.parameters()]
    [(1,), (1, 4), (1,)]
    >>> list(net.named_children()), list(net.children()), len(list(net.modules()))
    ([('linear', Linear(4, 1))], [Linear(4, 1)], 2)
    >>> [name for name, _ in net.named_modules()], list(net.named_buffers())
    (['', 'linear'], [])
    >>> net.to("cpu").astype("float64").load_state_dict(net.state_dict())
    >>> net.zero_grad()
    """

    def forward(self, *inputs: Any) -> Any:
        """What the module computes; calling the module calls this with its ``inputs``.

        RuntimeError unless a subclass defines it.
        """
        raise RuntimeError(f"{type(self).__name__} does not define forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def call_child(self, name: str, *inputs: Any) -> Any:
        """Call the child of this ``name`` with ``inputs``, and return what it gives.

        A ValueError from it is raised again as a ``LayerError``, which names its place in the net.
        ValueError, too, if there is no such child.
        """
        child = vars(self).get(name) or dict(self.named_children()).get(name)
        if child is None:
            raise ValueError(f"call_child: {type(self).__name__} has no child named {name!r}")
        try:
            return child(*inputs)
        except LayerError as error:
            raise LayerError(f"{name}.{error.path}", error.message) from error.__cause__
        except ValueError as error:
            raise LayerError(name, str(error)) from error

    # -------------------------------------------------------------- what is inside

    def _members(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if not name.startswith("_"):
                yield from _inside(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, in the order in which they were set."""
        return ((name, m) for name, m in self._members() if isinstance(m, Module))

    def children(self) -> Iterator[Module]:
        """As ``named_children``, without the names."""
        return (child for _, child in self.named_children())

    def _paths(self, path: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below; one that is used in two places comes twice."""
        yield path, self
        for name, child in self.named_children():
            yield from child._paths(f"{path}.{name}" if path else name)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (named "") and all below it, each once."""
        return _each_once(self._paths())

    def modules(self) -> Iterator[Module]:
        """As ``named_modules``, without the names."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self._paths():
            for name, value in module._members():
                if isinstance(value, Tensor):
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters, each once, as ("0.weight", parameter)."""
        return _each_once((n, t) for n, t in self._named_tensors() if isinstance(t, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """As ``named_parameters``, without the names: what an optimiser is given."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors that are saved but not trained, each once, as ("1.running_mean", tensor).

        >>> import cyconv as cc
        >>> list(cc.nn.BatchNorm1d(2).named_buffers())
        [('running_mean', tensor([0., 0.])), ('running_var', tensor([1., 1.]))]
        """
        return _each_once((n, t) for n, t in self._named_tensors() if not isinstance(t, Parameter))

    def num_parameters(self) -> int:
        """How many numbers are trained; shared parameters count once."""
        return sum(parameter.size for parameter in self.parameters())

    # -------------------------------------------------------------- state

    def zero_grad(self) -> None:
        """Forget all gradients (``grad`` becomes None); needed with ``attach_grad("add")`` only."""
        for parameter in self.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer by name, as {"0.weight": array}.

        Names are PyTorch's. A parameter that is used in two places stands under both names.
        """
        return {
            name: np.array(backends.to_numpy(tensor.data), order="C")
            for name, tensor in self._named_tensors()
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy arrays into the parameters and buffers of these names, in each one's own dtype.

        Parameters
        ----------
        state : a ``state_dict()`` or another dict from names to arrays or tensors
        strict : False passes over names that one side lacks

        Raises
        ------
        TypeError : state is no dict, or holds something else than numbers; strict is no bool
        ValueError : names are missing or unexpected, or shapes differ; all of them are named
        RuntimeError : a recorded graph still needs a parameter's values

        Nothing is changed then.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state must be a dict, got {type(state).__name__}")
        strict = flag("load_state_dict: strict", strict)
        own = dict(self._named_tensors())
        arrays = {name: _array(name, state[name]) for name in own if name in state}
        problems = []
        if strict:
            problems += _listed("missing", [name for name in own if name not in state])
            problems += _listed("unexpected", [str(name) for name in state if name not in own])
        problems += _listed(
            "of another shape",
            [
                f"{name} {array.shape} where the net has {own[name].shape}"
                for name, array in arrays.items()
                if array.shape != own[name].shape
            ],
        )
        if problems:
            raise ValueError(f"load_state_dict: {'; '.join(problems)}")
        for tensor in {id(own[name]): own[name] for name in arrays}.values():
            tensor._write()  # one that a graph still needs refuses before anything has changed
        for name, array in arrays.items():
            tensor = own[name]
            values = array.astype(tensor.dtype, copy=False)
            tensor._write()[...] = backends.to_device(values, tensor.device)

    def to(self, device: str) -> Module:
        """Move all parameters and buffers to "cpu" or "cuda"; drops gradients. Returns self.

        ValueError for another ``device``, or if there is no GPU.
        """
        for _, tensor in self._named_tensors():
            tensor.data = backends.to_device(tensor.data, device)
            tensor.grad = None
        return self

    def astype(self, dtype: Any) -> Module:
        """Turn all parameters and buffers into a float ``dtype``; drops gradients. Returns self.

        TypeError for a dtype other than float32 and float64.
        """
        wanted = float_dtype("astype", dtype)
        for _, tensor in self._named_tensors():
            tensor.data = tensor.data.astype(wanted)
            tensor.grad = None
        return self

    # -------------------------------------------------------------- description

    def config(self) -> dict[str, Any]:
        """What rebuilds this module but for its weights: {"type": class name, argument: value}.

        Only numbers, strings, bools, None, lists and such dicts: it goes into JSON as it is.
        TypeError if an argument of the constructor is something else or was not kept.
        """
        config: dict[str, Any] = {"type": type(self).__name__}
        for argument in self._arguments():
            where = f"config: {type(self).__name__}: {argument.name}"
            if not hasattr(self, argument.name):
                raise TypeError(f"{where} is an argument of __init__ but not an attribute")
            value = getattr(self, argument.name)
            if isinstance(argument.default, bool):  # `bias=True` left a parameter under its name
                value = isinstance(value, Tensor) or bool(value)
            config[argument.name] = _plain(where, value)
        return config

    def _arguments(self) -> list[inspect.Parameter]:
        return list(inspect.signature(type(self)).parameters.values())

    def __repr__(self) -> str:
        children = list(self.named_children())
        if children:
            lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in children]
            return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"
        try:
            config = self.config()
        except TypeError:
            return f"{type(self).__name__}()"
        words = []
        for argument in self._arguments():
            if argument.kind is argument.VAR_POSITIONAL:  # the layers of a chain that has none
                continue
            value = config[argument.name]
            default = (
                _plain("", argument.default) if argument.default is not argument.empty else ...
            )
            if value != default:
                by_name = argument.default is not argument.empty or argument.name == "kernel_size"
                shown = repr(tuple_of(value))
                words.append(f"{argument.name}={shown}" if by_name else shown)
        return f"{type(self).__name__}({', '.join(words)})"

    def macs(self, x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
        """Multiply-adds of this layer itself, for an input of shape ``x_shape``.

        ``out_shape`` is that of its output. 0 unless a subclass defines it.

        >>> import cyconv as cc
        >>> cc.nn.Linear(4, 2).macs((5, 4), (5, 2))
        40
        """
        return 0

    def summary(self, input_shape: tuple[int, ...]) -> None:
        """Print a table of every layer's output shape, parameters and multiply-adds (MACs).

        ``input_shape`` is (N, C, H, W) or (N, C), or without N, which then is 1. The net runs
        once on zeros, without recording. MACs are those of one forward pass over the whole batch.
        Errors are those of ``nn.summarize``.

        >>> import cyconv as cc
        >>> cc.nn.Linear(4, 2).summary((5, 4))
        layer          output shape  parameters  MACs
        ---------------------------------------------
        net    Linear  (5, 2)                10    40
        ---------------------------------------------
        total                                10    40
        """
        from .summary import summarize

        print(summarize(self, input_shape))


class LayerError(ValueError):
    """A ValueError that a layer raised inside a net.

    Parameters
    ----------
    path : the layer's name in the net, as "3.body.0"
    message : what the layer said

    >>> import cyconv as cc
    >>> cc.nn.Sequential(cc.nn.ReLU(), cc.nn.Linear(4, 2))(cc.zeros(5, 3))
    Traceback (most recent call last):
        ...
    cyconv.nn.module.LayerError: layer 1: linear: input has 3 features but weight (2, 4) expects 4
    """

    def __init__(self, path: str, message: str):
        super().__init__(f"layer {path}: {message}")
        self.path = path
        self.message = message


def tuple_of(value: Any) -> Any:
    """JSON has lists only: turn them back into the tuples that the constructors were given."""
    return tuple(map(tuple_of, value)) if isinstance(value, list) else value


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, or what is in a list or dict, however deep, with its name: "blocks.0.conv"."""
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{name}.{key}", item)
    else:
        yield name, value


def _each_once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, thing in named:
        if id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing


def _array(name: str, value: Any) -> np.ndarray:
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"load_state_dict: {name} must be an array of numbers, got {array.dtype}")
    return array


def _listed(what: str, names: list[str]) -> list[str]:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"{what}: {shown}"] if names else []


def _plain(where: str, value: Any) -> Any:
    """A constructor argument as JSON can hold it."""
    if isinstance(value, Module):
        return value.config()
    if isinstance(value, (list, tuple)):
        return [_plain(where, item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which a config cannot hold")
