"""Fork, rollback, restore: wall time, beside one raw insert; and the bytes that each leaves behind."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import worlds
from benchmarks.append import INSERT, TABLE, connect
from benchmarks.harness import Bench, Work, copied, fresh

if TYPE_CHECKING:
    from openai2 import Conversation, Engine

Change = Callable[["Conversation"], object]


def _insert_into(sql: sqlite3.Connection, version: int) -> None:
    sql.execute(INSERT, ("0123456789abcdef", version, version, '{"version":1}', "2026-11-22", bytes(32)))


def insert() -> Work:
    """Insert and commit one short row."""
    sql = connect(fresh("raw"), "FULL")
    sql.execute(TABLE)
    versions = count(1)
    return lambda: _insert_into(sql, next(versions))


def _opened() -> tuple[Engine, Conversation]:
    from openai2 import Engine

    engine = Engine(copied(worlds.long_view()))
    conversation = engine.open(worlds.NAME)
    conversation.messages()
    return engine, conversation


def fork() -> Work:
    """Fork a conversation of 20,000 messages at versions all over it."""
    _, conversation = _opened()
    versions = count(1)
    return lambda: conversation.fork(at=1 + next(versions) * 7919 % worlds.LONG)


def rollback() -> Work:
    """Take 1,000 of its 10,000 rounds out, and more of what is left each time."""
    _, conversation = _opened()
    return lambda: conversation.rollback(1_000)


def restore() -> Work:
    """Restore the view at versions all over it."""
    _, conversation = _opened()
    versions = count(1)
    return lambda: conversation.restore(1 + next(versions) * 7919 % worlds.LONG)


def first_insert(times: int = 15) -> float:
    """Return the seconds that the first insert into a database just opened takes."""
    path = fresh("raw")
    with closing(connect(path, "FULL")) as sql:
        sql.execute(TABLE)

    def insert_once() -> float:
        with closing(connect(path, "FULL")) as sql:
            (versions,) = sql.execute("SELECT count(*) FROM events").fetchone()
            started = time.perf_counter()
            _insert_into(sql, versions + 1)
            return time.perf_counter() - started

    return statistics.median(insert_once() for _ in range(times))


def first_fork(times: int = 15) -> float:
    """Return the seconds that the first fork in a store just opened takes, its modules imported."""
    return statistics.median(seconds for seconds, _ in _first_forks(times)[1:])


def first_fork_bytes() -> float:
    """Return the bytes that such a fork adds to the write-ahead log."""
    return statistics.median(size for _, size in _first_forks(3))


def _first_forks(times: int) -> list[tuple[float, int]]:
    from openai2 import Engine

    path = copied(worlds.long_view())
    found: list[tuple[float, int]] = []
    for _ in range(times):
        with Engine(path) as engine:
            conversation = engine.open(worlds.NAME)
            started = time.perf_counter()
            conversation.fork(at=10_000)
            seconds = time.perf_counter() - started
            found.append((seconds, os.stat(f"{path}-wal").st_size))
    return found


def _bytes(change: Change, times: int = 500) -> float:
    """Return by how much the file grows with each change."""
    engine, conversation = _opened()
    path = Path(str(getattr(engine.store, "path", "")))
    before = _checkpointed_size(path)
    for _ in range(times):
        change(conversation)
    engine.close()
    return (_checkpointed_size(path) - before) / times


def _checkpointed_size(path: Path) -> int:
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return os.stat(path).st_size


def _there_and_back(conversation: Conversation) -> None:
    conversation.rollback(1_000)
    conversation.restore(20_001)


if __name__ == "__main__":
    with Bench("change") as bench:
        bench.time("change floor", insert, 50)
        bench.time("fork", fork, 50)
        bench.time("rollback", rollback, 2)  # eight times with those to warm up
        bench.time("restore", restore, 50)
        bench.amount("fork-first floor", first_insert, "second")
        bench.amount("fork-first", first_fork, "second")
        bench.amount("fork-first-wal", first_fork_bytes, "byte")
        bench.amount("fork-bytes", lambda: _bytes(lambda conversation: conversation.fork(at=10_000)), "byte")
        bench.amount(
            "restore-bytes", lambda: _bytes(lambda conversation: conversation.restore(10_000)), "byte"
        )
        bench.amount("rollback-bytes", lambda: _bytes(_there_and_back, 20) / 2, "byte")
