"""Events <-> rows, and the hash that links each event to all before it.

The bytes that are hashed are part of the format (docs/format.md): whoever changes them changes the
tag in front, and the store's version.

    digest = SHA-256(data)
    hash   = SHA-256("openai2 event 1" NUL  previous-hash  digest
                     conversation NUL version NUL batch NUL type NUL time)

`previous-hash` is 32 bytes: the hash of the stream's previous event; of the parent's event at the
fork's version for the first event of a fork; 32 zero bytes for the first event of any other stream.
Since the digest stands between, the data of a redacted event can go while the chain stays provable.
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
    """The hash of one event: 32 bytes that commit to it and to all before it."""
    fields = f"{conversation}\0{version}\0{batch}\0{tag}\0{time}".encode()
    return sha256(TAG + previous + digest + fields).digest()


def digest(data: bytes) -> bytes:
    """SHA-256 of an event's data as stored."""
    return sha256(data).digest()


def chain(
    conversation: str,
    head: tuple[int, bytes],
    position: int,
    events: list[ev.Event],
    time: str,
) -> list[ev.Recorded]:
    """The rows that append *events* after *head*, all at *time*, from *position* + 1 on."""
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
    """Now, or *moment*, as UTC in ISO 8601 with microseconds: `2026-11-22T10:05:00.000000Z`."""
    if moment is not None:
        when = moment.astimezone(timezone.utc)
        return when.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    second, rest = divmod(time_ns(), 1_000_000_000)
    return f"{_written(second)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1)  # it is said a thousand times a second, and takes 3 of an append's 90 µs
def _written(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).isoformat().removesuffix("+00:00")
