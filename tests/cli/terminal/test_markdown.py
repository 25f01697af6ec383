"""Markdown while it streams: finished lines are printed once, the rest is redrawn live."""

from __future__ import annotations

import io
import re
import sys

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.cli.session.streaming import AnswerOutput, MarkdownOutput, answer_output
from openai2.cli.terminal.live_region import Region
from openai2.cli.terminal.markdown import Line, Stream

ANSWER = """# 标题 one

A paragraph with **bold**, `code` and a [link](https://example.org/x),
the second line of it 中文中文中文中文中文中文中文中文.

```python
def f(x: int) -> str:
    return f"value {x}"  # a comment that is long enough to be broken somewhere
```

- one
- two, which is long enough to be broken on any narrow screen
  1. nested

| 名字 | value |
|------|------:|
| 甲   | 1     |

> quoted

The end: <b>no HTML</b>, &#8238;turned&#8236;, \x1b[2Jcleared.
"""

PIECES = st.lists(
    st.sampled_from(
        [*"#-`*_>|1. \n\t中a", "\n\n", "```\n", "```py\n", "- ", "|a|b|\n|-|-|\n", "\x1b[2J", "\r\n"]
    ),
    max_size=60,
)


def plain(lines: list[Line]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", line.painted) for line in lines]


def whole(text: str, columns: int, rows: int = 24) -> list[str]:
    stream = Stream(columns, rows)
    stream.feed(text)
    finished, live = stream.lines(over=True)
    assert not live
    return plain(finished)


class Shown(io.StringIO):
    """A file that is a terminal, with its screen."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.001)
        self.feed = pyte.Stream(self.screen).feed

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        return len(text)

    def narrow(self, columns: int, *, breaks: bool) -> None:
        """Reduce the columns; longer lines are wrapped (*breaks*) or cut off."""
        kept, rows = self.lines, self.screen.lines
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.001)
        self.feed = pyte.Stream(self.screen).feed
        self.write("\n".join(kept if breaks else [line[:columns] for line in kept]))

    @property
    def lines(self) -> list[str]:
        above = [
            "".join(row[place].data for place in range(self.screen.columns))
            for row in self.screen.history.top
        ]
        lines = [line.rstrip() for line in [*above, *self.screen.display]]
        while lines and not lines[-1]:
            lines.pop()
        return lines


@pytest.mark.parametrize("columns", [80, 30, 20])
def test_streamed_answer_looks_like_the_complete_one(columns: int) -> None:
    expected = whole(ANSWER, columns)
    shown = Shown(columns, 12)
    stream, region = Stream(columns, 12), Region(shown, breaks=False)
    for start in range(0, len(ANSWER), 7):
        stream.feed(ANSWER[start : start + 7])
        finished, live = stream.lines()
        assert len(live) <= 10
        region.put(finished, live, columns)
    region.put(*stream.lines(over=True), columns)
    assert shown.lines == [line.rstrip() for line in expected]
    text = "\n".join(expected)
    assert "<b>no" in text and "\u202e" not in text and "\x1b" not in text
    assert all(line.columns < columns for line in stream.lines()[0])


def test_layout_of_headings_code_lists_quotes_and_tables() -> None:
    lines = whole(ANSWER, 80)
    assert lines[:2] == ["标题 one", ""]
    assert "A paragraph with bold, code and a link (https://example.org/x)," in lines  # a line stays a line
    assert lines.index("```python") + 3 == lines.index("```")
    assert " • one" in lines and "▌ quoted" in lines and " 甲        1" in lines
    assert lines[-1] == "The end: <b>no HTML</b>, \\u202eturned\\u2069, ^[[2Jcleared.".replace("2069", "202c")


@pytest.mark.parametrize("columns", [9, 12, 20, 33, 80])
@pytest.mark.parametrize("across", [1, 2, 4, 9])
def test_table_cells_are_never_cut(columns: int, across: int) -> None:
    cells = [letter * (3 + 5 * place) for place, letter in enumerate("甲乙丙丁戊abcd"[:across])]
    row = "|" + "|".join(cells) + "|\n"
    shown = "".join(whole(f"|{'head|' * across}\n|{'-|' * across}\n{row}{row}", columns))
    assert {cell[0]: shown.count(cell[0]) for cell in cells} == {
        cell[0]: 2 * len(cell) + "head".count(cell[0]) * shown.count("head") for cell in cells
    }


def test_too_wide_table_is_shown_row_by_row() -> None:
    table = "|名字|数|x|\n|-|-:|-|\n|甲|1||\n|乙|**2**|`y`|\n"
    assert whole(table, 20) == ["名字: 甲", "数: 1", "x:", "", "名字: 乙", "数: 2", "x: y"]
    assert whole("|名字|数|x|\n|-|-:|-|\n", 20) == ["名字 数 x"]


def test_colours_off_keeps_the_layout() -> None:
    stream = Stream(80, 24, colours=False)
    stream.feed(ANSWER)
    lines = stream.lines(over=True)[0]
    painted = "\n".join(line.painted for line in lines)
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", painted) for code in found.split(";")}
    assert "1" in codes and not any(code.startswith(("3", "4")) and len(code) == 2 for code in codes)
    assert plain(lines) == whole(ANSWER, 80)


@settings(max_examples=60)
@given(PIECES, st.sampled_from([80, 20, 5]))
def test_any_pieces_are_shown_completely_and_once(pieces: list[str], columns: int) -> None:
    columns = max(columns, 9)
    shown = Shown(columns, 8)
    stream, region = Stream(columns, 8), Region(shown, breaks=False)
    given_out: list[Line] = []
    for piece in pieces:
        stream.feed(piece)
        finished, live = stream.lines()
        given_out += finished
        region.put(finished, live, columns)
    finished, _live = stream.lines(over=True)
    given_out += finished
    region.put(finished, [], columns)
    lines = [line.rstrip() for line in plain(given_out)]
    while lines and not lines[-1]:
        lines.pop()
    assert shown.lines == lines
    text = "".join(pieces)
    for letter in "中a":
        assert "".join(lines).count(letter) >= text.count(letter)


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(0, 3), max_size=4))))
def test_region_shows_finished_and_live_lines(steps: list[tuple[list[int], list[int]]]) -> None:
    shown = Shown(10, 6)
    region = Region(shown, breaks=False)
    gone: list[str] = []
    live: list[str] = []
    for finished, unfinished in steps:
        new, live = [f"line {n}" for n in finished], [f"line {n}" for n in unfinished]
        gone += new
        as_lines = [[Line(text, len(text), 5) for text in lines] for lines in (new, live)]
        region.put(as_lines[0], as_lines[1], 10)
        assert shown.lines == gone + live


def test_long_block_fits_the_screen_and_is_printed_once() -> None:
    stream = Stream(40, 10)
    printed: list[str] = []
    for number in range(1, 121):
        stream.feed(f"- item {number}\n")
        finished, live = stream.lines()
        printed += plain(finished)
        assert len(live) <= 8
    printed += plain(stream.lines(over=True)[0])
    assert [line.split()[-1] for line in printed] == [str(number) for number in range(1, 121)]


@pytest.mark.parametrize("breaks", [True, False])
def test_narrower_terminal_leaves_no_remains(breaks: bool) -> None:
    """xterm cuts long lines off, most terminals wrap them."""
    text = "One sentence that is long enough to fill a line of sixty columns. "
    shown = Shown(60, 20)
    stream, region = Stream(60, 20), Region(shown, breaks=breaks)
    stream.feed(f"First.\n\n{text}")
    region.put(*stream.lines(), 60)
    shown.narrow(25, breaks=breaks)
    stream.resize(25, 20)
    stream.feed("More.")
    region.put(*stream.lines(), 25)
    region.put(*stream.lines(over=True), 25)
    assert shown.lines == whole(f"First.\n\n{text}More.", 25)


def test_reasoning_is_separate_and_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(40, 20)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("TERM", "xterm")
    page = answer_output()
    assert isinstance(page, MarkdownOutput) and page.is_empty
    page.show_reasoning("Let me ")
    page.show_reasoning("see \x1b[31m")
    page.show("It is **so**")
    page.draw()
    assert not page.is_empty
    page.show(".")
    page.end()
    assert shown.lines == ["Let me see ^[[31m", "", "It is so."]
    monkeypatch.setenv("TERM", "dumb")
    assert type(answer_output()) is AnswerOutput
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stdout", piped)
    page = answer_output()
    page.show_reasoning("not for programs")
    page.show("**verbatim** \x1b[31m")
    page.end()
    assert piped.getvalue() == "**verbatim** \x1b[31m\n"
