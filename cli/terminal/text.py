"""Text for a terminal: escape, measure, cut, fold and colour it.

Invariants:
- Text from outside (messages, names, errors) passes through `visible` before a terminal gets it: control
  characters are shown, never executed.
- Widths are counted in columns. A Chinese character takes two.
- Colour is added last, to escaped text, and only for a terminal.
- The module imports little, because `list` and `log` depend on it.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TextIO

# C0 except tab and line feed, DEL and C1; marks of writing direction; Unicode's line and paragraph
# separators; and lone surrogates, which cannot be encoded.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLOSING = frozenset("，。、；：？！）】》」』”’…")
_PAINTS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def visible(text: str) -> str:
    """Return *text* with control characters escaped: `^[` for escape, `\\x9b` and so on for C1."""
    return _UNSAFE.sub(_picture, text.replace("\r\n", "\n"))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """Return *text* escaped, on one line: each run of white space becomes one space."""
    return visible(" ".join(text.split()))


def json_safe(text: str) -> str:
    """Return equivalent JSON in which the characters that a terminal might execute are escaped."""
    return re.sub("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", lambda m: f"\\u{ord(m[0]):04x}", text)


def local(time: str) -> datetime:
    """Return the time of an event in the local time zone; the year 1 if it is damaged and no time."""
    try:
        return datetime.fromisoformat(time.replace("Z", "+00:00")).astimezone()
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=timezone.utc)


# -- widths


def _columns_of(char: str) -> int:
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Return the number of columns that *text*, a single line, takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def clip(text: str, columns: int) -> str:
    """Return *text* cut to *columns*, ending in … if it was cut."""
    if width(text) <= columns:
        return text
    used, kept = 1, ""
    for char in text:
        used += _columns_of(char)
        if used > columns:
            break
        kept += char
    return kept + "…"


def pad(text: str, columns: int) -> str:
    """Return *text* padded with spaces to *columns*."""
    return text + " " * max(0, columns - width(text))


def fold(text: str, columns: int) -> Iterator[str]:
    """Yield the lines of *text*, none wider than *columns*. Break at a space, or anywhere in Chinese text."""
    columns = max(columns, 2)
    for line in text.expandtabs(4).split("\n"):
        while width(line) > columns:
            used = end = 0
            while used + _columns_of(line[end]) <= columns:
                used += _columns_of(line[end])
                end += 1
            space = line.rfind(" ", 1, end + 1)
            # Chinese has spaces only around foreign words, so a space far back is ignored.
            if space > end // 2:
                yield line[:space]
                line = line[space + 1 :]
            else:
                end = _before_punctuation(line, end)
                yield line[:end]
                line = line[end:]
        yield line


def _before_punctuation(line: str, end: int) -> int:
    """Return where to break *line*, at most three characters before *end*, so that no line begins with 。"""
    for place in range(end, max(end - 3, 0), -1):
        if line[place] not in _CLOSING:
            return place
    return end


def screen() -> int:
    """Return the width of the terminal in columns, 80 if there is none."""
    import shutil  # late: it imports every compression module

    return max(shutil.get_terminal_size((80, 24)).columns, 12)


def output_columns() -> int:
    """Return the width for lines on standard output: the terminal's, or no limit if it is not a terminal."""
    return screen() if is_terminal(sys.stdout) else 1_000_000


def table(rows: Sequence[Sequence[str]], columns: int, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield *rows* (the first is the header) in columns, two spaces apart; the last column takes the rest.

    *right* holds the numbers of the columns that are aligned right.
    """
    if not rows:
        return
    wide = [max(width(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    for row in rows:
        line = ""
        for place, cell in enumerate(row[:-1]):
            blank = " " * (wide[place] - width(cell))
            line += (blank + cell if place in right else cell + blank) + "  "
        yield (line + clip(row[-1], max(4, columns - width(line)))).rstrip()


# -- streams


def is_terminal(stream: TextIO) -> bool:
    """Return True if *stream* is a terminal."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def paint(text: str, how: str, stream: TextIO | None = None) -> str:
    """Return *text* in a colour or weight if *stream* (default: standard output) shows colours."""
    shown = is_terminal(sys.stdout if stream is None else stream)
    if not text or not shown or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_PAINTS[how]}m{text}\x1b[0m"


def out(line: str = "", end: str = "\n") -> None:
    """Write to standard output. The caller has passed text from outside through `visible`."""
    sys.stdout.write(line + end)


def out_json(value: object) -> None:
    """Print *value* as indented JSON that is safe on a terminal."""
    import msgspec

    out(json_safe(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def note(line: str) -> None:
    """Print a line on standard error: everything except answers and requested results."""
    sys.stdout.flush()
    for part in fold(visible(line), screen()) if is_terminal(sys.stderr) else (visible(line),):
        sys.stderr.write(paint(part, "dim", sys.stderr) + "\n")
    sys.stderr.flush()


def answer_text(text: str) -> str:
    """Return a piece of an answer for standard output: escaped on a terminal, verbatim in a pipe."""
    return visible(text) if is_terminal(sys.stdout) else text
