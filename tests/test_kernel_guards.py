"""The compiled kernels called with garbage: an exception, never a crash nor a stray write."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from kernel_calls import calls
from separate import in_a_process

from cyconv import backends, kernels

if backends.backend_name() != "cython":
    pytest.skip(f"no compiled kernels: {backends.missing_reason()}", allow_module_level=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_garbage_is_refused(dtype: str) -> None:
    printed = in_a_process(
        f"import kernel_garbage; kernel_garbage.main({dtype!r}, 1)", 900, OMP_NUM_THREADS="2"
    )
    refused, taken = map(int, printed.split())
    assert refused > 4000 and taken < refused / 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_that_share_memory_cause_no_crash(dtype: str) -> None:
    in_a_process(f"import kernel_garbage; kernel_garbage.overlapping({dtype!r})", 60)


def test_optimisers_refuse_lists_that_do_not_fit() -> None:
    step = kernels.Kernels(kernels.choose())["f"].elementwise.sgd_step
    w, how = [np.ones((2, 3), "f"), np.ones(40_000, "f")], (0.5, 0.5, 0.0, 0.0, False, 2)
    for grads, velocities in (
        (w[:1], [None, None]),
        (w, [None]),
        (w, None),
        (w, w[:1]),
        (w[::-1], [None, None]),
        ([*w[:1], None], [None, None]),
        (w, [*w[:1], np.ones(40_000)]),
        (5, [None, None]),
    ):
        with pytest.raises((TypeError, ValueError)):
            step(w, grads, velocities, *how)
    adam = kernels.Kernels(kernels.choose())["f"].elementwise.adam_step
    for ms, vs in ((w, None), (None, w), (w, [*w[:1], None]), ([*w[:1], None], w), (w, w[:1])):
        with pytest.raises((TypeError, ValueError)):
            adam(w, w, ms, vs, 1, 0.5, 0.5, 0.5, 0.5, 0.0, False, 2)
    assert all((a == 1).all() for a in w)
    step(w, [np.full_like(a, 2) for a in w], [None, None], *how)
    assert not any(a.any() for a in w)


def test_no_entry_is_missing() -> None:
    modules = kernels.Kernels(kernels.choose())["f"]
    entries = {
        f"{name}.{entry}"
        for name, module in vars(modules).items()
        for entry, value in vars(module).items()
        if callable(value) and not entry.startswith("_") and not inspect.isclass(value)
    }
    assert entries == {name.split()[0] for name in calls(modules, "float32")}
