"""The full-text index: FTS5 over every message that was ever added.

It is derived from the events and holds no text, only words and where they stand (a contentless table,
rowid = the event's position). Nothing is done for it when events are appended: whoever searches brings
it to the log's end, in batches, each a transaction of its own. The table is made at the first search.

Rules:
- The cursor says how far the index has read. A table without cursor, or a cursor without table, or one
  that lies behind the log's end, is no index: it is made anew.
- What FTS5 is told of a text when it leaves must be what it was told when it came; both come from
  `terms.cut` of `messages.text_of`. Whoever changes what these give raises the number in CURSOR, and
  every index is made anew.
- `forget` comes before an event's data is emptied.
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

#: The index's name among the cursors; the number counts the ways of cutting a text.
CURSOR = "search 1"
#: The cursor that says how much of the index lies in one piece.
MERGED = "search merged"

# A batch is what is done in some 30 ms: so long, at most, does a writer wait for it.
_BATCH_MESSAGES = 500
_BATCH_BYTES = 200_000
_BATCH_PAGES = 250

# FTS5 merges pieces of like size, so that many messages lie in twenty, each of which every search looks at.
# All are merged into one when an eighth has been added: that costs a seventh of adding it.
_MERGE_SHARE = 8
_MERGE_LEAST = 2000

_MESSAGES = "type = 'message_added' AND data <> ''"


class Hit(NamedTuple):
    """A message that was found: its event's position, and its bm25 (the lower, the better)."""

    position: int
    rank: float


class Flaw(NamedTuple):
    """A message that the index lacks, or an entry that no message stands behind."""

    position: int
    missing: bool


class _Added(msgspec.Struct):
    message: dict[str, Any]


_added = msgspec.json.Decoder(_Added).decode


def _cut(data: bytes) -> str:
    # Late: its patterns take 8 ms to compile, and whoever opens a store needs no search for it.
    from openai2.store import tokenizer

    return tokenizer.cut(text_of(data))


