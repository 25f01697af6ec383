"""Rebase a stream: rewrite it as a fork of another stream. The facts stay; ids, versions and hashes change.

Invariants:
- No I/O. Ids and times follow from the events, so rebasing the same events again gives the same fork.
- IDS and VERSIONS list every field that holds a number of an event; a test finds a field that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

import msgspec

from openai2.archive.format import digest_of
from openai2.core import events as ev
from openai2.core.ids import id_from_bytes
from openai2.core.typeguards import is_sequence
from openai2.store.codec import link

MapNumber = Callable[[int], int]
_StructT = TypeVar("_StructT", bound=msgspec.Struct)

#: Fields that hold message or request ids: one id, a list of ids, or spans.
IDS = frozenset({"request", "question", "remarks", "messages", "spans", "without", "after"})
#: Fields that hold a version of the stream itself.
VERSIONS = frozenset({"version", "redo", "view", "seen"})


class Target(NamedTuple):
    """The fork that a stream becomes.

    *first* is its first event, which chains on *previous_hash*. *map_id* and *map_version* map the numbers of
    the source to those of the fork.
    """

    id: str
    first: ev.Forked
    previous_hash: bytes
    map_id: MapNumber
    map_version: MapNumber


def rebase(
    events: Iterator[ev.Recorded], target: Target, redacted: dict[tuple[str, int], ev.Redacted]
) -> Iterator[ev.Recorded]:
    """Yield the events of the fork. *redacted* gains the redactions of the fork's events."""
    previous = target.previous_hash
    redacted_types: dict[int, str] = {}

    def chained(version: int, batch: int, tag: str, time: str, data: bytes) -> ev.Recorded:
        nonlocal previous
        record = ev.Recorded(target.id, version, 0, batch, tag, time, data, "")
        previous = link(previous, digest_of(record, redacted), target.id, version, batch, tag, time)
        return msgspec.structs.replace(record, hash=previous.hex())

    is_begun = False
    for record in events:
        if not is_begun:
            is_begun = True
            yield chained(1, 1, "forked", record.time, ev.encode(target.first))
        if record.version == 1:
            continue
        version, data, tag = target.map_version(record.version), record.json, record.type
        if not data:
            redacted_types[record.version] = tag
            redacted[target.id, version] = redacted[record.conversation, record.version]
        elif tag == "redacted":
            tag, data = _rebase_redaction(data, redacted_types, target)
        else:
            data = renumber_data(tag, data, target.map_id, target.map_version)
        yield chained(version, target.map_version(record.batch), tag, record.time, data)


def _rebase_redaction(data: bytes, redacted_types: dict[int, str], target: Target) -> tuple[str, bytes]:
    event = ev.decode("redacted", data)
    assert isinstance(event, ev.Redacted)
    if event.version not in redacted_types:  # it redacts the first event, which the fork replaces
        return "renamed", ev.encode(ev.Renamed())
    left = renumber_data(redacted_types[event.version], bytes(event.left), target.map_id, target.map_version)
    rebased = msgspec.structs.replace(
        event, version=target.map_version(event.version), left=msgspec.Raw(left)
    )
    return "redacted", ev.encode(rebased)


def skip_cuts(cuts: list[int]) -> MapNumber:
    """Return the map that adds one to a number for each cut below it: each cut is a `forked` event more."""

    def map_number(number: int) -> int:
        for cut in cuts:
            number += number > cut
        return number

    return map_number


def last_shareable(record: ev.Recorded, base: int) -> int:
    """Return the last version that a fork with this event may share with its parent.

    Every later version must be an event of the fork itself, because this event refers to it.
    """
    event = record.event if record.json else None
    if isinstance(event, ev.Restored):
        return min(event.version, event.redo or event.version)
    if isinstance(event, ev.Redacted):
        return event.version - 1
    if isinstance(event, (ev.MessageAdded, ev.RequestStopped, ev.RequestFailed)) and event.request:
        return event.request - base - 1
    return record.version


def derive_id(*parts: object) -> str:
    """Return the id of a rebased stream; equal *parts* give equal ids."""
    return id_from_bytes(sha256(" ".join(map(str, parts)).encode()).digest())


def renumber_data(tag: str, data: bytes, map_id: MapNumber, map_version: MapNumber) -> bytes:
    """Return the encoded event with its ids and versions mapped. Not for `forked`."""
    event = ev.decode(tag, data)
    if isinstance(event, ev.Forked):
        raise ValueError("the first event of a fork cannot be renumbered: make a new one")
    renumbered = _renumber(event, map_id, map_version)
    if isinstance(renumbered, ev.MessageAdded) and renumbered.answer is not None:
        answer = _renumber(renumbered.answer, map_id, map_version)
        renumbered = msgspec.structs.replace(renumbered, answer=answer)
    return ev.encode(renumbered)


def _renumber(struct: _StructT, map_id: MapNumber, map_version: MapNumber) -> _StructT:
    is_removal = isinstance(struct, (ev.RolledBack, ev.Truncated))  # their `messages` is a count
    changed: dict[str, object] = {}
    for field in struct.__struct_fields__:
        value = getattr(struct, field)
        if field in VERSIONS and isinstance(value, int):
            changed[field] = map_version(value)
        elif field in IDS and not (is_removal and field == "messages"):
            changed[field] = _map_ids(value, map_id)
    return msgspec.structs.replace(struct, **changed) if changed else struct


def _map_ids(value: Any, map_id: MapNumber) -> Any:
    if isinstance(value, int):
        return map_id(value)
    if is_sequence(value):
        return type(value)(_map_ids(item, map_id) for item in value)
    return value
