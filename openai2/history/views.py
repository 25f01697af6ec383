"""Read the view of a stream at any version.

Invariants:
- A view is folded from the newest snapshot before its version and the events since.
- Events before a `restored` or `forked` are skipped; the fold starts at the version that it names.
So the cost of any version is bounded.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

from openai2.core import events as ev
from openai2.core.projection import CHANGES, View
from openai2.core.snapshot import unpack
from openai2.errors import DamagedStore
from openai2.history.lineage import Lineage
from openai2.store import Reader

#: The types of the events that change the view.
VIEW_TYPES = tuple(sorted(kind.type for kind in CHANGES))

Snapshot = tuple[int, bytes]  # version, packed view


def load(reader: Reader, lineage: Lineage, version: int) -> tuple[View, int]:
    """Return the view at the stream's last *version*, and how many bytes of events follow its snapshot."""
    snapshot = reader.snapshot(lineage.conversation, version)
    tail = list(reader.events(lineage.conversation, after=snapshot[0] if snapshot else 0, upto=version))
    size = sum(len(record.json) + 120 for record in tail)
    return _fold(reader, lineage, snapshot, tail), size


def view_at(reader: Reader, lineage: Lineage, version: int) -> View:
    """Return the view at any *version* of the stream; an empty one at version 0."""
    snapshot = reader.snapshot(lineage.conversation, version)
    return _fold(reader, lineage, snapshot, _tail(reader, lineage.conversation, snapshot, version))


def inherited(reader: Reader, lineage: Lineage) -> View:
    """Return the view with which a fork begins."""
    parent = lineage.parent()
    assert parent is not None
    return view_at(reader, parent, lineage.base - parent.base)


def _tail(reader: Reader, conversation: str, snapshot: Snapshot | None, version: int) -> list[ev.Recorded]:
    after = snapshot[0] if snapshot else 0
    return list(reader.events(conversation, after=after, upto=version, types=VIEW_TYPES))


def _fold(reader: Reader, lineage: Lineage, snapshot: Snapshot | None, tail: list[ev.Recorded]) -> View:
    # Backwards: collect the stretches of events that the view depends on. Then forwards: apply them.
    stretches: list[tuple[int, list[ev.Recorded]]] = []
    ancestors = list(lineage.parts)
    part = ancestors.pop()
    while True:
        event, stretch = _last_jump(tail)
        stretches.append((part.after, stretch))
        if event is None:
            view = _unpacked(snapshot, part.conversation) if snapshot else View()
            break
        version = event.version
        if isinstance(event, ev.Forked):
            if not ancestors or ancestors[-1].conversation != event.parent:
                raise DamagedStore(
                    "conversation {conversation} names a parent that it does not descend from",
                    conversation=part.conversation,
                )
            part, snapshot = ancestors.pop(), None
        elif snapshot is None or version >= snapshot[0]:
            tail = tail[: bisect_right([record.version for record in tail], version)]
            continue
        snapshot = reader.snapshot(part.conversation, version)
        tail = _tail(reader, part.conversation, snapshot, version)
    for base, stretch in reversed(stretches):
        for record in stretch:
            view.apply(record.event, base + record.version)
    return view


def _last_jump(tail: list[ev.Recorded]) -> tuple[ev.Restored | ev.Forked | None, list[ev.Recorded]]:
    """Return the last event that replaces the whole view, and the events after it."""
    for index in range(len(tail) - 1, -1, -1):
        if tail[index].type in ("restored", "forked"):
            event = tail[index].event
            assert isinstance(event, (ev.Restored, ev.Forked))
            return event, tail[index + 1 :]
    return None, tail


def _unpacked(snapshot: Snapshot, conversation: str) -> View:
    try:
        return unpack(snapshot[1])
    except (ValueError, msgspec.DecodeError) as fault:
        raise DamagedStore(
            "the snapshot of conversation {conversation} at version {version} is damaged: "
            "run `openai2 rebuild`",
            conversation=conversation,
            version=snapshot[0],
        ) from fault
