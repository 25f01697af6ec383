"""What a terminal is sent: text made harmless, measured, cut and painted.

Rules: what comes from outside (messages, names, errors) goes through `visible` before a terminal sees
it: control characters are shown as pictures, never obeyed. Widths are counted in columns, of which a
Chinese character takes two. Paint is added last, on what is harmless already, and only for a terminal.
Nothing here imports much at once: `list` and `log` are to answer at once.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TextIO

# C0 but for tab and line end, DEL and C1; what turns the direction of writing; lines and paragraphs of
# Unicode's own; and halves of characters, which no terminal can be sent.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CLOSING = frozenset("，。、；：？！）】》」』”’…")
_PAINTS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def visible(text: str) -> str:
    """*text* with its control characters shown: `^[` for escape, `\\x9b` and the like for the others."""
    return _UNSAFE.sub(_picture, text.replace("\r\n", "\n"))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """*text* made visible on one line: line ends and other runs of space become a single space."""
    return visible(" ".join(text.split()))


def json_safe(text: str) -> str:
    """JSON with the characters that a terminal might obey written as escapes; it says the same."""
    return re.sub("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", lambda m: f"\\u{ord(m[0]):04x}", text)


def local(time: str) -> datetime:
    """The time of an event on the clock of the person."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).astimezone()


# -- widths


def _columns_of(char: str) -> int:
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """How many columns *text*, one line of it, takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def clip(text: str, columns: int) -> str:
    """*text* cut to that many columns, with … where something was cut."""
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
    """*text* filled up with spaces to that many columns."""
    return text + " " * max(0, columns - width(text))


def fold(text: str, columns: int) -> Iterator[str]:
    """The lines of *text*, none wider than *columns*; broken at a space, or anywhere in Chinese."""
    columns = max(columns, 2)
    for line in text.expandtabs(4).split("\n"):
        while width(line) > columns:
            used = end = 0
            while used + _columns_of(line[end]) <= columns:
                used += _columns_of(line[end])
                end += 1
            space = line.rfind(" ", 1, end + 1)
            # A space far back is no place to break: Chinese has none but around other words.
            if space > end // 2:
                yield line[:space]
                line = line[space + 1 :]
            else:
                end = _before_punctuation(line, end)
                yield line[:end]
                line = line[end:]
        yield line


def _before_punctuation(line: str, end: int) -> int:
    """Where to break *line*, at *end* or a little before, so that the next one does not begin with 。"""
    for place in range(end, max(end - 3, 0), -1):
        if line[place] not in _CLOSING:
            return place
    return end


def screen() -> int:
    """The columns of the terminal; 80 where there is none."""
    import shutil  # late: it brings every kind of compression along

    return max(shutil.get_terminal_size((80, 24)).columns, 12)


def table(rows: Sequence[Sequence[str]], columns: int, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """*rows* (the first is the head) in columns, two spaces apart; the last column takes what is left.

    The columns numbered in *right* are ranged right.
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
    """Whether a person looks at *stream*."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def paint(text: str, how: str, stream: TextIO | None = None) -> str:
    """*text* in a colour or weight, where *stream* (standard output) is a terminal that shows such."""
    shown = is_terminal(sys.stdout if stream is None else stream)
    if not text or not shown or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_PAINTS[how]}m{text}\x1b[0m"


def out(line: str = "", end: str = "\n") -> None:
    """Write to standard output. What comes from outside has been made `visible` by the caller."""
    sys.stdout.write(line + end)


def out_json(value: object) -> None:
    """Print *value* as JSON that is pleasant to read, and safe to."""
    import msgspec

    out(json_safe(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def note(line: str) -> None:
    """A line on standard error: whatever is neither an answer nor a result that was asked for."""
    sys.stdout.flush()
    for part in fold(visible(line), screen()) if is_terminal(sys.stderr) else (visible(line),):
        sys.stderr.write(paint(part, "dim", sys.stderr) + "\n")
    sys.stderr.flush()


def answer_text(text: str) -> str:
    """A piece of an answer for standard output: harmless on a terminal, verbatim for a program."""
    return visible(text) if is_terminal(sys.stdout) else text
