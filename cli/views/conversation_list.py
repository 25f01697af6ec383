"""The list of conversations as a table, for `list` and `/list`.

Invariants:
- The modules that decode events are imported only for a conversation without a name, whose first message
  is shown instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import local, one_line, output_columns, paint, table, visible
from openai2.readmodels import conversations

if TYPE_CHECKING:
    from openai2.store import Listed, Store

# Terminals with fewer columns than this get a date without the time, no date, only id and name.
_NARROW, _VERY_NARROW, _TINY = 60, 44, 28


def list_lines(store: Store, listed: Iterable[Listed], current: str | None = None) -> Iterator[str]:
    """Yield the table's lines; `*` marks the conversation with id *current*, by default the last asked."""
    if current is None:
        last_asked = conversations.current(store)
        current = None if last_asked is None else last_asked.id
    columns = output_columns()
    time_format = "%m-%d" if columns < _NARROW else "%Y-%m-%d %H:%M"
    rows = [["  " + _("id"), _("size"), _("changed"), _("conversation")]]
    for line in listed:
        mark = "* " if current == line.id else "  "
        changed = local(line.updated).strftime(time_format)
        rows.append([mark + visible(str(line.id)[:8]), str(line.messages), changed, _title(store, line)])
    if columns < _TINY:
        rows = [[row[0], row[3]] for row in rows]
    elif columns < _VERY_NARROW:
        rows = [[row[0], row[1], row[3]] for row in rows]
    header, *lines = table(rows, columns, right=frozenset({1}))
    yield paint(header, "dim")
    yield from lines


def _title(store: Store, line: Listed) -> str:
    """Return the name or the first message, the parent of a fork, and whether it is archived."""
    title = line.name or _first_message(store, line.id)
    if line.parent is not None:
        with store.reading() as reader:
            parent = reader.conversation(line.parent)
        origin = (parent.name if parent else None) or line.parent[:8]
        title = _(
            "{title} (from {origin}@{version})", title=title, origin=origin, version=line.parent_version
        )
    if line.archived:
        title = _("{title} (archived)", title=title)
    return one_line(title)


def _first_message(store: Store, conversation: str) -> str:
    from openai2.core import events as ev
    from openai2.core import messages as msg

    with store.reading() as reader:
        first = list(reader.events(conversation, types=("message_added",), limit=1))
    event = first[0].event if first and first[0].json else None
    return f"“{msg.text_of(msg.decode(bytes(event.message)))}”" if isinstance(event, ev.MessageAdded) else ""
