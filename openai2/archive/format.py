"""Archives: conversations in one file of JSON Lines. docs/format.md specifies the lines.

Invariants:
- An archive depends on its streams only, not on the store. Streams are whole and ordered by their first
  event, a fork after its parent; positions are left out. Exporting an imported archive gives the same bytes.
- The streams that a fork descends from are in the archive too, whole, so that their heads can be compared.
- Every event is verified when it is written, and when it is read.

`writer` writes an archive, `reader` reads one, and `importer` imports it into a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from openai2.core import events as ev
from openai2.store import NO_HASH
from openai2.store.codec import digest, link

Progress = Callable[[int, int], None]
Redactions = Mapping[tuple[str, int], ev.Redacted]  # by (conversation, version)

#: The version of the format that is written. Newer ones are refused.
FORMAT = 1

NO_REDACTION = "its data is empty, but no redaction of it is on record"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. *openai2* is "archive"."""

    openai2: str
    format: int
    conversations: int
    events: int


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event. *data* is text, so its bytes stay the same."""

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
    """What was written. *added* are the ids of conversations that were added as ancestors of others."""

    conversations: int
    events: int
    added: list[str]


def digest_of(record: ev.Recorded, redacted: Redactions) -> bytes:
    """Return the digest of an event's data, from its redaction if the data is gone. Raises ValueError."""
    if record.json:
        return digest(record.json)
    redaction = redacted.get((record.conversation, record.version))
    if redaction is None:
        raise ValueError(NO_REDACTION)
    return bytes.fromhex(redaction.digest)


class Chains:
    """Checks the chains of whole streams that come one after the other.

    *redacted* are the redactions of all events; *forked* the first events of the forks, by conversation.
    *heads* are the hashes of the last events so far, by conversation.
    """

    def __init__(self, redacted: Redactions, forked: Mapping[str, ev.Forked]) -> None:
        self.heads: dict[str, str] = {}
        self._redacted = redacted
        self._forked = forked
        self._origins = {(fork.parent, fork.version) for fork in forked.values()}
        self._origin_hashes: dict[tuple[str, int], bytes] = {}
        self._conversation = ""
        self._version = 0
        self._hash = NO_HASH
        self._batch = (0, "")

    def check(self, record: ev.Recorded) -> None:
        """Check the next event. Raises ValueError, with what is wrong."""
        conversation, version = record.conversation, record.version
        if conversation != self._conversation:
            if conversation in self.heads:
                raise ValueError("its stream ended before")
            self._conversation, self._version, self._batch = conversation, 0, (0, "")
            self._hash = self._first_link(record)
        if version != self._version + 1:
            raise ValueError(f"expected version {self._version + 1}")
        if record.batch != version and (record.batch, record.time) != self._batch:
            raise ValueError("it claims to be appended together with an event that is not next to it")
        self._batch = (record.batch, record.time)
        data_digest = digest_of(record, self._redacted)
        self._hash = link(
            self._hash, data_digest, conversation, version, record.batch, record.type, record.time
        )
        if self._hash.hex() != record.hash:
            raise ValueError("its hash does not match its content")
        self._version = version
        self.heads[conversation] = record.hash
        if (conversation, version) in self._origins:
            self._origin_hashes[conversation, version] = self._hash

    def _first_link(self, record: ev.Recorded) -> bytes:
        """Return the hash that a stream's first event chains on."""
        if record.type == "created":
            return NO_HASH
        fork = self._forked.get(record.conversation)
        origin = None if fork is None else self._origin_hashes.get((fork.parent, fork.version))
        if record.type != "forked" or origin is None:
            raise ValueError("its stream does not begin with created, or with a fork of an earlier stream")
        return origin
