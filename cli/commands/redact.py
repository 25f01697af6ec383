"""`redact`, `delete` and `scrub`: remove content for good.

Invariants:
- Before a removal the command prints what goes and what remains. On a terminal the user confirms; otherwise
  --yes is required.
- Content that may still be in the file is never reported as gone.
"""

from __future__ import annotations

import sys

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import db_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted, translate_foreign
from openai2.cli.terminal.text import clip, is_terminal, note, one_line, out, screen
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.engine import Engine
from openai2.errors import BadInput, NoIndex, Refused
from openai2.history.lineage import Lineage
from openai2.redaction import redact as redaction
from openai2.redaction.redact import Removed

_NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # -2 is an index, not an option

_reason_option = click.option("--reason", metavar="TEXT", help=_("Record this reason in the log."))
_yes_option = click.option("-y", "--yes", is_flag=True, help=_("Do not ask for confirmation."))


@click.command(
    "redact",
    context_settings=_NEGATIVE_NUMBERS,
    help=_(
        "Remove the text of a message from the file for good, for example a secret typed by mistake.\n\n"
        "MESSAGE is its index (see `show`) or @VERSION (see `log`). @VERSION also names a message that is no "
        "longer in view, or another event with text: a name, the part of a failed answer, the options of a "
        "request. A record of the removal and a digest of the text remain, so that `verify` still succeeds. "
        "The text is removed from all forks, the search index and the free pages of the file."
    ),
)
@click.argument("ref", shell_complete=conversations)
@click.argument("message")
@_reason_option
@_yes_option
@db_option
def redact(ref: str, message: str, reason: str | None, yes: bool, db: str | None) -> None:
    """Remove the text of a message."""
    with existing_engine(db) as engine:
        conversation = refs.find_conversation(engine, ref)
        number = _message_id(conversation, message)
        text = clip(one_line(_text_of(engine, conversation.id, number)), max(screen() - 4, 20))
        note(_("This text is removed for good from {name} and its forks:", name=_name(conversation)))
        note(f"  {text}")
        _confirm(yes)
        _report(engine, redaction.redact(engine.store, conversation.id, number, reason))


@click.command(
    "delete",
    help=_(
        "Remove a conversation from the file for good: all its texts and its name. Empty events remain, so "
        "that `verify` still succeeds. A conversation with forks cannot be deleted. To only hide a "
        "conversation, use `archive`."
    ),
)
@click.argument("ref", shell_complete=conversations)
@_reason_option
@_yes_option
@db_option
def delete(ref: str, reason: str | None, yes: bool, db: str | None) -> None:
    """Remove a conversation."""
    with existing_engine(db) as engine:
        conversation = refs.find_conversation(engine, ref)
        if children := engine.children(conversation.id):
            raise Refused(
                "conversation {conversation} cannot be deleted: {forks} forked from it",
                conversation=_name(conversation),
                forks=", ".join(child.name or child.id for child in children),
            )
        events = counted("{n} event", "{n} events", conversation.version)
        note(
            _(
                "All texts of {name} and its name are removed for good: {events}",
                name=_name(conversation),
                events=events,
            )
        )
        _confirm(yes)
        _report(engine, redaction.delete(engine.store, conversation.id, reason))


@click.command(
    "scrub",
    help=_(
        "Rewrite the database file, so that no redacted or deleted text remains in it. `redact` and `delete` "
        "do this themselves, unless another process is reading the database."
    ),
)
@db_option
def scrub(db: str | None) -> None:
    """Rewrite the file."""
    with existing_engine(db) as engine:
        if not engine.scrub():
            raise Refused("another process is reading the database: try again later")
    note(_("the file was rewritten"))


def _message_id(conversation: Conversation, message: str) -> int:
    """Return the id of the message at an index, or of the event @VERSION. Raises BadInput, NoIndex."""
    number = message.removeprefix("@")
    try:
        place = int(number)
    except ValueError:
        raise BadInput(
            "invalid message {text}: give its index (see `show`) or @VERSION (see `log`)", text=message
        ) from None
    if number != message:
        conversation.check_version(place)
        with conversation.store.reading() as reader:
            return Lineage.read(reader, conversation.id).base + place
    ids = conversation.view().ids
    if not -len(ids) <= place < len(ids):
        raise NoIndex("there is no message at {index}: `openai2 show` shows the indexes", index=place)
    return ids[place]


def _text_of(engine: Engine, conversation: str, number: int) -> str:
    """Return the role and text of a message; of another event, its type and the texts to be removed."""
    with engine.store.reading() as reader:
        owner, version = Lineage.read(reader, conversation).place(number)
        record = next(reader.events(owner, after=version - 1, upto=version), None)
    if record is None:
        return ""  # the redaction raises the error
    if isinstance(record.event, ev.MessageAdded):
        message = msg.decode(bytes(record.event.message))
        return f"{message.get('role')}: {msg.text_of(message)}"
    return f"{record.type}: {' '.join(redaction.texts_of(record))}"


def _name(conversation: Conversation) -> str:
    return conversation.name or conversation.id


def _confirm(yes: bool) -> None:
    note(_("What remains:"))
    for line in redaction.REMAINS:
        note(f"- {translate_foreign(line)}")
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise Refused("this cannot be undone: confirm with --yes")
    if not click.confirm(_("This cannot be undone. Continue?"), err=True):
        note(_("nothing was removed"))
        raise click.exceptions.Exit(1)


def _report(engine: Engine, removed: Removed) -> None:
    """Print what was removed and where copies remain. Raises Refused if the file still contains the text."""
    note(
        counted(
            "the content of {n} event was removed",
            "the content of {n} events was removed",
            len(removed.versions),
        )
    )
    places = [*removed.also_in, *removed.under_way]
    with engine.store.reading() as reader:
        names = {
            id_: (found.name if (found := reader.conversation(id_)) else None) or id_
            for id_ in (*removed.shared_by, *(conversation for conversation, _number in places))
        }
    if removed.shared_by:
        forks = ", ".join(names[id_] for id_ in removed.shared_by)
        note(_("it was also visible in these forks: {names}", names=forks))
    for conversation, version in removed.also_in:
        out(one_line(f"{names[conversation]}@{version}"))
    if removed.also_in:
        note(
            _("this text, or a key, number or address in it, is also in these events: redact them if needed")
        )
    if removed.under_way:
        answering = dict.fromkeys(names[conversation] for conversation, _request in removed.under_way)
        note(
            _(
                "an answer in progress in {names} may quote it: check again when it is complete",
                names=", ".join(answering),
            )
        )
    if not removed.clean:
        raise Refused(
            "it was removed from the log, but may remain in free pages of the file, because another process "
            "is reading it: run `openai2 scrub` later"
        )


COMMANDS = {"redact": redact, "delete": delete, "scrub": scrub}
