"""A message that a search found as lines of text, for `search` and `/search`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openai2.cli.terminal.text import fold, one_line, output_columns, paint

if TYPE_CHECKING:
    from openai2.readmodels.search import Found

#: Put around each word that was found; readable without colours, in Chinese and in English.
_MARKS = ("[", "]")


def hit_lines(hit: Found) -> Iterator[str]:
    """Yield a line with REF@VERSION and the role, then an excerpt with the found words marked."""
    place = f"{hit.name or hit.conversation[:8]}@{hit.version}"
    yield f"{paint(one_line(place), 'cyan')}  {one_line(hit.role)}"
    for line in fold(one_line(hit.marked(*_MARKS)), output_columns() - 4):
        yield f"    {line}"
