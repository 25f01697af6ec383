"""Removing the content of events whose redaction is on record, and every copy of it that is derived.

Rules: the guard on the log lets an event be emptied only once its `redacted` event stands later in the
stream; it is never taken off. What SQLite frees on the way is overwritten (`secure_delete`); what lay in
free pages from before, and in the write-ahead log, is gone after `Store.scrub`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from openai2.store import fulltext

if TYPE_CHECKING:
    from openai2.store.reader import Reader
    from openai2.store.transaction import Transaction

#: The cursor that says where the last redaction stood: texts kept from before may be of what is gone.
CURSOR = "redactions"


def empty(tx: Transaction, events: Iterable[tuple[str, int]]) -> int:
    """Take the data of these events, (conversation, version), and their words; how many had any.

    Raises Refused, from the guard, where the redaction of one is not on record.
    """
    wanted = list(events)
    if not wanted:
        return 0
    tx.sql.execute("PRAGMA secure_delete = ON")
    fulltext.forget(tx, wanted)
    taken = tx.sql.executemany(
        "UPDATE events SET data = '' WHERE conversation = ? AND version = ? AND data <> ''", wanted
    ).rowcount
    tx.put_cursor(CURSOR, tx.last_position())
    return taken


def holding(reader: Reader, texts: Sequence[bytes]) -> list[tuple[str, int]]:
    """(conversation, version) of every event in whose data one of these stands, as it stands there.

    Reads the whole log once, as writing the file anew does.
    """
    if not texts:
        return []
    rows = reader.sql.execute(
        "SELECT conversation, version, CAST(data AS BLOB) FROM events ORDER BY position"
    )
    return [
        (conversation, version) for conversation, version, data in rows if any(text in data for text in texts)
    ]


def drop_cache(tx: Transaction, conversation: str) -> None:
    """Drop what is kept of a conversation that goes: drafts, whoever writes them, and snapshots."""
    tx.sql.execute("PRAGMA secure_delete = ON")
    for table in ("drafts", "snapshots"):
        tx.sql.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))


def note(tx: Transaction) -> None:
    """Note where the last redaction stands, so that whoever keeps texts in memory knows of it."""
    (last,) = tx.sql.execute("SELECT max(position) FROM events WHERE type = 'redacted'").fetchone()
    if last is not None:
        tx.put_cursor(CURSOR, last)
