"""The first half of an audit: each event in its place, and its hash that of what it says.

Rules: one pass over the rows in the order of their commit. An event is held against the one before it in its
stream, or what that forked from, and against nothing else; what fits is handed on to be folded (`recount`).
Where a whole stretch does not fit, its first event is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256

import msgspec

from openai2 import events as ev
from openai2.recount import Stream, Tell
from openai2.sentence import Sentence, sentence
from openai2.store.codec import TAG
from openai2.store.scan import Noted, Row, Scan, redaction, text

#: Is told of each stream that begins, by its name, once it is known what it descends from.
Begun = Callable[[str, Stream], None]

_STEP = 1024  # events between two reports of progress
_EMPTY = sha256(b"").digest()


class ChainCheck:
    """Reads the rows once (`read`), told beforehand of what was redacted and of what forks (`note`).

    *streams* are those that were met; *count* how many rows there were; *holes* are positions that nobody
    has, and how many; *gaps* holes in streams: between which positions, and how many.
    """

    def __init__(self, scan: Scan, tell: Tell) -> None:
        self.streams: dict[bytes, Stream] = {}
        self.count = 0
        self.holes: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int, int]] = []
        self._scan = scan
        self._tell = tell
        self._redacted: dict[bytes, dict[int, list[ev.Redacted]]] = {}
        self._forks: dict[bytes, ev.Forked | None] = {}
        self._mended: dict[tuple[bytes, int], bytes] = {}

    def note(self, note: Noted) -> None:
        """Take in an event that has to be known before others are judged."""
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

    def forks(self) -> Iterator[ev.Forked]:
        """The first events of all forks, as far as they can be read."""
        return filter(None, (self._forks[name] or self._left_of_fork(name) for name in self._forks))

    def read(
        self,
        rows: Iterator[Row],
        ends: Mapping[bytes, int],
        heads: set[bytes],
        begun: Begun,
        progress: Callable[[int], None],
    ) -> dict[bytes, list[tuple[bytes, int]]]:
        """Check all *rows*; where each of the *heads* stands: (conversation, version)."""
        found: dict[bytes, list[tuple[bytes, int]]] = {head: [] for head in heads}
        streams = self.streams
        current, stream = b"", Stream()
        before = 0
        done = 0
        for done, (conversation, version, position, batch, tag, data, time, link) in enumerate(rows, 1):
            if not done % _STEP:
                progress(done)
            if position != before + 1:
                self.holes.append((before + 1, position - before - 1))
            before = position
            if conversation != current or not stream.version:
                current = conversation
                known = streams.get(conversation)
                if known is None:
                    known = streams[conversation] = Stream()
                    stream = known
                    stream.last = ends.get(conversation, -1)  # what an index lacks, SQLite has told
                    self._begin(conversation, version, position, tag)
                    begun(text(conversation), stream)
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
        self.count = done
        for conversation, stream in streams.items():
            if stream.wrong is not None:
                self._tell_stretch(conversation, stream)
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
            self.gaps.append((stream.position, position, missing))
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
        self._tell(what, text(conversation), version, position)
        stream.wrong = None

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
        self._tell(what, text(conversation), version, position)
