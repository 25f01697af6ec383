"""Time the list of a million conversations, and search in a million messages."""

from __future__ import annotations

import sqlite3

from benchmarks import worlds
from benchmarks.harness import Bench, Work


def raw_list() -> Work:
    """Floor: SELECT the 20 that changed last by an index, and make a dict of each."""
    sql = sqlite3.connect(worlds.many_raw())
    names = worlds.COLUMNS.split(", ")

    def work() -> None:
        rows = sql.execute(f"SELECT {worlds.COLUMNS} FROM conversations ORDER BY updated DESC LIMIT 20")
        assert len([dict(zip(names, row, strict=True)) for row in rows]) == 20

    return work


def listed() -> Work:
    """Read the engine's list, which first checks that it is up to date."""
    from openai2 import Engine

    engine = Engine(worlds.many())

    def work() -> None:
        assert len(engine.conversations(limit=20)) == 20

    return work


WANTED = "n777777"


def raw_search() -> Work:
    """Floor: the 20 best matches of FTS5 over the same texts with the same tokenizer, each with a snippet."""
    sql = sqlite3.connect(worlds.searchable_raw())

    def work() -> None:
        rows = sql.execute(
            "SELECT m.conversation, c.name, m.version, m.id, m.role, m.content, m.time, rank,"
            " snippet(found, 0, '[', ']', '', 20)"
            " FROM found JOIN messages AS m ON m.id = found.rowid"
            " JOIN conversations AS c ON c.id = m.conversation"
            " WHERE found MATCH ? ORDER BY rank LIMIT 20",
            (f'"{WANTED}"',),
        ).fetchall()
        assert len(rows) == 1

    return work


def search() -> Work:
    """Search with an index that is up to date."""
    from openai2 import Engine

    engine = Engine(worlds.searchable())
    engine.search(WANTED)

    def work() -> None:
        assert len(list(engine.search(WANTED))) == 1

    return work


if __name__ == "__main__":
    with Bench("lists") as bench:
        bench.time("list floor", raw_list, 50)
        bench.time("list", listed, 50)
        bench.time("search floor", raw_search, 20)
        bench.time("search", search, 20)
