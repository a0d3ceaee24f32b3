"""The command ``cyconv`` on a few images of MNIST: as a program of its own, or called from a test.

    python tests/small_cyconv.py train --epochs 2

Needs no network and no data set, and never downloads one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cyconv
from cyconv import cli, cli_train, data

TRAIN, TEST = 192, 60  # images


class FewDigits(data.ArrayDataset):
    """The first built-in images of MNIST, in its place."""

    def __init__(self, train: bool = True, root: Any = None):
        whole = data.MNIST.built_in(train)
        n = TRAIN if train else TEST
        super().__init__(whole.images[:n], whole.labels[:n], classes=whole.classes, source="a few")


def main(*arguments: str) -> int:
    """Run ``cyconv`` with these arguments in this process; returns its exit status."""
    whole = cli_train.DATASETS["mnist"]
    cli_train.DATASETS["mnist"] = FewDigits
    try:
        return cli.main(arguments)
    except SystemExit as exit:  # argparse's
        return int(exit.code or 0)
    finally:
        cli_train.DATASETS["mnist"] = whole


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the program in ``folder``; it prints into pipes."""
    return start_python(folder, str(Path(__file__).resolve()), *arguments)


def start_python(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python in which a warning is an error, and which finds cyconv and this module."""
    paths = [str(Path(cyconv.__file__).parents[1]), str(Path(__file__).resolve().parent)]
    paths.append(os.environ.get("PYTHONPATH", ""))
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
