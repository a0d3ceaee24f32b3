"""A progress bar on a terminal; elsewhere, as in a log file, a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

BETWEEN_LINES = 30.0  # seconds


class Bar:
    """The batches of one epoch, on stderr. Use it in a ``with`` block: that wipes it at the end."""

    def __init__(
        self, epoch: int, epochs: int, batches: int | None, done: int = 0, *, shown: bool = True
    ):
        self.title = f"Epoch {epoch}" if epochs > 1 else "Epoch"
        self.batches = batches
        self.done = done
        self.bar: Any = None
        self.lines = shown and not sys.stderr.isatty()
        self.last_line = time.monotonic()
        if shown and not self.lines:
            from tqdm import tqdm

            self.bar = tqdm(
                total=batches,
                initial=done,
                desc=self.title,
                unit="batch",
                leave=False,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, loss: float | None, images_per_second: float) -> None:
        """One more batch is done; ``loss`` is the moving loss."""
        self.done += 1
        if self.bar is not None:
            if time.monotonic() - self.last_line >= 0.1:
                self.last_line = time.monotonic()
                text = f"loss {loss:.4f}, {images_per_second:,.0f} images/s"
                self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif self.lines and time.monotonic() - self.last_line >= BETWEEN_LINES:
            self.last_line = time.monotonic()
            of = "" if self.batches is None else f" of {self.batches}"
            print(
                f"{self.title}: batch {self.done}{of}, loss {loss:.4f}, "
                f"{images_per_second:,.0f} images/s",
                file=sys.stderr,
                flush=True,
            )

    def say(self, what: str) -> None:
        """Show what is going on after the last batch."""
        if self.bar is not None:
            self.bar.set_postfix_str(what)
