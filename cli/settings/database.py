"""The database that `--db` names, or the default one: its path, its store, and an engine on it.

Invariants:
- A command that only reads never creates a database.
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
    """Return the path or URL of the database: *db*, by default that of the settings."""
    return paths.database() if db is None else db


def database_exists(db: str | None) -> bool:
    """Return whether the database's file exists; True for a URL of another kind of store."""
    from openai2.store import path_of

    path = path_of(database(db))
    return path is None or os.path.exists(path)


@contextmanager
def engine(db: str | None) -> Generator[Engine, None, None]:
    """Open an engine on the database; create the database if it does not exist."""
    from openai2.engine import Engine

    with Engine(database(db)) as opened:
        yield opened


@contextmanager
def existing_engine(db: str | None) -> Generator[Engine, None, None]:
    """Open an engine on a database that exists. Raises Refused if it does not."""
    _check_exists(db)
    with engine(db) as opened:
        yield opened


@contextmanager
def store_for_reading(db: str | None) -> Generator[Store, None, None]:
    """Open only the store, without the import cost of the engine. Raises Refused if it does not exist."""
    from openai2.store import share

    _check_exists(db)
    store, release = share(database(db))
    try:
        yield store
    finally:
        release()


def _check_exists(db: str | None) -> None:
    if not database_exists(db):
        raise Refused(
            "there is no conversation yet: the database {path} does not exist; `openai2 chat` starts one",
            path=database(db),
        )
