"""Options that several commands share, and the engine that they lead to.

Rule: a command that only looks never makes a database.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openai2.cli import home
from openai2.cli.names import conversations
from openai2.cli.words import _
from openai2.errors import Refused

if TYPE_CHECKING:
    from openai2.engine import Engine

F = TypeVar("F", bound=Callable[..., Any])


def db_option(command: F) -> F:
    """`--db PATH`."""
    return click.option("--db", metavar="PATH", help=_("The database, instead of the usual one."))(command)


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


def database(db: str | None) -> str:
    """The path or URL of the database: `--db`, or the usual one."""
    return db or os.fspath(home.database())


@contextmanager
def engine(db: str | None) -> Generator[Engine, None, None]:
    """The engine on that database; a database that is not there is made."""
    from openai2.engine import Engine

    with Engine(database(db)) as opened:
        yield opened


@contextmanager
def engine_to_look(db: str | None) -> Generator[Engine, None, None]:
    """The engine on that database; Refused where there is none yet."""
    if not is_there(db):
        raise Refused(
            "there is no conversation yet, for there is no database {path}: `openai2 chat` begins one",
            path=database(db),
        )
    with engine(db) as opened:
        yield opened


def is_there(db: str | None) -> bool:
    """Whether that database exists."""
    from openai2.store import path_of

    path = path_of(database(db))
    return path is None or os.path.exists(path)
