"""Fork, rollback, restore: wall time, beside one raw insert; and the bytes that each leaves behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import worlds
from benchmarks.append import INSERT, TABLE, connect
from benchmarks.harness import Bench, Work, copied, fresh

if TYPE_CHECKING:
    from openai2 import Conversation, Engine

Change = Callable[["Conversation"], object]


def insert() -> Work:
    """One short row, inserted and committed."""
    sql = connect(fresh("raw"), "FULL")
    sql.execute(TABLE)
    versions = count(1)

    def work() -> None:
        version = next(versions)
        sql.execute(INSERT, ("0123456789abcdef", version, version, '{"version":1}', "2026-11-22", bytes(32)))

    return work


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
    """Make the view what it was at versions all over it."""
    _, conversation = _opened()
    versions = count(1)
    return lambda: conversation.restore(1 + next(versions) * 7919 % worlds.LONG)


def _bytes(change: Change, times: int = 500) -> float:
    """By how much the file grows, each time."""
    engine, conversation = _opened()
    path = Path(str(getattr(engine.store, "path", "")))
    before = _settled(path)
    for _ in range(times):
        change(conversation)
    engine.close()
    return (_settled(path) - before) / times


def _settled(path: Path) -> int:
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql.close()
    return os.stat(path).st_size


def _there_and_back(held: Conversation) -> None:
    held.rollback(1_000)
    held.restore(20_001)


if __name__ == "__main__":
    with Bench("change") as bench:
        bench.time("change floor", insert, 50)
        bench.time("fork", fork, 50)
        bench.time("rollback", rollback, 2)  # eight times with those to warm up
        bench.time("restore", restore, 50)
        bench.amount("fork-bytes", lambda: _bytes(lambda held: held.fork(at=10_000)), "byte")
        bench.amount("restore-bytes", lambda: _bytes(lambda held: held.restore(10_000)), "byte")
        bench.amount("rollback-bytes", lambda: _bytes(_there_and_back, 20) / 2, "byte")
