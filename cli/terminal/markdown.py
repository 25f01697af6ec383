"""Render streaming Markdown: which lines are finished, and which may still change.

Invariants:
- A block (a paragraph, a list, a table, code) is finished when the next one begins. It is returned once.
- The last block is returned at each call, but never more of it than fits on the screen. Lines that grow over
  the top of the screen are finished as they are.
- An answer is data: HTML is shown as written, links with their addresses, control characters escaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from markdown_it import MarkdownIt
from rich.box import SIMPLE
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.markdown import (
    CodeBlock,
    Heading,
    Markdown,
    MarkdownElement,
    TableElement,
    TableRowElement,
)
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from openai2.cli.terminal.text import fold, visible

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import ConsoleOptions, RenderResult

# The sixteen standard colours, which every terminal theme keeps readable. No backgrounds.
_THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold",
        "markdown.h3": "bold italic",
        "markdown.h4": "italic",
        "markdown.h5": "italic",
        "markdown.h6": "italic",
        "markdown.code": "bold cyan",
        "markdown.block_quote": "dim",
        "markdown.hr": "dim",
        "markdown.item.bullet": "bold",
        "markdown.item.number": "bold",
        "markdown.link": "none",
        "markdown.link_url": "blue underline",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
)
_MIN_COLUMN = 8  # a table with less than this many screen columns per column is printed row by row
_SPARE_ROWS = 2  # screen rows that the unfinished block leaves free


class Line(NamedTuple):
    """A line for the screen: its text with colours, its width, and its count of letters and digits."""

    painted: str
    columns: int
    weight: int


EMPTY = Line("", 0, 0)


class _Title(Heading):
    """A heading aligned left, where rich centres it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Code(CodeBlock):
    """Code with its fences, which mark it if there are no colours."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        language = "" if self.lexer_name == "text" else self.lexer_name
        yield Text(f"```{language}", style="dim")
        yield Syntax(
            str(self.text).rstrip("\n"),
            self.lexer_name,
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
        )
        yield Text("```", style="dim")


class _Table(TableElement):
    """A table with folded cells, where rich cuts them. If it is too wide, it is printed row by row."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headings = _cells(self.header.row if self.header else None)
        rows = [_cells(row) for row in (self.body.rows if self.body else ())]
        for heading in headings:
            heading.stylize("markdown.table.header")
        if len(headings) * _MIN_COLUMN > options.max_width:
            for number, row in enumerate(rows):
                if number:
                    yield ""
                for heading, cell in zip(headings, row, strict=False):
                    yield Text.assemble(heading, ": ", cell)
            if not rows:
                yield Text(" ").join(headings)
            return
        table = Table(box=SIMPLE, pad_edge=False, style="markdown.table.border", collapse_padding=True)
        for heading in headings:
            table.add_column(heading, overflow="fold", min_width=2)
        for row in rows:
            table.add_row(*row)
        yield table


def _cells(row: TableRowElement | None) -> list[Text]:
    return [cell.content.copy() for cell in row.cells] if row else []


