"""Make the stores that the benchmarks read, once each, without waiting for the disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.append import INSERT, TABLE, connect
from benchmarks.harness import made, message, messages

if TYPE_CHECKING:
    from openai2 import Engine
    from openai2.store import Transaction

LONG = 20_000
MILLION = 1_000_000
NAME = "the long one"


def _engine(path: Path) -> Engine:
    from openai2 import Engine

    return Engine(path, synchronous="OFF")


def _settle(path: Path) -> None:
    """Move the write-ahead log into the database file."""
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql.execute("PRAGMA journal_mode = DELETE")
    sql.close()
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.close()


def long_view() -> Path:
    """Return a store with one conversation whose view holds 20,000 messages."""

    def make(path: Path) -> None:
        with _engine(path) as engine:
            conversation = engine.create(NAME)
            batch = messages(LONG)
            for start in range(0, LONG, 100):
                conversation.add(batch[start : start + 100])
        _settle(path)

    return made("long.db", make)


def long_raw() -> Path:
    """Return a database with the same messages in a plain table."""

    def make(path: Path) -> None:
        sql = connect(path, "OFF")
        sql.execute(TABLE)
        sql.execute("BEGIN")
        rows = (
            ("0123456789abcdef", number, number, json.dumps({"message": message(number - 1)}), _TIME, _HASH)
            for number in range(1, LONG + 1)
        )
        sql.executemany(INSERT, rows)
        sql.execute("COMMIT")
        sql.close()
        _settle(path)

    return made("long-raw.db", make)


_TIME, _HASH = "2026-11-22T10:05:00.000000Z", bytes(range(32))


def turns(count: int, view: int = 20) -> Path:
    """Return a store with one conversation of *count* events; a limit keeps its view at *view* messages."""
    from openai2.core import events as ev
    from openai2.core import request_events
    from openai2.core.request_events import RequestSpec, StreamState

    question = [msgspec.json.encode(message(0))]
    answer = msgspec.json.encode(message(1))
    ask = RequestSpec(question=question, model="answer", limit=view)
    meta = ev.Answer(model="answer", id="chatcmpl-benchmark", finish_reason="stop", seconds=0.5)

    def make(path: Path) -> None:
        with _engine(path) as engine:
            conversation = engine.create(NAME)
            begun: list[request_events.OpenRequest] = []
            version = conversation.version

            def begin(state: StreamState) -> list[ev.Event]:
                events, request = request_events.begin(ask, state)
                begun.append(request)
                return events

            def end(state: StreamState) -> list[ev.Event]:
                return request_events.answered(begun.pop(), state, answer, meta)

            def some(tx: Transaction) -> int:
                last = version
                for _ in range(1000):
                    conversation.commit_job(begin)(tx)
                    last = conversation.commit_job(end)(tx)[-1].version
                    if last >= count:
                        break
                return last

            while version < count:
                version = engine.store.transact(some)
        _settle(path)

    return made(f"turns-{count}.db", make)


def many(count: int = MILLION) -> Path:
    """Return a store of *count* conversations, each with a name."""
    from openai2.core import events as ev

    def make(path: Path) -> None:
        def some(numbers: range, tx: Transaction) -> None:
            for number in numbers:
                tx.append(_id(number), 0, [ev.Created(name=f"conversation {number}")], _time(number))

        with _engine(path) as engine:
            step = 10_000
            for start in range(0, count, step):
                numbers = range(start, min(start + step, count))
                engine.store.transact(partial(some, numbers))
            engine.conversations(limit=1)  # the list catches up
        _settle(path)

    return made(f"many-{count}.db", make)


def many_raw(count: int = MILLION) -> Path:
    """Return a plain table of *count* conversations, indexed by the time of their last change."""

    def make(path: Path) -> None:
        sql = connect(path, "OFF")
        sql.execute(f"CREATE TABLE conversations ({COLUMNS}, PRIMARY KEY (id))")
        sql.execute("BEGIN")
        sql.executemany(
            "INSERT INTO conversations VALUES (?, ?, NULL, NULL, 0, 0, ?, ?, 1, 0, 0)",
            ((_id(n), f"conversation {n}", _time(n), _time(n)) for n in range(count)),
        )
        sql.execute("CREATE INDEX by_update ON conversations (updated)")
        sql.execute("COMMIT")
        sql.close()
        _settle(path)

    return made(f"many-raw-{count}.db", make)


#: The columns of the list of conversations.
COLUMNS = "id, name, parent, parent_version, base, archived, created, updated, version, messages, asked"


def _id(number: int) -> str:
    return f"{number * 7919 % 10**15:016d}"


def _time(number: int) -> str:
    seconds, millis = divmod(number, 1000)
    minutes, second = divmod(seconds, 60)
    return f"2026-11-22T{10 + minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{millis:03d}000Z"


def texts(count: int) -> Iterator[str]:
    """Yield *count* texts of ten words."""
    for number in range(count):
        yield " ".join(message(2 * (number % 5000))["content"].split()[:9]) + f" n{number}"


def searchable(count: int = MILLION) -> Path:
    """Return a store of *count* messages in 1,000 conversations."""

    def make(path: Path) -> None:
        with _engine(path) as engine:
            contents = texts(count)
            for number in range(1000):
                conversation = engine.create(f"conversation {number}")
                size = count // 1000
                conversation.add([{"role": "user", "content": next(contents)} for _ in range(size)])
            engine.search("nothing")  # the index catches up
        _settle(path)

    return made(f"searchable-{count}.db", make)


def searchable_raw(count: int = MILLION) -> Path:
    """Return a database with the same messages in plain tables and an FTS5 index."""

    def make(path: Path) -> None:
        sql = connect(path, "OFF")
        tokenizer = "unicode61 remove_diacritics 2"
        sql.execute("CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT)")
        sql.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation, version, role, time, content)"
        )
        sql.execute(
            f"CREATE VIRTUAL TABLE found USING fts5(content, content = messages, content_rowid = id,"
            f" tokenize = '{tokenizer}')"
        )
        size = count // 1000
        sql.execute("BEGIN")
        sql.executemany(
            "INSERT INTO conversations VALUES (?, ?)", ((_id(n), f"conversation {n}") for n in range(1000))
        )
        sql.executemany(
            "INSERT INTO messages VALUES (NULL, ?, ?, 'user', ?, ?)",
            ((_id(n // size), n % size + 2, _time(n), text) for n, text in enumerate(texts(count))),
        )
        sql.execute("INSERT INTO found (found) VALUES ('rebuild')")
        sql.execute("COMMIT")
        sql.close()
        _settle(path)

    return made(f"searchable-raw-{count}.db", make)
