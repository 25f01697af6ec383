"""`list`, `show` and `head`: what there is, and how it stands or stood.

Rule: nothing here changes anything, nor imports more than it needs to answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime

import click
import msgspec

from openai2 import events as ev
from openai2 import family
from openai2 import messages as msg
from openai2.cli import refs
from openai2.cli.names import conversations
from openai2.cli.options import (
    conversation_option,
    database,
    db_option,
    engine_to_look,
    is_there,
    json_option,
)
from openai2.cli.render import (
    fold,
    is_terminal,
    json_safe,
    note,
    one_line,
    out,
    paint,
    screen,
    table,
    visible,
)
from openai2.cli.words import _, counted
from openai2.conversation import Conversation, Held
from openai2.engine import Engine
from openai2.projection import View
from openai2.store import Listed

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
    with engine_to_look(db) as engine:
        listed = engine.conversations(archived=None if every else False, limit=limit)
        if as_json:
            out_json([_as_object(line) for line in listed])
        elif listed:
            for line in list_lines(engine, listed):
                out(line)
        else:
            note(_("no conversation yet: `openai2 chat` begins one"))


@click.command(
    "show",
    help=_(
        "Show the messages of a conversation as they stand, or stood (REF@VERSION), with their indexes and "
        "pins; with --max-messages, as they would stand under that limit."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help=_("What a limit of N would leave; nothing is changed."),
)
@conversation_option
@json_option
@db_option
def show(
    ref: str | None, max_messages: int | None, conversation: str | None, as_json: bool, db: str | None
) -> None:
    """Show the messages."""
    with engine_to_look(db) as engine:
        place = refs.find(engine, ref or conversation)
        held = place.conversation.held(place.version)
        if max_messages is not None:
            held = _under(held, max_messages)
        if as_json:
            out_json([message.message for message in held])
            return
        for line in message_lines(held):
            out(line)
        name = place.conversation.name or place.conversation.id
        version = place.version or place.conversation.version
        size = counted("{n} message", "{n} messages", len(held))
        note(_("{name}, version {version}: {size}", name=name, version=version, size=size))


@click.command(
    "head",
    help=_(
        "Print a conversation's id, version and head: the hash of its last event, which commits to all "
        "that came before. Kept elsewhere, it lets `verify --heads` find out whether a tail was cut off."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option("-a", "--all", "every", is_flag=True, help=_("Of all conversations, a line each."))
@conversation_option
@db_option
def head(ref: str | None, every: bool, conversation: str | None, db: str | None) -> None:
    """Print the head."""
    with engine_to_look(db) as engine:
        if every:
            found = [engine.open(line.id) for line in engine.conversations(archived=None)]
        else:
            found = [refs.find_today(engine, ref or conversation)]
        for opened in found:
            out(f"{opened.id} {opened.version} {opened.head}")


def out_json(value: object) -> None:
    """Print *value* as JSON that is pleasant to read, and safe to."""
    out(json_safe(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def _under(messages: list[Held], limit: int) -> list[Held]:
    """The messages that a limit would leave."""
    view = View()
    view.ids.extend(held.id for held in messages)
    view.kinds.extend(msg.kind(held.message) for held in messages)
    view.pins.update(held.id for held in messages if held.pinned)
    left = set(family.under(view, limit).ids)
    return [held for held in messages if held.id in left]


def message_lines(messages: Iterable[Held]) -> Iterator[str]:
    """Messages for a person: a line of index, role and pin each, then the text."""
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    for index, held in enumerate(messages):
        role = paint(one_line(str(held.message.get("role"))), "bold")
        yield f"[{index}] {role}" + (" " + paint(_("(pinned)"), "yellow") if held.pinned else "")
        for line in fold(visible(msg.text_of(held.message)), columns - 4):
            yield f"    {line}".rstrip()


def local(time: str) -> datetime:
    """The time of an event on the clock of the person."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).astimezone()


def _as_object(line: Listed) -> dict[str, object]:
    return {
        "id": line.id,
        "name": line.name,
        "version": line.version,
        "messages": line.messages,
        "updated": line.updated,
    }


def list_lines(engine: Engine, listed: list[Listed], current: Conversation | None = None) -> Iterator[str]:
    """The conversations for a person; the one that is marked is *current*, or the one last chatted in."""
    current = current or engine.current()
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    moment = "%m-%d" if columns < _NARROW else "%Y-%m-%d %H:%M"
    rows = [["  " + _("id"), _("size"), _("changed"), _("conversation")]]
    for line in listed:
        mark = "* " if current is not None and current.id == line.id else "  "
        when = local(line.updated).strftime(moment)
        rows.append([mark + line.id[:8], str(line.messages), when, _title(engine, line)])
    if columns < _TIGHT:
        rows = [[mark, size, title] for mark, size, _when, title in rows]
    if columns < _TINY:
        rows = [[mark, title] for mark, _size, title in rows]
    for place, text in enumerate(table(rows, columns, right=frozenset({1}))):
        yield paint(text, "dim") if not place else text


def _title(engine: Engine, line: Listed) -> str:
    """The name, or what was said first; and what else there is to know."""
    title = line.name or _first_words(engine, line.id)
    if line.parent is not None:
        with engine.store.reading() as reader:
            parent = reader.conversation(line.parent)
        origin = (parent.name if parent else None) or line.parent[:8]
        title = _(
            "{title} (from {origin}@{version})", title=title, origin=origin, version=line.parent_version
        )
    if line.archived:
        title = _("{title} (archived)", title=title)
    return one_line(title)


def _first_words(engine: Engine, conversation: str) -> str:
    with engine.store.reading() as reader:
        first = list(reader.events(conversation, types=("message_added",), limit=1))
    event = first[0].event if first and first[0].json else None
    return f"“{msg.text_of(msg.decode(bytes(event.message)))}”" if isinstance(event, ev.MessageAdded) else ""


COMMANDS = {"list": list_, "show": show, "head": head}
