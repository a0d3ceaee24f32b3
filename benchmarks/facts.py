"""What is recorded beside each timing."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import cyconv as cc


@cache
def commit() -> str:
    """The commit that was measured; "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def facts(who: str, macs: int, benchmark: Any) -> dict[str, Any]:
    """Backend, threads, instruction set, commit and, if it was timed, GFLOP/s at best."""
    found = {
        "backend": who if who in ("torch", "numpy") else cc.backends.backend_name(),
        "threads": cc.get_num_threads(),
        "instruction_set": dict(cc.config.describe()).get("instruction set", "numpy"),
        "commit": commit(),
    }
    if benchmark.stats is not None:
        found["gflops"] = round(2 * macs / benchmark.stats.stats.min / 1e9, 1)
    return found
