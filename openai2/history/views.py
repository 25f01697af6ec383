"""Reading a stream: its lineage through forks, its view at any version, the texts of its messages.

Rules: the view at a version is found from the newest snapshot before it and the events since; where one
of these brings an earlier view back (`restored`, `forked`), what lies between is not folded at all. So
a state costs a bounded number of events, wherever it lies.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.messages import Message
from openai2.core.projection import CHANGES, View, unpack
from openai2.errors import DamagedStore
from openai2.store import Reader
from openai2.store.reader import left_of

#: The types of the events that change the view.
VIEW_TYPES = tuple(sorted(kind.type for kind in CHANGES))


class Part(NamedTuple):
    """A stretch of a lineage: the ids after *after*, up to *upto*, are events of *conversation*."""

    after: int
    upto: int | None
    conversation: str


class Lineage:
    """Which stream holds which id: a conversation's own events, and before them its ancestors'."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.conversation = parts[-1].conversation
        self.base = parts[-1].after
        self._starts = [part.after for part in parts]

    @classmethod
    def root(cls, conversation: str) -> Lineage:
        """That of a conversation that is no fork."""
        return cls([Part(0, None, conversation)])

    @classmethod
    def read(cls, reader: Reader, conversation: str) -> Lineage:
        """That of a conversation in the store."""
        chain: list[tuple[str, ev.Forked]] = []
        met: set[str] = set()
        current = conversation
        while True:
            first = next(reader.events(current, limit=1), None)
            event = first.event if first is not None else None
            if not isinstance(event, ev.Forked):
                break
            if current in met:
                raise DamagedStore("conversation {conversation} descends from itself", conversation=current)
            met.add(current)
            chain.append((current, event))
            current = event.parent
        parts: list[Part] = []
        after = 0
        for child, forked in reversed(chain):
            parts.append(Part(after, after + forked.version, current))
            current, after = child, after + forked.version
        return cls([*parts, Part(after, None, current)])

    def fork(self, conversation: str, version: int) -> Lineage:
        """That of a fork at *version* of this conversation's own stream."""
        last = self.base + version
        kept = [*self.parts[:-1], Part(self.base, last, self.conversation)]
        return Lineage([*kept, Part(last, None, conversation)])

    def up(self) -> Lineage | None:
        """The parent's lineage; None for a root."""
        if len(self.parts) == 1:
            return None
        *older, parent, _ = self.parts
        return Lineage([*older, Part(parent.after, None, parent.conversation)])

    def place(self, number: int) -> tuple[str, int]:
        """(conversation, version) of the event with that id."""
        part = self.parts[max(0, bisect_right(self._starts, number - 1) - 1)]
        return part.conversation, number - part.after

    def places(self, numbers: Iterable[int]) -> Iterator[tuple[Part, list[int]]]:
        """The versions to look up, stream by stream."""
        if len(self.parts) == 1:
            yield self.parts[0], list(numbers)
            return
        by_part: dict[int, list[int]] = {}
        for number in numbers:
            index = max(0, bisect_right(self._starts, number - 1) - 1)
            by_part.setdefault(index, []).append(number - self.parts[index].after)
        for index, versions in by_part.items():
            yield self.parts[index], versions


# -- views


def load(reader: Reader, lineage: Lineage, version: int) -> tuple[View, int]:
    """The view at the stream's last *version*, and how many bytes of events lie after its snapshot."""
    snapshot = reader.snapshot(lineage.conversation, version)
    tail = list(reader.events(lineage.conversation, after=snapshot[0] if snapshot else 0, upto=version))
    weight = sum(len(record.json) + 120 for record in tail)
    return _fold(reader, lineage, snapshot, tail), weight


def view_at(reader: Reader, lineage: Lineage, version: int) -> View:
    """The view at any *version* of the stream."""
    snapshot = reader.snapshot(lineage.conversation, version)
    tail = list(
        reader.events(
            lineage.conversation, after=snapshot[0] if snapshot else 0, upto=version, types=VIEW_TYPES
        )
    )
    return _fold(reader, lineage, snapshot, tail)


def inherited(reader: Reader, lineage: Lineage) -> View:
    """The view that a fork begins with."""
    parent = lineage.up()
    assert parent is not None
    return view_at(reader, parent, lineage.base - parent.base)


