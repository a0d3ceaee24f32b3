"""Proof that the tests see: bugs of one line each are planted in copies of the package.

Each copy must turn tests red. Runs once, with the build that import chooses: not again without
extensions nor for a forced instruction set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from bugs import KERNEL_BUGS
from bugs_numpy import NUMPY_BUGS
from bugs_other import OTHER_BUGS
from bugs_winograd import WINOGRAD_BUGS
from seeding import Bug, build, caught, plant, settings, why_not

if os.environ.get("CYCONV_NO_EXTENSIONS") or os.environ.get("CYCONV_ISA"):
    pytest.skip("runs once, with all extensions", allow_module_level=True)

IN_KERNELS = [*KERNEL_BUGS, *OTHER_BUGS, *WINOGRAD_BUGS]
Verdicts = dict[Bug, Future[bool]]


def is_caught(bug: Bug, folder: Path) -> bool:
    """Whether the tests that should see the bug do."""
    plant(bug, folder)
    if bug.modules:
        build(folder, bug.modules)
    return caught(folder, bug.caught_by, "cython" if bug.modules else "numpy")


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Verdicts]:
    """Of each bug that is to be tried, whether it is caught. Two are worked on at a time."""
    tried = [
        item.callspec.params["bug"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
    ]
    if why_not():
        tried = [bug for bug in tried if not bug.modules]
    settings()  # once, before there are threads: it changes the working directory
    with ThreadPoolExecutor(2) as pool:
        yield {bug: pool.submit(is_caught, bug, tmp_path_factory.mktemp("bug")) for bug in tried}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("bug", NUMPY_BUGS, ids=str)
def test_a_bug_in_the_numpy_backend_is_caught(bug: Bug, verdicts: Verdicts) -> None:
    assert verdicts[bug].result(), f"nothing in {bug.caught_by} failed"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("bug", IN_KERNELS, ids=str)
def test_a_bug_in_a_kernel_is_caught(bug: Bug, verdicts: Verdicts) -> None:
    assert verdicts[bug].result(), f"nothing in {bug.caught_by} failed"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_without_a_bug_nothing_fails(tmp_path: Path) -> None:
    """Else the copy, the build or the tests would be what fails above."""
    plant(None, tmp_path)
    build(tmp_path, tuple(sorted({m for bug in IN_KERNELS for m in bug.modules})))
    tests = ("test_recorded.py", "test_activation.py", "test_compiled.py")
    assert not caught(tmp_path, tests, "cython")
