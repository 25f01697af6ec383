"""Archives: conversations as one file of JSON Lines, from which they can be had again exactly.

The lines are told in docs/format.md: a header with counts, the events with their data verbatim and their
hashes, and the heads. Rules:

- An archive depends on the streams alone, not on the store that they lie in: streams come whole, in the
  order of their beginning, a fork after its parent; positions are left out. So what was imported exports
  again to the same bytes.
- A fork is nothing without what it shares, so the whole streams of its ancestors come with it: their heads
  are heads that somebody can have kept elsewhere.
- What is exported is verified on the way, and so is every line that is read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, NamedTuple

import msgspec

from openai2 import events as ev
from openai2.errors import ArchiveError, DamagedStore, UnknownConversation
from openai2.outfile import File, written
from openai2.store import NO_HASH, Reader, Store
from openai2.store.codec import digest, link

Progress = Callable[[int, int], None]

#: The version of the format that is written; newer ones are refused.
FORMAT = 1
_STEP = 1024


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: *openai2* is "archive"."""

    openai2: str
    format: int
    conversations: int
    events: int


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event: its data is text, so that it stays the same byte for byte."""

    conversation: str
    version: int
    batch: int
    type: str
    time: str
    data: str
    hash: str


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: the head of each conversation, by id."""

    heads: dict[str, str]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds. *added* are ids of conversations that came in because others descend from
    them."""

    conversations: int
    events: int
    added: list[str]


class Link(NamedTuple):
    """A place in a chain: a version, and the hash there."""

    version: int
    hash: bytes


class Chains:
    """The chains of streams that come one after the other, checked as they come.

    *redacted* are the records of data that is gone, by (conversation, version); *forked* the places that
    forks begin at, so that their hashes are kept.
    """

    def __init__(
        self, redacted: Mapping[tuple[str, int], ev.Redacted], forked: Mapping[str, ev.Forked]
    ) -> None:
        self._redacted = redacted
        self._forks = forked
        self._places = {(fork.parent, fork.version) for fork in forked.values()}
        self._hashes: dict[tuple[str, int], bytes] = {}
        self._batch = (0, "")
        self.current = ""
        self.last = Link(0, NO_HASH)
        self.heads: dict[str, str] = {}

    def digest(self, record: ev.Recorded) -> bytes:
        """The digest of an event's data, be it there or gone. Raises ValueError where nobody knows it."""
        if record.json:
            return digest(record.json)
        gone = self._redacted.get((record.conversation, record.version))
        if gone is None:
            raise ValueError("its data is empty, and no redaction says so")
        return bytes.fromhex(gone.digest)

    def enter(self, record: ev.Recorded) -> None:
        """Check the next event. Raises ValueError, with what is wrong, where it does not fit."""
        conversation, version = record.conversation, record.version
        if conversation != self.current:
            if conversation in self.heads:
                raise ValueError("its stream ended before")
            self.current, self.last, self._batch = conversation, Link(0, self._beginning(record)), (0, "")
        if version != self.last.version + 1:
            raise ValueError(f"version {self.last.version + 1} should be next")
        if record.batch != version and (record.batch, record.time) != self._batch:
            raise ValueError("it says that it was appended together with an event that it is not next to")
        self._batch = (record.batch, record.time)
        right = link(
            self.last.hash, self.digest(record), conversation, version, record.batch, record.type, record.time
        )
        if right.hex() != record.hash:
            raise ValueError("its hash is not that of what it says")
        self.last = Link(version, right)
        self.heads[conversation] = record.hash
        if (conversation, version) in self._places:
            self._hashes[conversation, version] = right

    def _beginning(self, record: ev.Recorded) -> bytes:
        if record.type == "created":
            return NO_HASH
        fork = self._forks.get(record.conversation)
        start = None if fork is None else self._hashes.get((fork.parent, fork.version))
        if record.type != "forked" or start is None:
            raise ValueError("its stream begins with nothing that came before")
        return start


# -- writing


def export(store: Store, ids: Iterable[str] | None, file: File, progress: Progress | None = None) -> Exported:
    """Write the conversations with these *ids* (None: all), and what they descend from, to *file*.

    A path is written whole or not at all. Raises UnknownConversation, DamagedStore where the store is not
    sound, BadInput where the file cannot be written.
    """
    with store.reading(still=True) as reader, written(file) as out:
        return _Export(reader, progress or _nobody).write(None if ids is None else list(ids), out)


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