def _fold(
    reader: Reader, lineage: Lineage, snapshot: tuple[int, bytes] | None, tail: list[ev.Recorded]
) -> View:
    # Backwards first: which stretches of the log does the state depend on? Forwards then.
    stretches: list[tuple[int, list[ev.Recorded]]] = []
    ancestors = list(lineage.parts)
    part = ancestors.pop()
    while True:
        jump, stretch = _last_jump(tail)
        stretches.append((part.after, stretch))
        if jump is None:
            base = _unpacked(snapshot, part.conversation) if snapshot else View()
            break
        event = jump.event
        if isinstance(event, ev.Restored):
            goal = event.version
        else:
            assert isinstance(event, ev.Forked)
            goal = event.version
            if not ancestors or ancestors[-1].conversation != event.parent:
                raise DamagedStore(
                    "conversation {conversation} names a parent that it does not descend from",
                    conversation=part.conversation,
                )
            part, snapshot, tail = ancestors.pop(), None, []
        if isinstance(event, ev.Restored) and snapshot is not None and goal == snapshot[0]:
            tail = []
        elif isinstance(event, ev.Restored) and (snapshot is None or goal > snapshot[0]):
            tail = tail[: bisect_right([record.version for record in tail], goal)]
        else:
            snapshot = reader.snapshot(part.conversation, goal)
            after = snapshot[0] if snapshot else 0
            tail = list(reader.events(part.conversation, after=after, upto=goal, types=VIEW_TYPES))
    for number_base, stretch in reversed(stretches):
        for record in stretch:
            base.apply(record.event, number_base + record.version)
    return base


def _last_jump(tail: list[ev.Recorded]) -> tuple[ev.Recorded | None, list[ev.Recorded]]:
    for index in range(len(tail) - 1, -1, -1):
        if tail[index].type in ("restored", "forked"):
            return tail[index], tail[index + 1 :]
    return None, tail


def _unpacked(snapshot: tuple[int, bytes], conversation: str) -> View:
    try:
        return unpack(snapshot[1])
    except (ValueError, msgspec.DecodeError) as fault:
        raise DamagedStore(
            "the snapshot of conversation {conversation} at version {version} is damaged: "
            "run `openai2 rebuild`",
            conversation=conversation,
            version=snapshot[0],
        ) from fault


# -- texts


class _Text(msgspec.Struct):
    message: msgspec.Raw


_text = msgspec.json.Decoder(_Text).decode


def texts(reader: Reader, lineage: Lineage, numbers: Iterable[int]) -> dict[int, bytes]:
    """The encoded messages with these ids; those that are none are left out."""
    found: dict[int, bytes] = {}
    for part, versions in lineage.places(numbers):
        after = part.after
        emptied: list[int] = []
        for version, data in reader.added(part.conversation, versions):
            if data:
                found[after + version] = bytes(_text(data).message)
            else:
                emptied.append(version)
        if emptied:
            redacted = reader.redactions(part.conversation)
            for version in emptied:
                left = left_of(redacted, part.conversation, version)
                found[after + version] = bytes(_text(left).message)
    return found


class _Said(msgspec.Struct, gc=False):  # no cycle goes through it: it is dropped for what it holds
    message: Message


_all_said = msgspec.json.Decoder(list[_Said]).decode
_all_numbers = msgspec.json.Decoder(list[int]).decode
_PAGE = 512  # events


def said(reader: Reader, lineage: Lineage, numbers: Iterable[int]) -> dict[int, Message]:
    """The messages with these ids, and perhaps some between them, each a dict of one's own.

    Those that are none are left out. SQLite joins the events of a page, and they are decoded as one JSON
    array: for a long view that takes half of what `texts` takes and a decoder called for each message.
    """
    found: dict[int, Message] = {}
    with _no_collections():
        for part, versions in lineage.places(numbers):
            versions.sort()
            for start in range(0, len(versions), _PAGE):
                page = versions[start : start + _PAGE]
                together = _together(reader, part, page)
                if together is None:
                    ids = [part.after + version for version in page]
                    raws = texts(reader, lineage, ids)
                    together = {number: msg.decode(raw) for number, raw in raws.items()}
                found.update(together)
    return found


@contextmanager
def _no_collections() -> Generator[None, None, None]:
    """Thousands of dicts are made here, none of them garbage: for these, the collector would look through all
    objects of the program, which took longer than to decode them."""
    collects = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if collects:
            gc.enable()


