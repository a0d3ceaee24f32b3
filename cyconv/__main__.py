"""``python -m cyconv`` is the command ``cyconv``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from .cli import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
