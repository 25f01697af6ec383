"""`redact`, `delete` and `scrub`: what is removed for good, against the rule of the house.

Rules: what will go and what remains is said before; on a terminal a person confirms it, elsewhere --yes
does. What is not gone yet is not said to be gone.
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

# -2 is an index, and no option.
_NEGATIVE = {"ignore_unknown_options": True}

_reason = click.option("--reason", metavar="TEXT", help=_("Why; this stays on record."))
_yes = click.option("-y", "--yes", is_flag=True, help=_("Do not ask; this cannot be undone."))


@click.command(
    "redact",
    context_settings=_NEGATIVE,
    help=_(
        "Remove the text of a message from the file for good: a secret that should never have been typed.\n\n"
        "MESSAGE is its index, as `show` shows it, or @VERSION, as `log` does (also for one that is no "
        "longer in view, or for another event with a text in it: a title, what came of a failed answer, the "
        "options of a request). What remains is a record that it was removed, and a digest of it, so that "
        "`verify` still holds. It goes out of all forks, the search index and the free pages of the file."
    ),
)
@click.argument("ref", shell_complete=conversations)
@click.argument("message")
@_reason
@_yes
@db_option
def redact(ref: str, message: str, reason: str | None, yes: bool, db: str | None) -> None:
    """Remove a message's text."""
    with existing_engine(db) as engine:
        conversation = refs.find_conversation(engine, ref)
        number = _number(conversation, message)
        quoted = clip(one_line(_quoted(engine, conversation.id, number)), max(screen() - 4, 20))
        note(_("This text goes for good, wherever {name} or a fork shows it:", name=_name(conversation)))
        note(f"  {quoted}")
        _confirm(yes)
        _report(engine, redaction.redact(engine.store, conversation.id, number, reason))


@click.command(
    "delete",
    help=_(
        "Remove a conversation: all that was said in it, and its name, from the file for good. What "
        "remains is an empty shell on record, so that `verify` still holds. It is refused while other "
        "conversations descend from it. `archive` only puts it away."
    ),
)
@click.argument("ref", shell_complete=conversations)
@_reason
@_yes
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
                "All that was said in {name} goes for good, and so does its name: {events}",
                name=_name(conversation),
                events=events,
            )
        )
        _confirm(yes)
        _report(engine, redaction.delete(engine.store, conversation.id, reason))


@click.command(
    "scrub",
    help=_(
        "Write the file of the database anew, so that nothing that was redacted or deleted is left in it. "
        "`redact` and `delete` do so themselves, unless somebody else is reading."
    ),
)
@db_option
def scrub(db: str | None) -> None:
    """Write the file anew."""
    with existing_engine(db) as engine:
        if not engine.scrub():
            raise Refused("somebody else is reading the database: try again when they are done")
    note(_("the file was written anew"))


def _number(conversation: Conversation, message: str) -> int:
    """The id of the message at an index, or of @VERSION."""
    version = message.removeprefix("@")
    try:
        place = int(version)
    except ValueError:
        raise BadInput(
            "{text} is no message: give its index, as `show` shows it, or @VERSION, as `log` does",
            text=message,
        ) from None
    if version != message:
        conversation.check_version(place)
        with conversation.store.reading() as reader:
            return Lineage.read(reader, conversation.id).base + place
    ids = conversation.view().ids
    if not -len(ids) <= place < len(ids):
        raise NoIndex("there is no message at {index}: `openai2 show` shows the indexes", index=place)
    return ids[place]


def _quoted(engine: Engine, conversation: str, number: int) -> str:
    """What an event says, and who says it; of one that is no message, the texts that would go."""
    with engine.store.reading() as reader:
        owner, version = Lineage.read(reader, conversation).place(number)
        record = next(reader.events(owner, after=version - 1, upto=version), None)
    if record is None:
        return ""  # the redaction says so
    if isinstance(record.event, ev.MessageAdded):
        said = msg.decode(bytes(record.event.message))
        return f"{said.get('role')}: {msg.text_of(said)}"
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
        raise Refused("this cannot be undone: --yes says that it is meant")
    if not click.confirm(_("This cannot be undone. Go on?"), err=True):
        note(_("nothing was removed"))
        raise click.exceptions.Exit(1)


def _report(engine: Engine, removed: Removed) -> None:
    note(
        counted(
            "the content of {n} event was removed",
            "the content of {n} events was removed",
            len(removed.versions),
        )
    )
    with engine.store.reading() as reader:
        names = {
            id_: (found.name if (found := reader.conversation(id_)) else None) or id_ for id_ in _ids(removed)
        }
    if removed.shared_by:
        note(
            _("these forks showed it, too: {names}", names=", ".join(names[id_] for id_ in removed.shared_by))
        )
    for conversation, version in removed.also_in:
        out(one_line(f"{names[conversation]}@{version}"))
    if removed.also_in:
        note(
            _("this text, or a key, number or address in it, is also in these events: redact them if needed")
        )
    if removed.under_way:
        under_way = dict.fromkeys(names[conversation] for conversation, _request in removed.under_way)
        note(
            _(
                "an answer is under way in {names} that may quote it: look again when it has ended",
                names=", ".join(under_way),
            )
        )
    if not removed.clean:
        raise Refused(
            "it is off the record, but may still lie in free pages of the file, since somebody else is "
            "reading it: `openai2 scrub` tries again"
        )


def _ids(removed: Removed) -> list[str]:
    places = [*removed.also_in, *removed.under_way]
    return [*removed.shared_by, *(conversation for conversation, _version in places)]


COMMANDS = {"redact": redact, "delete": delete, "scrub": scrub}
