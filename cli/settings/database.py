"""The database that `--db` names, or the usual one: its path, its store, and the engine on it.

Rule: a command that only looks never makes a database.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openai2.cli.settings import paths
from openai2.errors import Refused

if TYPE_CHECKING:
    from openai2.engine import Engine
    from openai2.store import Store


def database(db: str | None) -> str:
    """The path or URL of the database: `--db`, or the usual one."""
    return paths.database() if db is None else db


@contextmanager
def engine(db: str | None) -> Generator[Engine, None, None]:
    """The engine on that database; a database that is not there is made."""
    from openai2.engine import Engine

    with Engine(database(db)) as opened:
        yield opened


@contextmanager
def engine_to_look(db: str | None) -> Generator[Engine, None, None]:
    """The engine on that database; Refused where there is none yet."""
    _check_that_it_is_there(db)
    with engine(db) as opened:
        yield opened


@contextmanager
def store_to_look(db: str | None) -> Generator[Store, None, None]:
    """The store alone, for what needs no more: the engine takes longer to import than the list to read."""
    from openai2.store import share

    _check_that_it_is_there(db)
    store, release = share(database(db))
    try:
        yield store
    finally:
        release()


def _check_that_it_is_there(db: str | None) -> None:
    if not is_there(db):
        raise Refused(
            "there is no conversation yet, for there is no database {path}: `openai2 chat` begins one",
            path=database(db),
        )


def is_there(db: str | None) -> bool:
    """Whether that database exists."""
    from openai2.store import path_of

    path = path_of(database(db))
    return path is None or os.path.exists(path)
