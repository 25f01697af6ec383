"""`fork`, `rename`, `archive`, `unarchive`: manage whole conversations."""

from __future__ import annotations

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, out, visible


@click.command(
    "fork",
    help=_(
        "Create a new conversation that continues from REF or REF@VERSION, and print its name or id. Earlier "
        "events are shared, not copied; the old conversation stays as it is."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option("--name", metavar="NAME", help=_("Give the new conversation this name."))
@conversation_option
@db_option
def fork(ref: str | None, name: str | None, conversation: str | None, db: str | None) -> None:
    """Fork a conversation."""
    with existing_engine(db) as engine:
        place = refs.find(engine, ref or conversation)
        twin = place.conversation.fork(name, place.version)
        out(visible(name or twin.id))
        note(_("`openai2 chat -c {name}` continues it", name=name or twin.id[:8]))


@click.command(
    "rename",
    help=_("Rename the conversation REF to NAME; an empty NAME removes its name."),
)
@click.argument("ref", shell_complete=conversations)
@click.argument("name")
@db_option
def rename(ref: str, name: str, db: str | None) -> None:
    """Rename a conversation."""
    with existing_engine(db) as engine:
        refs.find_conversation(engine, ref).rename(name or None)


@click.command(
    "archive",
    help=_("Archive a conversation: `list` leaves it out, and `chat` no longer continues it by default."),
)
@click.argument("ref", shell_complete=conversations)
@db_option
def archive(ref: str, db: str | None) -> None:
    """Archive a conversation."""
    with existing_engine(db) as engine:
        refs.find_conversation(engine, ref).archive()


@click.command(
    "unarchive",
    help=_("Take a conversation out of the archive. `list --all` shows archived conversations."),
)
@click.argument("ref", shell_complete=conversations)
@db_option
def unarchive(ref: str, db: str | None) -> None:
    """Unarchive a conversation."""
    with existing_engine(db) as engine:
        refs.find_conversation(engine, ref).archive(False)


COMMANDS = {"fork": fork, "rename": rename, "archive": archive, "unarchive": unarchive}
