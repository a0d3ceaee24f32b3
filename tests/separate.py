"""Run a program in a process of its own: a crash or a hang is then a failed test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cyconv

FOLDERS = [str(Path(cyconv.__file__).parents[1]), str(Path(__file__).parent)]


def in_a_process(program: str, timeout: float, **environment: str) -> str:
    """What the program prints; it may import cyconv and what lies beside the tests.

    Fails if it takes more than `timeout` seconds, warns, or ends in any way but well.
    """
    paths = [*FOLDERS, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
    )
    assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return done.stdout


def resident() -> int:
    """Bytes of memory that this process has in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def most_resident() -> int:
    """Bytes of memory that this process has ever had in use (Linux).

    Not getrusage's ru_maxrss: that remembers the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
