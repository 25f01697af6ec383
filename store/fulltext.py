"""The full-text index: FTS5 over every message that was ever added.

It is derived from the events and stores words and places, not texts (a contentless table; rowid = the event's
position). Appending does not touch it: a search brings it to the log's end, one transaction per batch. The
first search makes the table.

Invariants:
- The cursor is the position up to which the index has read. A table without cursor, a cursor without table,
  and a cursor past the log's end are not an index: it is made again.
- FTS5 must get the same text to delete as it got to insert: `tokenizer.cut` of `messages.text_of`. To change
  these, raise the number in CURSOR, so that every index is made again.
- `forget` runs before an event's data is emptied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from openai2.core import messages
from openai2.errors import DamagedStore, StoreUnavailable
from openai2.store import schema
from openai2.store.reader import Reader

if TYPE_CHECKING:
    from openai2.store.transaction import Transaction

#: The index's cursor; the number is the version of the tokenizer.
CURSOR = "search 1"
#: The cursor with the position up to which the index is merged into one segment.
MERGED = "search merged"

# A batch takes about 30 ms: a writer waits no longer for it.
_BATCH_MESSAGES = 500
_BATCH_BYTES = 200_000
_BATCH_PAGES = 250

# FTS5 leaves about twenty segments, and each search reads them all. Merge them after an eighth was added:
# that costs a seventh of adding it.
_MERGE_SHARE = 8
_MERGE_LEAST = 2000

_MESSAGES = "type = 'message_added' AND data <> ''"


class Hit(NamedTuple):
    """A found message: its event's position, and its bm25 rank (lower is better)."""

    position: int
    rank: float


class Flaw(NamedTuple):
    """A message that the index lacks (*missing*), or an entry without a message."""

    position: int
    missing: bool


class _Added(msgspec.Struct):
    message: dict[str, Any]


_added = msgspec.json.Decoder(_Added).decode


def _cut(data: bytes) -> str:
    # Late: its patterns take 8 ms to compile.
    from openai2.store import tokenizer

    return tokenizer.cut(text_of(data))


