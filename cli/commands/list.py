"""`list`: the conversations of the database.

Invariants:
- The command reads the list's table only, so that it answers at once (see `views.conversation_list`).
"""

from __future__ import annotations

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import database, database_exists, store_for_reading
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, out, out_json
from openai2.cli.views.conversation_list import list_lines
from openai2.readmodels import conversations

_FIELDS = ("id", "name", "version", "messages", "updated")  # of a conversation in JSON


@click.command(
    "list",
    help=_("List the conversations, the last changed first; * marks the current one."),
)
@click.option("-a", "--all", "every", is_flag=True, help=_("Include archived conversations."))
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help=_("List at most N of them."))
@json_option
@db_option
def list_(every: bool, limit: int | None, as_json: bool, db: str | None) -> None:
    """List the conversations."""
    if not database_exists(db):
        no_database = _("there is no conversation yet: {path} does not exist", path=database(db))
        out_json([]) if as_json else note(no_database)
        return
    with store_for_reading(db) as store:
        listed = conversations.conversations(store, None if every else False, limit)
        if as_json:
            out_json([{name: getattr(line, name) for name in _FIELDS} for line in listed])
        elif listed:
            for line in list_lines(store, listed):
                out(line)
        else:
            note(_("there is no conversation yet: `openai2 chat` starts one"))


COMMANDS = {"list": list_}
