"""Remove the content of redacted events, and every derived copy of it.

Invariants:
- A guard lets an event be emptied only if a later `redacted` event of its stream names it.
- What SQLite frees here is overwritten (`secure_delete`). Older free pages and the write-ahead log keep the
  content until `Store.scrub`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from openai2.store import fulltext

if TYPE_CHECKING:
    from openai2.store.reader import Reader
    from openai2.store.transaction import Transaction

#: The cursor with the position of the last redaction: texts cached before it may be removed ones.
CURSOR = "redactions"


def empty(tx: Transaction, events: Iterable[tuple[str, int]]) -> int:
    """Remove data and indexed words of these events, (conversation, version); return how many had data.

    Raises Refused, from the guard, if one has no `redacted` event.
    """
    chosen = list(events)
    if not chosen:
        return 0
    tx.sql.execute("PRAGMA secure_delete = ON")
    fulltext.forget(tx, chosen)
    emptied = tx.sql.executemany(
        "UPDATE events SET data = '' WHERE conversation = ? AND version = ? AND data <> ''", chosen
    ).rowcount
    tx.put_cursor(CURSOR, tx.last_position())
    return emptied


def holding(reader: Reader, texts: Sequence[bytes]) -> list[tuple[str, int]]:
    """Return (conversation, version) of every event whose data contains one of *texts*, in JSON's spelling.

    Reads the whole log once.
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
    """Delete drafts and snapshots of a conversation that is being deleted."""
    tx.sql.execute("PRAGMA secure_delete = ON")
    for table in ("drafts", "snapshots"):
        tx.sql.execute(f"DELETE FROM {table} WHERE conversation = ?", (conversation,))


def note(tx: Transaction) -> None:
    """Save the position of the last redaction, so that caches of texts are dropped."""
    (last,) = tx.sql.execute("SELECT max(position) FROM events WHERE type = 'redacted'").fetchone()
    if last is not None:
        tx.put_cursor(CURSOR, last)
