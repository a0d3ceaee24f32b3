"""A valid call of every entry of the compiled kernels.

All arrays lie between guards, bytes that nothing may change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
N, C, F, G, SIZE = 19, 4, 6, 2, 5
WINDOW = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
OUT = (3, 3)  # of a 5 x 5 image under WINDOW
POOL = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0), "dilation": (1, 1)}
POOLED = (3, 2)
GUARD = 4096  # bytes on either side


@dataclass
class Call:
    """An entry with valid arguments; `writes` names those that it fills."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    writes: tuple[str, ...] = ()
    guards: list[Array] = field(default_factory=list)

    def protect(self) -> Call:
        """Move every array between guards."""
        for name, value in self.arguments.items():
            if isinstance(value, np.ndarray):
                self.arguments[name] = self.between_guards(value)
        return self

    def between_guards(self, array: Array) -> Array:
        """A copy of the array in the same memory order, with guards around it."""
        axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        whole = np.full(array.nbytes + 2 * GUARD, 77, np.uint8)
        inner = whole[GUARD : GUARD + array.nbytes].view(array.dtype)
        moved = inner.reshape([array.shape[a] for a in axes]).transpose(np.argsort(axes))
        moved[...] = array
        self.guards.append(whole)
        return moved

    def harm(self) -> str:
        """What was written outside the arrays."""
        for whole in self.guards:
            outside = np.concatenate([whole[:GUARD], whole[-GUARD:]])
            if not (outside == 77).all():
                return f"{(outside != 77).sum()} bytes beside an array of {len(whole) - 2 * GUARD}"
        return ""


def images(dtype: str, n: int, c: int, h: int, w: int, seed: int = 0) -> Array:
    """Random images in batch-last memory."""
    values = np.random.default_rng(seed).standard_normal((c, h, w, n)).astype(dtype)
    return values.transpose(3, 0, 1, 2)


def line(dtype: str, n: int) -> Array:
    """Random numbers."""
    return np.random.default_rng(n).standard_normal(n).astype(dtype)


