"""The guards on the log: no SQL on a plain connection changes or removes an event.

Except for DROP TRIGGER and DROP TABLE.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from openai2 import Engine, user_msg
from tests.support.stores import plain

_COLUMNS = "position, conversation, version, batch, type, data, time, hash"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guards") / "store.db"
    with Engine(path) as engine:
        for name in "ab":
            engine.create(name).add([user_msg("1"), user_msg("2")])
    return path


@pytest.fixture
def path(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "store.db"))


@pytest.fixture(params=[0, 1], ids=["plain triggers", "recursive triggers"])
def sql(path: Path, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    with plain(path) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {request.param}")
        yield connection


def _log(sql: sqlite3.Connection) -> list[tuple[object, ...]]:
    return sql.execute("SELECT * FROM events ORDER BY position").fetchall()


_SAME = "SELECT * FROM events WHERE position = 2"
_ATTACKS = [
    "DELETE FROM events",
    "DELETE FROM events WHERE position = 6",
    "DELETE FROM events ORDER BY position DESC LIMIT 1",
    "WITH last AS (SELECT 6 AS p) DELETE FROM events WHERE position IN (SELECT p FROM last)",
    *(
        f"UPDATE {verb} events SET {change} WHERE position = 2"
        for verb in ("", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK", "OR ABORT")
        for change in (
            "data = '{}'",
            "data = ''",
            "data = NULL",
            "data = x'00'",
            "data = CAST(data AS BLOB)",
            "data = data",
            "position = 99",
            "position = 3",
            "rowid = 3",
            "conversation = 'x'",
            "version = 3",
            "version = 99",
            "batch = 1",
            "type = 'created'",
            "time = ''",
            "hash = zeroblob(32)",
            "hash = NULL",
        )
    ),
    "UPDATE events SET data = '' WHERE type = 'created'",
    "UPDATE events SET position = position + 100",
    *(
        f"{verb} INTO events ({_COLUMNS}) SELECT {values} FROM events WHERE position = 2"
        for verb in ("INSERT", "INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL")
        for values in (
            "2, conversation, version, batch, type, '{}', time, hash",
            "2, conversation, 4, batch, type, '{}', time, hash",
            "2, 'new', 1, 1, type, '{}', time, hash",
            "7, conversation, version, batch, type, '{}', time, hash",
            "NULL, conversation, version, batch, type, '{}', time, hash",
            "-1, conversation, 4, batch, type, '{}', time, hash",
            "0, conversation, 4, batch, type, '{}', time, hash",
            "99, conversation, 4, batch, type, '{}', time, hash",
            "7, conversation, 5, batch, type, '{}', time, hash",
            "7, 'new', 2, batch, type, '{}', time, hash",
            "7, 'new', 0, batch, type, '{}', time, hash",
            "7, conversation, '2', batch, type, '{}', time, hash",
            "'2', conversation, 4, batch, type, '{}', time, hash",
            "7, CAST(conversation AS BLOB), 2, batch, type, '{}', time, hash",
            "7, conversation, 4, batch, type, NULL, time, hash",
            "7, conversation, 4, batch, type, '{}', time, 'short'",
        )
    ),
    f"INSERT INTO events {_SAME} ON CONFLICT (position) DO UPDATE SET data = '{{}}'",
    f"INSERT INTO events {_SAME} ON CONFLICT (conversation, version) DO UPDATE SET data = '{{}}'",
    f"INSERT INTO events {_SAME} ON CONFLICT DO NOTHING",
]


@pytest.mark.parametrize("attack", _ATTACKS)
def test_no_statement_changes_or_removes_an_event(sql: sqlite3.Connection, attack: str) -> None:
    before = _log(sql)
    try:
        sql.execute(attack)
    except (sqlite3.IntegrityError, sqlite3.OperationalError):
        pass  # refused by a guard or a constraint, or not in this build of SQLite
    assert _log(sql) == before


def test_guard_names_the_reason(sql: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql.execute("UPDATE events SET data = '{}'")
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        sql.execute("DELETE FROM events")


def test_triggers_of_other_tables_cannot_change_the_log(sql: sqlite3.Connection) -> None:
    """Statements inside another trigger are guarded too."""
    before = _log(sql)
    sql.execute("CREATE TABLE bait (x)")
    sql.execute("CREATE TRIGGER on_bait AFTER INSERT ON bait BEGIN DELETE FROM events; END")
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        sql.execute("INSERT INTO bait VALUES (1)")
    assert _log(sql) == before


def test_no_column_can_be_dropped(sql: sqlite3.Connection) -> None:
    """The guards name every column."""
    for column in _COLUMNS.split(", "):
        with pytest.raises(sqlite3.OperationalError):
            sql.execute(f"ALTER TABLE events DROP COLUMN {column}")


def test_only_a_redacted_event_can_be_emptied(sql: sqlite3.Connection) -> None:
    conversation = sql.execute("SELECT conversation FROM events WHERE position = 2").fetchone()[0]
    last = sql.execute("SELECT max(version) FROM events WHERE conversation = ?", (conversation,)).fetchone()[
        0
    ]
    sql.execute(
        f"INSERT INTO events ({_COLUMNS}) VALUES (7, ?, ?, ?, 'redacted', ?, 't', zeroblob(32))",
        (conversation, last + 1, last + 1, '{"version":2,"digest":"","left":{}}'),
    )
    before = _log(sql)
    for attack in (
        "UPDATE events SET data = '' WHERE position = 3",
        "UPDATE events SET data = '' WHERE position = 5",
        "UPDATE events SET data = '' WHERE position = 7",
        "UPDATE events SET data = '', time = '' WHERE position = 2",
        "UPDATE events SET data = x'' WHERE position = 2",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            sql.execute(attack)
        assert _log(sql) == before
    sql.execute("UPDATE events SET data = '' WHERE position = 2")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql.execute("UPDATE events SET data = '{}' WHERE position = 2")
