"""What is derived from the log, made anew: the list of conversations, the snapshots, the search.

Rules: all of it is a function of the events in the order of their commit, so that a table which was kept
up to date and one that was made anew hold the same. `rebuild` works in one transaction: a crash leaves
what was there.

Names. No two conversations in the list have the same name, and `append` refuses one that is taken. Streams
that came in by an archive may bring a name that is taken here; their events are not touched, the list
shows the name with a number behind it ("plans (2)"), the first that is free when the event is folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openai2.core import events as ev
from openai2.core.ids import free_name
from openai2.core.projection import ROW_OVERHEAD, View, pack, unpack, worth_saving
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.store import Reader, Store, Transaction, erase
from openai2.store.reader import LIST
from openai2.store.transaction import LISTED_TYPES


class Names:
    """Which name the list shows for which conversation: a fold over the events that give names."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._holder: dict[str, str] = {}

    def give(self, conversation: str, name: str | None) -> None:
        """The conversation is called *name* from now on."""
        old = self._shown.pop(conversation, None)
        if old is not None:
            del self._holder[old]
        if name is not None:
            shown = free_name(name, self._holder.__contains__)
            self._shown[conversation] = shown
            self._holder[shown] = conversation

    def hear(self, conversation: str, event: ev.Event) -> None:
        """Fold one event in."""
        if isinstance(event, (ev.Created, ev.Forked, ev.Renamed)):
            self.give(conversation, event.name)
        elif isinstance(event, ev.Deleted):
            self.give(conversation, None)

    def of(self, conversation: str) -> str | None:
        """The name that the list shows."""
        return self._shown.get(conversation)


def changes(reader: Reader, after: int) -> Iterator[tuple[str, int, str, int, int]]:
    """(id, version, time, last question, messages) of what changed after that position."""
    for conversation, version, time, asked in reader.changed_since(after):
        view, _ = views.load(reader, Lineage.read(reader, conversation), version)
        yield conversation, version, time, asked, len(view)


def bring_list_up(tx: Transaction) -> None:
    """Bring the list of conversations to the log's end."""
    for conversation, version, time, asked, messages in changes(tx, tx.cursor(LIST)):
        tx.put_listed(conversation, version, time, asked, messages)
    tx.put_cursor(LIST, tx.last_position())


def rebuild(store: Store) -> None:
    """Drop every derived table and make it anew from the events, in one transaction.

    Tables and views that are missing, or are something else, do not matter. Drafts stay where they are sound.
    """

    def job(tx: Transaction) -> None:
        tx.recreate_derived()
        for record in tx.events_of_types(LISTED_TYPES):
            tx.enlist(record, record.event, clash=True)
        _snapshots_anew(tx)
        tx.put_cursor(LIST, 0)
        erase.note(tx)
        bring_list_up(tx)

    store.transact(job)


def name_anew(tx: Transaction) -> None:
    """Fold the names of the list again, after a redaction took one."""
    names = Names()
    for record in tx.events_of_types(LISTED_TYPES):
        names.hear(record.conversation, record.event)
    tx.rename_all(names.of)


def save_snapshots(tx: Transaction, conversation: str) -> None:
    """Save the views of a stream that came in whole, as appending it would have."""
    lineage = Lineage.read(tx, conversation)
    first = next(tx.events(conversation, limit=1)).event
    parent = first if isinstance(first, ev.Forked) else None
    inherited = None if parent is None else views.inherited(tx, lineage)
    for _ in _fold(tx, conversation, parent, inherited):
        pass


def _snapshots_anew(tx: Transaction) -> None:
    """Save the views that appending would have saved, stream by stream, parents first."""
    handed_on: dict[tuple[str, int], bytes] = {}
    forks: dict[str, set[int]] = {}
    streams: dict[str, ev.Forked | None] = {}
    for record in tx.events_of_types(("created", "forked")):
        event = record.event
        streams[record.conversation] = event if isinstance(event, ev.Forked) else None
        if isinstance(event, ev.Forked):
            forks.setdefault(event.parent, set()).add(event.version)
    for conversation, parent in streams.items():
        inherited = None if parent is None else unpack(handed_on[parent.parent, parent.version])
        wanted = forks.get(conversation, set())
        for version, view in _fold(tx, conversation, parent, inherited):
            if version in wanted:
                handed_on[conversation, version] = pack(view)


def _fold(
    tx: Transaction, conversation: str, parent: ev.Forked | None, inherited: View | None
) -> Iterable[tuple[int, View]]:
    restored = {
        record.event.version
        for record in tx.events(conversation, types=("restored",))
        if isinstance(record.event, ev.Restored)
    }
    base = 0 if parent is None else parent.base
    kept: dict[int, bytes] = {}
    view = View()
    tail = batch = version = 0
    for record in tx.events(conversation):
        if record.batch != batch and worth_saving(view, tail):  # as appending does: between two batches
            tx.put_snapshot(conversation, version, pack(view))
            tail = 0
        version, batch = record.version, record.batch
        if record.type == "forked":
            assert inherited is not None
            view.become(inherited)
        else:
            view.apply(record.event, base + version, lambda at: unpack(kept[at]))
        tail += len(record.json) + ROW_OVERHEAD
        if version in restored:
            kept[version] = pack(view)
        yield version, view
    if worth_saving(view, tail):
        tx.put_snapshot(conversation, version, pack(view))