class _Blocks(Markdown):
    """Markdown from parsed tokens."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Title,
        "fence": _Code,
        "code_block": _Code,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = tokens


class Stream:
    """A streaming answer in Markdown, rendered for a screen of *columns* and *rows*."""

    def __init__(self, columns: int = 80, rows: int = 24, *, colours: bool = True) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self._colours = colours
        self._tail = ""  # the text of the unfinished block
        self._has_output = False
        self._frozen = (0, 0)  # lines and weight of the unfinished block that were returned as finished
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the screen."""
        self._columns, self._rows = max(columns - 1, 8), max(rows - _SPARE_ROWS, 1)
        self._console = Console(
            file=io.StringIO(),
            width=self._columns,
            height=max(rows, 2),
            force_terminal=True,
            legacy_windows=False,
            color_system="standard",
            no_color=not self._colours,
            theme=_THEME,
        )

    def feed(self, text: str) -> None:
        """Add a piece of the answer."""
        self._tail += text

    def lines(self, *, over: bool = False) -> tuple[list[Line], list[Line]]:
        """Return the newly finished lines, and the live lines (none if the answer is *over*)."""
        finished = self._take_finished()
        live: list[Line] = []
        for lines in self._rendered(self._tail):
            live += lines
        live = self._unfrozen(live)
        if over:
            self._tail, self._frozen = "", (0, 0)
            return finished + live, []
        if (more := len(live) - self._rows) > 0:
            self._freeze(live[:more])
            finished, live = finished + live[:more], live[more:]
        return finished, live

    def _take_finished(self) -> list[Line]:
        """Return the lines of all blocks but the last, considering complete lines of text only."""
        complete = self._tail[: self._tail.rfind("\n") + 1]
        starts = [start for start, _tokens in self._groups(complete)]
        if len(starts) < 2:
            return []
        rows = self._tail.split("\n")
        done = "\n".join(rows[: starts[-1]]) + "\n"
        self._tail = "\n".join(rows[starts[-1] :])
        finished: list[Line] = []
        for lines in self._rendered(done):
            finished += self._unfrozen(lines)
            self._has_output, self._frozen = True, (0, 0)
        return finished

    def _freeze(self, lines: Sequence[Line]) -> None:
        count, weight = self._frozen
        self._frozen = count + len(lines), weight + sum(line.weight for line in lines)

    def _unfrozen(self, lines: list[Line]) -> list[Line]:
        """Return the lines not returned yet, found by weight, because lines may have been re-wrapped."""
        count, weight = self._frozen
        used = place = 0
        for line in lines:
            used += line.weight
            if used > weight or (not line.weight and place >= count):
                break
            place += 1
        return lines[place:]

    def _groups(self, text: str) -> Iterator[tuple[int, list[Token]]]:
        """Yield each block of the text: the row where it starts, and its tokens."""
        group: list[Token] = []
        for token in self._parser.parse(visible(text)):
            for inner in token.children or ():
                inner.content = visible(inner.content)  # an entity may decode to a control character
                if inner.type == "softbreak":  # line breaks of a model are intended
                    inner.type = "hardbreak"
            group.append(token)
            if token.level == 0 and token.nesting <= 0:
                yield (group[0].map or [0])[0], group
                group = []

    def _rendered(self, text: str) -> Iterator[list[Line]]:
        """Yield the lines of each block, with an empty line before every block but the first."""
        for place, (start, tokens) in enumerate(self._groups(text)):
            try:
                lines = self._render(tokens)
            except Exception:  # noqa: BLE001 - a block that cannot be rendered is shown as plain text
                rows = visible(text).split("\n")
                last = (tokens[0].map or [0, len(rows)])[1]
                folded = fold("\n".join(rows[start:last]), self._columns)
                lines = [Line(row, cell_len(row), _weight(row)) for row in folded]
            yield [EMPTY, *lines] if self._has_output or place else lines

    def _render(self, tokens: list[Token]) -> list[Line]:
        segments = self._console.render_lines(_Blocks(tokens), pad=False)
        lines = [self._line(row) for row in segments]
        while lines and not lines[0].columns:
            lines.pop(0)
        while lines and not lines[-1].columns:
            lines.pop()
        return lines

    def _line(self, row: Sequence[Segment]) -> Line:
        """Return one line without trailing spaces, which a narrower screen would wrap."""
        plain = "".join(segment.text for segment in row)
        left = len(plain.rstrip())
        painted = ""
        for text, style, _control in row if self._colours else Segment.remove_color(row):
            shown = visible(text[:left])
            left -= len(text[:left])
            if shown:
                painted += style.render(shown, color_system=ColorSystem.STANDARD) if style else shown
        plain = visible(plain.rstrip())
        return Line(painted, cell_len(plain), _weight(plain))


def _weight(text: str) -> int:
    return sum(map(str.isalnum, text))
