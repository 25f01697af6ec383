"""`show` and `head`: how a conversation stands, or stood.

Rule: nothing here changes anything, nor imports more than it needs to answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import engine_to_look
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import fold, is_terminal, note, one_line, out, out_json, paint, screen, visible

if TYPE_CHECKING:
    from openai2.conversation import ViewMessage


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
        held = place.conversation.view_messages(place.version)
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


def _under(messages: list[ViewMessage], limit: int) -> list[ViewMessage]:
    """The messages that a limit would leave."""
    from openai2.core import messages as msg
    from openai2.core.projection import View
    from openai2.history import why

    view = View()
    view.ids.extend(held.id for held in messages)
    view.kinds.extend(msg.kind(held.message) for held in messages)
    view.pins.update(held.id for held in messages if held.pinned)
    left = set(why.with_limit(view, limit).ids)
    return [held for held in messages if held.id in left]


def message_lines(messages: Iterable[ViewMessage]) -> Iterator[str]:
    """Messages for a person: a line of index, role and pin each, then the text."""
    from openai2.core import messages as msg

    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    for index, held in enumerate(messages):
        role = paint(one_line(str(held.message.get("role"))), "bold")
        yield f"[{index}] {role}" + (" " + paint(_("(pinned)"), "yellow") if held.pinned else "")
        for line in fold(visible(msg.text_of(held.message)), columns - 4):
            yield f"    {line}".rstrip()


COMMANDS = {"show": show, "head": head}
