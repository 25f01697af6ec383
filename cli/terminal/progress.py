"""How far something is that takes long: one line on standard error, where a person looks at it.

Rules: nothing is drawn in the first half second, nor where standard error is no terminal; what was drawn is
wiped away before anything else is said.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from openai2.cli.terminal.text import clip, is_terminal, screen, visible

Report = Callable[[int, int], None]

#: Seconds before the line appears, and between two drawings of it.
PATIENCE, PACE = 0.5, 0.1
_BAR = 24  # columns


class Line:
    """The line, while there is one."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._due = time.monotonic() + PATIENCE
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """So much is done, of so much."""
        self.show(done, total, "")

    def show(self, done: int, total: int, more: str) -> None:
        """The same, with a word on what it is at."""
        now = time.monotonic()
        if now < self._due or not is_terminal(sys.stderr):
            return
        self._due = now + PACE
        self._shown = True
        share = min(done / total, 1.0) if total > 0 else 0.0
        filled = round(share * _BAR)
        text = f"{self._label} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {more}".rstrip()
        sys.stderr.write("\r" + clip(visible(text), screen() - 1) + "\x1b[K")
        sys.stderr.flush()

    def wipe(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def progress(label: str) -> Generator[Line, None, None]:
    """A line for the time of the block, to be called with (done, total)."""
    line = Line(label)
    try:
        yield line
    finally:
        line.wipe()
