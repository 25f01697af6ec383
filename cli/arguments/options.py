"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from openai2.cli.arguments.completions import conversations
from openai2.cli.terminal.i18n import _

F = TypeVar("F", bound=Callable[..., Any])


def db_option(command: F) -> F:
    """`--db PATH`."""
    return click.option(
        "--db", metavar="PATH", callback=_named, help=_("The database, instead of the usual one.")
    )(command)


def _named(ctx: click.Context, parameter: click.Parameter, db: str | None) -> str | None:
    """Refuse the empty path of a script whose variable was not set: it would mean the usual database."""
    if db is not None and not db.strip():
        raise click.BadParameter(_("it is empty, and names no database"))
    return db


def json_option(command: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=_("Print JSON for programs."))(command)


def conversation_option(command: F) -> F:
    """`-c REF`: the conversation to act on, as the parameter `conversation`."""
    return click.option(
        "-c",
        "--conversation",
        metavar="REF",
        shell_complete=conversations,
        help=_("Act on this conversation: its name, or the start of its name or id."),
    )(command)
