"""Hypothesis strategies: geometry that is valid by construction, and values from a seed.

The kernel, stride, dilation, padding and output size are drawn freely; the input size follows from
them, so nothing is thrown away. Batch and channel counts reach past the vector widths and register
blocks of the kernels, so that their tails run too.

`CYCONV_TEST_PROFILE=thorough` draws many more cases, and new ones in every run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("quick", max_examples=80, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=1500, **_COMMON)
settings.register_profile("few", max_examples=12, derandomize=True, database=None, **_COMMON)
PROFILE = os.environ.get("CYCONV_TEST_PROFILE", "quick")
settings.load_profile(PROFILE)

BATCHES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 19, 31, 32, 33, 40])
CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 16, 23, 24, 25])
DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Conv:
    """Shapes and options of one convolution; `seed` makes its values."""

    x_shape: tuple[int, int, int, int]
    w_shape: tuple[int, int, int, int]
    bias: bool
    options: dict[str, Any]
    dtype: str
    seed: int


@dataclass(frozen=True)
class Pool:
    """Shape and options of one pooling."""

    x_shape: tuple[int, int, int, int]
    kernel_size: Any
    options: dict[str, Any]
    dtype: str
    seed: int


def normal(seed: int, dtype: Any, *shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    """Standard normal arrays."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def one_or_two(low: int, high: int) -> SearchStrategy[Any]:
    """An int, or a pair of them."""
    number = st.integers(low, high)
    return st.one_of(number, st.tuples(number, number))


def paddings(most: tuple[int, int]) -> SearchStrategy[Any]:
    """Padding in each of its three forms, at most `most` in each direction."""
    rows, columns = st.integers(0, most[0]), st.integers(0, most[1])
    return st.one_of(
        st.integers(0, min(most)),
        st.tuples(rows, columns),
        st.tuples(st.tuples(rows, rows), st.tuples(columns, columns)),
    )


def both(value: Any) -> tuple[Any, Any]:
    """An int or a pair as a pair."""
    return (value, value) if isinstance(value, int) else value


@st.composite
def input_sizes(
    draw: DrawFn, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[int, int]:
    """(H, W) that give 1 to 5 outputs, with some pixels left over. Never too small."""
    size = []
    for k, s, p, d in zip(both(kernel), both(stride), both(padding), both(dilation), strict=True):
        out, rest = draw(st.integers(1, 5)), draw(st.integers(0, s - 1))
        size.append(max(1, (out - 1) * s + d * (k - 1) + 1 - sum(both(p)) + rest))
    return size[0], size[1]


@st.composite
def convs(draw: DrawFn, dtypes: SearchStrategy[str] = DTYPES) -> Conv:
    """Any valid conv2d: asymmetric padding, dilation, groups up to depthwise."""
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride, dilation = draw(one_or_two(1, 3)), draw(one_or_two(1, 3))
    padding = draw(paddings((4, 4)))
    size = draw(input_sizes(kernel, stride, padding, dilation))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    c_group, f_group = draw(CHANNELS), draw(CHANNELS)
    if groups > 1:
        c_group, f_group = min(c_group, 4), min(f_group, 5)
    return Conv(
        x_shape=(draw(BATCHES), groups * c_group, *size),
        w_shape=(groups * f_group, c_group, *kernel),
        bias=draw(st.booleans()),
        options={"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
        dtype=draw(dtypes),
        seed=draw(SEEDS),
    )


@st.composite
def transposed_convs(draw: DrawFn) -> Conv:
    """Any valid conv_transpose2d; padding is kept below what would leave no output."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c_group, f_group = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    size = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride, dilation = draw(one_or_two(1, 3)), draw(one_or_two(1, 3))
    s, d = both(stride), both(dilation)
    extra = tuple(draw(st.integers(0, max(s[i], d[i]) - 1)) for i in range(2))
    full = [(size[i] - 1) * s[i] + d[i] * (kernel[i] - 1) + 1 + extra[i] for i in range(2)]
    padding = draw(paddings(((full[0] - 1) // 2, (full[1] - 1) // 2)))
    return Conv(
        x_shape=(draw(BATCHES), groups * c_group, *size),
        w_shape=(groups * c_group, f_group, *kernel),
        bias=draw(st.booleans()),
        options={
            "stride": stride,
            "padding": padding,
            "output_padding": extra,
            "dilation": dilation,
            "groups": groups,
        },
        dtype=draw(DTYPES),
        seed=draw(SEEDS),
    )


@st.composite
def pools(draw: DrawFn, dilated: bool) -> Pool:
    """Any valid pooling; `dilated` draws max pooling's options, else average pooling's."""
    kernel_size = draw(one_or_two(1, 4))
    kernel = both(kernel_size)
    stride = draw(st.one_of(st.none(), one_or_two(1, 4)))
    dilation = draw(one_or_two(1, 3)) if dilated else 1
    padding = draw(paddings((kernel[0] // 2, kernel[1] // 2)))
    step = kernel if stride is None else stride
    size = draw(input_sizes(kernel, step, padding, dilation))
    options = {"stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}
    if dilated:
        options["dilation"] = dilation
    else:
        options["count_include_pad"] = draw(st.booleans())
    return Pool(
        x_shape=(draw(BATCHES), draw(st.integers(1, 5)), *size),
        kernel_size=kernel_size,
        options=options,
        dtype=draw(DTYPES),
        seed=draw(SEEDS),
    )
