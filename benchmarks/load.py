"""Time reads: a long view, its last messages, any version, and a short view with a long history."""

from __future__ import annotations

import json
import random
import sqlite3

from benchmarks import worlds
from benchmarks.harness import Bench, Work, messages


def raw() -> Work:
    """Floor: open the file, read all rows in order, decode each with json."""
    path = worlds.long_raw()

    def work() -> None:
        sql = sqlite3.connect(path)
        rows = sql.execute("SELECT data FROM events WHERE conversation = ? ORDER BY version", (_ID,))
        found = [json.loads(data)["message"] for (data,) in rows]
        sql.close()
        assert len(found) == worlds.LONG

    return work


_ID = "0123456789abcdef"


def raw_last() -> Work:
    """Floor: the same for the last 20 rows."""
    path = worlds.long_raw()

    def work() -> None:
        sql = sqlite3.connect(path)
        rows = sql.execute(
            "SELECT data FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 20", (_ID,)
        )
        found = [json.loads(data)["message"] for (data,) in rows]
        sql.close()
        assert len(found) == 20

    return work


def _imported() -> None:
    """Read another store first, so that late imports and decoders are loaded."""
    from openai2 import Engine

    with Engine() as engine:
        engine.create("other").add(messages(2))
        assert engine.open("other").messages(last=1) == engine.open("other").messages()[-1:]


def view() -> Work:
    """Open the store, find the conversation by its name, read its messages."""
    from openai2 import Engine

    _imported()
    path = worlds.long_view()

    def work() -> None:
        with Engine(path) as engine:
            found = engine.open(worlds.NAME).messages()
        assert len(found) == worlds.LONG

    return work


def view_last() -> Work:
    """Open the store and read the conversation for the last 20 messages."""
    from openai2 import Engine

    _imported()
    path = worlds.long_view()

    def work() -> None:
        with Engine(path) as engine:
            found = engine.open(worlds.NAME).messages(last=20)
        assert len(found) == 20

    return work


def raw_last_open() -> Work:
    """Floor: read the last 20 rows over an open connection."""
    sql = sqlite3.connect(worlds.long_raw())

    def work() -> None:
        rows = sql.execute(
            "SELECT data FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 20", (_ID,)
        )
        found = [json.loads(data)["message"] for (data,) in rows]
        assert len(found) == 20

    return work


def view_last_open() -> Work:
    """Open a conversation of an open store and read its last 20 messages."""
    from openai2 import Engine

    engine = Engine(worlds.long_view())

    def work() -> None:
        found = engine.open(worlds.NAME).messages(last=20)
        assert len(found) == 20

    return work


def past(events: int) -> Work:
    """Open a conversation of *events* events in an open store, and read the 20 messages in view."""
    from openai2 import Engine

    engine = Engine(worlds.turns(events))

    def work() -> None:
        found = engine.open(worlds.NAME).messages()
        assert len(found) == 20, len(found)

    return work


def any_version(long: bool) -> Work:
    """Read the messages at versions spread over 20,000 events, all in view if *long*, else 20."""
    from openai2 import Engine

    conversation = Engine(worlds.long_view() if long else worlds.turns(worlds.LONG)).open(worlds.NAME)
    last = conversation.version
    versions = [last * place // 8 for place in range(1, 9)]
    random.Random(1).shuffle(versions)

    def work() -> None:
        conversation.at(versions[-1])
        versions.insert(0, versions.pop())

    return work


def today(long: bool) -> Work:
    """Open the conversation in an open store and read its current view."""
    from openai2 import Engine

    engine = Engine(worlds.long_view() if long else worlds.turns(worlds.LONG))
    return lambda: engine.open(worlds.NAME).messages()


if __name__ == "__main__":
    with Bench("load") as bench:
        # One process per run and nothing cached: the wait of a command that just started.
        bench.once("load floor", raw)
        bench.once("load", view)
        bench.once("last floor", raw_last)
        bench.once("last", view_last)
        bench.time("last-open floor", raw_last_open, 50)
        bench.time("last-open", view_last_open, 50)
        bench.time("past floor", lambda: past(1_000), 20)
        bench.time("past", lambda: past(worlds.MILLION), 20)
        bench.time("at-long floor", lambda: today(long=True), 8)
        bench.time("at-long", lambda: any_version(long=True), 8)
        bench.time("at-short floor", lambda: today(long=False), 80)
        bench.time("at-short", lambda: any_version(long=False), 80)
