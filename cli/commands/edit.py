"""`rollback`, `undo`, `redo`, `restore`, `pin`, `unpin`: change the view of a conversation.

Invariants:
- Each command makes one call of the engine, which one `undo` takes back.
- The round that is now last goes to standard output, what was done to standard error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import F, conversation_option, db_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note, out, visible
from openai2.conversation import Conversation
from openai2.errors import BadInput, Refused

_NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # -2 is an index, not an option


def _target_options(command: F) -> F:
    return conversation_option(db_option(command))


@contextmanager
def _open(db: str | None, reference: str | None) -> Generator[Conversation, None, None]:
    with existing_engine(db) as engine:
        yield refs.find_conversation(engine, reference)


def _print_last_round(conversation: Conversation) -> None:
    if last := str(conversation.last_round()):
        out(visible(last))


@click.command(
    "rollback",
    help=_(
        "Remove the last N rounds (default 1) from view, and print the round that is now last. They stay in "
        "the log, and `undo` brings them back."
    ),
)
@click.argument("n", type=int, default=1)
@_target_options
def rollback(n: int, conversation: str | None, db: str | None) -> None:
    """Remove rounds from view."""
    with _open(db, conversation) as opened:
        before = len(opened.view())
        opened.rollback(n)
        removed = before - len(opened.view())
        note(counted("{n} message removed from view", "{n} messages removed from view", removed))
        _print_last_round(opened)


@click.command(
    "undo",
    help=_("Undo the last N actions (default 1): rounds, rollbacks, pins, restores."),
)
@click.argument("n", type=int, default=1)
@_target_options
def undo(n: int, conversation: str | None, db: str | None) -> None:
    """Undo actions."""
    with _open(db, conversation) as opened:
        undone = opened.undo(n)
        if not undone:
            raise Refused("there is nothing to undo")
        note(counted("{n} action undone", "{n} actions undone", undone))
        _print_last_round(opened)


@click.command(
    "redo",
    help=_("Redo the last N undone actions (default 1)."),
)
@click.argument("n", type=int, default=1)
@_target_options
def redo(n: int, conversation: str | None, db: str | None) -> None:
    """Redo undone actions."""
    with _open(db, conversation) as opened:
        redone = opened.redo(n)
        if not redone:
            raise Refused("there is nothing to redo")
        note(counted("{n} action redone", "{n} actions redone", redone))
        _print_last_round(opened)


@click.command(
    "restore",
    help=_("Restore a conversation to its state at REF@VERSION (or @VERSION). Later events stay in the log."),
)
@click.argument("ref", shell_complete=conversations)
@conversation_option
@db_option
def restore(ref: str, conversation: str | None, db: str | None) -> None:
    """Restore a version."""
    with existing_engine(db) as engine:
        place = refs.find(engine, f"{conversation}{ref}" if conversation and ref.startswith("@") else ref)
        if place.version is None:
            raise BadInput("give a version, as in {ref}@12; `openai2 log` shows the versions", ref=ref)
        place.conversation.restore(place.version)
        note(_("restored version {version}", version=place.version))
        _print_last_round(place.conversation)


@click.command(
    "pin",
    context_settings=_NEGATIVE_NUMBERS,
    help=_(
        "Pin the messages at these indexes (see `show`), so that --max-messages does not remove them. "
        "Negative indexes count from the end. Pinning a pinned message changes nothing."
    ),
)
@click.argument("index", type=int, nargs=-1, required=True)
@_target_options
def pin(index: tuple[int, ...], conversation: str | None, db: str | None) -> None:
    """Pin messages."""
    with _open(db, conversation) as opened:
        opened.pin(*index)
        _print_pins(opened)


@click.command(
    "unpin",
    context_settings=_NEGATIVE_NUMBERS,
    help=_("Unpin the messages at these indexes. Unpinning a message that is not pinned changes nothing."),
)
@click.argument("index", type=int, nargs=-1, required=True)
@_target_options
def unpin(index: tuple[int, ...], conversation: str | None, db: str | None) -> None:
    """Unpin messages."""
    with _open(db, conversation) as opened:
        opened.unpin(*index)
        _print_pins(opened)


def _print_pins(conversation: Conversation) -> None:
    pinned = [str(index) for index, item in enumerate(conversation.view_messages()) if item.pinned]
    note(_("pinned now: {indexes}", indexes=", ".join(pinned) or _("none")))


COMMANDS = {
    "rollback": rollback,
    "undo": undo,
    "redo": redo,
    "restore": restore,
    "pin": pin,
    "unpin": unpin,
}
