"""A progress bar on a terminal; elsewhere, as in a log file, a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .train import Progress

BETWEEN_LINES = 30.0  # seconds
BETWEEN_TEXTS = 0.1
FORMAT = (
    "{desc}: {percentage:3.0f} % |{bar}| {n_fmt} of {total_fmt} [{elapsed}<{remaining}{postfix}]"
)


def on_terminal() -> bool:
    """Whether somebody sees what is written to stderr, which may not be there at all."""
    return sys.stderr is not None and sys.stderr.isatty()


class Bar:
    """A bar on stderr for the batches of each epoch. Its ``with`` block wipes it at the end.

    ``batches`` is their number in an epoch, None if it is unknown. Nothing appears, nor is anything
    printed, if not ``shown``.
    """

    def __init__(self, epochs: int, batches: int | None, *, shown: bool = True):
        self.epochs = epochs
        self.batches = batches
        self.shown = shown
        self.terminal = shown and on_terminal()
        self.bar: Any = None  # tqdm's
        self.last = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wipe()

    def update(self, now: Progress) -> None:
        """One more batch is done."""
        if not self.shown:
            return
        if self.terminal and self.bar is None:
            self._open(now)
        wait = time.monotonic() - self.last
        if wait >= (BETWEEN_TEXTS if self.terminal else BETWEEN_LINES):
            self.last += wait
            speed = now.images / max(now.seconds, 1e-9)
            text = f"loss {now.history.losses[-1]:#.4g}, {speed:,.0f} images/s"
            if self.terminal:
                self.bar.set_postfix_str(text, refresh=False)
            else:
                of = "" if self.batches is None else f" of {self.batches}"
                line = f"Epoch {now.epoch}: batch {now.batch}{of}, {text}"
                print(line, file=sys.stderr, flush=True)
        if self.terminal:
            self.bar.update()

    def say(self, what: str) -> None:
        """Show what is going on after the last batch."""
        if self.bar is not None:
            self.bar.set_postfix_str(what)

    def print(self, line: str) -> None:
        """End the epoch: the line on stdout takes the bar's place."""
        self._wipe()
        if self.shown:
            print(line, flush=True)

    def _open(self, now: Progress) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=self.batches,
            initial=now.batch - 1,
            desc=f"Epoch {now.epoch} (of {self.epochs})",
            bar_format=FORMAT if self.batches else None,
            leave=False,
            dynamic_ncols=True,
        )

    def _wipe(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
