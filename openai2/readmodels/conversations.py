"""Read the list of conversations, brought up to date with the log first.

Invariant: modules that decode events are imported only if the list lags behind the log, so that the list
costs little more than its SELECT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai2.errors import StoreUnavailable
from openai2.store.reader import Listed

if TYPE_CHECKING:
    from openai2.store import Reader, Store

#: (version, time, position of the last question, messages) by id, for rows that could not be written.
Unwritten = dict[str, tuple[int, str, int, int]]


def conversations(store: Store, archived: bool | None = False, limit: int | None = None) -> list[Listed]:
    """Return the conversations, last changed first; *archived* None means all of them."""
    most = -1 if limit is None else limit
    with store.reading() as reader:
        if _is_up_to_date(reader):
            return reader.listed(archived, most)
    unwritten = catch_up(store)
    with store.reading() as reader:
        if not unwritten:
            return reader.listed(archived, most)
        rows = [_updated(row, unwritten) for row in reader.listed(archived)]
    rows.sort(key=lambda row: row.updated, reverse=True)
    return rows[:limit]


def current(store: Store) -> Listed | None:
    """Return the conversation with the latest question, None if there is none."""
    with store.reading() as reader:
        if _is_up_to_date(reader):
            return reader.last_asked()
    unwritten = catch_up(store)
    with store.reading() as reader:
        if not unwritten:
            return reader.last_asked()
        rows = [_updated(row, unwritten) for row in reader.listed(False)]
    return max((row for row in rows if row.asked), key=lambda row: row.asked, default=None)


def catch_up(store: Store) -> Unwritten:
    """Bring the list up to date. On a read-only store, return the changes that cannot be written."""
    with store.reading() as reader:
        if _is_up_to_date(reader):
            return {}
    from openai2.readmodels import list_update

    try:
        store.transact(list_update.catch_up)
    except StoreUnavailable:
        with store.reading() as reader:
            return {row[0]: row[1:] for row in list_update.changes(reader, reader.list_cursor())}
    return {}


def _is_up_to_date(reader: Reader) -> bool:
    return reader.last_position() <= reader.list_cursor()


def _updated(row: Listed, unwritten: Unwritten) -> Listed:
    if row.id not in unwritten:
        return row
    version, time, asked, messages = unwritten[row.id]
    updated = max(row.updated, time)  # like `Transaction.put_listed`: a clock may go back
    return row._replace(version=version, updated=updated, messages=messages, asked=max(row.asked, asked))
