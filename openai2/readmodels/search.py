"""Search: what is found, and where it leads.

Rules:
- All messages that were ever added are searched: questions, answers, those that were handed in, those
  that left the view, those of requests that failed. What was redacted is gone from here too.
- A message is found once, in the stream that added it, however many forks inherited it. Where only what
  is in view is wanted and the message stands in a fork's view alone, it is found there.
- `conversation@version` leads to a view that holds the message, if there is one.
- The index is brought to the log's end first. Where that cannot be written, the rest is indexed aside, for
  this one search.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
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

#: Seconds between two batches, so that other writers get their turn.
_BREATH = 0.01


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was found.

    *version* is that at which it joined the view of *conversation*; where it never did (*joined* is
    False: a question whose request failed), that of its own event. *id* is the message's id, *time* when it
    was added. *snippet* is about a line of *text* around the words, *spans* say where in the snippet
    these stand. *rank* is bm25's: the lower, the better.
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
        """The snippet with *start* and *end* around the words."""
        pieces: list[str] = []
        done = 0
        for first, last in self.spans:
            pieces += [self.snippet[done:first], start, self.snippet[first:last], end]
            done = last
        return "".join([*pieces, self.snippet[done:]])


def is_kept(store: Store) -> bool:
    """Whether anybody has searched this store."""
    with store.reading() as reader:
        return index.was_made(reader)


def bring_up(store: Store) -> bool:
    """Bring the index to where the log ends now, into few pieces; whether it could be written."""
    with store.reading() as reader:
        index.check_fts5(reader.sql)
        done, goal = index.state(reader)
    if store.read_only:
        return done == goal
    try:
        while done is None or done < goal:
            done = store.transact(index.bring_on)
            if done < goal:
                time.sleep(_BREATH)
        with store.reading() as reader:
            merging = index.wants_merging(reader)
        while merging:
            time.sleep(_BREATH)
            merging = store.transact(index.merge_on)
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
    """What `Engine.search` returns."""
    query = tokenizer.query(text, raw)
    if limit is not None and not is_int(limit, 1):
        raise BadInput("the limit is 1 or more, not {limit}", limit=limit)
    with marker() as marks:
        if raw:
            marks.check(query)
        wish = _Wish(query, current, conversation, limit)
        found = _look(store, wish)
        if found is None:
            bring_up(store)
            found = _look(store, wish, aside=True)
        if not found:
            return []
        places = marks.marks(query, [it.text for it in found])
    return [_shown(it, *tokenizer.snippet(it.text, spans)) for it, spans in zip(found, places, strict=True)]


class _Wish(NamedTuple):
    query: str
    current: bool
    conversation: str | None
    limit: int | None


def _look(store: Store, wish: _Wish, aside: bool = False) -> list[Found] | None:
    """What is found, still without snippets. Where the index is behind, None; with *aside* the rest is
    looked at, too."""
    query, current, conversation, limit = wish
    with store.reading(snapshot=True) as reader:
        index.check_fts5(reader.sql)
        done, last = index.state(reader)
        if done != last and not aside:
            return None
        scope = _Scope(reader, current, conversation)
        if not query:
            return []
        hits: Iterator[index.Hit] = iter(())
        if done is not None:
            hits = index.hits(reader, query, *scope.stretch, None if scope.narrow else limit)
        if done == last:
            return list(islice(scope.found(hits), limit))
        with closing(ScratchIndex(reader)) as rest:
            both = merge(hits, rest.hits(query, *scope.stretch), key=lambda hit: (hit.rank, -hit.position))
            return list(islice(scope.found(both), limit))


def _shown(found: Found, snippet: str, spans: tokenizer.Spans) -> Found:
    return msgspec.structs.replace(found, snippet=snippet, spans=spans)


class _Scope:
    """Which of the hits are wanted, and where each leads.

    *stretch*: the positions between which they lie. *narrow*: not everything there is wanted.
    """

    def __init__(self, reader: Reader, current: bool, conversation: str | None) -> None:
        self._reader = reader
        self._current = current
        self._inside: str | None = None
        self._upto: dict[str, int | None] = {}
        self._names: dict[str, str | None] = {}
        self._views: dict[str, frozenset[int]] = {}
        self._forks: dict[str, list[Listed]] = {}
        self.narrow = current or conversation is not None
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
            self.stretch = index.stretch(reader, parts[0].conversation, listed.id)

    def found(self, hits: Iterator[index.Hit]) -> Iterator[Found]:
        """The wanted ones among the hits, still without snippets."""
        for hit in hits:
            place = index.place(self._reader, hit.position)
            if place is None or (self._inside is not None and not self._is_inside(place)):
                continue
            holder = self._holder(place) if self._current else place.conversation
            if holder is not None:
                yield from self._told(hit, place, holder)

    def _is_inside(self, place: index.Place) -> bool:
        if place.conversation not in self._upto:
            return False
        upto = self._upto[place.conversation]
        return upto is None or place.version <= upto

    def _told(self, hit: index.Hit, place: index.Place, holder: str) -> Iterator[Found]:
        """The message; nothing where its content is gone, or damaged, without the index being told."""
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
        else:  # it stands there now
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
        """The conversation in whose view the message stands now: its own, else the eldest fork."""
        number = self._base(place) + place.version
        if self._inside is not None:
            return self._inside if number in self._view(self._inside) else None
        if number in self._view(place.conversation):
            return place.conversation
        heirs = [fork for fork in self._children(place.conversation) if _shares(fork, place.version)]
        for heir in heirs:  # grows while it is walked: forks of forks
            if number in self._view(heir.id):
                return heir.id
            heirs += self._children(heir.id)
        return None

    def _name(self, conversation: str) -> str | None:
        if conversation not in self._names:
            line = self._reader.conversation(conversation)
            self._names[conversation] = None if line is None else line.name
        return self._names[conversation]

    def _base(self, place: index.Place) -> int:
        return Lineage.read(self._reader, place.conversation).base if place.base is None else place.base

    def _view(self, conversation: str) -> frozenset[int]:
        if conversation not in self._views:
            lineage = Lineage.read(self._reader, conversation)
            version, _ = self._reader.head(conversation)
            ids = views.view_at(self._reader, lineage, version).ids
            self._views[conversation] = frozenset(ids)
        return self._views[conversation]

    def _children(self, conversation: str) -> list[Listed]:
        if conversation not in self._forks:
            self._forks[conversation] = self._reader.children(conversation)
        return self._forks[conversation]


def _shares(fork: Listed, version: int) -> bool:
    return fork.parent_version is not None and fork.parent_version >= version


def _joined(reader: Reader, place: index.Place, number: int, added: ev.MessageAdded) -> int | None:
    """The version at which the message joined the view of its stream; None where it never did."""
    if added.request is None or added.answer is not None:
        return place.version
    # A question joins with an answer. Once no request asks it any more, only a retry that comes before
    # anything else can ask it again; so the search for the answer ends soon.
    asking = {added.request}
    base = number - place.version
    types = ("message_added", "request_started", "request_stopped", "request_failed")
    for record in reader.events(place.conversation, after=place.version, types=types):
        event = record.event
        if isinstance(event, ev.MessageAdded):
            if number in event.question:
                return record.version
            if not asking and (event.request is None or event.answer is not None):
                return None
        elif isinstance(event, ev.RequestStarted):
            if number in event.question:
                asking.add(base + record.version)
        elif isinstance(event, (ev.RequestFailed, ev.RequestStopped)):
            asking.discard(event.request)
    return None
