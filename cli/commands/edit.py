"""`rollback`, `undo`, `redo`, `restore`, `pin`, `unpin`: what changes a conversation's view.

Rule: each is a thin call of the engine; what is now last goes to standard output, what was done to
standard error. All of it can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note, out, visible
from openai2.conversation import Conversation
from openai2.errors import BadInput, Refused

F = TypeVar("F", bound=Callable[..., Any])

# -2 is an index, and no option.
_NEGATIVE = {"ignore_unknown_options": True}


def _target(command: F) -> F:
    return conversation_option(db_option(command))


@contextmanager
def _opened(db: str | None, reference: str | None) -> Generator[Conversation, None, None]:
    with existing_engine(db) as engine:
        yield refs.find_conversation(engine, reference)


def _show_last(conversation: Conversation) -> None:
    if last := str(conversation.last_round()):
        out(visible(last))


@click.command(
    "rollback",
    help=_(
        "Take the last N rounds (1 where none is said) out of the conversation, and print the round that "
        "is now last. They stay in the log, and `undo` brings them back."
    ),
)
@click.argument("n", type=int, default=1)
@_target
def rollback(n: int, conversation: str | None, db: str | None) -> None:
    """Take rounds out."""
    with _opened(db, conversation) as opened:
        before = len(opened.view())
        opened.rollback(n)
        gone = before - len(opened.view())
        note(counted("{n} message taken out", "{n} messages taken out", gone))
        _show_last(opened)


@click.command(
    "undo",
    help=_("Undo the last N actions (1 where none is said): a round, a rollback, a pin, a restore."),
)
@click.argument("n", type=int, default=1)
@_target
def undo(n: int, conversation: str | None, db: str | None) -> None:
    """Undo."""
    with _opened(db, conversation) as opened:
        done = opened.undo(n)
        if not done:
            raise Refused("there is nothing to undo")
        note(counted("{n} action undone", "{n} actions undone", done))
        _show_last(opened)


@click.command(
    "redo",
    help=_("Take the last N undos (1 where none is said) back."),
)
@click.argument("n", type=int, default=1)
@_target
def redo(n: int, conversation: str | None, db: str | None) -> None:
    """Redo."""
    with _opened(db, conversation) as opened:
        done = opened.redo(n)
        if not done:
            raise Refused("there is nothing to redo")
        note(counted("{n} action redone", "{n} actions redone", done))
        _show_last(opened)


@click.command(
    "restore",
    help=_(
        "Make a conversation again what it was at REF@VERSION (or @VERSION). What came since stays on record."
    ),
)
@click.argument("ref", shell_complete=conversations)
@conversation_option
@db_option
def restore(ref: str, conversation: str | None, db: str | None) -> None:
    """Restore a version."""
    with existing_engine(db) as engine:
        place = refs.find(engine, f"{conversation}{ref}" if conversation and ref.startswith("@") else ref)
        if place.version is None:
            raise BadInput("say which version: {ref}@12; `openai2 log` shows them", ref=ref)
        place.conversation.restore(place.version)
        note(_("restored version {version}", version=place.version))
        _show_last(place.conversation)


@click.command(
    "pin",
    context_settings=_NEGATIVE,
    help=_(
        "Pin the messages at these indexes, as `show` shows them, so that --max-messages leaves them alone. "
        "Negative ones count from the end; those that are pinned may be among them."
    ),
)
@click.argument("index", type=int, nargs=-1, required=True)
@_target
def pin(index: tuple[int, ...], conversation: str | None, db: str | None) -> None:
    """Pin messages."""
    with _opened(db, conversation) as opened:
        opened.pin(*index)
        _tell_pins(opened)


@click.command(
    "unpin",
    context_settings=_NEGATIVE,
    help=_("Unpin the messages at these indexes; those that are not pinned may be among them."),
)
@click.argument("index", type=int, nargs=-1, required=True)
@_target
def unpin(index: tuple[int, ...], conversation: str | None, db: str | None) -> None:
    """Unpin messages."""
    with _opened(db, conversation) as opened:
        opened.unpin(*index)
        _tell_pins(opened)


def _tell_pins(conversation: Conversation) -> None:
    pinned = [str(index) for index, held in enumerate(conversation.view_messages()) if held.pinned]
    note(_("pinned now: {indexes}", indexes=", ".join(pinned) or _("none")))


COMMANDS = {
    "rollback": rollback,
    "undo": undo,
    "redo": redo,
    "restore": restore,
    "pin": pin,
    "unpin": unpin,
}
