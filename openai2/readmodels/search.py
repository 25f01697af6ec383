"""Search messages by full text, and find the conversation and version where each can be seen.

Invariants:
- Every message ever added is searched, also those that left the view and questions of failed requests.
  Redacted messages are not.
- A message is found once, in the stream that added it. A search of current views finds it in a fork if only
  the fork's view holds it.
- `conversation@version` of a result is a view that holds the message, if there is one.
- The index is brought up to date first. On a read-only store, a temporary index covers the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from heapq import merge
from itertools import islice
from typing import NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, StoreUnavailable, UnknownConversation
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.store import Listed, Reader, Store, tokenizer
from openai2.store import fulltext as index
from openai2.store.scratch_index import ScratchIndex, marker

#: Seconds between two batches, in which other writers can take the lock.
_PAUSE = 0.01


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was found.

    *version* is the one at which the message joined the view of *conversation*. If it never did (*joined* is
    False: a question whose request failed), it is the version of its own event. *time* is when the message
    was added. *snippet* is about one line of *text* around the words, *spans* are their (start, end) in it.
    *rank* is bm25: lower is better.
    """

    conversation: str
    name: str | None
    version: int
    id: int
    role: str
    text: str
    snippet: str
    spans: list[tuple[int, int]]
    time: str
    rank: float
    joined: bool

    def marked(self, start: str = "**", end: str = "**") -> str:
        """Return the snippet with *start* and *end* around each word that was found."""
        pieces: list[str] = []
        done = 0
        for first, last in self.spans:
            pieces += [self.snippet[done:first], start, self.snippet[first:last], end]
            done = last
        return "".join([*pieces, self.snippet[done:]])


def has_index(store: Store) -> bool:
    """Return True if the store has an index, which its first search makes."""
    with store.reading() as reader:
        return index.was_made(reader)


def update_index(store: Store) -> bool:
    """Bring the index up to date and merge its segments; return False if it cannot be written."""
    with store.reading() as reader:
        index.check_fts5(reader.sql)
        done, goal = index.state(reader)
    if store.read_only:
        return done == goal
    try:
        while done is None or done < goal:
            done = store.transact(index.index_batch)
            if done < goal:
                time.sleep(_PAUSE)
        with store.reading() as reader:
            merging = index.needs_merge(reader)
        while merging:
            time.sleep(_PAUSE)
            merging = store.transact(index.merge_step)
    except StoreUnavailable:
        return False
    return True


def find(
    store: Store,
    text: str,
    *,
    current: bool = False,
    conversation: str | None = None,
    limit: int | None = 20,
    raw: bool = False,
) -> list[Found]:
    """Run the search of `Engine.search`."""
    query = tokenizer.query(text, raw)
    if limit is not None and not is_int(limit, 1):
        raise BadInput("expected a limit of 1 or more, got {limit}", limit=limit)
    request = _Request(query, current, conversation, limit)
    with marker() as marks:
        if raw:
            marks.check(query)
        found = _search(store, request)
        if found is None:
            update_index(store)
            found = _search(store, request, with_scratch_index=True)
        if not found:
            return []
        spans_by_text = marks.marks(query, [it.text for it in found])
    return [_with_snippet(it, spans) for it, spans in zip(found, spans_by_text, strict=True)]


class _Request(NamedTuple):
    query: str
    current: bool
    conversation: str | None
    limit: int | None


def _search(store: Store, request: _Request, with_scratch_index: bool = False) -> list[Found] | None:
    """Return the results without snippets, or None if the index is behind and no scratch index may help."""
    query, current, conversation, limit = request
    with store.reading(snapshot=True) as reader:
        index.check_fts5(reader.sql)
        done, last = index.state(reader)
        if done != last and not with_scratch_index:
            return None
        scope = _Scope(reader, current, conversation)
        if not query:
            return []
        hits: Iterator[index.Hit] = iter(())
        if done is not None:
            hits = index.hits(reader, query, *scope.stretch, None if scope.is_filtered else limit)
        if done == last:
            return list(islice(scope.found(hits), limit))
        with closing(ScratchIndex(reader)) as scratch:
            hits = merge(hits, scratch.hits(query, *scope.stretch), key=lambda hit: (hit.rank, -hit.position))
            return list(islice(scope.found(hits), limit))


def _with_snippet(found: Found, spans: tokenizer.Spans) -> Found:
    snippet, spans = tokenizer.snippet(found.text, spans)
    return msgspec.structs.replace(found, snippet=snippet, spans=spans)


