"""Proof that the tests of the GPU backend see: bugs of one line each, planted in its source.

The CUDA source with the bug is compiled for the emulation, and tests of other files must fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import emulation
import host_kernels
import numpy as np
import pytest
import running
import test_gpu_backend
import test_ops_conv
import test_ops_pool
import test_recorded
from gpu_suite import compare_training
from strategies import Conv

from cyconv.backends import gpu_conv, gpu_device

if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once: it does not use the kernels for the CPU", allow_module_level=True)
if not host_kernels.compiler():
    pytest.skip("no C compiler", allow_module_level=True)

Check = Callable[[], None]


def conv(algo: str) -> Check:
    def check() -> None:
        for x_shape, w_shape, options in test_gpu_backend.LARGER + test_ops_conv.EDGES:
            defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
            case = Conv(x_shape, w_shape, True, defaults | options, "float32", 5)
            test_ops_conv.check_conv(case, algo=algo)

    return check


def recorded(op: str) -> Check:
    def check() -> None:
        for case in test_recorded.CASES:
            if case.values[0] == op:
                test_recorded.test_equals_pytorch(*case.values)

    return check


def step(name: str) -> Check:
    return lambda: compare_training(name)


def special() -> None:
    test_ops_pool.test_the_last_nan_of_a_window_wins()
    test_ops_pool.test_the_first_of_equal_values_wins()


DIRECT, IM2COL = conv("direct"), conv("im2col")
BUGS: dict[str, tuple[str, str, Check]] = {
    "padding off by one": (
        "sw - left + j * dw;\n    bool inside",
        "sw - left + 1 + j * dw;\n    bool inside",
        IM2COL,
    ),
    "a bound missing in im2col": ("x >= 0 && x < w;", "x >= 0;", IM2COL),
    "the first column unread": ("x >= 0 && x < w;", "x > 0 && x < w;", IM2COL),
    "images mixed up in a column": ("* n + q % n] : 0", "* n + (q + 1) % n] : 0", IM2COL),
    "a tile's first position counted from 0": (
        "index_t q = first + (index_t)k % length, tap",
        "index_t q = (index_t)k % length, tap",
        IM2COL,
    ),
    "a tile's end missing": ("q < first || q >= first + length", "q < first", IM2COL),
    "a tile's rows from the top": (
        "index_t y = row + above;",
        "index_t y = above;",
        IM2COL,
    ),
    "an earlier tile forgotten": ("* n + b] += total;", "* n + b] = total;", IM2COL),
    "stride forgotten in the gradient": ("at >= 0 && at % stride == 0", "at >= 0", IM2COL),
    "an output that is not there": (
        "at / stride < outputs ?",
        "at / stride <= outputs ?",
        IM2COL,
    ),
    "the last filters beyond the group": ("if (t < filters) out[", "out[", DIRECT),
    "the bias of another filter": ("bias[f + t] : 0", "bias[t] : 0", DIRECT),
    "a row below the image": (
        "if (y < 0 || y >= h) continue;\n        for (index_t j = 0; j < kw; j++) {\n"
        "          index_t x = s * sw - left + j * dw;\n          if (x < 0 || x >= w) continue;\n"
        "          real value = image[(((group",
        "if (y < 0 || y > h) continue;\n        for (index_t j = 0; j < kw; j++) {\n"
        "          index_t x = s * sw - left + j * dw;\n          if (x < 0 || x >= w) continue;\n"
        "          real value = image[(((group",
        DIRECT,
    ),
    "another group's filters": ("index_t f = group * fg; f <", "index_t f = 0; f <", DIRECT),
    "a chunk of the weight gradient": ("q < oh * ow * n; q", "q < oh * ow * n - 1; q", DIRECT),
    "the last of equals wins": ("!(value > best)", "!(value >= best)", special),
    "NaN loses": ("&& value == value) continue", ") continue", special),
    "a window's tap turned round": (
        "(int)(i * kw + j)",
        "(int)(j * kw + i)",
        recorded("max_pool2d"),
    ),
    "each window's gradient goes to all": (
        "if (where[q] == i * kw + j) total",
        "total",
        recorded("max_pool2d"),
    ),
    "the divisor beyond the padding": (
        "stop = size + (pads ? after : 0);",
        "stop = stop + 0;",
        recorded("avg_pool2d"),
    ),
    "the end of a row not added": (
        "i < length; i += chunks) total += row",
        "i < length - 1; i += chunks) total += row",
        recorded("batch_norm"),
    ),
    "the mean forgotten": ("a[c * length + i] - mean[c];", "a[c * length + i];", step("plain")),
    "partial sums left out": ("i < chunks; i++) total", "i < chunks - 31; i++) total", DIRECT),
    "label smoothing not shared out": (
        "? share + peak : share;",
        "? peak : share;",
        recorded("cross_entropy"),
    ),
    "the label of another image": ("target[k % n] ==", "target[0] ==", step("plain")),
    "the gradient at zero": ("dx[k] = out[k] <= 0 ?", "dx[k] = out[k] < 0 ?", recorded("relu")),
    "nesterov the other way round": ("nesterov ? g +", "!nesterov ? g +", step("sgd")),
    "the decay of Adam twice": ("= w[k] * shrink;", "= w[k] * shrink * shrink;", step("adamw")),
    "the second moment unscaled": ("sqrt(v[k]) / root", "sqrt(v[k])", step("adam")),
    "the last result left out": ("k < (count);", "k < (count) - 1;", step("plain")),
}


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "device", "cuda")
    monkeypatch.setattr(gpu_conv, "SCRATCH_LIMIT", 3000)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_a_kernel_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, check = BUGS[name]
    source = emulation.source()
    assert source.count(before) == 1, f"{source.count(before)} times, not once: {before}"
    planted = source.replace(before, after)
    monkeypatch.setattr(gpu_device, "source", lambda: planted)
    with emulation.emulated(), pytest.raises((AssertionError, ValueError)) as caught:
        check()
    assert "error:" not in str(caught.value), "it does not compile"


@pytest.mark.parametrize("check", [DIRECT, IM2COL, special, step("sgd"), recorded("max_pool2d")])
def test_without_a_bug_nothing_fails(check: Check) -> None:
    with emulation.emulated():
        check()


@pytest.mark.parametrize("what", ["synchronize", "wait_event"])
def test_a_copy_that_nobody_waits_for_is_caught(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where: Any = emulation.Event if what == "synchronize" else emulation.Stream
    monkeypatch.setattr(where, what, lambda *args: None)
    with emulation.emulated(), pytest.raises(AssertionError):
        test_gpu_backend.test_batches_arrive_as_they_were(what == "synchronize", monkeypatch)


def test_the_guards() -> None:
    """A write beyond an array is noticed, and so are arguments that a launch would garble."""
    source = emulation.source().replace("count) out[k] = a[k]", "count) out[k + 1] = a[k]")
    library = host_kernels.library(source, "float", "int")
    a, out = np.ones(4, np.float32), np.zeros(4, np.float32)
    with pytest.raises(AssertionError, match="out was written beyond its ends"):
        library.run("relu", 1, 32, (np.int64(4), out, a))
    with pytest.raises(AssertionError, match="count is int32, not int64"):
        library.run("relu", 1, 32, (np.int32(4), out, a))
    with pytest.raises(AssertionError, match="a has gaps"):
        library.run("relu", 1, 32, (np.int64(2), out, a[::2]))
