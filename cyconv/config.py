"""Threads, and what was built: ``set_num_threads`` and ``show_config``."""

from __future__ import annotations

import os
import platform

import numpy as np

from . import backends
from .arguments import integer


def default_num_threads() -> int:
    """OMP_NUM_THREADS if set, else the processors that this process may use.

    Those are the ones of its affinity mask, at most its control group's quota (rounded up).
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(processors, processors if quota is None else -int(-quota // 1)))


def _cgroup_quota() -> float | None:
    """Processors that the control group grants (version 2, then 1); None without a limit."""
    try:
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
    except (OSError, ValueError):
        try:
            quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
            period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None


MOST_THREADS = 1024
_most_here = MOST_THREADS


def _read(path: str) -> str:
    with open(path) as file:  # pathlib takes a while to import
        return file.read()


_num_threads = min(default_num_threads(), MOST_THREADS)


def get_num_threads() -> int:
    """How many threads the compiled kernels use.

    At first as many as OMP_NUM_THREADS says, else as this process has processors.

    >>> import cyconv as cc
    >>> cc.get_num_threads() >= 1
    True
    """
    return _num_threads


def set_num_threads(n: int) -> None:
    """Use ``n`` threads in the compiled kernels; results do not depend on it.

    A process that was forked stays at one.

    Parameters
    ----------
    n : int from 1 to 1,024

    Raises
    ------
    TypeError : n is no integer
    ValueError : it is out of that range

    >>> import cyconv as cc
    >>> before = cc.get_num_threads()
    >>> cc.set_num_threads(1)
    >>> cc.get_num_threads()
    1
    >>> cc.set_num_threads(before)
    """
    global _num_threads
    _num_threads = min(integer("set_num_threads: n", n, 1, MOST_THREADS), _most_here)


def _after_fork() -> None:
    # libgomp's thread pool does not survive fork: a second parallel region would hang the child
    global _num_threads, _most_here
    _num_threads = _most_here = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def describe() -> list[tuple[str, str]]:
    """What was built and what is in use, as (name, value) pairs."""
    from . import __version__

    rows = [
        ("cyconv", __version__),
        ("python", platform.python_version()),
        ("numpy", np.__version__),
        ("machine", platform.machine()),
        ("backend", backends.backend_name()),
    ]
    if backends.backend_name() == "cython":
        rows += backends.backend_of(None).describe()
    elif backends.missing_reason():
        rows.append(("compiled backend", f"not available: {backends.missing_reason()}"))
    else:
        rows.append(("compiled backend", "not in use: the NumPy backend was chosen"))
    return [*rows, ("threads", str(get_num_threads())), ("gpu", backends.describe_gpu())]


def show_config() -> None:
    """Print versions, the backend and why it was chosen, the instruction set and the threads.

    >>> import cyconv as cc
    >>> cc.show_config()  # doctest: +ELLIPSIS
    cyconv ...
    threads ...
    gpu ...
    """
    for name, value in describe():
        print(f"{name:18}{value}")
