"""`search`: find messages by their words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import database, database_exists, existing_engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, out, out_json
from openai2.cli.views.search_hits import hit_lines

if TYPE_CHECKING:
    from openai2.readmodels.search import Found

_FIELDS = ("conversation", "name", "version", "role", "text")  # of a message in JSON


@click.command(
    "search",
    help=_(
        "Find messages that contain all words of TEXT, in Chinese and in English, the best match first. "
        "Messages that a rollback removed are found too. Each match starts with a REF@VERSION: "
        "`openai2 show REF@VERSION` shows the message in its place."
    ),
)
@click.argument("text")
@click.option("--current", is_flag=True, help=_("Search only messages that are in view now."))
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help=_("Show at most N messages; 0 for all."),
)
@click.option(
    "--raw", is_flag=True, help=_("Treat TEXT as a query of SQLite's FTS5: AND, OR, NOT, NEAR, word*.")
)
@conversation_option
@json_option
@db_option
def search(
    text: str, current: bool, limit: int, raw: bool, conversation: str | None, as_json: bool, db: str | None
) -> None:
    """Find messages."""
    hits: list[Found] = []
    if database_exists(db):
        with existing_engine(db) as engine:
            only = refs.find_conversation(engine, conversation).id if conversation else None
            hits = engine.search(text, current=current, conversation=only, limit=limit or None, raw=raw)
    if as_json:
        out_json([{name: getattr(hit, name) for name in _FIELDS} for hit in hits])
        return
    for hit in hits:
        for line in hit_lines(hit):
            out(line)
    if not hits:
        note(_("nothing was found in {path}", path=database(db)))


COMMANDS = {"search": search}
