"""`show` and `head`: the messages of a conversation at a version, and the hash of its last event.

Invariants:
- Both only read. What the shell's completion does not need is imported when the command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note, out, out_json, visible

if TYPE_CHECKING:
    from openai2.conversation import ViewMessage


@click.command(
    "show",
    help=_(
        "Show the messages of a conversation with their indexes and pins: the current ones, or those of an "
        "earlier version (REF@VERSION)."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help=_("Show what a limit of N messages would keep; nothing is changed."),
)
@conversation_option
@json_option
@db_option
def show(
    ref: str | None, max_messages: int | None, conversation: str | None, as_json: bool, db: str | None
) -> None:
    """Show the messages."""
    with existing_engine(db) as engine:
        place = refs.find(engine, ref or conversation)
        messages = place.conversation.view_messages(place.version)
        if max_messages is not None:
            messages = _with_limit(messages, max_messages)
        if as_json:
            out_json([item.message for item in messages])
            return
        from openai2.cli.views.messages import message_lines

        for line in message_lines(messages):
            out(line)
        name = place.conversation.name or place.conversation.id
        version = place.version or place.conversation.version
        size = counted("{n} message", "{n} messages", len(messages))
        note(_("{name}, version {version}: {size}", name=name, version=version, size=size))


@click.command(
    "head",
    help=_(
        "Print the id, the version and the head of a conversation. The head is the hash of the last event "
        "and depends on all events before it. Keep it elsewhere: `verify --heads` then detects whether the "
        "last events were cut off."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option("-a", "--all", "every", is_flag=True, help=_("Print the heads of all, one a line."))
@conversation_option
@db_option
def head(ref: str | None, every: bool, conversation: str | None, db: str | None) -> None:
    """Print the head."""
    with existing_engine(db) as engine:
        if every:
            found = [engine.open(line.id) for line in engine.conversations(archived=None)]
        else:
            found = [refs.find_conversation(engine, ref or conversation)]
        for opened in found:
            out(f"{visible(opened.id)} {opened.version} {opened.head}")


def _with_limit(messages: list[ViewMessage], limit: int) -> list[ViewMessage]:
    """Return the messages that a limit of *limit* messages would keep."""
    from openai2.core import messages as msg
    from openai2.core.projection import View
    from openai2.history import why

    view = View()
    view.ids.extend(item.id for item in messages)
    view.kinds.extend(msg.kind(item.message) for item in messages)
    view.pins.update(item.id for item in messages if item.pinned)
    kept = set(why.with_limit(view, limit).ids)
    return [item for item in messages if item.id in kept]


COMMANDS = {"show": show, "head": head}
