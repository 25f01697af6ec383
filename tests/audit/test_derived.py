"""Derived tables: verify compares them with the events, and rebuild restores them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from openai2 import Engine
from openai2.readmodels import list_update
from openai2.store import Draft
from tests.support.problems import places
from tests.support.stores import busy, long, plain


def _derived_rows(sql: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [
        sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("conversations", "snapshots", "cursors")
    ]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("UPDATE snapshots SET view = replace(view, ',1,1', ',1,2')", "snapshot"),
        ("UPDATE snapshots SET view = 'garbage'", "snapshot"),
        ("UPDATE snapshots SET version = version + 1", "snapshot"),
        ("UPDATE OR REPLACE snapshots SET version = 99999", "snapshot"),
        ("UPDATE snapshots SET conversation = 'nobody'", "snapshot"),
        ("UPDATE OR REPLACE snapshots SET version = 'x'", "snapshot"),
        ("UPDATE conversations SET name = 'other' WHERE name = 'long'", "'other'"),
        ("UPDATE conversations SET messages = messages + 1 WHERE name = 'long'", "messages"),
        ("UPDATE conversations SET updated = '2001' WHERE name = 'long'", "updated"),
        ("UPDATE conversations SET archived = 1 WHERE name = 'long'", "archived"),
        ("UPDATE conversations SET version = 3 WHERE name = 'long'", "version"),
        ("UPDATE conversations SET base = 3 WHERE name = 'long'", "base"),
        ("UPDATE conversations SET parent = 'x' WHERE name = 'long'", "parent"),
        ("UPDATE conversations SET asked = 3 WHERE name = 'long'", "asked"),
        ("UPDATE conversations SET created = x'ff' WHERE name = 'long'", "created"),
        ("DELETE FROM conversations WHERE name = 'long'", "missing from the list"),
        ("UPDATE conversations SET id = 'nobody' WHERE name = 'long'", "has no events"),
        ("UPDATE cursors SET position = 99999", "read up to"),
        ("UPDATE cursors SET position = 'x'", "read up to"),
        ("DROP TABLE conversations", "table conversations is missing"),
        ("DROP TABLE snapshots", "table snapshots is missing"),
        ("DROP TABLE cursors", "table cursors is missing"),
        ("DROP TABLE drafts", "table drafts is missing"),
        ("ALTER TABLE snapshots ADD COLUMN more", "table snapshots is not as"),
        ("DROP VIEW messages", "view messages is missing"),
        ("DROP VIEW answers; CREATE VIEW answers AS SELECT 1 AS position", "view answers is not as"),
        (
            "CREATE TRIGGER other AFTER UPDATE ON drafts BEGIN DELETE FROM drafts; END",
            "trigger other is not openai2's",
        ),
    ],
)
def test_damaged_derived_table_is_named_and_rebuilt(
    engine: Engine, path: Path, damage: str, word: str
) -> None:
    long(engine)
    engine.conversations()
    assert engine.verify().ok
    with plain(path) as sql:
        assert sql.execute("SELECT count(*) FROM snapshots").fetchone()[0]
        before = _derived_rows(sql)
        sql.executescript(damage)
    problems = engine.verify().problems
    assert any(word in problem.what for problem in problems), problems
    assert len(problems) <= 5
    engine.rebuild()
    assert engine.verify().ok
    with plain(path) as sql:
        assert _derived_rows(sql) == before


def test_missing_and_foreign_guards_are_named(engine: Engine, path: Path) -> None:
    engine.create("a")
    with plain(path) as sql:
        sql.execute("DROP TRIGGER events_are_not_changed")
        sql.execute("CREATE TRIGGER other AFTER INSERT ON events BEGIN SELECT 1; END")
        sql.execute("CREATE INDEX mine ON events (time)")
    whats = [problem.what for problem in engine.verify().problems]
    assert len(whats) == 2
    assert any("events_are_not_changed" in what for what in whats) and any("other" in what for what in whats)
    engine.rebuild()
    assert len(engine.verify().problems) == 1, "rebuild puts guards back"


def test_change_is_found_without_derived_tables(engine: Engine, path: Path) -> None:
    conversation = long(engine)
    with plain(path, unguarded=True) as sql:
        for table in ("conversations", "snapshots", "cursors", "drafts"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute("UPDATE events SET data = replace(data, 'question 7', 'question 8') WHERE version = 16")
    assert (conversation.id, 16) in places(engine.verify().problems)


def test_schema_with_names_that_are_blobs_is_named(engine: Engine, path: Path) -> None:
    busy(engine)
    engine.close()
    with plain(path) as sql:
        sql.execute("CREATE TRIGGER mine AFTER UPDATE ON drafts BEGIN SELECT 1; END")
        sql.execute("PRAGMA writable_schema = ON")
        sql.execute("UPDATE sqlite_master SET name = CAST(name AS BLOB) WHERE name IN ('mine', 'answers')")
    with Engine(path) as damaged:
        assert any("mine is not openai2's" in problem.what for problem in damaged.verify().problems)


def test_rebuild_replaces_foreign_tables_and_views(engine: Engine, path: Path) -> None:
    busy(engine)
    with plain(path) as sql:
        before = _derived_rows(sql)
        for view in ("messages", "answers", "failures"):
            sql.execute(f"DROP VIEW {view}")
        sql.execute("CREATE TABLE messages (x)")
        for table in ("conversations", "snapshots", "cursors", "drafts"):
            sql.execute(f"DROP TABLE {table}")
        sql.execute("CREATE VIEW conversations AS SELECT 1 AS id")
        sql.execute("CREATE TABLE snapshots (x)")
        sql.execute("CREATE TABLE drafts (x)")
    engine.rebuild()
    assert engine.verify().ok
    with plain(path) as sql:
        assert _derived_rows(sql) == before
        assert sql.execute("SELECT count(*) FROM messages").fetchone()[0] > 3
    assert not engine.open("main").interrupted()
    engine.rebuild()
    assert engine.verify().ok


def test_rebuild_keeps_drafts(engine: Engine) -> None:
    a = engine.create("a")
    draft = Draft(a.id, 2, "somebody", 0.0, b'{"role":"assistant","content":"half"}')
    engine.store.transact(lambda tx: tx.put_draft(draft))
    engine.rebuild()
    assert a.interrupted() == [draft]


def test_failed_rebuild_changes_nothing(engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(engine)
    with plain(path) as sql:
        before = _derived_rows(sql)

        def broken(tx: object) -> None:
            raise RuntimeError("pulled the plug")

        monkeypatch.setattr(list_update, "catch_up", broken)
        with pytest.raises(RuntimeError, match="plug"):
            engine.rebuild()
        assert _derived_rows(sql) == before
    assert engine.verify().ok
