"""`search`: messages by their words, and where to go to see them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import database, engine_to_look, is_there
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import fold, is_terminal, note, one_line, out, out_json, paint, screen

if TYPE_CHECKING:
    from openai2.readmodels.search import Found

#: What stands around a word that was found, in Chinese and in English text alike.
MARKS = ("[", "]")


@click.command(
    "search",
    help=_(
        "Find the messages that hold all words of TEXT, in Chinese as in English, the best first: all that "
        "were ever said, also those that a rollback took out. The REF@VERSION in front leads there: "
        "`openai2 show REF@VERSION`."
    ),
)
@click.argument("text")
@click.option("--current", is_flag=True, help=_("Only what stands in a conversation now."))
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help=_("N messages at most; 0 for all."),
)
@click.option("--raw", is_flag=True, help=_("TEXT is a query of SQLite's FTS5: AND, OR, NOT, NEAR, word*."))
@conversation_option
@json_option
@db_option
def search(
    text: str, current: bool, limit: int, raw: bool, conversation: str | None, as_json: bool, db: str | None
) -> None:
    """Find messages."""
    found: list[Found] = []
    if is_there(db):
        with engine_to_look(db) as engine:
            only = refs.find_today(engine, conversation).id if conversation else None
            found = engine.search(text, current=current, conversation=only, limit=limit or None, raw=raw)
    if as_json:
        out_json([_as_object(message) for message in found])
        return
    for message in found:
        tell(message)
    if not found:
        note(_("nothing was found in {path}", path=database(db)))


def _as_object(message: Found) -> dict[str, object]:
    return {
        "conversation": message.conversation,
        "name": message.name,
        "version": message.version,
        "role": message.role,
        "text": message.text,
    }


def tell(message: Found) -> None:
    """Where it is and who said it; then the words, marked, with what stands around them."""
    place = f"{message.name or message.conversation[:8]}@{message.version}"
    out(f"{paint(one_line(place), 'cyan')}  {one_line(message.role)}")
    columns = screen() - 4 if is_terminal(sys.stdout) else 1_000_000
    for line in fold(one_line(message.marked(*MARKS)), columns):
        out(f"    {line}")


COMMANDS = {"search": search}
