"""The messages of a view as lines of text, for `show`, `/history`, `/at` and the demo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import fold, one_line, output_columns, paint, visible
from openai2.core import messages as msg

if TYPE_CHECKING:
    from openai2.conversation import ViewMessage


def message_lines(messages: Iterable[ViewMessage]) -> Iterator[str]:
    """Yield, for each message, a line with its index, role and pin, then its text, indented."""
    columns = output_columns()
    for index, item in enumerate(messages):
        role = paint(one_line(str(item.message.get("role"))), "bold")
        yield f"[{index}] {role}" + (" " + paint(_("(pinned)"), "yellow") if item.pinned else "")
        for line in fold(visible(msg.text_of(item.message)), columns - 4):
            yield f"    {line}".rstrip()
