"""The first half of an audit: each event in its place, and its hash that of what it says.

Rules: one pass over the rows in the order of their commit. An event is held against the one before it in its
stream, or what that forked from, and against nothing else. Where a whole stretch does not fit, its first
event is named. What an event means is the second half's business (`recount`), and neither needs the other:
so they can be done at the same time (`beside`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from openai2.audit.prescan import Beforehand
from openai2.sentence import Sentence, sentence
from openai2.store.audit_reader import Row, Scan, text
from openai2.store.reader import NO_HASH, TAG

if TYPE_CHECKING:
    from openai2.core import events as ev

_EMPTY = sha256(b"").digest()
# What is hashed, in one go: the tag, the hash before, the data's digest, and the fields (see `codec`).
_LINKED = TAG.replace(b"%", b"%%") + b"%b%b%b\0%d\0%d\0%b\0%b"

#: Where each head stands: (conversation, version).
Found = dict[bytes, list[tuple[bytes, int]]]


class Tell(Protocol):
    """How a problem is told."""

    def __call__(
        self,
        what: Sentence,
        conversation: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None: ...


class Stream:
    """A stream's last event, and what it descends from.

    *other* is what the last event's hash should have been where it is not; *wrong* the first event of a
    stretch that does not fit, *stretch* how many there are, and *sound* whether all has fitted.
    """

    __slots__ = (
        *("base", "batch", "link", "other", "parent", "position", "sound", "stretch", "time"),
        *("version", "wrong"),
    )

    def __init__(self) -> None:
        self.version = self.position = self.batch = self.base = self.stretch = 0
        self.link = NO_HASH
        self.time = b""
        self.other: bytes | None = None
        self.parent: ev.Forked | None = None
        self.sound = True
        self.wrong: tuple[int, int] | None = None


class ChainCheck:
    """Reads the rows once (`read`).

    *streams* are those that were met; *count* how many rows there were; *holes* are positions that nobody
    has, and how many; *gaps* holes in streams: between which positions, and how many.
    """

    def __init__(self, scan: Scan, tell: Tell, before: Beforehand) -> None:
        self.streams: dict[bytes, Stream] = {}
        self.count = 0
        self.holes: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int, int]] = []
        self._scan = scan
        self._tell = tell
        self._before = before
        self._mended: dict[tuple[bytes, int], bytes] = {}

    def read(self, pages: Iterable[list[Row]], heads: set[bytes], progress: Callable[[int], object]) -> Found:
        """Check all rows, which come in *pages*; where each of the *heads* stands."""
        found: Found = {head: [] for head in heads}
        streams = self.streams
        current, stream = None, Stream()
        before = 0
        for page in pages:
            for conversation, version, position, batch, tag, data, time, link in page:
                if position != before + 1:
                    self.holes.append((before + 1, position - before - 1))
                before = position
                if conversation != current:
                    current = conversation
                    known = streams.get(conversation)
                    if known is None:
                        known = streams[conversation] = Stream()
                        self._begin(conversation, version, position, tag, data)
                    stream = known
                fits = version == stream.version + 1
                if not fits:
                    self._gap(stream, conversation, version, position)
                if data:
                    digest = sha256(data).digest()
                else:
                    digest = self._digest_of_the_redacted(conversation, version, position)
                    fits = fits and digest is not _EMPTY
                linked = _LINKED % (stream.link, digest, conversation, version, batch, tag, time)
                right = sha256(linked).digest()
                if right == link:
                    stream.other = None
                    if stream.wrong is not None:
                        self._tell_stretch(conversation, stream)
                elif fits:
                    self._misfit(conversation, stream, version, position, link, right, linked)
                if batch != version and (
                    batch != stream.batch or time != stream.time or position != stream.position + 1
                ):
                    self._strange_batch(conversation, stream, version, position, batch)
                stream.version, stream.link, stream.position = version, link, position
                stream.batch, stream.time = batch, time
                if heads and link in found:
                    found[link].append((conversation, version))
            self.count += len(page)
            progress(self.count)
        for conversation, stream in streams.items():
            if stream.wrong is not None:
                self._tell_stretch(conversation, stream)
        return found

    def _begin(self, conversation: bytes, version: int, position: int, tag: bytes, data: bytes) -> None:
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
        fork = self._before.fork(conversation, data)
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
        linked: bytes,
    ) -> None:
        """A hash that is not the right one: is the event changed, or only the hash before it?"""
        other, stream.other = stream.other, None
        if other is not None and sha256(TAG + other + linked[len(TAG) + len(other) :]).digest() == link:
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
        known = self._before.redactions(conversation, version)
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
