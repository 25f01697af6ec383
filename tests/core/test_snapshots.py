"""Snapshots are a cache: small, enough to open a long conversation quickly, and never needed."""

from __future__ import annotations

from pathlib import Path

import pytest  # noqa: TC002 - as everywhere else in the tests

from openai2 import Engine, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.core.snapshot import ROW_OVERHEAD, SNAPSHOT_SHARE
from openai2.store import Reader
from tests.support.stores import busy, long, plain


def test_snapshots_take_a_fixed_share_at_most(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Engine(path, synchronous="OFF") as engine:
        long(engine, size=4000)
        pinned = engine.create("pinned")
        for start in range(0, 1000, 50):
            pinned.add([user_msg(f"{number} " * 20) for number in range(start, start + 50)])
            pinned.pin(*range(start, start + 50))
    with plain(path) as sql:
        for conversation, events in sql.execute(
            "SELECT conversation, sum(length(CAST(data AS BLOB)) + ?) FROM events GROUP BY conversation",
            (ROW_OVERHEAD,),
        ):
            count, size = sql.execute(
                "SELECT count(*), sum(length(view)) FROM snapshots WHERE conversation = ?", (conversation,)
            ).fetchone()
            assert count
            assert size <= events * SNAPSHOT_SHARE


def test_opening_reads_in_proportion_to_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small view after thousands of events: few events are read."""
    path = tmp_path / "store.db"
    with Engine(path, synchronous="OFF") as engine:
        a = engine.create("a")
        for number in range(400):
            a.add([user_msg(f"{number} " * 30), assistant_msg("yes " * 30)] * 5)
            a.rollback(5)
        a.add([user_msg("last")])
        version = a.version
    read = 0
    original = Reader.events

    def counted(self: Reader, *args: object, **more: object) -> object:
        nonlocal read
        for record in original(self, *args, **more):  # type: ignore[arg-type]
            read += 1
            yield record

    monkeypatch.setattr(Reader, "events", counted)
    with Engine(path) as engine:
        assert engine.open("a").messages() == [user_msg("last")]
        assert read < 250 < version
        for at in (7, version // 2, version - 5):
            read = 0
            engine.open("a").at(at)
            assert read < 500


def test_views_are_the_same_without_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Engine(path, synchronous="OFF") as engine:
        busy(engine)
        a = long(engine, size=1000)
        a.rollback(100)
        a.undo()
        fork = a.fork("fork", at=600)
        fork.restore(1)
        versions = (1, 150, 599, 600, 1001, 1002, 1003)
        before = [a.view_messages(version) for version in versions], fork.view_messages()
    with plain(path) as sql:
        assert sql.execute("SELECT count(*) FROM snapshots").fetchone()[0]
        sql.execute("DELETE FROM snapshots")
    with Engine(path) as engine:
        a = engine.open("long")
        assert (
            [a.view_messages(version) for version in versions],
            engine.open("fork").view_messages(),
        ) == before
        assert engine.verify().ok


def test_repeated_undo_and_redo_make_no_chain() -> None:
    with Engine() as engine:
        conversation = engine.create("a")
        conversation.add([user_msg("1")])
        conversation.add([user_msg("2")])
        conversation.add([user_msg("3")])
        for _ in range(50):
            assert conversation.undo(2) == 2
            assert conversation.redo(2) == 2
        assert [message["content"] for message in conversation.messages()] == ["1", "2", "3"]
        events = [record.event for record in conversation.events()]
        redone = [
            event.version for event in events if isinstance(event, ev.Restored) and event.cause == "redo"
        ]
        assert set(redone[1::2]) == {4}
        assert conversation.undo(9) == 3 and conversation.redo(9) == 3
        assert engine.verify().ok
