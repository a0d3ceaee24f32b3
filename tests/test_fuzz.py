"""Arguments of every kind, thrown at everything public: refused with words, or taken."""

from __future__ import annotations

import ast
import os
import sys

import numpy as np
import pytest
from fuzzing import NOT_CALLED, targets
from separate import in_a_process

import cyconv as cc

ROUNDS = 2000 if os.environ.get("CYCONV_TEST_PROFILE") == "thorough" else 60


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="old NumPy warns a lot")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a process's memory")
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_arguments(seed: int) -> None:
    program = f"import fuzzing; fuzzing.main({seed}, {ROUNDS})"
    counts = ast.literal_eval(in_a_process(program, 60 + ROUNDS, OMP_NUM_THREADS="1"))
    refusals = sum(counts.get(kind, 0) for kind in ("ValueError", "TypeError", "RuntimeError"))
    assert counts["returned"] > 1000 and refusals > 1000  # neither too tame nor too wild


def test_everything_public_is_called() -> None:
    called = {name for name, _ in targets()}
    assert {f"ops.{name}" for name in cc.ops.__all__} <= called
    functions = {name for name in cc.__all__ if callable(getattr(cc, name))}
    assert functions - NOT_CALLED <= called
    assert {"Tensor.__add__", "Tensor.__getitem__", "Tensor.backward", "nn.Conv2d"} <= called


HUGE_WINDOWS = """
    import cyconv as cc

    x = cc.zeros(2, 1, 3, 4).attach_grad()
    most = 2**31 - 1
    for kernel in ((1, most), (most, 1), (46340, 46340)):
        padding = tuple(size // 2 for size in kernel)
        for pool in (cc.ops.max_pool2d, cc.ops.avg_pool2d):
            with cc.record():
                y = pool(x, kernel, padding=padding, stride=1)
            y.backward()
    print("done")
"""


def test_windows_far_larger_than_the_image() -> None:
    """Padding may make them fit; only the part inside the image may cost time."""
    assert in_a_process(HUGE_WINDOWS, 20) == "done\n"