def text_of(data: bytes) -> str:
    """What is searched of a message's event; '' where it cannot be read, which verify reports."""
    try:
        return messages.text_of(_added(data).message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def check_fts5(sql: sqlite3.Connection) -> None:
    """Raise StoreUnavailable where this SQLite was built without FTS5."""
    if not schema.has_fts5(sql):
        raise StoreUnavailable(
            "the SQLite of this Python ({version}) was built without FTS5, which search needs",
            version=sqlite3.sqlite_version,
        )


def reached(reader: Reader) -> int | None:
    """The position up to which the index has read; None where there is no index."""
    return state(reader)[0]


def state(reader: Reader) -> tuple[int | None, int]:
    """The position up to which the index has read, None where there is no index; and the log's last."""
    done, last = reader.sql.execute(
        "SELECT (SELECT position FROM cursors WHERE name = ?"
        " AND EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'search' AND type = 'table')),"
        " (SELECT ifnull(max(position), 0) FROM events)",
        (CURSOR,),
    ).fetchone()
    return (done if isinstance(done, int) and done <= last else None), int(last)


def was_made(reader: Reader) -> bool:
    """Whether there is an index that can be kept, or was one that somebody dropped."""
    names = [row[0] for row in reader.sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if "search" not in names and "cursors" in names:
        names += [
            row[0] for row in reader.sql.execute("SELECT 'search' FROM cursors WHERE name = ?", (CURSOR,))
        ]
    return "search" in names and schema.has_fts5(reader.sql)


# What SQLite says where the tables below the index (search_data and others) are not what FTS5 left there.
_TAMPERED = ("malformed", "vtable", "fts5", "no such table: main.search", "SQL logic error")

# -- keeping it


def bring_on(tx: Transaction) -> int:
    """Read the next batch of the log into the index; the position that it has then reached."""
    check_fts5(tx.sql)
    after = reached(tx)
    if after is None:
        schema.drop_search(tx.sql)
        tx.sql.execute(schema.SEARCH)
        tx.sql.execute("DELETE FROM cursors WHERE name LIKE 'search%'")
        after = 0
    end = tx.last_position()
    batch, upto = batch_of(tx, after, end)
    with _plain_errors():
        tx.sql.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
    tx.put_cursor(CURSOR, upto)
    return upto


def wants_merging(reader: Reader) -> bool:
    """Whether so much was added that to merge all pieces pays."""
    done, merged = reached(reader) or 0, reader.cursor(MERGED)
    return done - merged > max(_MERGE_LEAST, merged // _MERGE_SHARE)


def merge_on(tx: Transaction) -> bool:
    """Merge the index's pieces into one a little further; whether there is more to do."""
    check_fts5(tx.sql)
    done, before = reached(tx), tx.sql.total_changes
    if done is None:
        return False
    with _plain_errors():
        tx.sql.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (-_BATCH_PAGES,))
    if tx.sql.total_changes - before > 1:  # as FTS5's documentation tells that something was done
        return True
    tx.put_cursor(MERGED, done)
    return False


def batch_of(reader: Reader, after: int, end: int) -> tuple[list[tuple[int, str]], int]:
    """(position, cut text) of the next messages, and the position that this reaches."""
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
    """Take the messages of these events, (conversation, version), out of the index for good.

    To be called before their data is emptied, in the same transaction. The index is then merged into
    one piece (a second for each hundred thousand messages or so), since until then the old words would
    lie in it, struck out. What SQLite frees keeps its bytes where `PRAGMA secure_delete` is off, and the
    write-ahead log keeps them until it is truncated: both are for the caller to see to. FTS5 has a
    `secure-delete` of its own from 3.42 on, but a file that used it cannot be read by an older SQLite.
    """
    upto = reached(tx)
    if upto is None:
        # An index that nobody reads may still hold the words.
        if tx.sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'search'").fetchone():
            check_fts5(tx.sql)
            schema.drop_search(tx.sql)
        return
    gone: list[tuple[int, str]] = []
    for conversation, version in events:
        for position, data in tx.sql.execute(
            "SELECT position, CAST(data AS BLOB) FROM events"
            f" WHERE conversation = ? AND version = ? AND position <= ? AND {_MESSAGES}",
            (conversation, version, upto),
        ):
            gone.append((position, _cut(data)))
    if not gone:
        return
    check_fts5(tx.sql)
    with _plain_errors():
        tx.sql.executemany(
            "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)",
            gone,
        )
        tx.sql.execute("INSERT INTO search (search) VALUES ('optimize')")


def flaws(reader: Reader, most: int = 100) -> list[Flaw]:
    """Where the index and the events differ, up to *most* places; [] where there is no index.

    Costs one look at each message's row and none at the words: it finds what is missing and what is
    too much, not a word that was altered.
    """
    upto = reached(reader)
    if upto is None:
        return []
    with _plain_errors():
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


# -- asking it


class Place(NamedTuple):
    """An event that was found, and its conversation's name and base; None where that is not in the list."""

    conversation: str
    version: int
    time: str
    type: str
    data: bytes
    name: str | None
    base: int | None


def place(reader: Reader, position: int) -> Place | None:
    """The event at that position; None where there is none any more."""
    row = reader.sql.execute(
        "SELECT e.conversation, e.version, e.time, e.type, CAST(e.data AS BLOB), c.name, c.base"
        " FROM events AS e LEFT JOIN conversations AS c ON c.id = e.conversation WHERE e.position = ?",
        (position,),
    ).fetchone()
    return row and Place._make(row)


def stretch(reader: Reader, first: str, last: str) -> tuple[int, int]:
    """The positions of the first event of one stream and of the last of another."""
    (start,) = reader.sql.execute(
        "SELECT min(position) FROM events WHERE conversation = ? AND version = 1", (first,)
    ).fetchone()
    (end,) = reader.sql.execute(
        "SELECT position FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1", (last,)
    ).fetchone() or (0,)
    return start or 0, end


# By two columns FTS5 cannot sort: SQLite then keeps the best few while it goes, which is twice as fast as
# FTS5's own ORDER BY rank, which sorts them all.
_RANKED = (
    "SELECT rowid, rank FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ?"
    " ORDER BY rank, rowid DESC LIMIT ?"
)


def hits(
    reader: Reader, query: str, first: int = 0, last: int = 1 << 62, limit: int | None = None
) -> Iterator[Hit]:
    """What the index has at positions *first* to *last*, the best first, the newer first among equals.

    There has to be an index: see `state`.
    """
    with _plain_errors():
        yield from ranked(reader.sql, query, first, last, limit)


def ranked(sql: sqlite3.Connection, query: str, first: int, last: int, limit: int | None) -> Iterator[Hit]:
    """The same in any database that has such an index."""
    return map(Hit._make, sql.execute(_RANKED, (query, first, last, -1 if limit is None else limit)))


@contextmanager
def _plain_errors() -> Generator[None, None, None]:
    """What FTS5 says of tables of its own that were tampered with, as an error that tells the way out."""
    try:
        yield
    except sqlite3.DatabaseError as fault:
        reason = str(fault)
        if any(sign in reason for sign in _TAMPERED):
            raise DamagedStore(
                "the full-text index is damaged ({reason}): run `openai2 rebuild`", reason=reason
            ) from fault
        raise
