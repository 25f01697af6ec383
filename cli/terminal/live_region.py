"""The end of the screen that may still change: what is finished scrolls away, the rest is redrawn.

Rules: only what has changed is written, in one piece, so that nothing flickers. The cursor rests at the end
of the last line that may change; without one, at the start of an empty line. After the terminal was made
narrower, the lines on it may have been broken by it (most do so) or cut off (xterm, the Linux console).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from openai2.cli.terminal.markdown import Line

# Terminals that know these draw what stands between them at once; others ignore them.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"


def breaks_lines() -> bool:
    """Whether the terminal, once made narrower, breaks the lines that are too long for it."""
    return not os.environ.get("XTERM_VERSION") and os.environ.get("TERM") != "linux"


class Region:
    """The lines at the end of the screen that may still change."""

    def __init__(self, stream: TextIO, *, breaks: bool | None = None) -> None:
        self._stream = stream
        self._breaks = breaks_lines() if breaks is None else breaks
        self._live: list[Line] = []

    def put(self, finished: Sequence[Line], live: Sequence[Line], columns: int) -> None:
        """Let the lines that may change make way for these; *columns* is the width of the terminal now."""
        new = [*finished, *live]
        common = 0
        while common < min(len(new), len(self._live)) and new[common] == self._live[common]:
            common += 1
        if live and common == len(new):
            if common == len(self._live):  # what was there stays, only more of it is finished
                self._live = list(live)
                return
            common -= 1  # the cursor is to rest at the end of a line
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
        """From the end of the last line to the start of that one, all from there on erased."""
        if not self._live:
            return ""
        if place == len(self._live):
            return "\r\n"
        rows = sum(self._rows(line, columns) for line in self._live[place:])
        return (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\r\x1b[J"

    def _rows(self, line: Line, columns: int) -> int:
        """How many rows of the screen the line takes."""
        return max(1, -(-line.columns // columns)) if self._breaks else 1
