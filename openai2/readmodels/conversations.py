"""The list of conversations, brought to the log's end before it is read.

Rule: what reads events is imported only where the list lags behind them, so that the list is there as fast
as SQLite gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai2.errors import StoreUnavailable
from openai2.store.reader import LIST, Listed

if TYPE_CHECKING:
    from openai2.store import Reader, Store

#: (version, time, position of the last question, messages) by id, of what changed and could not be written.
Late = dict[str, tuple[int, str, int, int]]


def conversations(store: Store, archived: bool | None = False, limit: int | None = None) -> list[Listed]:
    """The conversations, those that changed last first; *archived* None means all of them."""
    most = -1 if limit is None else limit
    with store.reading() as reader:
        if _is_up(reader):
            return reader.listed(archived, most)
    late = catch_up(store)
    with store.reading() as reader:
        if not late:
            return reader.listed(archived, most)
        listed = [_brought_up(line, late) for line in reader.listed(archived)]
    listed.sort(key=lambda line: line.updated, reverse=True)
    return listed[:limit]


def current(store: Store) -> Listed | None:
    """The conversation last chatted in; None where there is none."""
    with store.reading() as reader:
        if _is_up(reader):
            return reader.last_asked()
    late = catch_up(store)
    with store.reading() as reader:
        if not late:
            return reader.last_asked()
        every = [_brought_up(line, late) for line in reader.listed(False)]
    return max((line for line in every if line.asked), key=lambda line: line.asked, default=None)


def catch_up(store: Store) -> Late:
    """Bring the list to the log's end. What could not be written, on a read-only store, is returned."""
    with store.reading() as reader:
        if _is_up(reader):
            return {}
    from openai2.readmodels import rebuild

    try:
        store.transact(rebuild.bring_list_up)
    except StoreUnavailable:
        with store.reading() as reader:
            return {line[0]: line[1:] for line in rebuild.changes(reader, reader.cursor(LIST))}
    return {}


def _is_up(reader: Reader) -> bool:
    return reader.last_position() <= reader.cursor(LIST)


def _brought_up(line: Listed, late: Late) -> Listed:
    if line.id not in late:
        return line
    version, time, asked, messages = late[line.id]
    updated = max(line.updated, time)  # as `Transaction.put_listed` does it: clocks go back
    return line._replace(version=version, updated=updated, messages=messages, asked=max(line.asked, asked))