class _Scope:
    """Filters hits by view and conversation, and finds the conversation and version of each result.

    *stretch* is the range of positions to search; *is_filtered* is True if not all hits in it are results.
    """

    def __init__(self, reader: Reader, current: bool, conversation: str | None) -> None:
        self._reader = reader
        self._current = current
        self._inside: str | None = None
        self._upto: dict[str, int | None] = {}
        self._name = cache(self._read_name)
        self._view = cache(self._read_view)
        self._children = cache(reader.children)
        self.is_filtered = current or conversation is not None
        self.stretch = (0, 1 << 62)
        if conversation is not None:
            listed = reader.named(conversation) or reader.conversation(conversation)
            if listed is None:
                raise UnknownConversation("there is no conversation {reference}", reference=conversation)
            parts = Lineage.read(reader, listed.id).parts
            self._inside = listed.id
            self._upto = {
                part.conversation: None if part.upto is None else part.upto - part.after for part in parts
            }
            self.stretch = index.position_range(reader, parts[0].conversation, listed.id)

    def found(self, hits: Iterator[index.Hit]) -> Iterator[Found]:
        """Yield the results among the hits, without snippets."""
        for hit in hits:
            place = index.place(self._reader, hit.position)
            if place is None or (self._inside is not None and not self._is_inside(place)):
                continue
            holder = self._holder(place) if self._current else place.conversation
            if holder is not None:
                yield from self._results(hit, place, holder)

    def _is_inside(self, place: index.Place) -> bool:
        if place.conversation not in self._upto:
            return False
        upto = self._upto[place.conversation]
        return upto is None or place.version <= upto

    def _results(self, hit: index.Hit, place: index.Place, holder: str) -> Iterator[Found]:
        """Yield the message, or nothing if its content is damaged or was removed outside of openai2."""
        try:
            added = ev.decode(place.type, place.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if not isinstance(added, ev.MessageAdded):
            return
        message = msg.decode(bytes(added.message))
        number = self._base(place) + place.version
        if holder == place.conversation:
            version, name = _joined(self._reader, place, number, added), place.name
        else:  # a fork: its current view holds the message
            version, name = self._reader.head(holder)[0], self._name(holder)
        yield Found(
            conversation=holder,
            name=name,
            version=place.version if version is None else version,
            id=number,
            role=str(message.get("role", "")),
            text=msg.text_of(message),
            snippet="",
            spans=[],
            time=place.time,
            rank=hit.rank,
            joined=version is not None,
        )

    def _holder(self, place: index.Place) -> str | None:
        """Return the conversation whose current view holds the message: its own, else the oldest fork."""
        number = self._base(place) + place.version
        if self._inside is not None:
            return self._inside if number in self._view(self._inside) else None
        if number in self._view(place.conversation):
            return place.conversation
        forks = [fork for fork in self._children(place.conversation) if _shares(fork, place.version)]
        for fork in forks:  # grows during the loop: forks of forks
            if number in self._view(fork.id):
                return fork.id
            forks += self._children(fork.id)
        return None

    def _read_name(self, conversation: str) -> str | None:
        row = self._reader.conversation(conversation)
        return None if row is None else row.name

    def _base(self, place: index.Place) -> int:
        return Lineage.read(self._reader, place.conversation).base if place.base is None else place.base

    def _read_view(self, conversation: str) -> frozenset[int]:
        version, _ = self._reader.head(conversation)
        return frozenset(views.view_at(self._reader, Lineage.read(self._reader, conversation), version).ids)


def _shares(fork: Listed, version: int) -> bool:
    return fork.parent_version is not None and fork.parent_version >= version


def _joined(reader: Reader, place: index.Place, number: int, added: ev.MessageAdded) -> int | None:
    """Return the version at which the message joined the view of its stream, None if it never did."""
    if added.joins_view:
        return place.version
    if added.answer is not None:
        return None
    # A question joins with its answer. After its last open request, only a retry as the very next action can
    # ask it again, so the loop ends soon.
    asking = {added.request}
    base = number - place.version
    types = ("message_added", "request_started", "request_stopped", "request_failed")
    for record in reader.events(place.conversation, after=place.version, types=types):
        event = record.event
        if isinstance(event, ev.MessageAdded):
            if number in event.question:
                return record.version
            if event.answer is not None and not event.joined and event.request is not None:
                asking.discard(event.request)
            elif not asking and event.joins_view:
                return None
        elif isinstance(event, ev.RequestStarted):
            if number in event.question:
                asking.add(base + record.version)
        elif isinstance(event, (ev.RequestFailed, ev.RequestStopped)):
            asking.discard(event.request)
    return None
