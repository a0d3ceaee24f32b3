"""The tests of the operations once more, on the GPU backend over the emulation of CuPy.

The kernels' source and the Python that launches them are what is tested, against the same oracle,
recorded values and bounds and over the same geometry as the CPU's kernels; CuPy's own functions are
NumPy's here, and there is no GPU (`tests/gpu` is for one).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import emulation
import host_kernels
import pytest
import running
import strategies
from gpu_suite import OPERATIONS, borrowed
from hypothesis import settings

if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once: it does not use the kernels for the CPU", allow_module_level=True)
if not host_kernels.compiler():
    pytest.skip("no C compiler", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[None]:
    settings.load_profile("few")
    with emulation.emulated():
        running.device = "cuda"
        yield
        running.device = "cpu"
    settings.load_profile(strategies.PROFILE)


tests = borrowed(OPERATIONS)
del tests["test_winograd__ops_conv"]  # which is im2col here
del tests["test_conv2d_larger_than_scratch_memory__ops_conv"]  # test_gpu_backend has it, small
globals().update(tests)


def test_the_gpu_backend_was_at_work() -> None:
    """Runs last; else all the tests above would prove nothing."""
    assert set(emulation.launched) == set(host_kernels.signatures(emulation.source())) - {
        "sgd_step",
        "adam_step",
    }
