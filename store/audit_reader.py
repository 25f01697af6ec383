"""Read the log for an audit: every row as it is in the file, trusting nothing.

Invariants:
- Text is read as bytes: invalid UTF-8 is a finding, not an exception.
- Rows with columns of a wrong type are reported by `odd`, and left out elsewhere unless a method says so.
- Each method is one SELECT. The reader must have a snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from openai2.errors import LazyMessage, lazy_message
from openai2.store import schema
from openai2.store.reader import Reader
from openai2.store.transaction import LISTED_TYPES

#: conversation, version, position, batch, type, data, time, hash
Row = tuple[bytes, int, int, int, bytes, bytes, bytes, bytes]

_ROW = (
    "CAST(conversation AS BLOB), version, position, batch, CAST(type AS BLOB), CAST(data AS BLOB),"
    " CAST(time AS BLOB), hash"
)
_PAGE = 64  # rows in memory at once: one can hold images
_TYPES = {
    "conversation": "text",
    "version": "integer",
    "batch": "integer",
    "type": "text",
    "data": "text",
    "time": "text",
    "hash": "blob",
}
_TYPES_OF_DRAFTS = {"conversation": "text", "request": "integer", "writer": "text", "lease": "real"}
_ODD = " OR ".join(f"typeof({column}) <> '{kind}'" for column, kind in _TYPES.items())

# In a damaged schema these may be NULL or not text.
_SCHEMA = "SELECT ifnull(CAST(type AS TEXT), ''), ifnull(CAST(name AS TEXT), ''), sql FROM sqlite_master"
_NOTED = "SELECT CAST(conversation AS BLOB), version, position, type, CAST(data AS BLOB) FROM events"


class Odd(NamedTuple):
    """A row with a column of a wrong type."""

    position: int
    conversation: str
    version: int | None
    what: str


class Noted(NamedTuple):
    """An event that must be known before others are checked."""

    conversation: bytes
    version: int
    position: int
    type: str
    data: bytes


class Drafted(NamedTuple):
    """A draft; *odd* names its columns of a wrong type, '' if there are none."""

    conversation: str
    request: int
    lease: float
    partial: bytes | None
    odd: str


class Scan:
    """The queries of an audit."""

    def __init__(self, reader: Reader) -> None:
        self._sql = reader.sql
        self._lacking: set[str] = set()

    def size(self) -> tuple[int, int]:
        """Return (number of events, last position)."""
        row: tuple[int, int] = self._sql.execute(
            "SELECT count(*), ifnull(max(position), 0) FROM events"
        ).fetchone()
        return row

    def damage(self) -> Iterator[str]:
        """Yield what SQLite itself finds wrong with the file."""
        for (line,) in self._sql.execute("PRAGMA integrity_check(10)"):
            if line != "ok":
                yield str(line)

    def strange_schema(self) -> Iterator[LazyMessage]:
        """Yield how the table of events, and its guards, differ from what openai2 makes."""
        query = f"{_SCHEMA} WHERE tbl_name = 'events' AND sql IS NOT NULL"
        expected = _as_made(schema.EVENTS + schema.GUARDS, query)
        found = {(kind, name): sql for kind, name, sql in self._sql.execute(query)}
        for kind, name in sorted(expected.keys() - found.keys()):
            yield lazy_message("the {thing} {name}, which guards the log, is missing", thing=kind, name=name)
        for kind, name in sorted(expected.keys() & found.keys()):
            if expected[kind, name] != found[kind, name]:
                yield lazy_message("the {thing} {name} is not as openai2 makes it", thing=kind, name=name)
        for kind, name in sorted(found.keys() - expected.keys()):
            if kind == "trigger":
                yield lazy_message("the trigger {name} on the log is not openai2's", name=name)

    def strange_derived(self) -> Iterator[LazyMessage]:
        """Yield how the derived tables and views differ from what openai2 makes."""
        query = f"{_SCHEMA} WHERE type <> 'index' AND tbl_name <> 'events'"
        parts = (schema.CONVERSATIONS, schema.SNAPSHOTS, schema.CURSORS, schema.DRAFTS, schema.VIEWS)
        expected = _as_made("".join(parts), query)
        found = {(kind, name): sql for kind, name, sql in self._sql.execute(query)}
        for kind, name in sorted(expected.keys() - found.keys()):
            self._lacking.add(name)
            what = "the {thing} {name} is missing: run `openai2 rebuild`"
            yield lazy_message(what, thing=kind, name=name)
        for kind, name in sorted(expected.keys() & found.keys()):
            if expected[kind, name] != found[kind, name]:
                what = "the {thing} {name} is not as openai2 makes it: run `openai2 rebuild`"
                yield lazy_message(what, thing=kind, name=name)
        for kind, name in sorted(found.keys() - expected.keys()):
            if kind == "trigger":
                yield lazy_message("the trigger {name} is not openai2's", name=name)

    def lacks(self, name: str) -> bool:
        """Return True if `strange_derived` found that table missing."""
        return name in self._lacking

    def is_numbered(self) -> bool:
        """Return True if position is the primary key; in a damaged schema it may be NULL."""
        rows = self._sql.execute("SELECT type, pk FROM pragma_table_info('events') WHERE name = 'position'")
        return rows.fetchall() == [("INTEGER", 1)]

    def odd(self, most: int) -> list[Odd]:
        """Return up to *most* rows with columns of a wrong type."""
        kinds = ", ".join(f"typeof({column})" for column in _TYPES)
        rows = self._sql.execute(
            f"SELECT position, CAST(conversation AS BLOB), CAST(version AS INTEGER), {kinds}"
            f" FROM events WHERE {_ODD} LIMIT ?",
            (most,),
        )
        return [
            Odd(position, text(conversation), version, _oddity(_TYPES, found))
            for position, conversation, version, *found in rows
        ]

    def noted(self) -> Iterator[Noted]:
        """Yield the events that start, fork, name, hide, restore or redact, in the order of their commit."""
        types = (*LISTED_TYPES, "restored", "redacted")
        rows = self._sql.execute(f"{_NOTED} WHERE type IN {types} AND NOT ({_ODD}) ORDER BY position")
        return (Noted(*row) for row in rows)

    def rows(self) -> Iterator[list[Row]]:
        """Yield every row of right types, in pages, in the order of positions."""
        rows = self._sql.execute(f"SELECT {_ROW} FROM events WHERE NOT ({_ODD}) ORDER BY position")
        return iter(lambda: rows.fetchmany(_PAGE), [])

    def link(self, conversation: bytes, version: int) -> tuple[bytes, int] | None:
        """Return (hash, position) of one event."""
        row: tuple[bytes, int] | None = self._sql.execute(
            "SELECT hash, position FROM events WHERE conversation = CAST(? AS TEXT) AND version = ?",
            (conversation, version),
        ).fetchone()
        return row

    def ends(self) -> dict[bytes, int]:
        """Return the last version of each stream."""
        return dict(
            self._sql.execute(
                "SELECT CAST(conversation AS BLOB), max(version) FROM events GROUP BY conversation"
            )
        )

    # -- derived tables

    def snapshots(self) -> Iterator[tuple[str, object]]:
        """Yield (conversation, version) of every snapshot; a forged version may be of any type."""
        if self.lacks("snapshots"):
            return iter(())
        rows = self._sql.execute("SELECT CAST(conversation AS BLOB), version FROM snapshots")
        return ((text(conversation), version) for conversation, version in rows)

    def snapshot(self, conversation: str, version: int) -> bytes:
        """Return one packed snapshot; empty if it does not exist."""
        row = self._sql.execute(
            "SELECT CAST(view AS BLOB) FROM snapshots WHERE conversation = ? AND version = ?",
            (conversation, version),
        ).fetchone()
        return bytes(row[0] or b"") if row else b""

    def listed(self) -> dict[str, tuple[object, ...]]:
        """Return the list of conversations by id: name, parent, parent version, base, archived, created,
        updated, version, messages, asked."""
        rows = self._sql.execute(
            "SELECT CAST(id AS BLOB), CAST(name AS BLOB), CAST(parent AS BLOB), parent_version, base,"
            " archived, CAST(created AS BLOB), CAST(updated AS BLOB), version, messages, asked"
            " FROM conversations"
        )
        return {
            text(row[0]): tuple(text(cell) if isinstance(cell, bytes) else cell for cell in row[1:])
            for row in rows
        }

    def cursors(self) -> dict[str, int]:
        """Return the cursors by name."""
        if self.lacks("cursors"):
            return {}
        return dict(self._sql.execute("SELECT name, position FROM cursors"))

    def drafts(self) -> list[Drafted]:
        """Return every draft."""
        if self.lacks("drafts"):
            return []
        kinds = ", ".join(f"typeof({column})" for column in _TYPES_OF_DRAFTS)
        rows = self._sql.execute(
            "SELECT CAST(conversation AS BLOB), CAST(request AS INTEGER), CAST(lease AS REAL),"
            f" CAST(partial AS BLOB), {kinds}, typeof(ifnull(partial, '')) FROM drafts"
        )
        expected = {**_TYPES_OF_DRAFTS, "partial": "text"}
        return [
            Drafted(text(conversation), request, lease, partial, _oddity(expected, found))
            for conversation, request, lease, partial, *found in rows
        ]


def _as_made(script: str, query: str) -> dict[tuple[str, str], str]:
    """Return what *query* finds in a new store."""
    fresh = sqlite3.connect(":memory:")
    try:
        schema.run(fresh, script)
        return {(kind, name): sql for kind, name, sql in fresh.execute(query)}
    finally:
        fresh.close()


def text(raw: bytes | None) -> str:
    """Decode bytes that should be UTF-8; show invalid ones as escapes."""
    return "" if raw is None else bytes(raw).decode("utf-8", "backslashreplace")


def _oddity(types: dict[str, str], found: list[str]) -> str:
    wrong = [
        f"{column}: {kind} ≠ {expected}"
        for (column, expected), kind in zip(types.items(), found, strict=True)
        if kind != expected
    ]
    return ", ".join(wrong)
