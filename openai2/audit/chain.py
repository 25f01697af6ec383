"""The chain: every event is in its place, and its hash is that of its content.

Invariants:
- An event is compared with the one before it in its stream, or with the event that the stream forked from.
- Of a stretch that does not fit, only the first event is named.
- What an event means is not looked at here; see `content`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from openai2.audit.prescan import Prescan
from openai2.audit.report import Problems
from openai2.errors import LazyMessage, lazy_message
from openai2.store.audit_reader import Row, Scan, text
from openai2.store.reader import NO_HASH, TAG

_EMPTY_DIGEST = sha256(b"").digest()
# The hashed bytes in one step: tag, previous hash, digest of the data, and the fields (see `codec`).
_LINK_FORMAT = TAG.replace(b"%", b"%%") + b"%b%b%b\0%d\0%d\0%b\0%b"


class StreamChain:
    """The state of one stream after its last checked event.

    *link* is the hash on record, *corrected_link* the computed one if they differ. *first_wrong* is the
    (version, position) of the first event of a stretch that does not fit, *wrong_count* the length of it.
    """

    __slots__ = (
        *("base", "batch", "corrected_link", "first_wrong", "is_sound", "link", "position", "time"),
        *("version", "wrong_count"),
    )

    def __init__(self) -> None:
        self.version = self.position = self.batch = self.base = self.wrong_count = 0
        self.link = NO_HASH
        self.time = b""
        self.corrected_link: bytes | None = None
        self.is_sound = True
        self.first_wrong: tuple[int, int] | None = None


class ChainCheck:
    """Checks rows in the order of their positions: `check` each run of rows, then `finish`.

    *streams* are those met so far. *heads* maps each wanted hash to the conversations that have it. *holes*
    are (first position, count) that no event has. *gaps* are holes in streams: (position before, position
    after, missing versions).
    """

    def __init__(self, scan: Scan, problems: Problems, prescan: Prescan, heads: Iterable[bytes]) -> None:
        self.streams: dict[bytes, StreamChain] = {}
        self.heads: dict[bytes, set[str]] = {head: set() for head in heads}
        self.holes: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int, int]] = []
        self._scan = scan
        self._problems = problems
        self._prescan = prescan
        self._last_position = 0
        self._corrected_links: dict[tuple[bytes, int], bytes] = {}

    def check(self, conversation: bytes, run: list[Row]) -> bool:
        """Check the next rows, all of one *conversation*; return True if its chain is sound up to here."""
        stream = self.streams.get(conversation)
        if stream is None:
            stream = self._begin(run[0])
        heads = self.heads
        last_position = self._last_position
        for _, version, position, batch, tag, data, time, link in run:
            if position != last_position + 1:
                self.holes.append((last_position + 1, position - last_position - 1))
            last_position = position
            fits = version == stream.version + 1
            if not fits:
                self._report_gap(stream, conversation, version, position)
            if data:
                digest = sha256(data).digest()
            else:
                digest = self._redacted_digest(stream, conversation, version, position)
                fits = fits and digest is not _EMPTY_DIGEST
            linked = _LINK_FORMAT % (stream.link, digest, conversation, version, batch, tag, time)
            computed = sha256(linked).digest()
            if computed == link:
                stream.corrected_link = None
                if stream.first_wrong is not None:
                    self._report_stretch(stream, conversation)
            elif fits:
                self._record_mismatch(stream, conversation, version, position, link, computed, linked)
            if batch != version and (
                batch != stream.batch or time != stream.time or position != stream.position + 1
            ):
                self._report_batch(stream, conversation, version, position, batch)
            stream.version, stream.link, stream.position = version, link, position
            stream.batch, stream.time = batch, time
            if heads and link in heads:
                heads[link].add(text(conversation))
        self._last_position = last_position
        return stream.is_sound

    def finish(self) -> None:
        """Report the stretches that last to the end of their streams."""
        for conversation, stream in self.streams.items():
            if stream.first_wrong is not None:
                self._report_stretch(stream, conversation)

    def unsound(self) -> list[bytes]:
        """Return the conversations whose chains are damaged."""
        return [conversation for conversation, stream in self.streams.items() if not stream.is_sound]

    def _begin(self, row: Row) -> StreamChain:
        """Begin a stream with its first row; a fork's chain goes on from its parent's event."""
        conversation, version, position, _, tag, data, _, _ = row
        stream = self.streams[conversation] = StreamChain()
        if version != 1 or tag == b"created":
            return stream
        if tag != b"forked":
            what = lazy_message("a stream begins with created or forked")
            self._report(stream, conversation, version, position, what)
            return stream
        fork = self._prescan.fork(conversation, data)
        parent = None if fork is None else self.streams.get(fork.parent.encode("utf-8", "replace"))
        origin = None
        if fork is not None and parent is not None and 1 <= fork.version <= parent.version:
            origin = self._scan.link(fork.parent.encode(), fork.version)
        if fork is None or parent is None or origin is None:
            what = lazy_message("it forks from an event that does not exist")
            self._report(stream, conversation, version, position, what)
            return stream
        stream.base = parent.base + fork.version
        if fork.base != stream.base:
            what = lazy_message(
                "its numbers go on from {base}, but its parent's event has the number {number}",
                base=fork.base,
                number=stream.base,
            )
            self._report(stream, conversation, version, position, what)
        stream.link = origin[0]
        stream.corrected_link = self._corrected_links.get((fork.parent.encode(), fork.version))
        return stream

    def _redacted_digest(
        self, stream: StreamChain, conversation: bytes, version: int, position: int
    ) -> bytes:
        """Return the recorded digest of data that was redacted; _EMPTY_DIGEST if there is none."""
        redactions = self._prescan.redactions(conversation, version)
        if not redactions:
            what = lazy_message("its data is empty, but no redaction of it is on record")
            self._report(stream, conversation, version, position, what)
            return _EMPTY_DIGEST
        try:
            return bytes.fromhex(redactions[0].digest)
        except ValueError:
            what = lazy_message("it was redacted, but the recorded digest is not valid hex")
            self._report(stream, conversation, version, position, what)
            return _EMPTY_DIGEST

    def _record_mismatch(
        self,
        stream: StreamChain,
        conversation: bytes,
        version: int,
        position: int,
        link: bytes,
        computed: bytes,
        linked: bytes,
    ) -> None:
        """Record a hash that does not match, unless only the hash before it was changed."""
        corrected, stream.corrected_link = stream.corrected_link, None
        if corrected is not None:
            relinked = TAG + corrected + linked[len(TAG) + len(corrected) :]
            if sha256(relinked).digest() == link:
                return
        stream.is_sound = False
        stream.corrected_link = self._corrected_links[conversation, version] = computed
        if stream.first_wrong is None:
            stream.first_wrong = (version, position)
            stream.wrong_count = 0
        stream.wrong_count += 1

    # -- problems

    def _report_gap(self, stream: StreamChain, conversation: bytes, version: int, position: int) -> None:
        missing = version - stream.version - 1
        if missing <= 0:
            what = lazy_message(
                "it comes after version {version}: events were swapped", version=stream.version
            )
            self._report(stream, conversation, version, position, what)
            return
        self.gaps.append((stream.position, position, missing))
        first = stream.version + 1
        if missing == 1:
            what = lazy_message("version {version} is missing", version=first)
        else:
            what = lazy_message("versions {first} to {last} are missing", first=first, last=version - 1)
        self._report(stream, conversation, first, None, what)

    def _report_stretch(self, stream: StreamChain, conversation: bytes) -> None:
        assert stream.first_wrong is not None
        version, position = stream.first_wrong
        what = lazy_message("it was changed: its hash does not match its content")
        if stream.wrong_count > 1:
            what = lazy_message(
                "it was changed: its hash does not match its content; nor do those of the next {more}",
                more=stream.wrong_count - 1,
            )
        self._problems.add(what, text(conversation), version, position)
        stream.first_wrong = None

    def _report_batch(
        self, stream: StreamChain, conversation: bytes, version: int, position: int, batch: int
    ) -> None:
        if version != stream.version + 1 or not stream.is_sound:
            return  # this event, or its neighbour, is already reported
        what = "it claims to be appended together with version {version}, and was not"
        self._report(stream, conversation, version, position, lazy_message(what, version=batch))

    def _report(
        self, stream: StreamChain, conversation: bytes, version: int, position: int | None, what: LazyMessage
    ) -> None:
        stream.is_sound = False
        self._problems.add(what, text(conversation), version, position)
