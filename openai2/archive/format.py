"""Archives: conversations as one file of JSON Lines, from which they can be had again exactly.

The lines are told in docs/format.md: a header with counts, the events with their data verbatim and their
hashes, and the heads. Rules:

- An archive depends on the streams alone, not on the store that they lie in: streams come whole, in the
  order of their beginning, a fork after its parent; positions are left out. So what was imported exports
  again to the same bytes.
- A fork is nothing without what it shares, so the whole streams of its ancestors come with it: their heads
  are heads that somebody can have kept elsewhere.
- What is exported is verified on the way, and so is every line that is read.

Here is what both sides know: the lines, and the chains that they tell of. `archive_writer` writes one,
`archive_reader` reads one, and `intake` takes it into a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.store import NO_HASH
from openai2.store.codec import digest, link

Progress = Callable[[int, int], None]

#: The version of the format that is written; newer ones are refused.
FORMAT = 1


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


Redactions = Mapping[tuple[str, int], ev.Redacted]


def digest_of(record: ev.Recorded, redacted: Redactions) -> bytes:
    """The digest of an event's data, be it there or gone. Raises ValueError where nobody knows it."""
    if record.json:
        return digest(record.json)
    gone = redacted.get((record.conversation, record.version))
    if gone is None:
        raise ValueError("its data is empty, and no redaction says so")
    return bytes.fromhex(gone.digest)


class Chains:
    """The chains of streams that come one after the other, checked as they come.

    *redacted* are the records of data that is gone, by (conversation, version); *forked* the places that
    forks begin at, so that their hashes are kept.
    """

    def __init__(self, redacted: Redactions, forked: Mapping[str, ev.Forked]) -> None:
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
        return digest_of(record, self._redacted)

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