class _Export:
    def __init__(self, reader: Reader, progress: Progress) -> None:
        self._reader = reader
        self._progress = progress
        self._firsts = {
            record.conversation: record for record in reader.events_of_types(("created", "forked"))
        }
        self._forks = {
            name: record.event for name, record in self._firsts.items() if isinstance(record.event, ev.Forked)
        }

    def write(self, ids: list[str] | None, out: IO[bytes]) -> Exported:
        order, added = self._chosen(ids)
        sizes = {name: self._reader.head(name)[0] for name in order}
        header = Header("archive", FORMAT, len(order), sum(sizes.values()))
        encoder = msgspec.json.Encoder(order="deterministic")
        plain = msgspec.json.Encoder()
        out.write(plain.encode(header) + b"\n")
        redacted = {
            (record.conversation, record.event.version): record.event
            for record in self._reader.events_of_types(("redacted",))
            if isinstance(record.event, ev.Redacted)
        }
        chains = Chains(redacted, self._forks)
        done = 0
        for name in order:
            for record in self._reader.events(name):
                self._check(chains, record)
                line = Line(
                    *(name, record.version, record.batch, record.type, record.time),
                    *(record.json.decode(), record.hash),
                )
                out.write(plain.encode(line) + b"\n")
                done += 1
                if not done % _STEP:
                    self._progress(done, header.events)
        out.write(encoder.encode(End(chains.heads)) + b"\n")
        self._progress(done, header.events)
        return Exported(conversations=len(order), events=done, added=added)

    def _check(self, chains: Chains, record: ev.Recorded) -> None:
        try:
            chains.enter(record)
        except ValueError as fault:
            raise DamagedStore(
                "conversation {conversation} is damaged at version {version}, and is not exported: {reason}",
                conversation=record.conversation,
                version=record.version,
                reason=str(fault),
            ) from None

    def _chosen(self, ids: list[str] | None) -> tuple[list[str], list[str]]:
        """The conversations in the archive's order, and those that nobody asked for."""
        wanted = set(self._firsts if ids is None else ids)
        for name in wanted:
            if name not in self._firsts:
                raise UnknownConversation("there is no conversation {reference}", reference=name)
        whole = set(wanted)
        for name in wanted:
            while name in self._forks and (parent := self._forks[name].parent) not in whole:
                whole.add(parent)
                name = parent
        children: dict[str, list[str]] = {}
        ready: list[tuple[str, str]] = []
        for name in whole:
            if name in self._forks:
                children.setdefault(self._forks[name].parent, []).append(name)
            else:
                heapq.heappush(ready, (self._firsts[name].time, name))
        order: list[str] = []
        while ready:
            _, name = heapq.heappop(ready)
            order.append(name)
            for child in children.get(name, ()):
                heapq.heappush(ready, (self._firsts[child].time, child))
        return order, sorted(whole - wanted)


# -- reading

_NO_ARCHIVE = "this is no archive of openai2"


class Outline(NamedTuple):
    """What the first reading of an archive gives: what has to be known before its events are judged.

    *forked* by conversation; *redacted* by what they took; *wanted*, the versions whose views are asked
    for again; *starts*, where in the file each stream begins, in order.
    """

    header: Header
    heads: dict[str, str]
    forked: dict[str, ev.Forked]
    redacted: dict[tuple[str, int], ev.Redacted]
    wanted: dict[str, set[int]]
    starts: dict[str, int]


_line = msgspec.json.Decoder(Line, strict=True).decode
_header = msgspec.json.Decoder(Header, strict=True).decode
_end = msgspec.json.Decoder(End, strict=True).decode


def refuse_foreign(start: bytes) -> None:
    """Raise ArchiveError where a file's first bytes are not those of UTF-8 text."""
    if start[:2] == b"\x1f\x8b":
        raise ArchiveError("the file is compressed (gzip): unpack it first")
    if start[:3] == b"\xef\xbb\xbf":
        raise ArchiveError("the file begins with a byte order mark, which an archive does not")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:64]:
        raise ArchiveError("the file is not UTF-8 (UTF-16, it seems), which an archive is")
    if not start.strip():
        raise ArchiveError("the file is empty")


