"""Record values and gradients from PyTorch into `recorded/*.npz`, for `test_recorded.py`.

Only re-recording needs torch: `pip install torch==2.13.0`, then `python tests/record_torch.py`.
The cases are drawn from fixed seeds, so the files change only where this script or PyTorch does.
Inputs are rounded to multiples of 1/64, which makes the files small.

A file holds one flat array per dtype, and `index`: JSON with, for each case, the op, its options
in cyconv's words, and for each named array its dtype, where it starts in the flat array, and its
shape. "in.x" is the argument x, "head" the gradient that backward is given; "out", "grad.x" and,
for arguments that the op changes, "after.x" must come back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "recorded"
Array = NDArray[Any]


class Recorder:
    """Collects the cases of one file."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.cases: list[dict[str, Any]] = []
        self.flat: dict[str, list[Array]] = {"float32": [], "float64": [], "int64": []}

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, *choices: Any) -> Any:
        """One of the choices."""
        return choices[self.integer(0, len(choices) - 1)]

    def normal(self, shape: tuple[int, ...], scale: float = 1.0) -> Array:
        """Normal values rounded to multiples of 1/64."""
        return np.round(self.rng.standard_normal(shape) * scale * 64) / 64

    def store(self, array: Array) -> list[Any]:
        """Put an array into its flat array; where it went."""
        array = np.asarray(array)
        flat = self.flat[array.dtype.name]
        start = sum(part.size for part in flat)
        flat.append(array.ravel())
        return [array.dtype.name, start, list(array.shape)]

    def add(
        self,
        op: str,
        function: Callable[..., torch.Tensor],
        inputs: dict[str, Array],
        options: dict[str, Any],
        dtype: str,
        after: tuple[str, ...] = (),
    ) -> None:
        """Run PyTorch's `function` on the inputs; `after` names inputs that it changes."""
        cast = {k: v if v.dtype == np.int64 else v.astype(dtype) for k, v in inputs.items()}
        tensors = {k: torch.tensor(v) for k, v in cast.items()}
        wanted = [k for k, v in tensors.items() if v.is_floating_point() and "running" not in k]
        for name in wanted:
            tensors[name].requires_grad_()
        out = function(*tensors.values())
        head = self.normal(tuple(out.shape)).astype(dtype)
        out.backward(torch.tensor(head))
        results = {"out": out} | {f"grad.{k}": tensors[k].grad for k in wanted}
        results |= {f"after.{k}": tensors[k] for k in after}
        arrays = {f"in.{k}": v for k, v in cast.items()} | {"head": head}
        arrays |= {k: v.detach().numpy() for k, v in results.items() if v is not None}
        places = {k: self.store(v) for k, v in arrays.items()}
        self.cases.append({"op": op, "options": options, "arrays": places})

    def save(self, name: str) -> None:
        """Write `recorded/<name>.npz`."""
        flat = {k: np.concatenate(v) for k, v in self.flat.items() if v}
        index = json.dumps({"torch": torch.__version__, "cases": self.cases})
        arrays: dict[str, Any] = {"index": np.array(index), **flat}
        np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
        size = (FOLDER / f"{name}.npz").stat().st_size
        print(f"{name}: {len(self.cases)} cases, {size} bytes")


def dtypes(i: int) -> str:
    """Two of three cases in float32."""
    return "float64" if i % 3 == 2 else "float32"


def drawn_padding(r: Recorder, most: tuple[int, int]) -> tuple[Any, tuple[int, int, int, int]]:
    """Padding in one of cyconv's forms, and as `torch.nn.functional.pad` takes it."""
    top, bottom = r.integer(0, most[0]), r.integer(0, most[0])
    left, right = r.integer(0, most[1]), r.integer(0, most[1])
    form = r.integer(0, 3)
    if form == 0:
        p = min(top, left)
        return p, (p, p, p, p)
    if form == 1:
        return (top, left), (left, left, top, top)
    return ((top, bottom), (left, right)), (left, right, top, bottom)


def sizes(r: Recorder, span: tuple[int, int], pads: tuple[int, ...], room: int) -> tuple[int, int]:
    """(H, W) at least as large as the window."""
    need = span[0] - pads[2] - pads[3], span[1] - pads[0] - pads[1]
    return max(1, need[0] + r.integer(0, room)), max(1, need[1] + r.integer(0, room))


def pair(r: Recorder, most: int) -> tuple[int, int]:
    """Two numbers from 1 to most."""
    return r.integer(1, most), r.integer(1, most)


