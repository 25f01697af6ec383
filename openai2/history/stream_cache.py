"""Keep the view of one stream, and the texts of its messages, in memory.

Invariants:
- The cache is brought up to date with the log before every use, inside the reader's or writer's transaction.
- A rolled-back transaction changes the store's epoch, which empties the cache.
- The view is loaded when it is first needed: reading the version or appending fixed events does not load it.
- Texts stay cached while their messages are in view. Texts out of view are evicted once they outnumber
  those in view.

`Conversation` is the only user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import snapshot
from openai2.core.messages import Message
from openai2.core.projection import View
from openai2.core.request_events import StreamState
from openai2.core.snapshot import ROW_OVERHEAD, least_tail, pack
from openai2.errors import Refused, UnknownConversation
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import PAGE, decoded_messages, encoded_messages, last_messages, missing_message
from openai2.store import NO_HASH, Reader, Store

if TYPE_CHECKING:
    from openai2.store import Transaction

Decide = Callable[[StreamState], list[ev.Event]]


class StreamCache:
    """One stream of a store: its version, view and texts in memory, and appending to it.

    *birth* are the first events of a stream that is not in the store yet; they are appended together with
    the next ones. The methods that take a reader are to be called with *lock* held, as within `reading()`.
    """

    def __init__(self, store: Store, lineage: Lineage, birth: Sequence[ev.Event]) -> None:
        self.lineage = lineage
        self.birth = list(birth)
        self.lock = threading.RLock()
        self.version = 0
        self.head = NO_HASH.hex()
        self._store = store
        self._epoch = -1
        self._is_deleted = False
        self._view: View | None = None
        self._is_view_shared = False  # with the cache of a fork or of the parent: copy before changing it
        self._texts: dict[int, bytes] = {}
        self._redactions_seen = 0
        self._tail_bytes = 0  # events after the last snapshot
        self._snapshot_worth = least_tail(View())

    # -- reading

    @contextmanager
    def reading(self) -> Generator[Reader, None, None]:
        """Lock the cache, bring it up to date, and give the reader that did so."""
        with self._store.reading() as reader, self.lock:
            self.catch_up(reader)
            yield reader

    def view(self, reader: Reader) -> View:
        """Return the current view, to be copied before it is changed."""
        if self._view is None:
            if self.version:
                self._view, self._tail_bytes = views.load(reader, self.lineage, self.version)
            elif self.birth and isinstance(self.birth[0], ev.Forked):
                self._view = views.inherited(reader, self.lineage)
            else:
                self._view = View()
        return self._view

    def messages(self, reader: Reader, ids: Sequence[int]) -> list[Message]:
        """Return the messages with these ids, each a new dict. Raises Openai2Error if one is missing.

        More than a page of texts is read without caching it: most programs that print a long view end
        afterwards, and a request caches what it sends.
        """
        missing = [number for number in ids if number not in self._texts]
        if len(missing) <= PAGE:
            return [msg.decode(raw) for raw in self.encoded(reader, ids)]
        found = decoded_messages(reader, self.lineage, missing)
        if len(missing) < len(ids):
            found.update((number, msg.decode(raw)) for number in ids if (raw := self._texts.get(number)))
        return self._in_order(found, ids)

    def encoded(self, reader: Reader, ids: Sequence[int]) -> list[bytes]:
        """Return the encoded messages with these ids. Raises Openai2Error if one is missing."""
        texts = self._texts
        missing = [number for number in ids if number not in texts]
        if missing:
            found = encoded_messages(reader, self.lineage, missing)
            if self._view is not None and len(missing) <= 2 * len(self._view) + 64:
                texts.update(found)
            else:
                texts = {**texts, **found}
        return self._in_order(texts, ids)

    def last_messages(self, reader: Reader, count: int) -> list[Message]:
        """Return the last *count* messages of the view, without loading the view if it is not cached."""
        if self._view is None and self.version:
            found = last_messages(reader, self.lineage, self.version, count)
            if found is not None:
                return [msg.decode(raw) for raw in found]
        return self.messages(reader, self.view(reader).ids[-count:] if count > 0 else [])

    def _in_order(self, found: dict[int, Any], ids: Sequence[int]) -> list[Any]:
        try:
            return [found[number] for number in ids]
        except KeyError as missing:
            raise missing_message(self.lineage.conversation, missing.args[0]) from None

    # -- keeping up with the log

    def catch_up(self, reader: Reader) -> None:
        """Bring the cache to the last event that *reader* sees. Raises UnknownConversation if deleted.

        *reader* may see less than the cache holds: this process's own transaction may still be uncommitted.
        """
        epoch = self._store.epoch
        conversation = self.lineage.conversation
        version, link = reader.head(conversation)
        if self._epoch != epoch or version < self.version or (version and not self.version):
            self._texts.clear()
            self._view, self._epoch = None, epoch
            self.version, self.head = version, link.hex()
            self._is_deleted = version > 0 and reader.is_deleted(conversation)
        elif version > self.version:
            for record in reader.events(conversation, after=self.version, upto=version):
                self._fold(record, record.event)
                self._evict_texts()
        if self._is_deleted:
            what = "there is no conversation {reference}: it was deleted"
            raise UnknownConversation(what, reference=conversation)
        if self.lineage.base:
            self._evict_redacted_in_ancestors(reader)

    def adopt_view(self, parent: StreamCache, version: int) -> None:
        """Share the view of *parent* if it is cached at *version*, so that a new fork need not load it."""
        with parent.lock:
            if parent._view is not None and (parent.version, parent._epoch) == (version, self._store.epoch):
                self._view = parent._view
                self._is_view_shared = parent._is_view_shared = True

    def _evict_redacted_in_ancestors(self, reader: Reader) -> None:
        # This stream has no event for a redaction in a stream that it descends from.
        from openai2.store import erase

        last = reader.cursor(erase.CURSOR)
        if last != self._redactions_seen:
            self._texts.clear()
            self._redactions_seen = last

    def _fold(self, record: ev.Recorded, event: ev.Event) -> None:
        number = self.lineage.base + record.version
        if isinstance(event, ev.MessageAdded):
            if self._view is not None:  # without a view, no text could be evicted as out of view
                self._texts[number] = bytes(event.message)
        elif isinstance(event, ev.Redacted):
            self._texts.pop(self.lineage.base + event.version, None)
        elif isinstance(event, ev.Deleted):
            self._is_deleted = True
        if isinstance(event, (ev.Restored, ev.Forked)):
            self._view = None
        elif self._view is not None:
            if self._is_view_shared:
                self._view, self._is_view_shared = self._view.copy(), False
            self._view.apply(event, number)
        self.version, self.head = record.version, record.hash
        self._tail_bytes += len(record.json) + ROW_OVERHEAD

    def _evict_texts(self) -> None:
        if self._view is not None and len(self._texts) > 2 * len(self._view.ids) + 64:
            in_view = set(self._view.ids)
            self._texts = {number: raw for number, raw in self._texts.items() if number in in_view}

    # -- appending

    def commit(self, tx: Transaction, decide: Decide) -> list[ev.Recorded]:
        """Append the events that *decide* returns for the current state."""
        with self.lock:
            self.catch_up(tx)
            version = self.version or len(self.birth)
            state = StreamState(self.view(tx), version, self.lineage.base + version + 1)
            return self._append(tx, decide(state))

    def append(self, tx: Transaction, events: Sequence[ev.Event]) -> list[ev.Recorded]:
        """Append *events*, whatever the current state is."""
        with self.lock:
            self.catch_up(tx)
            return self._append(tx, events)

    def _append(self, tx: Transaction, events: Sequence[ev.Event]) -> list[ev.Recorded]:
        if not self.version:
            events = [*self.birth, *events]
        if not events:
            return []
        records = tx.append(self.lineage.conversation, self.version, events)
        try:
            for record, event in zip(records, events, strict=True):
                self._fold(record, event)
        except (ValueError, LookupError) as error:  # the caller's events, so the store is not damaged
            raise Refused("the new events do not fit the view: {reason}", reason=str(error)) from error
        self._evict_texts()
        self._save_snapshot(tx)
        return records

    def _save_snapshot(self, tx: Transaction) -> None:
        # Load an unknown view only when the tail is twice what the last known view was worth.
        if self._view is None and self._tail_bytes > 2 * self._snapshot_worth:
            self.view(tx)
        if self._view is None or self._tail_bytes < snapshot.LEAST_TAIL:
            return
        self._snapshot_worth = least_tail(self._view)
        if self._tail_bytes < self._snapshot_worth:
            return
        tx.put_snapshot(self.lineage.conversation, self.version, pack(self._view))
        self._tail_bytes = 0