def outline(file: IO[bytes]) -> Outline:
    """Read an archive once: is it one, whole, and what has to be known beforehand? Raises ArchiveError."""
    file.seek(0)
    first = file.readline()
    try:
        header = _header(first)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError(_NO_ARCHIVE) from None
    if header.openai2 != "archive":
        raise ArchiveError(_NO_ARCHIVE)
    if header.format > FORMAT:
        raise ArchiveError(
            "the archive was written by a newer openai2 (its format is {found}, this one knows {known}): "
            "update openai2",
            found=header.format,
            known=FORMAT,
        )
    if header.format != FORMAT or first != msgspec.json.encode(header) + b"\n":
        raise ArchiveError("the archive's first line was changed")
    found = Outline(header, {}, {}, {}, {}, {})
    count, last, current = 0, first, ""
    where = file.tell()
    for raw in file:
        last = raw
        if raw.startswith(b'{"heads":'):
            break
        count += 1
        record = record_of(raw, count + 1)
        if record.conversation != current:
            current = record.conversation
            found.starts.setdefault(current, where)
        _outline_event(found, record, count + 1)
        where += len(raw)
    else:
        raise ArchiveError(
            "the archive is cut off: its end is missing after {events} of {all} events",
            events=count,
            all=header.events,
        )
    rest = file.read(1)
    if rest or not last.endswith(b"\n"):
        raise ArchiveError("the archive does not end where it says that it does")
    try:
        heads = _end(last).heads
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError("the archive's last line was changed") from None
    if last != msgspec.json.encode(End(heads), order="deterministic") + b"\n":
        raise ArchiveError("the archive's last line was changed")
    if (count, len(heads)) != (header.events, header.conversations):
        raise ArchiveError(
            "the archive says that it holds {all} events of {conversations} conversations, "
            "and holds {events}",
            all=header.events,
            conversations=header.conversations,
            events=count,
        )
    found.heads.update(heads)
    for fork in found.forked.values():
        found.wanted.setdefault(fork.parent, set()).add(fork.version)
    return found


def _outline_event(found: Outline, record: ev.Recorded, number: int) -> None:
    if record.type not in ("forked", "redacted", "restored") or not record.json:
        return
    event = event_of(record, number)
    name = record.conversation
    if isinstance(event, ev.Forked):
        found.forked[name] = event
    elif isinstance(event, ev.Restored):
        found.wanted.setdefault(name, set()).add(event.version)
    elif isinstance(event, ev.Redacted):
        found.redacted[name, event.version] = event
        if event.version == 1 and (left := _forked(bytes(event.left))):
            found.forked.setdefault(name, left)


def _forked(left: bytes) -> ev.Forked | None:
    try:
        event = ev.decode("forked", left)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, ev.Forked) else None


def record_of(raw: bytes, number: int) -> ev.Recorded:
    """The event of line *number*. Raises ArchiveError."""
    try:
        line = _line(raw)
        data = line.data.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise ArchiveError(
            "line {line} of the archive is no event: it was cut off or changed", line=number
        ) from fault
    if raw != msgspec.json.encode(line) + b"\n":
        raise ArchiveError("line {line} of the archive was changed", line=number)
    return ev.Recorded(line.conversation, line.version, 0, line.batch, line.type, line.time, data, line.hash)


def event_of(record: ev.Recorded, number: int) -> ev.Event:
    """The event as a struct. Raises ArchiveError."""
    try:
        return record.event
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise ArchiveError(
            "line {line} of the archive holds an event that cannot be read: {reason}",
            line=number,
            reason=str(fault),
        ) from fault


def records(file: IO[bytes], found: Outline, start: int | None = None) -> Iterator[tuple[int, ev.Recorded]]:
    """The events of an archive that has an outline, with the numbers of their lines; *start* begins there."""
    if start is None:
        file.seek(0)
        file.readline()
        number = 1
    else:
        file.seek(start)
        number = 0
    for raw in iter(file.readline, b""):
        if raw.startswith(b'{"heads":'):
            return
        number += 1
        yield number, record_of(raw, number)
