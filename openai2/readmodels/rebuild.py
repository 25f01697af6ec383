"""Rebuild the derived tables from the log: the list of conversations and the snapshots.

Invariants:
- Derived tables are a function of the events in the order of commit: a rebuilt table equals one that was
  kept up to date.
- `rebuild` is one transaction, so a crash leaves the old tables.
"""

from __future__ import annotations

from collections.abc import Iterable

from openai2.core import events as ev
from openai2.core.projection import View
from openai2.core.snapshot import ROW_OVERHEAD, pack, unpack, worth_saving
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.readmodels import list_update
from openai2.store import Store, Transaction, erase
from openai2.store.reader import LIST
from openai2.store.transaction import LISTED_TYPES


def rebuild(store: Store) -> None:
    """Drop every derived table and make it again from the events, in one transaction.

    Derived tables that are missing or have another form are replaced. Sound drafts are kept.
    """

    def job(tx: Transaction) -> None:
        tx.recreate_derived()
        for record in tx.events_of_types(LISTED_TYPES):
            tx.enlist(record, record.event, clash=True)
        _save_all_snapshots(tx)
        tx.put_cursor(LIST, 0)
        erase.note(tx)
        list_update.catch_up(tx)

    store.transact(job)


def save_snapshots(tx: Transaction, conversation: str) -> None:
    """Save the snapshots of an imported stream that appending it would have saved."""
    lineage = Lineage.read(tx, conversation)
    first = next(tx.events(conversation, limit=1)).event
    parent = first if isinstance(first, ev.Forked) else None
    inherited = None if parent is None else views.inherited(tx, lineage)
    for _ in _fold_and_save(tx, conversation, parent, inherited):
        pass


def _save_all_snapshots(tx: Transaction) -> None:
    """Save the snapshots that appending would have saved, parents before children."""
    forked_views: dict[tuple[str, int], bytes] = {}
    forked_versions: dict[str, set[int]] = {}
    streams: dict[str, ev.Forked | None] = {}
    for record in tx.events_of_types(("created", "forked")):
        event = record.event
        streams[record.conversation] = event if isinstance(event, ev.Forked) else None
        if isinstance(event, ev.Forked):
            forked_versions.setdefault(event.parent, set()).add(event.version)
    for conversation, parent in streams.items():
        inherited = None if parent is None else unpack(forked_views[parent.parent, parent.version])
        versions = forked_versions.get(conversation, set())
        for version, view in _fold_and_save(tx, conversation, parent, inherited):
            if version in versions:
                forked_views[conversation, version] = pack(view)


def _fold_and_save(
    tx: Transaction, conversation: str, parent: ev.Forked | None, inherited: View | None
) -> Iterable[tuple[int, View]]:
    """Fold a stream, save its snapshots, and yield each version with its view."""
    restored = {
        record.event.version
        for record in tx.events(conversation, types=("restored",))
        if isinstance(record.event, ev.Restored)
    }
    base = 0 if parent is None else parent.base
    earlier: dict[int, bytes] = {}
    view = View()
    tail = batch = version = 0
    for record in tx.events(conversation):
        if record.batch != batch and worth_saving(view, tail):  # appending saves between batches only
            tx.put_snapshot(conversation, version, pack(view))
            tail = 0
        version, batch = record.version, record.batch
        if record.type == "forked":
            assert inherited is not None
            view.become(inherited)
        else:
            view.apply(record.event, base + version, lambda at: unpack(earlier[at]))
        tail += len(record.json) + ROW_OVERHEAD
        if version in restored:
            earlier[version] = pack(view)
        yield version, view
    if worth_saving(view, tail):
        tx.put_snapshot(conversation, version, pack(view))
