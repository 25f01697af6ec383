"""The store's contract: append, open, share, close."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openai2 import Engine, NameTaken, StoreError, VersionConflict, user_msg
from openai2.core import events as ev
from openai2.errors import Refused
from openai2.store import SqliteStore, Transaction, codec, open_store, schema, share
from tests.support.stores import added, check_chain, python, stream

# -- Appending ---------------------------------------------------------------------------------------


def test_append_numbers_hashes_and_returns_events(store: SqliteStore) -> None:
    first = store.append("c", 0, [ev.Created(name="n"), added("a")])
    second = store.append("c", 2, [added("b")])
    assert [(r.version, r.position, r.batch, r.type) for r in [*first, *second]] == [
        (1, 1, 1, "created"),
        (2, 2, 1, "message_added"),
        (3, 3, 3, "message_added"),
    ]
    assert stream(store) == [*first, *second]
    assert first[0].time == first[1].time <= second[0].time
    assert first[1].event == added("a") and first[1].data["message"] == user_msg("a")
    check_chain(store)
    assert store.append("c", 3, []) == []


@pytest.mark.parametrize("expected", [0, 1, 3, 99])
def test_append_at_a_stale_version_is_refused(expected: int, store: SqliteStore) -> None:
    before = store.append("c", 0, [ev.Created(), added("a")])
    with pytest.raises(VersionConflict) as refusal:
        store.append("c", expected, [added("b")])
    assert (refusal.value.conversation, refusal.value.version) == ("c", 2)
    assert stream(store) == before


def test_append_is_all_or_nothing(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created(name="taken")])
    with pytest.raises(NameTaken):
        store.append("d", 0, [ev.Created(), added("a"), ev.Renamed(name="taken")])
    assert stream(store, "d") == []
    with store.reading() as reader:
        assert reader.conversation("d") is None and reader.last_position() == 1

    def job(tx: Transaction) -> None:
        tx.append("d", 0, [ev.Created(name="d")])
        tx.append("c", 1, [added("x")])
        raise KeyError("no")

    before = store.epoch
    with pytest.raises(KeyError):
        store.transact(job)
    assert stream(store, "d") == [] and len(stream(store)) == 1
    assert store.epoch > before  # caches of what the job saw are stale
    store.append("d", 0, [ev.Created(name="d")])


def test_fork_chains_on_its_parent(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created(), added("a"), added("b")])
    (forked,) = store.append("f", 0, [ev.Forked(parent="c", version=2, base=2)])
    parent = stream(store)[1]
    link = codec.link(
        *(bytes.fromhex(parent.hash), codec.digest(forked.json), "f", 1, 1, "forked", forked.time)
    )
    assert forked.hash == link.hex()
    with pytest.raises(StoreError):
        store.append("g", 0, [ev.Forked(parent="c", version=9, base=9)])
    assert stream(store, "g") == []


def test_guard_error_is_translated(file: SqliteStore) -> None:
    file.append("c", 0, [ev.Created()])
    with pytest.raises(Refused, match="append-only"):
        file.transact(lambda tx: tx.sql.execute("DELETE FROM events"))


def test_cached_heads_forget_what_was_rolled_back(store: SqliteStore) -> None:
    store.append("c", 0, [added("0")])

    def undone(tx: Transaction) -> None:
        tx.append("c", 1, [added("1"), added("2")])
        raise KeyError("no")

    def refused(tx: Transaction) -> None:
        with contextlib.suppress(sqlite3.IntegrityError):
            _insert_past_the_end(tx)
        assert tx.head("c")[0] == 2 and tx.append("c", 2, [added("2")])[0].position == 3

    with pytest.raises(KeyError):
        store.transact(undone)
    store.append("c", 1, [added("1")])
    store.transact(refused)
    check_chain(store)
    assert [record.position for record in stream(store)] == [1, 2, 3]


def test_cached_heads_follow_another_connections_appends(tmp_path: Path) -> None:
    """Two stores on one file, as in two processes."""
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(contextlib.closing(open_store(tmp_path / "a.db"))) for _ in "ab")
        for version in range(0, 20, 2):
            for store, number in ((one, version), (two, version + 1)):
                store.append("c", number, [added(f"c{number}")])
                with pytest.raises(VersionConflict):  # from the cached head
                    store.append("c", number, [added("late")])
                with pytest.raises(Refused, match="append-only"):
                    store.transact(_insert_past_the_end)
                store.append(f"d{number}", 0, [added("other")])
            with pytest.raises(VersionConflict):
                one.append("c", version + 1, [added("late")])
            assert one.transact(lambda tx: tx.head("c")) == two.transact(lambda tx: tx.head("c"))
        check_chain(one)
        assert [record.version for record in stream(two)] == list(range(1, 21))
        assert one.append("e", 0, [added("last")])[0].position == 41


def test_cache_of_heads_is_bounded(file: SqliteStore) -> None:
    names = [f"c{number}" for number in range(3000)]
    for version in range(2):
        file.transact(lambda tx: [tx.append(name, version, [added("x")]) for name in names])  # noqa: B023 - it is run here
    assert len(file._steps.transaction._heads) < 2000  # pyright: ignore[reportPrivateUsage]
    check_chain(file, "c7")


def _insert_past_the_end(tx: Transaction) -> None:
    """Insert an event that the guards refuse: it does not follow the stream's head."""
    version, link = tx.head("c")
    records = codec.chain("c", (version + 5, link), tx.last_position(), [added("far")], codec.timestamp())
    tx._insert(records)  # pyright: ignore[reportPrivateUsage]