def text_of(data: bytes) -> str:
    """Return the searchable text of a message's event; '' if its data is damaged, which verify reports."""
    try:
        return messages.text_of(_added(data).message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def check_fts5(sql: sqlite3.Connection) -> None:
    """Raise StoreUnavailable if this SQLite was built without FTS5."""
    if not schema.has_fts5(sql):
        raise StoreUnavailable(
            "the SQLite of this Python ({version}) was built without FTS5, which search needs",
            version=sqlite3.sqlite_version,
        )


def reached(reader: Reader) -> int | None:
    """Return the position up to which the index has read; None if there is no index."""
    return state(reader)[0]


def state(reader: Reader) -> tuple[int | None, int]:
    """Return what `reached` does, and the log's last position."""
    done, last = reader.sql.execute(
        "SELECT (SELECT position FROM cursors WHERE name = ?"
        " AND EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'search' AND type = 'table')),"
        " (SELECT ifnull(max(position), 0) FROM events)",
        (CURSOR,),
    ).fetchone()
    return (done if isinstance(done, int) and done <= last else None), int(last)


def was_made(reader: Reader) -> bool:
    """Return True if there is an index, or its cursor shows that it was dropped, and this SQLite has FTS5."""
    names = [row[0] for row in reader.sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if "search" not in names and "cursors" in names:
        names += [
            row[0] for row in reader.sql.execute("SELECT 'search' FROM cursors WHERE name = ?", (CURSOR,))
        ]
    return "search" in names and schema.has_fts5(reader.sql)


# Signs in SQLite's messages that the index's own tables (search_data and others) were tampered with.
_TAMPERED = ("malformed", "vtable", "fts5", "no such table: main.search", "SQL logic error")

# -- maintenance


def index_batch(tx: Transaction) -> int:
    """Index the next batch of the log; return the position that the index has then reached."""
    check_fts5(tx.sql)
    after = reached(tx)
    if after is None:
        schema.drop_search(tx.sql)
        tx.sql.execute(schema.SEARCH)
        tx.sql.execute("DELETE FROM cursors WHERE name LIKE 'search%'")
        after = 0
    end = tx.last_position()
    batch, upto = batch_of(tx, after, end)
    with _translated_errors():
        tx.sql.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
    tx.put_cursor(CURSOR, upto)
    return upto


def needs_merge(reader: Reader) -> bool:
    """Return True if enough was added that merging all segments pays."""
    done, merged = reached(reader) or 0, reader.cursor(MERGED)
    return done - merged > max(_MERGE_LEAST, merged // _MERGE_SHARE)


def merge_step(tx: Transaction) -> bool:
    """Merge the index's segments one step further; return False when that is done."""
    check_fts5(tx.sql)
    done, before = reached(tx), tx.sql.total_changes
    if done is None:
        return False
    with _translated_errors():
        tx.sql.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (-_BATCH_PAGES,))
    if tx.sql.total_changes - before > 1:  # FTS5's documented sign that something was merged
        return True
    tx.put_cursor(MERGED, done)
    return False


def batch_of(reader: Reader, after: int, end: int) -> tuple[list[tuple[int, str]], int]:
    """Return (position, cut text) of the next messages, and the position that this reaches."""
    batch: list[tuple[int, str]] = []
    size = 0
    for position, data in reader.sql.execute(
        "SELECT position, CAST(data AS BLOB) FROM events"
        f" WHERE position > ? AND position <= ? AND {_MESSAGES} ORDER BY position",
        (after, end),
    ):
        batch.append((position, _cut(data)))
        size += len(data)
        if len(batch) >= _BATCH_MESSAGES or size >= _BATCH_BYTES:
            return batch, position
    return batch, end


def forget(tx: Transaction, events: Iterable[tuple[str, int]]) -> None:
    """Remove the messages of these events, (conversation, version), from the index for good.

    Call it before their data is emptied, in the same transaction. It merges the index into one segment (about
    a second per hundred thousand messages), because the old segments keep deleted words. The caller sets
    `PRAGMA secure_delete` and truncates the write-ahead log. FTS5's own `secure-delete` is not used: older
    versions of SQLite cannot read the file then.
    """
    upto = reached(tx)
    if upto is None:
        # A table without cursor is not read, but may still hold the words.
        if tx.sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'search'").fetchone():
            check_fts5(tx.sql)
            schema.drop_search(tx.sql)
        return
    removed: list[tuple[int, str]] = []
    for conversation, version in events:
        for position, data in tx.sql.execute(
            "SELECT position, CAST(data AS BLOB) FROM events"
            f" WHERE conversation = ? AND version = ? AND position <= ? AND {_MESSAGES}",
            (conversation, version, upto),
        ):
            removed.append((position, _cut(data)))
    if not removed:
        return
    check_fts5(tx.sql)
    with _translated_errors():
        tx.sql.executemany(
            "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)",
            removed,
        )
        tx.sql.execute("INSERT INTO search (search) VALUES ('optimize')")


def flaws(reader: Reader, most: int = 100) -> list[Flaw]:
    """Return up to *most* messages that the index lacks or has too many; [] if there is no index.

    Compares rows only, so it does not find a word that was altered.
    """
    upto = reached(reader)
    if upto is None:
        return []
    with _translated_errors():
        rows = reader.sql.execute(
            "SELECT position, 1 FROM events AS e"
            f" WHERE position <= ?1 AND {_MESSAGES}"
            " AND NOT EXISTS (SELECT 1 FROM search_docsize WHERE id = e.position)"
            " UNION ALL SELECT id, 0 FROM search_docsize AS entry"
            f" WHERE NOT EXISTS (SELECT 1 FROM events WHERE position = entry.id AND {_MESSAGES})"
            " LIMIT ?2",
            (upto, most),
        )
        return [Flaw(position, bool(missing)) for position, missing in rows]


# -- queries


class Place(NamedTuple):
    """A found event, and its conversation's name and base; None if the list lacks it."""

    conversation: str
    version: int
    time: str
    type: str
    data: bytes
    name: str | None
    base: int | None


def place(reader: Reader, position: int) -> Place | None:
    """Return the event at that position, or None."""
    row = reader.sql.execute(
        "SELECT e.conversation, e.version, e.time, e.type, CAST(e.data AS BLOB), c.name, c.base"
        " FROM events AS e LEFT JOIN conversations AS c ON c.id = e.conversation WHERE e.position = ?",
        (position,),
    ).fetchone()
    return row and Place._make(row)


def position_range(reader: Reader, first: str, last: str) -> tuple[int, int]:
    """Return the position of the first event of stream *first*, and of the last event of stream *last*."""
    (start,) = reader.sql.execute(
        "SELECT min(position) FROM events WHERE conversation = ? AND version = 1", (first,)
    ).fetchone()
    (end,) = reader.sql.execute(
        "SELECT position FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1", (last,)
    ).fetchone() or (0,)
    return start or 0, end


# FTS5 cannot sort by two columns, so SQLite keeps the best few as it goes: twice as fast as FTS5's own
# ORDER BY rank, which sorts all.
_RANKED = (
    "SELECT rowid, rank FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ?"
    " ORDER BY rank, rowid DESC LIMIT ?"
)


def hits(
    reader: Reader, query: str, first: int = 0, last: int = 1 << 62, limit: int | None = None
) -> Iterator[Hit]:
    """Yield the hits at positions *first* to *last*, best first, newer first among equals.

    There must be an index (see `state`).
    """
    with _translated_errors():
        yield from ranked(reader.sql, query, first, last, limit)


def ranked(sql: sqlite3.Connection, query: str, first: int, last: int, limit: int | None) -> Iterator[Hit]:
    """Yield such hits of any database with such an index."""
    return map(Hit._make, sql.execute(_RANKED, (query, first, last, -1 if limit is None else limit)))


@contextmanager
def _translated_errors() -> Generator[None, None, None]:
    """Translate FTS5's errors about tampered tables into DamagedStore."""
    try:
        yield
    except sqlite3.DatabaseError as fault:
        reason = str(fault)
        if any(sign in reason for sign in _TAMPERED):
            raise DamagedStore(
                "the full-text index is damaged ({reason}): run `openai2 rebuild`", reason=reason
            ) from fault
        raise
