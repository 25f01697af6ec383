"""Redraw the live lines at the end of the screen; finished lines scroll away.

Invariants:
- Only changed lines are written, in one write, so that nothing flickers.
- The cursor is at the end of the last live line, or at the start of an empty line if there is no live line.
- When a terminal gets narrower, it wraps long lines (most terminals) or cuts them (xterm, the Linux console).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from openai2.cli.terminal.markdown import Line

# Synchronized output: the terminal draws the text between these at once, or ignores them.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"


def breaks_lines() -> bool:
    """Return True if the terminal wraps long lines when it gets narrower."""
    return not os.environ.get("XTERM_VERSION") and os.environ.get("TERM") != "linux"


class Region:
    """The live lines at the end of the screen."""

    def __init__(self, stream: TextIO, *, breaks: bool | None = None) -> None:
        self._stream = stream
        self._breaks = breaks_lines() if breaks is None else breaks
        self._live: list[Line] = []

    def put(self, finished: Sequence[Line], live: Sequence[Line], columns: int) -> None:
        """Replace the live lines by *finished* and *live*; *columns* is the current width of the terminal."""
        new = [*finished, *live]
        common = 0
        while common < min(len(new), len(self._live)) and new[common] == self._live[common]:
            common += 1
        if live and common == len(new):
            if common == len(self._live):  # the lines stay, more of them are finished
                self._live = list(live)
                return
            common -= 1  # rewrite the last line, so that the cursor ends behind it
        written = self._back_to(common, columns)
        written += "".join(f"{line.painted}\x1b[K\r\n" for line in new[common:])
        if live:
            written = written.removesuffix("\r\n")
        self._live = list(live)
        if not written:
            return
        self._stream.write(_BEGIN + written + _END)
        self._stream.flush()

    def _back_to(self, place: int, columns: int) -> str:
        """Return the sequence that moves back to the start of line *place* and erases from there."""
        if not self._live:
            return ""
        if place == len(self._live):
            return "\r\n"
        rows = sum(self._rows(line, columns) for line in self._live[place:])
        return (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\r\x1b[J"

    def _rows(self, line: Line, columns: int) -> int:
        """Return the number of screen rows that *line* takes."""
        return max(1, -(-line.columns // columns)) if self._breaks else 1
