"""Append a turn: wall time, beside raw sqlite3 that writes the same rows, unguarded and unhashed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import datetime, timezone
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.harness import Bench, Work, fresh, message

TABLE = """
CREATE TABLE events (
  position INTEGER PRIMARY KEY, conversation TEXT NOT NULL, version INTEGER NOT NULL, batch INTEGER NOT NULL,
  type TEXT NOT NULL, data TEXT NOT NULL, time TEXT NOT NULL, hash BLOB NOT NULL,
  UNIQUE (conversation, version))
"""
INSERT = "INSERT INTO events VALUES (NULL, ?, ?, ?, 'message_added', ?, ?, ?)"


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open a database with the settings that a program would choose for this."""
    sql = sqlite3.connect(path, isolation_level=None)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute(f"PRAGMA synchronous = {synchronous}")
    return sql


def raw(synchronous: str) -> Work:
    """Encode question and answer by json, stamp them with the time, insert them, commit."""
    sql = connect(fresh("raw"), synchronous)
    sql.execute(TABLE)
    versions = count(1, 2)
    question, answer = message(0), message(1)
    link = bytes(range(32))

    def turn() -> None:
        version = next(versions)
        time = datetime.now(timezone.utc).isoformat()
        sql.execute("BEGIN IMMEDIATE")
        sql.executemany(
            INSERT,
            [
                ("0123456789abcdef", version, version, json.dumps({"message": question}), time, link),
                ("0123456789abcdef", version + 1, version, json.dumps({"message": answer}), time, link),
            ],
        )
        sql.execute("COMMIT")

    return turn


def append(synchronous: str) -> Work:
    """Append the same through the store: expected version, hash chain and guards included."""
    import msgspec

    from openai2 import Engine
    from openai2.core.events import MessageAdded

    store = Engine(fresh("append"), synchronous=synchronous).store
    store.append("0123456789abcdef", 0, [])
    versions = count(0, 2)
    question, answer = message(0), message(1)
    encode = msgspec.json.encode

    def turn() -> None:
        store.append(
            "0123456789abcdef",
            next(versions),
            [MessageAdded(message=msgspec.Raw(encode(content))) for content in (question, answer)],
        )

    return turn


def add(synchronous: str) -> Work:
    """Append the same through a Chat's add_dialogs: messages checked, view and snapshots kept up."""
    from openai2 import Engine

    conversation = Engine(fresh("append"), synchronous=synchronous).create()
    turn = [message(0), message(1)]
    return lambda: conversation.add(turn)


def together(synchronous: str, tasks: int = 64, turns: int = 4) -> Work:
    """Append from so many tasks at once, each to another conversation."""
    from openai2 import Engine
    from openai2.drivers import run_in_store

    engine = Engine(fresh("append"), synchronous=synchronous)
    conversations = [engine.create() for _ in range(tasks)]
    turn = [message(0), message(1)]

    async def main() -> None:
        async def task(number: int) -> None:
            for _ in range(turns):
                await run_in_store(engine.store, conversations[number].add_job(turn))

        await asyncio.gather(*(task(number) for number in range(tasks)))

    return lambda: asyncio.run(main())


def one_by_one(turns: int) -> Work:
    """Write so many turns raw, with a commit each."""
    turn = raw("FULL")

    def work() -> None:
        for _ in range(turns):
            turn()

    return work


if __name__ == "__main__":
    with Bench("append") as bench:
        for level, times in (("FULL", 100), ("NORMAL", 500)):
            name = f"append-{level.lower()}"
            bench.time(f"{name} floor", partial(raw, level), times)
            bench.time(name, partial(append, level), times)
            bench.time(f"{name}-chat", partial(add, level), times)
        bench.time("append-64 floor", lambda: one_by_one(256))
        bench.time("append-64", lambda: together("FULL"))
