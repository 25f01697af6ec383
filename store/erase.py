"""Removing the content of events whose redaction is on record, and every copy of it that is derived.

Rules: the guard on the log lets an event be emptied only once its `redacted` event stands later in the
stream. It looks for that record from the event on, which for a whole conversation would cost the square of
its length; so where many go at once, the records are looked up here, once, and the guard is off for that
one statement, inside the transaction. What SQLite frees on the way is overwritten (`secure_delete`); what
lay in free pages from before, and in the write-ahead log, is gone after `Store.scrub`.
"""

from __future__ import annotations

from collections.abc import Iterable

from openai2.errors import DamagedStore
from openai2.store import search
from openai2.store.transaction import Transaction

#: The cursor that says where the last redaction stood: texts kept from before may be of what is gone.
CURSOR = "redactions"
_GUARD = "events_are_not_changed"
_FEW = 64  # events that the guard itself judges


def empty(tx: Transaction, events: Iterable[tuple[str, int]]) -> int:
    """Take the data of these events, (conversation, version), and their words; how many had any."""
    wanted = list(events)
    if not wanted:
        return 0
    tx.sql.execute("PRAGMA secure_delete = ON")
    search.forget(tx, wanted)
    guard: str | None = None
    if len(wanted) > _FEW:
        _check_on_record(tx, wanted)
        guard = _lift(tx)
    taken = 0
    for conversation, version in wanted:
        taken += tx.sql.execute(
            "UPDATE events SET data = '' WHERE conversation = ? AND version = ? AND data <> ''",
            (conversation, version),
        ).rowcount
    if guard is not None:
        tx.sql.execute(guard)
    tx.put_cursor(CURSOR, tx.last_position())
    return taken


def _check_on_record(tx: Transaction, wanted: Iterable[tuple[str, int]]) -> None:
    """Raise DamagedStore where an event is to be emptied whose redaction is not on record."""
    versions: dict[str, set[int]] = {}
    for conversation, version in wanted:
        versions.setdefault(conversation, set()).add(version)
    for conversation, asked in versions.items():
        for version in sorted(asked - tx.redactions(conversation).keys()):
            raise DamagedStore(
                "version {version} of conversation {conversation} has no redaction on record",
                conversation=conversation,
                version=version,
            )


def _lift(tx: Transaction) -> str | None:
    """Take the guard against changes off, until the statement that is returned is run."""
    row: tuple[str] | None = tx.sql.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?", (_GUARD,)
    ).fetchone()
    if row is None:
        return None
    tx.sql.execute(f"DROP TRIGGER {_GUARD}")
    return row[0]


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
