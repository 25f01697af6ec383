"""Markdown that is still coming: what of it is finished, and what may yet change.

Rules: a block (a paragraph, a list, a table, code) is finished when the next one has begun; it is then given
out once, and never again. The last block is given out anew each time, and no more of it than fits on the
screen: what grows over the top of that is finished as it stands. What an answer holds is data: HTML is
shown as it is written, links with their addresses, and no control character reaches a terminal.
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

# The sixteen colours that each terminal has chosen to be readable, and no backgrounds.
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
_NARROW = 8  # columns of the screen for each of a table's, its margin included
_SPARE = 2  # lines of the screen that the unfinished block leaves free


class Line(NamedTuple):
    """A line for the screen: with its paint, its columns, and how much of it is letters or digits."""

    painted: str
    columns: int
    weight: int


EMPTY = Line("", 0, 0)


class _Title(Heading):
    """A heading where every other line begins."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Code(CodeBlock):
    """Code between its fences, which tell it from the text where there are no colours."""

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
    """A table whose cells are folded, where Rich's cuts them; one too wide for the screen is told by rows."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headings = _cells(self.header.row if self.header else None)
        rows = [_cells(row) for row in (self.body.rows if self.body else ())]
        for heading in headings:
            heading.stylize("markdown.table.header")
        if len(headings) * _NARROW > options.max_width:
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
    """Blocks that were parsed already."""

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
    """An answer in Markdown, as it arrives, for a screen of so many columns and rows."""

    def __init__(self, columns: int = 80, rows: int = 24, *, colours: bool = True) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self._colours = colours
        self._tail = ""  # the text that is not finished
        self._begun = False  # whether a block was given out
        self._frozen = (0, 0)  # lines and weight of the unfinished block that were given out
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """From now on, the screen has this size."""
        self._columns, self._rows = max(columns - 1, 8), max(rows - _SPARE, 1)
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
        """More of the answer."""
        self._tail += text

    def lines(self, *, over: bool = False) -> tuple[list[Line], list[Line]]:
        """Lines that are finished, and those of the block that may still change (none where it is *over*)."""
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

    # -- inside

    def _take_finished(self) -> list[Line]:
        """The lines of all blocks but the last, judged by the lines of text that are complete."""
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
            self._begun, self._frozen = True, (0, 0)
        return finished

    def _freeze(self, lines: Sequence[Line]) -> None:
        count, weight = self._frozen
        self._frozen = count + len(lines), weight + sum(line.weight for line in lines)

    def _unfrozen(self, lines: list[Line]) -> list[Line]:
        """What of the block was not given out yet, found by its letters: lines may break anew meanwhile."""
        count, weight = self._frozen
        used = place = 0
        for line in lines:
            used += line.weight
            if used > weight or (not line.weight and place >= count):
                break
            place += 1
        return lines[place:]

    def _groups(self, text: str) -> Iterator[tuple[int, list[Token]]]:
        """The blocks of the text: the row that each begins in, and its tokens."""
        group: list[Token] = []
        for token in self._parser.parse(visible(text)):
            for inner in token.children or ():
                inner.content = visible(inner.content)  # entities stand for any character
                if inner.type == "softbreak":  # a model breaks a line where it means to
                    inner.type = "hardbreak"
            group.append(token)
            if token.level == 0 and token.nesting <= 0:
                yield (group[0].map or [0])[0], group
                group = []

    def _rendered(self, text: str) -> Iterator[list[Line]]:
        """The lines of each block, with an empty one before all but the very first."""
        for place, (start, tokens) in enumerate(self._groups(text)):
            try:
                lines = self._render(tokens)
            except Exception:  # noqa: BLE001 - what cannot be laid out is still to be read
                rows = visible(text).split("\n")
                last = (tokens[0].map or [0, len(rows)])[1]
                folded = fold("\n".join(rows[start:last]), self._columns)
                lines = [Line(row, cell_len(row), _weight(row)) for row in folded]
            yield [EMPTY, *lines] if self._begun or place else lines

    def _render(self, tokens: list[Token]) -> list[Line]:
        segments = self._console.render_lines(_Blocks(tokens), pad=False)
        lines = [self._line(row) for row in segments]
        while lines and not lines[0].columns:
            lines.pop(0)
        while lines and not lines[-1].columns:
            lines.pop()
        return lines

    def _line(self, row: Sequence[Segment]) -> Line:
        """One line, without the spaces at its end, which a narrower screen would break."""
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
