"""Pages of help, in columns: click wraps by characters, of which a Chinese one takes two columns.

Rule: English pages of help are click's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import width

# No line begins with these, or ends with those.
_CLOSING = "，。、；：？！）】》」』”’…—·,.;:?!)]}>%"
_OPENING = "（【《「『“‘([{<"
# A wide character on its own, or a word of others: what stands close together stays together.
_PIECES = re.compile(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+|\s+")


def wrapped(text: str, columns: int) -> Iterator[str]:
    """The lines of *text*, one paragraph, none wider than *columns* unless a single word is."""
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
    """Where a line may be broken: between pieces."""
    held = ""
    for piece in _PIECES.findall(text):
        if held and not (piece[0] in _CLOSING or held[-1] in _OPENING):
            yield held
            held = ""
        held += " " if piece.isspace() else piece
    if held:
        yield held


class Page(click.HelpFormatter):
    """A page of help in another language than English; a paragraph that begins with \\b stays as it is."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The first line."""
        title = _("Usage:") if prefix is None else prefix.rstrip()
        lead = f"{title}{' ' if title.isascii() else ''}{prog} "
        first, *rest = list(wrapped(args, max(self.width - width(lead), 20))) or [""]
        self.write(f"{lead}{first}".rstrip() + "\n")
        for line in rest:
            self.write(" " * width(lead) + line + "\n")

    def write_heading(self, heading: str) -> None:
        """A section's title."""
        self.write(" " * self.current_indent + _("{title}:", title=heading) + "\n")

    def write_text(self, text: str) -> None:
        """Paragraphs."""
        indent = " " * self.current_indent
        told: list[str] = []
        for paragraph in re.split(r"\n{2,}", text.strip("\n")):
            as_it_is, mark, rest = paragraph.partition("\b\n")
            lines = rest.split("\n") if mark and not as_it_is else self._wrapped(paragraph)
            told.append("".join(f"{indent}{line}\n" for line in lines))
        self.write("\n".join(told))

    def _wrapped(self, paragraph: str) -> Iterator[str]:
        return wrapped(" ".join(paragraph.split()), self.width - self.current_indent)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Options, or commands, and what they are for."""
        rows = list(rows)
        first = min(max((width(term) for term, _told in rows), default=0), col_max) + col_spacing
        indent = " " * self.current_indent
        for term, told in rows:
            lines = list(wrapped(" ".join(told.split()), max(self.width - len(indent) - first, 10)))
            if not lines or width(term) > first - col_spacing:
                self.write(f"{indent}{term}\n")
            else:
                self.write(f"{indent}{term}{' ' * (first - width(term))}{lines.pop(0)}\n")
            for line in lines:
                self.write(f"{indent}{' ' * first}{line}\n")


class Context(click.Context):
    """A context whose help is set in columns."""

    formatter_class = Page


def set_in_columns(command: click.Command) -> None:
    """Let the help of *command*, and of the commands in it, be set in columns."""
    command.context_class = Context
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            set_in_columns(inner)
