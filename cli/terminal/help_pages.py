"""Layout of help in languages other than English.

click wraps by characters, but a Chinese character takes two columns. English help is laid out by click.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import width

# Characters that do not begin, or do not end, a line.
_CLOSING = "，。、；：？！）】》」』”’…—·,.;:?!)]}>%"
_OPENING = "（【《「『“‘([{<"
# A single wide character, a word of narrow ones, or white space. Lines break between these.
_PIECES = re.compile(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+|\s+")


def wrapped(text: str, columns: int) -> Iterator[str]:
    """Yield the lines of *text*, one paragraph, none wider than *columns* unless a single word is."""
    line = ""
    for piece in _pieces(text):
        if line and width((line + piece).rstrip()) > columns:
            yield line.rstrip()
            line = piece.lstrip()
        elif line or piece.strip():
            line += piece
    if line.strip():
        yield line.rstrip()


def _pieces(text: str) -> Iterator[str]:
    """Yield the pieces of *text* between which a line may break."""
    pending = ""
    for piece in _PIECES.findall(text):
        if pending and not (piece[0] in _CLOSING or pending[-1] in _OPENING):
            yield pending
            pending = ""
        pending += " " if piece.isspace() else piece
    if pending:
        yield pending


class Page(click.HelpFormatter):
    """Format a page of help by columns; a paragraph that begins with \\b is kept unwrapped."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        title = _("Usage:") if prefix is None else prefix.rstrip()
        lead = f"{title}{' ' if title.isascii() else ''}{prog} "
        first, *rest = list(wrapped(args, max(self.width - width(lead), 20))) or [""]
        self.write(f"{lead}{first}".rstrip() + "\n")
        for line in rest:
            self.write(" " * width(lead) + line + "\n")

    def write_heading(self, heading: str) -> None:
        """Write the title of a section."""
        self.write(" " * self.current_indent + _("{title}:", title=heading) + "\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        written: list[str] = []
        for paragraph in re.split(r"\n{2,}", text.strip("\n")):
            before, mark, rest = paragraph.partition("\b\n")
            lines = rest.split("\n") if mark and not before else self._wrapped(paragraph)
            written.append("".join(f"{indent}{line}\n" for line in lines))
        self.write("\n".join(written))

    def _wrapped(self, paragraph: str) -> Iterator[str]:
        return wrapped(" ".join(paragraph.split()), self.width - self.current_indent)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms (options, commands) and their descriptions in two columns."""
        rows = list(rows)
        first = min(max((width(term) for term, _description in rows), default=0), col_max) + col_spacing
        indent = " " * self.current_indent
        for term, description in rows:
            lines = list(wrapped(" ".join(description.split()), max(self.width - len(indent) - first, 10)))
            if not lines or width(term) > first - col_spacing:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{term}{' ' * (first - width(term))}{lines.pop(0)}\n")
            for line in lines:
                self.write(f"{indent}{' ' * first}{line}\n")


class Context(click.Context):
    """A click context that formats its help with `Page`."""

    formatter_class = Page


def use_columns(command: click.Command) -> None:
    """Format the help of *command* and of its subcommands by columns."""
    command.context_class = Context
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            use_columns(inner)
