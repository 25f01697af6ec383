"""Record a session of `openai2 chat` as a picture: python docs/record_chat.py [FILE.svg]

A pseudo-terminal types into the real command, which talks to the built-in server; what its screen shows at
the end becomes text in an SVG. No key is needed, and nothing outside a temporary folder is touched.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from html import escape
from pathlib import Path
from unicodedata import east_asian_width

import pexpect
import pyte

COLUMNS, ROWS = 80, 42
WIDE, HIGH, MARGIN = 8.4, 18, 16
TYPED = (
    "自然数50的后面是几?",
    "再往后是几?",
    "/undo",
    "/redo",
    "/pin 0",
    # Alt-Enter between the lines of a question.
    "\x1b\r".join(
        [
            *("**Bold** and `code`:", ""),
            *("```python", "def after(number: int) -> int:", "    return number + 1", "```", ""),
            *("- one", "- two"),
        ]
    ),
    "/edit 2",
)
COLOURS = {
    "default": "#d8dee9",
    "black": "#4c566a",
    "red": "#bf616a",
    "green": "#a3be8c",
    "brown": "#ebcb8b",
    "yellow": "#ebcb8b",
    "blue": "#81a1c1",
    "magenta": "#b48ead",
    "cyan": "#88c0d0",
    "white": "#e5e9f0",
    "brightblack": "#7b88a1",
    "brightred": "#d08770",
    "brightgreen": "#b4d19c",
    "brightyellow": "#f0d399",
    "brightblue": "#9bb8d8",
    "brightmagenta": "#c895bf",
    "brightcyan": "#8fbcbb",
    "brightwhite": "#eceff4",
}


class Screen(pyte.Screen):
    """A screen that answers where its cursor is."""

    child: pexpect.spawn[str]

    def write_process_input(self, data: str) -> None:
        self.child.send(data)


def record() -> Screen:
    """The screen at the end of the session."""
    screen = Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "OPENAI2_HOME": home,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "XTERM_VERSION": "XTerm(390)",
        }
        screen.child = pexpect.spawn(
            sys.executable,
            ["-m", "openai2", "newchat", "--offline", "-c", "tutorial"],
            env=environment,  # type: ignore[arg-type]  # its stub wants what os.environ is
            cwd=root,
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
        )

        def settle(seconds: float) -> None:
            """Read for so long; the status line is never quite still."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                try:
                    stream.feed(screen.child.read_nonblocking(4096, timeout=left))
                except pexpect.TIMEOUT:
                    return

        settle(4)
        for line in TYPED:
            screen.child.send(line)
            settle(0.5)
            screen.child.send("\r")
            settle(8 if "\r" in line else 2.5)
        screen.child.close(force=True)
    return screen


def svg(screen: Screen) -> str:
    """The screen as a picture: a text element for each run of characters that look alike."""
    width, height = COLUMNS * WIDE + 2 * MARGIN, ROWS * HIGH + 2 * MARGIN
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}">',
        f'<g font-family="{fonts}" font-size="14">',
        "<title>A session of openai2 chat</title>",
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#2e3440"/>',
    ]
    for row in range(ROWS):
        column = 0
        while column < COLUMNS:
            cell = screen.buffer[row][column]
            text, start = "", column
            while column < COLUMNS and _look(screen.buffer[row][column]) == _look(cell):
                data = screen.buffer[row][column].data
                wide = bool(data) and east_asian_width(data[0]) in "WF"
                if text and wide != (east_asian_width(text[0]) in "WF"):
                    break  # another font: it begins at a place of its own
                text += data
                column += 2 if wide else 1
            parts += _run(text, start, column, row, cell)
    return "\n".join([*parts, "</g>", "</svg>\n"])


def _look(cell: pyte.screens.Char) -> tuple[str, bool, bool]:
    return cell.fg, cell.bold, cell.reverse


def _run(text: str, start: int, end: int, row: int, cell: pyte.screens.Char) -> list[str]:
    x, y = MARGIN + start * WIDE, MARGIN + row * HIGH
    colour, found = COLOURS.get(cell.fg, COLOURS["default"]), []
    if cell.reverse:
        found.append(
            f'<rect x="{x:.1f}" y="{y}" width="{(end - start) * WIDE:.1f}" height="{HIGH}" fill="{colour}"/>'
        )
        colour = "#2e3440"
    if text.strip():
        weight = ' font-weight="bold"' if cell.bold else ""
        found.append(
            f'<text x="{x:.1f}" y="{y + 13}" fill="{colour}"{weight} xml:space="preserve" '
            f'textLength="{(end - start) * WIDE:.1f}">{escape(text)}</text>'
        )
    return found


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "chat.svg")
    target.write_text(svg(record()), encoding="utf-8")
