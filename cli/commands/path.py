"""`path`: the paths of the command's files."""

from __future__ import annotations

import click

from openai2.cli.arguments.options import db_option
from openai2.cli.settings import paths
from openai2.cli.settings.database import database
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import out, visible


@click.command(
    "path",
    help=_(
        "Print the paths of the command's files. With WHAT (database, keys or history), print that path "
        'only, as in: sqlite3 "$(openai2 path database)"'
    ),
)
@click.argument("what", required=False, type=click.Choice(["database", "keys", "history"]))
@db_option
def path(what: str | None, db: str | None) -> None:
    """Print the paths."""
    places = {"database": database(db), "keys": str(paths.keys()), "history": str(paths.input_history())}
    if what is not None:
        out(places[what])
        return
    for name, place in places.items():
        out(f"{name:<10}{visible(place)}")


COMMANDS = {"path": path}