def _together(reader: Reader, part: Part, versions: list[int]) -> dict[int, Message] | None:
    """A page of messages; None where they lie far apart, or one of them was redacted or is damaged."""
    first, last = versions[0], versions[-1]
    joined = None
    if last - first < 4 * len(versions):
        joined = reader.added_joined(part.conversation, first, last)
    if joined is None:
        return None
    try:
        numbers, held = _all_numbers(f"[{joined[0]}]"), _all_said(b"[%b]" % joined[1])
    except msgspec.DecodeError:
        return None
    if len(numbers) != len(held):
        return None
    after = part.after
    return {after + version: one.message for version, one in zip(numbers, held, strict=True)}


def events_with(reader: Reader, lineage: Lineage, numbers: Sequence[int]) -> list[ev.Event]:
    """The events with these ids, in their order."""
    found: dict[int, ev.Event] = {}
    for part, versions in lineage.places(numbers):
        redacted: dict[int, ev.Redacted] | None = None
        for version, tag, data in reader.data(part.conversation, versions):
            if not data:
                if redacted is None:
                    redacted = reader.redactions(part.conversation)
                data = left_of(redacted, part.conversation, version)
            found[part.after + version] = ev.decode(tag, data)
    return [found[number] for number in numbers]


def last_texts(reader: Reader, lineage: Lineage, version: int, count: int) -> list[bytes] | None:
    """The last *count* encoded messages of the view at *version*, found by reading backwards.

    None where that does not pay, as after a long rollback, or where a message on the way was redacted.
    """
    ids: list[int] = []  # the last first
    seen: dict[int, bytes] = {}
    gone: dict[int, int] = {}  # stretches that were taken out later: the first id by the last
    until: int | None = None  # we are inside of such a stretch, up to this id
    rows = 0
    upto: int | None = version
    source = lineage
    while upto is not None and len(ids) < count:
        records = reader.backwards(source.conversation, upto, VIEW_TYPES)
        upto = None
        for version, tag, data in records:
            rows += 1
            if rows > 4 * count + 64 or not data:
                return None
            event = ev.decode(tag, data)
            if isinstance(event, ev.MessageAdded):
                number = source.base + version
                seen[number] = bytes(event.message)
                if event.request is not None and event.answer is None:
                    continue
                for joined in (number, *reversed(event.question)):
                    if until is None and joined in gone:
                        until = gone.pop(joined)
                    elif until is None:
                        ids.append(joined)
                    if until == joined:
                        until = None
                if len(ids) >= count and seen.keys() >= set(ids[:count]):
                    break
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                gone.update((last, first) for first, last in event.spans)
            elif isinstance(event, ev.Restored):
                upto = event.version
                break
            elif isinstance(event, ev.Forked):
                upto = event.version
                parent = source.up()
                if parent is None:
                    return None
                source = parent
                break
    wanted = ids[:count][::-1]
    missing = [number for number in wanted if number not in seen]
    if missing:
        seen.update(texts(reader, lineage, missing))
    return [seen[number] for number in wanted]


# -- requests on record


def started(
    reader: Reader, conversation: str, base: int, request: int
) -> tuple[ev.RequestStarted, list[tuple[int, str]]]:
    """What a request put on record: its event, and the ids and kinds of its question."""
    version = request - base
    records = list(reader.events(conversation, after=version - 1, upto=version))
    if not records or not isinstance(records[0].event, ev.RequestStarted):
        raise DamagedStore(
            "conversation {conversation} has no request {request}", conversation=conversation, request=request
        )
    event = records[0].event
    question: list[tuple[int, str]] = []
    lineage = Lineage.read(reader, conversation)
    old = texts(reader, lineage, event.question)
    question += [(number, msg.kind_of(old[number])) for number in event.question]
    for record in reader.events(conversation, after=version, types=("message_added",)):
        if record.batch != records[0].batch:
            break
        added = record.event
        if isinstance(added, ev.MessageAdded) and added.request == request:
            question.append((base + record.version, msg.kind_of(added.message)))
    return event, question


def last_unanswered(
    reader: Reader, conversation: str, base: int
) -> tuple[ev.RequestStarted, list[tuple[int, str]]] | None:
    """The last request as it was put on record, where that failed or was stopped before anything came."""
    ends = ("message_added", "request_failed", "request_stopped")
    for record in reader.events(conversation, types=ends, newest_first=True):
        event = record.event
        if isinstance(event, ev.RequestFailed) or (isinstance(event, ev.RequestStopped) and not event.kept):
            return started(reader, conversation, base, event.request)
        if isinstance(event, ev.MessageAdded) and event.request is not None and event.answer is None:
            continue
        return None
    return None
