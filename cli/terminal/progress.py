"""A progress line on standard error.

Invariants: nothing is drawn during the first half second, or if standard error is not a terminal. The line is
erased before anything else is printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from openai2.cli.terminal.text import clip, is_terminal, screen, visible

Report = Callable[[int, int], None]

#: Seconds before the line appears, and between two updates.
DELAY, INTERVAL = 0.5, 0.1
_BAR = 24  # columns


class Line:
    """The progress line of one task."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._due = time.monotonic() + DELAY
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """Show that *done* of *total* steps are done."""
        self.show(done, total, "")

    def show(self, done: int, total: int, detail: str) -> None:
        """Show that *done* of *total* steps are done, and the current *detail*."""
        now = time.monotonic()
        if now < self._due or not is_terminal(sys.stderr):
            return
        self._due = now + INTERVAL
        self._shown = True
        share = min(done / total, 1.0) if total > 0 else 0.0
        filled = round(share * _BAR)
        text = f"{self._label} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {detail}".rstrip()
        sys.stderr.write("\r" + clip(visible(text), screen() - 1) + "\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Erase the line."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def progress(label: str) -> Generator[Line, None, None]:
    """Provide a progress line for the block; call it with (done, total)."""
    line = Line(label)
    try:
        yield line
    finally:
        line.clear()
