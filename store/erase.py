"""Removing the content of events whose redaction is on record, and every copy of it that is derived.

Rules: the guard on the log lets an event be emptied only once its `redacted` event stands later in the
stream. What SQLite frees on the way is overwritten (`secure_delete`); what lay in free pages from before, and
in the write-ahead log, is gone after `Store.scrub`.
"""

from __future__ import annotations

from collections.abc import Iterable

from openai2.store import search
from openai2.store.sqlite import Transaction


def empty(tx: Transaction, events: Iterable[tuple[str, int]]) -> int:
    """Take the data of these events, (conversation, version), and their words; how many had any."""
    wanted = list(events)
    if not wanted:
        return 0
    tx.sql.execute("PRAGMA secure_delete = ON")
    search.forget(tx, wanted)
    taken = 0
    for conversation, version in wanted:
        taken += tx.sql.execute(
            "UPDATE events SET data = '' WHERE conversation = ? AND version = ? AND data <> ''",
            (conversation, version),
        ).rowcount
    tx.dirty = tx.dirty or bool(taken)
    return taken


def drop_drafts(tx: Transaction, conversation: str) -> int:
    """Drop the drafts of a conversation, whoever writes them; how many there were."""
    tx.sql.execute("PRAGMA secure_delete = ON")
    return tx.sql.execute("DELETE FROM drafts WHERE conversation = ?", (conversation,)).rowcount
