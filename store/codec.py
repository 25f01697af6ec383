"""Events as rows, and the hash that links each event to all before it.

The hashed bytes are part of the format (docs/format.md): to change them, change the tag and the version too.

    digest = SHA-256(data)
    hash   = SHA-256("openai2 event 1" NUL  previous-hash  digest
                     conversation NUL version NUL batch NUL type NUL time)

`previous-hash` is 32 bytes: the hash of the stream's previous event; for the first event of a fork, that of
the parent's event at the fork's version; for the first event of any other stream, 32 zero bytes.
The hash covers the digest, not the data, so that the chain stays verifiable when data is redacted.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from time import time_ns

from openai2.core import events as ev
from openai2.store.reader import TAG


def link(
    previous: bytes, digest: bytes, conversation: str, version: int, batch: int, tag: str, time: str
) -> bytes:
    """Return the hash of one event: 32 bytes that commit to it and to all before it."""
    fields = f"{conversation}\0{version}\0{batch}\0{tag}\0{time}".encode()
    return sha256(TAG + previous + digest + fields).digest()


def digest(data: bytes) -> bytes:
    """Return the SHA-256 digest of an event's data as stored."""
    return sha256(data).digest()


def chain(
    conversation: str,
    head: tuple[int, bytes],
    position: int,
    events: list[ev.Event],
    time: str,
) -> list[ev.Recorded]:
    """Return the rows that append *events* after *head*, all at *time*, from *position* + 1 on."""
    version, previous = head
    batch = version + 1
    chained: list[ev.Recorded] = []
    for event in events:
        version += 1
        position += 1
        data = ev.encode(event)
        previous = link(previous, digest(data), conversation, version, batch, event.type, time)
        chained.append(
            ev.Recorded(conversation, version, position, batch, event.type, time, data, previous.hex())
        )
    return chained


def timestamp(moment: datetime | None = None) -> str:
    """Return *moment* (None: now) as UTC in ISO 8601 with microseconds: `2026-11-22T10:05:00.000000Z`."""
    if moment is not None:
        when = moment.astimezone(timezone.utc)
        return when.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    second, rest = divmod(time_ns(), 1_000_000_000)
    return f"{_format_second(second)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1)  # formatting takes 3 of an append's 90 µs
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).isoformat().removesuffix("+00:00")
