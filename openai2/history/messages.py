"""Read messages by their ids, from whichever stream of a lineage holds them.

Invariants:
- A redacted message is read as what its redaction left of it.
- `decoded_messages` reads a page of consecutive events as one JSON array. A page that is sparse, redacted or
  damaged is read event by event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.messages import Message
from openai2.errors import Openai2Error
from openai2.history.lineage import Lineage, Part
from openai2.history.views import VIEW_TYPES
from openai2.store import Reader
from openai2.store.reader import left_of

#: How many events are read at once.
PAGE = 512


class _EncodedAdded(msgspec.Struct):
    message: msgspec.Raw


class _DecodedAdded(msgspec.Struct, gc=False):  # in no reference cycle: dropped right after decoding
    message: Message


_decode_added = msgspec.json.Decoder(_EncodedAdded).decode
_decode_page = msgspec.json.Decoder(list[_DecodedAdded]).decode
_decode_versions = msgspec.json.Decoder(list[int]).decode


def missing_message(conversation: str, number: int) -> Openai2Error:
    """Return the error for an id that is not a message's."""
    return Openai2Error(
        "conversation {conversation} has no message {message}", conversation=conversation, message=number
    )


def encoded_messages(reader: Reader, lineage: Lineage, ids: Iterable[int]) -> dict[int, bytes]:
    """Return the encoded messages by id, without the ids that are not a message's."""
    found: dict[int, bytes] = {}
    for part, versions in lineage.places(ids):
        redacted: list[int] = []
        for version, data in reader.added(part.conversation, versions):
            if data:
                found[part.after + version] = bytes(_decode_added(data).message)
            else:
                redacted.append(version)
        if redacted:
            redactions = reader.redactions(part.conversation)
            for version in redacted:
                left = left_of(redactions, part.conversation, version)
                found[part.after + version] = bytes(_decode_added(left).message)
    return found


def decoded_messages(reader: Reader, lineage: Lineage, ids: Iterable[int]) -> dict[int, Message]:
    """Return the messages by id, each a new dict, without the ids that are not a message's.

    Messages between the given ids may be included. For a long view this takes half the time of decoding the
    result of `encoded_messages`.
    """
    found: dict[int, Message] = {}
    for part, versions in lineage.places(ids):
        versions.sort()
        for start in range(0, len(versions), PAGE):
            versions_of_page = versions[start : start + PAGE]
            page = _joined_page(reader, part, versions_of_page)
            if page is None:
                ids_of_page = [part.after + version for version in versions_of_page]
                encoded = encoded_messages(reader, lineage, ids_of_page)
                page = {number: msg.decode(raw) for number, raw in encoded.items()}
            found.update(page)
    return found


def _joined_page(reader: Reader, part: Part, versions: list[int]) -> dict[int, Message] | None:
    """Decode a page as one array; return None if the page is sparse, redacted or damaged."""
    first, last = versions[0], versions[-1]
    if last - first >= 4 * len(versions):
        return None
    joined = reader.added_joined(part.conversation, first, last)
    if joined is None:
        return None
    try:
        found, added = _decode_versions(f"[{joined[0]}]"), _decode_page(b"[%b]" % joined[1])
    except msgspec.DecodeError:
        return None
    if len(found) != len(added):
        return None
    return {part.after + version: event.message for version, event in zip(found, added, strict=True)}


def events_by_id(reader: Reader, lineage: Lineage, ids: Sequence[int]) -> list[ev.Event]:
    """Return the events with these ids, in the order of *ids*. Raises Openai2Error if one is missing."""
    found: dict[int, ev.Event] = {}
    for part, versions in lineage.places(ids):
        redactions: dict[int, ev.Redacted] | None = None
        for version, tag, data in reader.data(part.conversation, versions):
            if not data:
                if redactions is None:
                    redactions = reader.redactions(part.conversation)
                data = left_of(redactions, part.conversation, version)
            found[part.after + version] = ev.decode(tag, data)
    try:
        return [found[number] for number in ids]
    except KeyError as missing:
        raise missing_message(lineage.conversation, missing.args[0]) from None


def last_messages(reader: Reader, lineage: Lineage, version: int, count: int) -> list[bytes] | None:
    """Return the last *count* encoded messages of the view at *version*, found by reading backwards.

    Return None if that takes too many events, as after a long rollback, or meets a redacted event.
    """
    ids: list[int] = []  # newest first
    found: dict[int, bytes] = {}
    removed: dict[int, int] = {}  # spans that a later event removed: first id by last id
    removed_down_to: int | None = None  # set while we are inside such a span
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
                found[number] = bytes(event.message)
                if not event.joins_view:
                    continue
                if event.after is not None:
                    return None
                for joined in (number, *reversed(event.question)):
                    if removed_down_to is None and joined in removed:
                        removed_down_to = removed.pop(joined)
                    elif removed_down_to is None:
                        ids.append(joined)
                    if removed_down_to == joined:
                        removed_down_to = None
                if len(ids) >= count and found.keys() >= set(ids[:count]):
                    break
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                removed.update((last, first) for first, last in event.spans)
            elif isinstance(event, ev.Restored):
                upto = event.version
                break
            elif isinstance(event, ev.Forked):
                upto = event.version
                parent = source.parent()
                if parent is None:
                    return None
                source = parent
                break
    ids = ids[:count][::-1]
    missing = [number for number in ids if number not in found]
    if missing:
        found.update(encoded_messages(reader, lineage, missing))
    return [found[number] for number in ids]
