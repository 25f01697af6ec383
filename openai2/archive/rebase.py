"""A stream that is told as a fork, since another went on from where it began: the same facts, under new
numbers and hashes.

Rules: no I/O. Ids and times follow from what is told, so that telling it again gives the same fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from openai2.archive.format import digest_of
from openai2.archive.renumber import Number, moved_data
from openai2.core import events as ev
from openai2.core.ids import id_from_bytes
from openai2.store.codec import link


class Fork(NamedTuple):
    """What a stream becomes: its id, its first event, the hash that this chains on, and how the ids and
    versions of the stream are counted in it."""

    id: str
    first: ev.Forked
    after: bytes
    ids: Number
    versions: Number


def retold(
    events: Iterator[ev.Recorded], fork: Fork, redacted: dict[tuple[str, int], ev.Redacted]
) -> Iterator[ev.Recorded]:
    """The events as the fork's. *redacted* are the records of data that is gone; the fork's join them."""
    previous = fork.after
    emptied: dict[int, str] = {}

    def linked(version: int, batch: int, tag: str, time: str, data: bytes, left: bytes = b"") -> ev.Recorded:
        nonlocal previous
        record = ev.Recorded(fork.id, version, 0, batch, tag, time, data, "", left)
        previous = link(previous, digest_of(record, redacted), fork.id, version, batch, tag, time)
        return msgspec.structs.replace(record, hash=previous.hex())

    begun = False
    for record in events:
        if not begun:
            begun = True
            yield linked(1, 1, "forked", record.time, ev.encode(fork.first))
        if record.version == 1:
            continue
        version, data, tag = fork.versions(record.version), record.json, record.type
        if not data:
            emptied[record.version] = tag
            redacted[fork.id, version] = redacted[record.conversation, record.version]
        elif tag == "redacted":
            tag, data = _redaction(data, emptied, fork)
        else:
            data = moved_data(tag, data, fork.ids, fork.versions)
        yield linked(version, fork.versions(record.batch), tag, record.time, data)


def _redaction(data: bytes, emptied: dict[int, str], fork: Fork) -> tuple[str, bytes]:
    event = ev.decode("redacted", data)
    assert isinstance(event, ev.Redacted)
    if event.version not in emptied:  # a fork's first event, which is told anew, without a name
        return "renamed", ev.encode(ev.Renamed())
    left = moved_data(emptied[event.version], bytes(event.left), fork.ids, fork.versions)
    moved = msgspec.structs.replace(event, version=fork.versions(event.version), left=msgspec.Raw(left))
    return "redacted", ev.encode(moved)


def counted_on(cuts: list[int]) -> Number:
    """How numbers are counted behind these cuts: each moves what comes after it by one."""

    def number(old: int) -> int:
        for cut in cuts:
            old += old > cut
        return old

    return number


def goes_back_to(record: ev.Recorded, base: int) -> int:
    """The last version of its stream that an event does not need to have as its own."""
    event = record.event if record.json else None
    if isinstance(event, ev.Restored):
        return min(event.version, event.redo or event.version)
    if isinstance(event, ev.Redacted):
        return event.version - 1
    if isinstance(event, (ev.MessageAdded, ev.RequestStopped, ev.RequestFailed)) and event.request:
        return event.request - base - 1
    return record.version


def id_from(name: str, what: str, version: int) -> str:
    """The id of what becomes of a diverged stream: the same whenever the same thing comes in."""
    return id_from_bytes(sha256(f"{name} {what} {version}".encode()).digest())