def conv() -> None:
    """conv2d, conv_transpose2d, linear."""
    r = Recorder(1)
    for i in range(60):
        groups = r.pick(1, 1, 2, 3)
        c, f = groups * r.integer(1, 3), groups * r.integer(1, 3)
        kernel, stride, dilation = pair(r, 4), pair(r, 3), pair(r, 2)
        padding, pads = drawn_padding(r, (3, 3))
        span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        x = r.normal((r.integer(1, 3), c, *sizes(r, (span[0], span[1]), pads, 4)))
        w = r.normal((f, c // groups, *kernel))
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

        def run_conv(x: Any, w: Any, b: Any = None, pads: Any = pads, o: Any = options) -> Any:
            return F.conv2d(F.pad(x, pads), w, b, o["stride"], 0, o["dilation"], o["groups"])

        inputs = {"x": x, "w": w} | ({"b": r.normal((f,))} if i % 4 else {})
        r.add("conv2d", run_conv, inputs, options, dtypes(i))
    for i in range(30):
        groups = r.pick(1, 1, 2)
        c, f = groups * r.integer(1, 3), r.integer(1, 3)
        kernel, stride, dilation = pair(r, 4), pair(r, 3), pair(r, 2)
        extra = tuple(r.integer(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
        size = pair(r, 4)
        full = [(size[j] - 1) * stride[j] + dilation[j] * (kernel[j] - 1) + 1 for j in range(2)]
        padding = tuple(r.integer(0, min(2, (n - 1) // 2)) for n in full)
        inputs = {"x": r.normal((r.integer(1, 3), c, *size)), "w": r.normal((c, f, *kernel))}
        inputs |= {"b": r.normal((f * groups,))} if i % 4 else {}
        options = {
            "stride": stride,
            "padding": padding,
            "output_padding": extra,
            "dilation": dilation,
            "groups": groups,
        }

        def run_transposed(x: Any, w: Any, b: Any = None, o: Any = options) -> Any:
            return F.conv_transpose2d(x, w, b, **o)

        r.add("conv_transpose2d", run_transposed, inputs, options, dtypes(i))
    for i in range(9):
        n, c, f = r.integer(1, 5), r.integer(1, 9), r.integer(1, 9)
        inputs = {"x": r.normal((n, c)), "w": r.normal((f, c))}
        inputs |= {"b": r.normal((f,))} if i % 3 else {}
        r.add("linear", F.linear, inputs, {}, dtypes(i))
    r.save("conv")


def special(r: Recorder, x: Array) -> Array:
    """Ties everywhere, and some NaN and infinities."""
    x = np.round(x)
    for value, share in ((np.nan, 0.06), (np.inf, 0.05), (-np.inf, 0.2)):
        x[r.rng.random(x.shape) < share] = value
    return x


def pool() -> None:
    """max_pool2d (a third of it with NaN, infinities and ties) and avg_pool2d."""
    r = Recorder(2)
    for i in range(100):
        average = i >= 55
        kernel, dilation = pair(r, 4), (1, 1) if average else pair(r, 3)
        stride = r.pick(None, pair(r, 3), pair(r, 4))
        padding = (r.integer(0, kernel[0] // 2), r.integer(0, kernel[1] // 2))
        pads = (padding[1], padding[1], padding[0], padding[0])
        span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        size = sizes(r, (span[0], span[1]), pads, 5)
        for d in range(2):  # PyTorch reads beyond the input if a dilated window steps over it
            if dilation[d] > 1 and size[d] < dilation[d]:
                size = (size[0] + 3, size[1] + 3)
        x = r.normal((r.integer(1, 2), r.integer(1, 3), *size))
        options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
        options |= {"ceil_mode": bool(r.integer(0, 1))}
        if average:
            options |= {"count_include_pad": bool(r.integer(0, 1))}
        else:
            options |= {"dilation": dilation}
            x = special(r, x) if i % 3 == 0 else x

        def run_pool(x: Any, average: bool = average, o: Any = options) -> Any:
            return F.avg_pool2d(x, **o) if average else F.max_pool2d(x, **o)

        r.add("avg_pool2d" if average else "max_pool2d", run_pool, {"x": x}, options, dtypes(i))
    r.save("pool")


def norm() -> None:
    """batch_norm in training and inference, layer_norm, group_norm."""
    r = Recorder(3)
    for i in range(30):
        shape = (r.integer(2, 5), r.pick(2, 4, 6), *r.pick((), pair(r, 4)))
        c = shape[1]
        eps = r.pick(1e-5, 1e-3)
        inputs = {"x": r.normal(shape, r.pick(0.1, 1.0, 10.0)) + r.pick(0, 3)}
        options: dict[str, Any] = {"eps": eps}
        if i < 18:
            inputs |= {"gamma": r.normal((c,)), "beta": r.normal((c,))}
            inputs |= {"running_mean": r.normal((c,)), "running_var": abs(r.normal((c,))) + 1}
            options |= {"training": i < 12, "momentum": r.pick(0.1, 0.5)}

            def run_bn(x: Any, g: Any, b: Any, m: Any, v: Any, o: Any = options) -> Any:
                return F.batch_norm(x, m, v, g, b, o["training"], o["momentum"], o["eps"])

            after = ("running_mean", "running_var")
            r.add("batch_norm", run_bn, inputs, options, dtypes(i), after)
            continue
        if i < 24:
            axes = shape[r.integer(1, len(shape) - 1) :]
            options |= {"normalized_shape": axes}
            inputs |= {"gamma": r.normal(axes), "beta": r.normal(axes)} if i % 3 else {}

            def run_ln(x: Any, g: Any = None, b: Any = None, o: Any = options) -> Any:
                return F.layer_norm(x, o["normalized_shape"], g, b, o["eps"])

            r.add("layer_norm", run_ln, inputs, options, dtypes(i))
            continue
        options |= {"num_groups": r.pick(1, 2) if len(shape) > 2 else 1}
        inputs |= {"gamma": r.normal((c,)), "beta": r.normal((c,))} if i % 3 else {}

        def run_gn(x: Any, g: Any = None, b: Any = None, o: Any = options) -> Any:
            return F.group_norm(x, o["num_groups"], g, b, o["eps"])

        r.add("group_norm", run_gn, inputs, options, dtypes(i))
    r.save("norm")


def loss() -> None:
    """softmax, log_softmax, cross_entropy, mse_loss, binary_cross_entropy_with_logits."""
    r = Recorder(4)
    for i in range(16):
        shape = r.pick((3, 5), (2, 3, 4), (4, 1), (2, 2, 3, 2))
        axis, scale = r.integer(-len(shape), len(shape) - 1), r.pick(1.0, 30.0, 1e4)
        name = "softmax" if i % 2 else "log_softmax"

        def run_softmax(x: Any, name: str = name, axis: int = axis) -> Any:
            return getattr(F, name)(x, axis)

        r.add(name, run_softmax, {"x": r.normal(shape, scale)}, {"axis": axis}, dtypes(i))
    for i in range(36):
        n, k = r.integer(1, 6), r.integer(1, 11)
        options: dict[str, Any] = {"reduction": ("mean", "sum", "none")[i // 2 % 3]}
        x = r.normal((n, k), r.pick(1.0, 10.0, 300.0))
        if i < 18:
            name, inputs = "cross_entropy", {"logits": x, "labels": r.rng.integers(0, k, n)}
            options |= {"label_smoothing": r.pick(0.0, 0.1, 0.3, 1.0)}
        elif i < 26:
            name, inputs = "mse_loss", {"input": x, "target": r.normal((n, k))}
        else:
            name = "binary_cross_entropy_with_logits"
            inputs = {"input": x, "target": np.round(r.rng.random((n, k)) * 64) / 64}

        def run_loss(x: Any, t: Any, name: str = name, o: Any = options) -> Any:
            return getattr(F, name)(x, t, **o)

        r.add(name, run_loss, inputs, options, dtypes(i))
    r.save("loss")


def activation() -> None:
    """Every activation, over moderate values, large values and zero."""
    r = Recorder(5)
    names = ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softplus", "silu", "elu"]
    for name in names:
        function = getattr(torch, name) if name in ("sigmoid", "tanh") else getattr(F, name)
        if name == "softplus":  # by default PyTorch returns x itself above 20, which is off by 2e-9

            def function(x: Any) -> Any:
                return F.softplus(x, threshold=40.0)

        for dtype in ("float32", "float64"):
            x = np.concatenate([r.normal((20,)), r.normal((10,), 12.0), [0.0, -90.0, 90.0]])
            r.add(name, function, {"x": x.reshape(3, 11)}, {}, dtype)
    r.save("activation")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for record in (conv, pool, norm, loss, activation):
        record()
