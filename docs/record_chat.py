"""Record a session of `openai2 chat` as a picture: python docs/record_chat.py [FILE.svg]

Run the command on a pseudo-terminal with the offline server, type lines into it, and write the final
screen as text in an SVG. It needs no key, and stores data in a temporary folder only.
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
CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 16
INPUT_LINES = (
    "自然数50的后面是几?",
    "再往后是几?",
    "/undo",
    "/redo",
    "/pin 0",
    # A question of several lines, separated by Alt-Enter.
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
    """A screen that answers queries of the cursor position."""

    child: pexpect.spawn[str]

    def write_process_input(self, data: str) -> None:
        self.child.send(data)


def record() -> Screen:
    """Run the session and return its final screen."""
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
            env=environment,  # type: ignore[arg-type]  # the stub expects the type of os.environ
            cwd=root,
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
        )

        def read_for(seconds: float) -> None:
            """Read output for *seconds*. The status line refreshes, so the output never ends by itself."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                try:
                    stream.feed(screen.child.read_nonblocking(4096, timeout=left))
                except pexpect.TIMEOUT:
                    return

        read_for(4)
        for line in INPUT_LINES:
            screen.child.send(line)
            read_for(0.5)
            screen.child.send("\r")
            read_for(8 if "\r" in line else 2.5)
        screen.child.close(force=True)
    return screen


def svg(screen: Screen) -> str:
    """Return the screen as SVG, with a text element for each run of characters of the same style."""
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * LINE_HEIGHT + 2 * MARGIN
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
            while column < COLUMNS and _style(screen.buffer[row][column]) == _style(cell):
                data = screen.buffer[row][column].data
                wide = bool(data) and east_asian_width(data[0]) in "WF"
                if text and wide != (east_asian_width(text[0]) in "WF"):
                    break  # CJK uses another font: position it separately
                text += data
                column += 2 if wide else 1
            parts += _run(text, start, column, row, cell)
    return "\n".join([*parts, "</g>", "</svg>\n"])


def _style(cell: pyte.screens.Char) -> tuple[str, bool, bool]:
    return cell.fg, cell.bold, cell.reverse


def _run(text: str, start: int, end: int, row: int, cell: pyte.screens.Char) -> list[str]:
    x, y, width = MARGIN + start * CELL_WIDTH, MARGIN + row * LINE_HEIGHT, (end - start) * CELL_WIDTH
    colour, elements = COLOURS.get(cell.fg, COLOURS["default"]), []
    if cell.reverse:
        elements.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE_HEIGHT}" fill="{colour}"/>'
        )
        colour = "#2e3440"
    if text.strip():
        weight = ' font-weight="bold"' if cell.bold else ""
        elements.append(
            f'<text x="{x:.1f}" y="{y + 13}" fill="{colour}"{weight} xml:space="preserve" '
            f'textLength="{width:.1f}">{escape(text)}</text>'
        )
    return elements


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "chat.svg")
    target.write_text(svg(record()), encoding="utf-8")
