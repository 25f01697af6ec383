"""Verifying a store: every hash, number, reference and derived table against the events themselves.

Rules:
- Nothing that is derived is believed, and nothing is repaired; only SELECTs are run, in one transaction, so
  that the log stands still while others go on.
- One pass: the log is read in the order of its commit, and the chain recomputed through forks; what fits is
  handed on to be folded from nothing (`recount`), and what is derived is compared in the end. Memory holds
  a few hundred bytes a conversation, and the views of those that have begun at that point and not ended.
- One fault gives one problem, or few: where a whole stretch does not fit, its first event is named.

A chain cannot notice by itself that the end of the last stream was cut off. Whoever keeps heads elsewhere
(`heads`) hands them in, and they must still be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, cast

import msgspec

from openai2 import events as ev
from openai2.errors import BadInput, DamagedStore, NotAStore
from openai2.filecheck import FileCheck, reason_of
from openai2.recount import Recount, Stream
from openai2.sentence import Sentence, sentence
from openai2.store import NO_HASH, Store, search
from openai2.store.codec import TAG
from openai2.store.scan import Noted, Row, Scan, redaction, text

Progress = Callable[[int, int], None]
Heads = Mapping[str, str] | Iterable[str]

#: So many problems are told; what has more is beyond telling.
MOST = 1000
_STEP = 1024  # events between two reports of progress

_EMPTY = sha256(b"").digest()


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. *version* and *position* are None where it is not one event's.

    *what* says it in English: *template* with *facts* in its `{named}` places, which may be said in
    another language.
    """

    conversation: str | None = None
    version: int | None = None
    position: int | None = None
    what: str
    template: str
    facts: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found: `ok`, or the *problems*; and of how many conversations and events."""

    ok: bool
    conversations: int
    events: int
    problems: list[Problem]


def verify(store: Store, heads: Heads | None = None, progress: Progress | None = None) -> Report:
    """Check the whole store. *heads* were kept elsewhere: hashes, or conversation ids with theirs.

    Raises BadInput where a head is no hash, StoreUnavailable where the file cannot be read at all; damage
    of the file is a problem in the report.
    """
    wanted = _wanted(heads)
    audit = _Audit(progress or _nobody)
    with FileCheck(store) as file:
        try:
            with store.reading(still=True) as reader:
                scan = Scan(reader)
                audit.run(scan, wanted)
                flaws = [] if scan.lacks("cursors") else search.flaws(reader, MOST)
            if flaws:
                what = (
                    "the full-text index lacks messages (in {n} places)"
                    if flaws[0].missing
                    else "the full-text index has words of events that hold none (in {n} places)"
                )
                audit.tell(sentence(what, n=len(flaws)), position=flaws[0].position)
            reasons: list[str] = []
        except (NotAStore, DamagedStore) as damage:
            reasons = [reason_of(damage)]
        for reason in dict.fromkeys((*file.reasons(), *reasons)):
            audit.tell(sentence("the file is damaged: {reason}", reason=reason))
    return Report(
        ok=not audit.problems,
        conversations=len(audit.streams),
        events=audit.events,
        # What was done to events first: what else is not as it should be matters less.
        problems=sorted(audit.problems, key=lambda one: one.conversation is None and one.position is None),
    )


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


def _wanted(heads: Heads | None) -> list[tuple[str | None, bytes]]:
    if heads is None:
        return []
    if isinstance(heads, str):
        heads = [heads]
    pairs: list[tuple[str | None, str]]
    if isinstance(heads, Mapping):
        pairs = list(cast("Mapping[str | None, str]", heads).items())
    else:
        pairs = [(None, head) for head in heads]
    wanted: list[tuple[str | None, bytes]] = []
    for conversation, head in pairs:
        try:
            raw = bytes.fromhex(head)
        except (TypeError, ValueError):
            raw = b""
        if len(raw) != len(NO_HASH):
            raise BadInput("{head} is no head: 64 hexadecimal digits are", head=str(head))
        wanted.append((conversation, raw))
    return wanted


class _Audit:
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.problems: list[Problem] = []
        self.streams: dict[bytes, Stream] = {}
        self.events = 0
        self._scan: Scan
        self._recount: Recount
        self._redacted: dict[bytes, dict[int, list[ev.Redacted]]] = {}
        self._forks: dict[bytes, ev.Forked | None] = {}
        self._read = 0  # events of sound types
        self._odd: set[int] = set()
        self._holes: list[tuple[int, int]] = []  # positions that nobody has, and how many
        self._gaps: list[tuple[int, int, int]] = []  # holes in streams: from, to, how many
        self._mended: dict[tuple[bytes, int], bytes] = {}

    def tell(
        self,
        what: Sentence,
        conversation: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None:
        """Put a problem into the report."""
        if len(self.problems) > MOST:
            return
        if len(self.problems) == MOST:
            what = sentence("there are more problems than these")
            conversation = version = position = None
        self.problems.append(
            Problem(
                conversation=conversation,
                version=version,
                position=position,
                what=str(what),
                template=what.template,
                facts=what.facts,
            )
        )

    def run(self, scan: Scan, heads: list[tuple[str | None, bytes]]) -> None:
        self._scan = scan
        for what in (*scan.strange_schema(), *scan.strange_derived()):
            self.tell(what)
        self.events, last = scan.size()
        if not scan.is_numbered():
            self.tell(
                sentence(
                    "the table events no longer numbers its rows by position, so its events cannot be told"
                )
            )
            return
        noted = list(scan.noted())
        for note in noted:
            self._note(note)
        self._recount = Recount(scan, self.tell)
        self._recount.begin(noted, self._begun_forks(), last)
        found = self._chain(scan.rows(), scan.ends(), {head for _, head in heads})
        if self._read < self.events:
            self._tell_odd(scan)
        self._tell_stretches()
        self._tell_holes(last)
        self._tell_heads(heads, found)
        self._recount.finish({text(name): stream for name, stream in self.streams.items()})
        self.progress(self.events, self.events)

    def _begun_forks(self) -> Iterator[ev.Forked]:
        return filter(None, (self._forks[name] or self._left_of_fork(name) for name in self._forks))

    def _note(self, note: Noted) -> None:
        if note.type == "redacted":
            event = redaction(note.data)
            if event is not None:
                known = self._redacted.setdefault(note.conversation, {})
                known.setdefault(event.version, []).append(event)
        elif note.type == "forked":
            try:
                event_ = ev.decode("forked", note.data) if note.data else None
            except msgspec.DecodeError:
                event_ = None
            self._forks[note.conversation] = event_ if isinstance(event_, ev.Forked) else None

    # -- the chain

    def _chain(
        self, rows: Iterator[Row], ends: Mapping[bytes, int], heads: set[bytes]
    ) -> dict[bytes, list[tuple[bytes, int]]]:
        found: dict[bytes, list[tuple[bytes, int]]] = {head: [] for head in heads}
        streams = self.streams
        current, stream = b"", Stream()
        before = 0
        done = 0
        for done, (conversation, version, position, batch, tag, data, time, link) in enumerate(rows, 1):
            if not done % _STEP:
                self.progress(done, self.events)
            if position != before + 1:
                self._holes.append((before + 1, position - before - 1))
            before = position
            if conversation != current or not stream.version:
                current = conversation
                known = streams.get(conversation)
                if known is None:
                    known = streams[conversation] = Stream()
                    stream = known
                    stream.last = ends.get(conversation, -1)  # what an index lacks, SQLite has told
                    self._begin(conversation, version, position, tag)
                    self._recount.stream(text(conversation), stream)
                stream = known
            fits = version == stream.version + 1
            if not fits:
                self._gap(stream, conversation, version, position)
            if data:
                digest = sha256(data).digest()
            else:
                digest = self._digest_of_the_redacted(conversation, version, position)
                fits = fits and digest is not _EMPTY
            fields = b"%b\0%d\0%d\0%b\0%b" % (conversation, version, batch, tag, time)
            right = sha256(TAG + stream.link + digest + fields).digest()
            if right == link:
                stream.other = None
                if stream.wrong is not None:
                    self._tell_stretch(conversation, stream)
            elif fits:
                self._misfit(conversation, stream, version, position, link, right, digest + fields)
            if batch != version and (
                batch != stream.batch or time != stream.time or position != stream.position + 1
            ):
                self._strange_batch(conversation, stream, version, position, batch)
            stream.version, stream.link, stream.position = version, link, position
            stream.batch, stream.time = batch, time
            fold = stream.fold
            if fold is not None and stream.sound:
                fold((version, position, tag, data, time))
            if heads and link in found:
                found[link].append((conversation, version))
        self._read = done
        return found

    def _begin(self, conversation: bytes, version: int, position: int, tag: bytes) -> None:
        """A stream's first event: where does its chain begin?"""
        stream = self.streams[conversation]
        if version != 1:
            return
        if tag == b"created":
            return
        if tag != b"forked":
            what = sentence("a stream begins with created or forked")
            self._tell_of(stream, conversation, version, position, what)
            return
        fork = self._forks.get(conversation) or self._left_of_fork(conversation)
        parent = None if fork is None else self.streams.get(fork.parent.encode("utf-8", "replace"))
        where = None
        if fork is not None and parent is not None and 1 <= fork.version <= parent.version:
            where = self._scan.link(fork.parent.encode(), fork.version)
        if fork is None or parent is None or where is None:
            what = sentence("it forks from an event that is not there")
            self._tell_of(stream, conversation, version, position, what)
            return
        stream.parent = fork
        stream.base = parent.base + fork.version
        if fork.base != stream.base:
            what = sentence(
                "it counts on from {base}, its parent's event is number {number}",
                base=fork.base,
                number=stream.base,
            )
            self._tell_of(stream, conversation, version, position, what)
        stream.link = where[0]
        stream.other = self._mended.get((fork.parent.encode(), fork.version))

    def _left_of_fork(self, conversation: bytes) -> ev.Forked | None:
        for redacted in self._redacted.get(conversation, {}).get(1, []):
            try:
                event = ev.decode("forked", bytes(redacted.left))
            except msgspec.DecodeError:
                continue
            if isinstance(event, ev.Forked):
                return event
        return None

    def _gap(self, stream: Stream, conversation: bytes, version: int, position: int) -> None:
        missing = version - stream.version - 1
        if missing > 0:
            self._gaps.append((stream.position, position, missing))
            first = stream.version + 1
            what = (
                sentence("version {version} is missing", version=first)
                if missing == 1
                else sentence("versions {first} to {last} are missing", first=first, last=version - 1)
            )
            self._tell_of(stream, conversation, stream.version + 1, None, what)
        else:
            what = sentence("it stands after version {version}: events were swapped", version=stream.version)
            self._tell_of(stream, conversation, version, position, what)

    def _misfit(
        self,
        conversation: bytes,
        stream: Stream,
        version: int,
        position: int,
        link: bytes,
        right: bytes,
        rest: bytes,
    ) -> None:
        """A hash that is not the right one: is the event changed, or only the hash before it?"""
        other, stream.other = stream.other, None
        if other is not None and sha256(TAG + other + rest).digest() == link:
            return  # the event is sound: it was the hash before it that was changed
        stream.sound = False
        stream.other = right
        self._mended[conversation, version] = right
        if stream.wrong is None:
            stream.wrong = (version, position)
            stream.stretch = 0
        stream.stretch += 1

    def _tell_stretch(self, conversation: bytes, stream: Stream) -> None:
        assert stream.wrong is not None
        version, position = stream.wrong
        more = stream.stretch - 1
        what = sentence("it was changed: its hash is not that of what it says")
        if more:
            what = sentence(
                "it was changed: its hash is not that of what it says; nor are those of the next {more}",
                more=more,
            )
        self.tell(what, text(conversation), version, position)
        stream.wrong = None

    def _tell_stretches(self) -> None:
        for conversation, stream in self.streams.items():
            if stream.wrong is not None:
                self._tell_stretch(conversation, stream)

    def _digest_of_the_redacted(self, conversation: bytes, version: int, position: int) -> bytes:
        known = self._redacted.get(conversation, {}).get(version, [])
        if not known:
            what = sentence("its data is empty, and no redaction is on record for it")
            self._tell_of(self.streams[conversation], conversation, version, position, what)
            return _EMPTY
        try:
            return bytes.fromhex(known[0].digest)
        except ValueError:
            what = sentence("it was redacted, and the digest on record is none")
            self._tell_of(self.streams[conversation], conversation, version, position, what)
            return _EMPTY

    def _strange_batch(
        self, conversation: bytes, stream: Stream, version: int, position: int, batch: int
    ) -> None:
        if version != stream.version + 1 or not stream.sound or stream.wrong is not None:
            return  # the event, or its neighbour, has been named already
        what = "it says that it was appended together with version {version}, and was not"
        self._tell_of(stream, conversation, version, position, sentence(what, version=batch))

    def _tell_of(
        self, stream: Stream, conversation: bytes, version: int, position: int | None, what: Sentence
    ) -> None:
        stream.sound = False
        self.tell(what, text(conversation), version, position)

    # -- what lies between events

    def _tell_odd(self, scan: Scan) -> None:
        for odd in scan.odd(MOST):
            self._odd.add(odd.position)
            what = sentence("a column is of the wrong type: {differences}", differences=odd.what)
            self.tell(what, odd.conversation, odd.version, odd.position)

    def _tell_holes(self, last: int) -> None:
        """Positions that nobody has, unless a gap in a stream has told of them already."""
        for start, size in self._holes:
            if any(odd in self._odd for odd in range(start, start + min(size, MOST))):
                continue
            stop = start + size
            told = sum(missing for low, high, missing in self._gaps if low < stop and high >= start)
            if told < size:
                what = (
                    sentence("no event has the position {first}: one was removed", first=start)
                    if size == 1
                    else sentence(
                        "no event has the positions {first} to {last}: some were removed",
                        first=start,
                        last=stop - 1,
                    )
                )
                self.tell(what, position=start)

    def _tell_heads(
        self, heads: list[tuple[str | None, bytes]], found: dict[bytes, list[tuple[bytes, int]]]
    ) -> None:
        for conversation, head in heads:
            places = [text(name) for name, _ in found[head]]
            if conversation is None and not places:
                what = "no event has the head {head}: the tail was cut off, or changed"
                self.tell(sentence(what, head=head.hex()))
            elif conversation is not None and conversation not in places:
                what = "it has no event with the head {head}: its tail was cut off, or changed"
                self.tell(sentence(what, head=head.hex()), conversation)
