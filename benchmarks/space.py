"""Space: bytes on disk per message, and memory of a server with 10,000 open Chats."""

from __future__ import annotations

import gc
import json
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.append import connect
from benchmarks.harness import KEY, Bench, fresh, message, messages, url

CHATS, EACH = 10_000, 20
DIALOGUES, ROUNDS = 50, 100


def _size(path: Path) -> int:
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql.close()
    return path.stat().st_size


def raw_messages() -> float:
    """One row per message, with an index on conversation and number."""
    path = fresh("raw")
    sql = connect(path, "OFF")
    sql.execute(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation TEXT NOT NULL, number INTEGER NOT NULL,"
        " message TEXT NOT NULL, time TEXT NOT NULL, UNIQUE (conversation, number))"
    )
    sql.execute("BEGIN")
    for dialogue in range(DIALOGUES):
        for number, content in enumerate(messages(2 * ROUNDS)):
            sql.execute(
                "INSERT INTO messages VALUES (NULL, ?, ?, ?, ?)",
                (f"{dialogue:016d}", number, json.dumps(content), datetime.now(timezone.utc).isoformat()),
            )
    sql.execute("COMMIT")
    sql.close()
    return _size(path) / (DIALOGUES * ROUNDS * 2)


def stored_messages() -> float:
    """The same messages in the engine, one round per call of `Conversation.add`."""
    from openai2 import Engine

    path = fresh("stored")
    with Engine(path, synchronous="OFF") as engine:
        for _ in range(DIALOGUES):
            conversation = engine.create()
            added = messages(2 * ROUNDS)
            for start in range(0, len(added), 2):
                conversation.add(added[start : start + 2])
    return _size(path) / (DIALOGUES * ROUNDS * 2)


def same_rows() -> float:
    """The same messages in a plain table with the columns of an event."""
    from benchmarks.append import INSERT, TABLE
    from openai2.store.codec import timestamp

    path = fresh("raw")
    sql = connect(path, "OFF")
    sql.execute(TABLE)
    sql.execute("BEGIN")
    for dialogue in range(DIALOGUES):
        for number, content in enumerate(messages(2 * ROUNDS), 1):
            data = json.dumps({"message": content}, separators=(",", ":"))
            sql.execute(INSERT, (f"{dialogue:016d}", number, number, data, timestamp(), bytes(range(32))))
    sql.execute("COMMIT")
    sql.close()
    return _size(path) / (DIALOGUES * ROUNDS * 2)


def _resident() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmRSS in /proc/self/status: this benchmark needs Linux")


def _short(number: int) -> dict[str, Any]:
    full = message(number)
    return {**full, "content": full["content"][:190]}


def _growth(make: Callable[[], object]) -> float:
    """Return the bytes that the process grows by while it keeps what *make* returns."""
    before = _resident()
    kept = make()
    growth = _resident() - before
    assert kept is not None
    return growth


def dicts() -> float:
    """The messages of 10,000 dialogues as lists of dicts."""
    json.loads("{}")
    return _growth(
        lambda: [[_short(place * EACH + number) for number in range(EACH)] for place in range(CHATS)]
    )


def chats() -> float:
    """10,000 open Chats in one store, each with 20 messages."""
    from openai2 import Chat, Engine

    engine = Engine(fresh("memory"), synchronous="OFF")

    def make() -> list[Chat]:
        open_chats: list[Chat] = []
        for place in range(CHATS):
            chat = Chat(KEY, "answer", base_url=url(), db=engine, MsgMaxCount=100)
            chat.add_dialogs(*(_short(place * EACH + number) for number in range(EACH)))
            open_chats.append(chat)
        return open_chats

    Chat(KEY, "answer", base_url=url(), db=engine).add_dialogs(message(0))
    return _growth(make)


if __name__ == "__main__":
    with Bench("space") as bench:
        bench.amount("bytes floor", raw_messages, "byte")
        bench.amount("bytes", stored_messages, "byte")
        bench.amount("bytes-rows floor", same_rows, "byte")
        bench.amount("memory floor", dicts, "byte")
        bench.amount("memory", chats, "byte")
