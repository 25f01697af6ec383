"""`list`: what conversations there are.

Rules: nothing here changes anything; what reads events is imported only where a conversation without a name
is told by its first words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import database, is_there, store_to_look
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import (
    is_terminal,
    local,
    note,
    one_line,
    out,
    out_json,
    paint,
    screen,
    table,
)
from openai2.readmodels import conversations as conversation_list

if TYPE_CHECKING:
    from openai2.store import Listed, Store

_NARROW = 60  # columns, below which the list tells the day and not the minute,
_TIGHT = 44  # below which it tells no time at all,
_TINY = 28  # and below which it tells nothing but the id and the name


@click.command(
    "list",
    help=_("List the conversations, those that changed last first; * marks the current one."),
)
@click.option("-a", "--all", "every", is_flag=True, help=_("Also those that were archived."))
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help=_("N conversations at most."))
@json_option
@db_option
def list_(every: bool, limit: int | None, as_json: bool, db: str | None) -> None:
    """List the conversations."""
    if not is_there(db):
        out_json([]) if as_json else note(_("no conversation yet: there is no {path}", path=database(db)))
        return
    with store_to_look(db) as store:
        listed = conversation_list.conversations(store, None if every else False, limit)
        if as_json:
            out_json([_as_object(line) for line in listed])
        elif listed:
            for line in list_lines(store, listed):
                out(line)
        else:
            note(_("no conversation yet: `openai2 chat` begins one"))


def _as_object(line: Listed) -> dict[str, object]:
    return {
        "id": line.id,
        "name": line.name,
        "version": line.version,
        "messages": line.messages,
        "updated": line.updated,
    }


def list_lines(store: Store, listed: Iterable[Listed], current: str | None = None) -> Iterator[str]:
    """The conversations for a person; the one that is marked has the id *current*, or was last chatted in."""
    if current is None:
        asked = conversation_list.current(store)
        current = None if asked is None else asked.id
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    moment = "%m-%d" if columns < _NARROW else "%Y-%m-%d %H:%M"
    rows = [["  " + _("id"), _("size"), _("changed"), _("conversation")]]
    for line in listed:
        mark = "* " if current == line.id else "  "
        when = local(line.updated).strftime(moment)
        rows.append([mark + line.id[:8], str(line.messages), when, _title(store, line)])
    if columns < _TIGHT:
        rows = [[mark, size, title] for mark, size, _when, title in rows]
    if columns < _TINY:
        rows = [[mark, title] for mark, _size, title in rows]
    for place, text in enumerate(table(rows, columns, right=frozenset({1}))):
        yield paint(text, "dim") if not place else text


def _title(store: Store, line: Listed) -> str:
    """The name, or what was said first; and what else there is to know."""
    title = line.name or _first_words(store, line.id)
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


def _first_words(store: Store, conversation: str) -> str:
    from openai2.core import events as ev
    from openai2.core import messages as msg

    with store.reading() as reader:
        first = list(reader.events(conversation, types=("message_added",), limit=1))
    event = first[0].event if first and first[0].json else None
    return f"“{msg.text_of(msg.decode(bytes(event.message)))}”" if isinstance(event, ev.MessageAdded) else ""


COMMANDS = {"list": list_}