def test_append_runs_few_statements(tmp_path: Path) -> None:
    """The statements for one more message do not grow in number."""
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create()
        seen: list[str] = []
        engine.store.transact(lambda tx: tx.sql.set_trace_callback(seen.append))

        def cost(size: int) -> int:
            seen.clear()
            conversation.add([user_msg("x")] * size)
            return len([sql for sql in seen if not sql.startswith("--")])

        cost(1)
        one, again = cost(1), cost(1)
        for _ in range(200):
            cost(1)
        assert cost(1) == again <= one
        assert cost(50) - cost(1) <= 2 * 49  # an INSERT each, and what its guard looks up
        assert one <= 8
        engine.store.transact(lambda tx: tx.sql.set_trace_callback(None))


# -- The file ----------------------------------------------------------------------------------------


def test_connections_have_their_pragmas(file: SqliteStore) -> None:
    def pragma(sql: sqlite3.Connection, name: str) -> Any:
        return sql.execute(f"PRAGMA {name}").fetchone()[0]

    names = ("journal_mode", "synchronous", "application_id", "user_version")
    found = file.transact(lambda tx: [pragma(tx.sql, name) for name in names])
    assert found == ["wal", 2, int.from_bytes(b"oai2", "big"), schema.SCHEMA_VERSION]
    with file.reading() as reader:
        assert pragma(reader.sql, "query_only") == 1
    assert file.path is not None
    with contextlib.closing(open_store(file.path, synchronous="NORMAL")) as other:
        assert other.transact(lambda tx: pragma(tx.sql, "synchronous")) == 1


def test_readers_cannot_write(file: SqliteStore) -> None:
    with pytest.raises(StoreError), file.reading() as reader:
        reader.sql.execute("DELETE FROM conversations")


def test_closed_store_raises(store: SqliteStore) -> None:
    store.append("c", 0, [ev.Created()])
    store.close()
    store.close()
    uses: list[Callable[[], Any]] = [lambda: store.append("c", 1, [added("a")]), lambda: stream(store)]
    for use in uses:
        with pytest.raises(StoreError, match="closed"):
            use()
    with contextlib.closing(asyncio.new_event_loop()) as loop, pytest.raises(StoreError, match="closed"):
        store.submit(lambda tx: None, lambda: None, loop)


def test_store_refuses_use_in_a_forked_process(file: SqliteStore) -> None:
    file.append("c", 0, [ev.Created()])
    code = """
import os, sys
from openai2.store import open_store
from openai2.core import events as ev
store = open_store(sys.argv[1])
child = os.fork()
if not child:
    try:
        store.append("c", 1, [])
    except Exception as error:
        print(type(error).__name__, "forked" in str(error), flush=True)
    store.close()
    fresh = open_store(sys.argv[1])
    fresh.append("c", 1, [ev.Renamed(name="from the child")])
    os._exit(0)
os.waitpid(child, 0)
store.append("c", 2, [ev.Archived()])
"""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    told, _ = python(code, file.path).communicate(timeout=60)
    assert told.split() == ["StoreError", "True"]
    assert [record.type for record in stream(file)] == ["created", "renamed", "archived"]
    check_chain(file)


def test_users_of_one_path_share_a_store(tmp_path: Path) -> None:
    one, release_one = share(tmp_path / "a.db")
    two, release_two = share(str(tmp_path / "." / "a.db"))
    other, release_other = share(tmp_path / "b.db")
    memory, release_memory = share(None)
    assert one is two and one.users == 2
    assert len({id(one), id(other), id(memory), id(share(None)[0])}) == 4
    release_one()
    release_one()  # twice is once
    one.append("c", 0, [ev.Created()])
    release_two()
    with pytest.raises(StoreError, match="closed"):
        one.append("c", 1, [added("a")])
    again, release = share(tmp_path / "a.db")
    assert again is not one and len(stream(again)) == 1
    for last in (release, release_other, release_memory):
        last()


def test_threads_share_and_release_at_once(tmp_path: Path) -> None:
    def use(number: int) -> None:
        store, release = share(tmp_path / "a.db")
        store.append(f"c{number}", 0, [ev.Created()])
        release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(100)))
    with contextlib.closing(open_store(tmp_path / "a.db")) as store, store.reading() as reader:
        assert reader.last_position() == 100


def test_path_of_a_deleted_file_is_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"
    with Engine(path) as engine:
        engine.create("old")
        for file in tmp_path.glob("gone.db*"):
            file.unlink()
        with Engine(path) as other:
            assert other.conversations() == []
            other.create("new")
            assert [line.name for line in other.conversations()] == ["new"]


def test_new_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    with Engine(tmp_path / "own.db") as engine:
        engine.create("x")
        for file in tmp_path.glob("own.db*"):
            assert file.stat().st_mode & 0o777 == 0o600, file


def test_store_on_read_only_media_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cd.db"
    with Engine(path) as engine:
        engine.create("x").add([user_msg("hello")])
    access = os.access

    def no_writing(place: str, mode: int) -> bool:
        return mode != os.W_OK and access(place, mode)

    monkeypatch.setattr(os, "access", no_writing)
    with Engine(path) as engine:
        assert [line.name for line in engine.conversations()] == ["x"]
        assert len(engine.open("x").messages()) == 1
        with pytest.raises(StoreError, match="read-only"):
            engine.create("y")
    assert [file.name for file in tmp_path.iterdir()] == ["cd.db"]


def test_list_of_a_read_only_store_equals_the_written_list(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create("x")
        engine.conversations()
        late = [added("when the clock had been set back")]
        engine.store.transact(
            lambda tx: tx.append(conversation.id, 1, late, time="2001-01-01T00:00:00.000000Z")
        )
        engine.store.read_only = True
        aside = engine.conversations()
        engine.store.read_only = False
        assert aside == engine.conversations() and aside[0].messages == 1