def calls(k: Any, dtype: str) -> dict[str, Call]:
    """One for each entry of the modules of one build; a few entries have two."""
    x, out = images(dtype, N, C, SIZE, SIZE), images(dtype, N, F, *OUT)
    pooled, rectified = images(dtype, N, C, *POOLED), images(dtype, N, C, SIZE, SIZE)
    taps = C // G * 6
    packed = line(dtype, k.conv_weights.packed_size(G, F // G, taps))
    back = line(dtype, k.conv_weights.packed_size(G, C // G, F // G * 6))
    winograd = {"n": N, "c": C, "f": F, "oh": OUT[0], "ow": OUT[1], "kernel": 5}
    turned = line(dtype, k.winograd_weights.packed_size(C, F, 5, 1))
    once = {"stride": 1, "transposed": False}
    sizes_of_tiles = [
        k.winograd.scratch_size(*winograd.values(), *once.values(), lanes, 2) for lanes in (0, 1)
    ]
    halved = line(dtype, k.winograd_weights.packed_size(C, F, 7, 2))
    size_of_halved = k.winograd.scratch_size(N, C, F, *OUT, 7, 2, False, True, 2)
    sums = k.conv_weight_grad.scratch_size(x.shape, out.shape, G, **WINDOW, threads=2)
    products = k.dense.scratch_size(x.shape, out.shape, **WINDOW, threads=2)
    panels = k.winograd_weight_grad.scratch_size(*winograd.values(), 2)
    argmax = np.zeros((C, *POOLED, N), np.int32).transpose(3, 0, 1, 2)
    average = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 1, 0, 1)}
    gammas = {name: line(dtype, C) for name in ("gamma", "beta", "mean", "var", "inv_std")}
    logits, labels = images(dtype, N, C, 1, 1), np.arange(N) % C
    steps = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.01}
    adam = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01}
    w = {name: line(dtype, 40) for name in ("w", "grad", "velocity", "m", "v")}
    correlate = {"groups": G, **WINDOW, "transposed": False, "direct": True, "relu": True}
    correlate["threads"] = 2

    def scratch(read: Array, written: Array, **changes: bool) -> tuple[dict[str, Any], Array]:
        """The arguments of scratch_size, and scratch of that size."""
        how = {name: value for name, value in {**correlate, **changes}.items() if name != "relu"}
        how = {"x": read.shape, "out": written.shape, **how}
        return how, line(dtype, k.conv.scratch_size(**how))

    forward, direct_scratch = scratch(x, out)
    own = images(dtype, N, C, *OUT)
    alone = {"x": x.shape, "out": own.shape, **WINDOW, "transposed": False, "threads": 2}
    bn = {name: gammas[name] for name in ("gamma", "beta", "mean", "inv_std")}
    pack = {"groups": G, "rows": F // G, "cols": C // G, "taps": 6, "swapped": False}
    pack |= {"by_tap": True, "threads": 2}
    table: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
        "conv.scratch_size": (k.conv.scratch_size, forward, ()),
        "conv_weights.by_tap": (
            k.conv_weights.by_tap,
            {"transposed": True, "direct": True, "stride": (2, 2)},
            (),
        ),
        "conv_weights.packed_size": (
            k.conv_weights.packed_size,
            {"groups": 2, "fg": 3, "taps": 4},
            (),
        ),
        "conv.correlate": (
            k.conv.correlate,
            {"x": x, "w": packed, "out": out, "scratch": direct_scratch, **correlate},
            ("out", "scratch"),
        ),
        "conv.correlate im2col": (
            k.conv.correlate,
            {"x": x, "w": packed, "out": out, **correlate, "direct": False}
            | {"scratch": scratch(x, out, direct=False)[1]},
            ("out", "scratch"),
        ),
        "conv.correlate transposed": (
            k.conv.correlate,
            {"x": out, "w": back, "out": x, **correlate, "transposed": True}
            | {"scratch": scratch(out, x, transposed=True)[1]},
            ("out", "scratch"),
        ),
        "conv.correlate transposed im2col": (
            k.conv.correlate,
            {"x": out, "w": back, "out": x, **correlate, "transposed": True, "direct": False}
            | {"scratch": scratch(out, x, transposed=True, direct=False)[1]},
            ("out", "scratch"),
        ),
        "conv_weights.pack_weights": (
            k.conv_weights.pack_weights,
            {"w": line(dtype, F * taps), "bias": line(dtype, F), "out": packed, **pack},
            ("out",),
        ),
        "dense.dense": (
            k.dense.dense,
            {"x": line(dtype, 37), "w": line(dtype, 37 * F), "bias": line(dtype, F)}
            | {"out": line(dtype, F), "relu": True, "threads": 2},
            ("out",),
        ),
        "peak.multiply_adds": (k.peak.multiply_adds, {"rounds": 3, "threads": 2}, ()),
        "winograd.scratch_size": (
            k.winograd.scratch_size,
            {**winograd, **once, "tiles": True, "threads": 2},
            (),
        ),
        "winograd_weights.packed_size": (
            k.winograd_weights.packed_size,
            {"c": C, "f": F, "kernel": 3, "stride": 2},
            (),
        ),
        "winograd_weights.pack_weights": (
            k.winograd_weights.pack_weights,
            {"w": line(dtype, F * C * 25), "u": turned, "rows": F, "cols": C}
            | {"kernel": 5, "stride": 1, "swapped": False, "spread": False, "threads": 2},
            ("u",),
        ),
        "winograd.correlate": (
            k.winograd.correlate,
            {"x": x, "u": turned, "bias": line(dtype, F), "out": out, "top": 1, "left": 1}
            | {"kernel": 5, **once, "tiles": False, "relu": True, "threads": 2}
            | {"scratch": line(dtype, sizes_of_tiles[False])},
            ("out", "scratch"),
        ),
        "winograd.correlate tiles": (
            k.winograd.correlate,
            {"x": x, "u": turned, "bias": line(dtype, F), "out": out, "top": 1, "left": 1}
            | {"kernel": 5, **once, "tiles": True, "relu": True, "threads": 2}
            | {"scratch": line(dtype, sizes_of_tiles[True])},
            ("out", "scratch"),
        ),
        "winograd.correlate of stride 2": (
            k.winograd.correlate,
            {"x": x, "u": halved, "bias": None, "out": out, "top": 3, "left": 2}
            | {"kernel": 7, "stride": 2, "transposed": False, "tiles": True, "relu": False}
            | {"threads": 2, "scratch": line(dtype, size_of_halved)},
            ("out", "scratch"),
        ),
        "winograd_input_grad.scratch_size": (
            k.winograd_input_grad.scratch_size,
            {**winograd, "threads": 2},
            (),
        ),
        "winograd_input_grad.input_grad": (
            k.winograd_input_grad.input_grad,
            {"dout": out, "u": line(dtype, k.winograd_weights.packed_size(F, C, 5, 1)), "dx": x}
            | {"scratch": line(dtype, k.winograd_input_grad.scratch_size(*winograd.values(), 2))}
            | {"top": 1, "left": 1, "kernel": 5, "threads": 2},
            ("dx", "scratch"),
        ),
        "winograd_weight_grad.scratch_size": (
            k.winograd_weight_grad.scratch_size,
            {**winograd, "threads": 2},
            (),
        ),
        "winograd_weight_grad.weight_grad": (
            k.winograd_weight_grad.weight_grad,
            {"x": x, "dout": out, "dw": line(dtype, F * C * 25), "scratch": line(dtype, panels)}
            | {"top": 1, "left": 1, "kernel": 5, "threads": 2},
            ("dw", "scratch"),
        ),
        "conv_weight_grad.scratch_size": (
            k.conv_weight_grad.scratch_size,
            {"x": x.shape, "dout": out.shape, "groups": G, **WINDOW, "threads": 2},
            (),
        ),
        "conv_weight_grad.weight_grad": (
            k.conv_weight_grad.weight_grad,
            {"x": x, "dout": out, "dw": line(dtype, F * taps), "scratch": line(dtype, sums)}
            | {"groups": G, **WINDOW, "threads": 2},
            ("dw", "scratch"),
        ),
        "dense.scratch_size": (
            k.dense.scratch_size,
            {"x": x.shape, "dout": out.shape, **WINDOW, "threads": 2},
            (),
        ),
        "dense.weight_grad": (
            k.dense.weight_grad,
            {"x": x, "dout": out, "dw": line(dtype, F * taps * G), "scratch": line(dtype, products)}
            | {**WINDOW, "threads": 2},
            ("dw", "scratch"),
        ),
        "max_pool.max_pool": (
            k.max_pool.max_pool,
            {"x": x, "out": pooled, "argmax": argmax, **POOL, "threads": 2},
            ("out", "argmax"),
        ),
        "max_pool.max_pool_backward": (
            k.max_pool.max_pool_backward,
            {
                "dout": pooled,
                "argmax": argmax,
                "rectified": rectified,
                "dx": x,
                **POOL,
                "threads": 2,
            },
            ("dx",),
        ),
        "avg_pool.avg_pool": (
            k.avg_pool.avg_pool,
            {"src": x, "rectified": None, "dst": pooled, **average, "count_include_pad": True}
            | {"transposed": False, "threads": 2},
            ("dst",),
        ),
        "avg_pool.avg_pool transposed": (
            k.avg_pool.avg_pool,
            {"src": pooled, "rectified": rectified, "dst": x, **average, "count_include_pad": False}
            | {"transposed": True, "threads": 2},
            ("dst",),
        ),
        "norm.channel_sum": (
            k.norm.channel_sum,
            {"a": x, "out": line(dtype, C), "threads": 2},
            ("out",),
        ),
        "norm.batch_norm": (
            k.norm.batch_norm,
            {"x": x, "residual": x, "out": images(dtype, N, C, SIZE, SIZE), **gammas, "eps": 1e-5}
            | {"running_mean": line(dtype, C), "running_var": line(dtype, C)}
            | {"momentum": 0.1, "relu": True, "threads": 2},
            ("out", "mean", "var", "inv_std", "running_mean", "running_var"),
        ),
        "norm.batch_norm_backward": (
            k.norm.batch_norm_backward,
            {"dout": x, "x": x, "dx": x, **bn, "dgamma": line(dtype, C)}
            | {"dbeta": line(dtype, C), "relu": True, "threads": 2},
            ("dx", "dgamma", "dbeta"),
        ),
        "loss.cross_entropy": (
            k.loss.cross_entropy,
            {"logits": logits, "target": labels, "smoothing": 0.1, "losses": line(dtype, N)}
            | {"log_probs": logits},
            ("losses", "log_probs"),
        ),
        "loss.cross_entropy_backward": (
            k.loss.cross_entropy_backward,
            {"dlosses": line(dtype, N), "log_probs": logits, "target": labels, "smoothing": 0.1}
            | {"dlogits": logits},
            ("dlogits",),
        ),
        "depthwise.scratch_size": (k.depthwise.scratch_size, alone, ()),
        "depthwise.correlate": (
            k.depthwise.correlate,
            {**alone, "x": x, "w": line(dtype, C * 7), "out": own, "relu": True}
            | {"scratch": line(dtype, k.depthwise.scratch_size(**alone))},
            ("out", "scratch"),
        ),
        "elementwise.relu": (
            k.elementwise.relu,
            {"x": x, "out": x, "threads": 2},
            ("out",),
        ),
        "elementwise.relu_and_search": (
            k.elementwise.relu_and_search,
            {"x": x, "out": x, "threads": 2},
            ("out",),
        ),
        "elementwise.add": (
            k.elementwise.add,
            {"a": x, "b": x, "gate": None, "out": x, "relu": True, "threads": 2},
            ("out",),
        ),
        "elementwise.add gated": (
            k.elementwise.add,
            {"a": x, "b": x, "gate": x, "out": x, "relu": False, "threads": 2},
            ("out",),
        ),
        "elementwise.relu_backward": (
            k.elementwise.relu_backward,
            {"dout": x, "out": x, "dx": x, "threads": 2},
            ("dx",),
        ),
        "elementwise.sgd_step": (
            lambda w, g, v, *how: k.elementwise.sgd_step([w], [g], [v], *how),
            {name: w[name] for name in ("w", "grad", "velocity")}
            | {**steps, "nesterov": True, "threads": 2},
            ("w", "velocity"),
        ),
        "elementwise.adam_step": (
            lambda w, g, m, v, *how: k.elementwise.adam_step([w], [g], [m], [v], *how),
            {name: w[name] for name in ("w", "grad", "m", "v")}
            | {"step": 1, **adam, "decoupled": True, "threads": 2},
            ("w", "m", "v"),
        ),
        "elementwise.to_batch_last": (
            k.elementwise.to_batch_last,
            {"src": line(dtype, x.size), "dst": x, "threads": 2},
            ("dst",),
        ),
    }
    return {name: Call(f, dict(a), writes).protect() for name, (f, a, writes) in table.items()}
