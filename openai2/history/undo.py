"""What undo and redo lead to: the events that they append to a stream.

Rules: no stack is kept. A `restored` that undoes says where its redo leads; the rest is found by following
them backwards. A step takes back one action, all that was appended at once; one that was undone and redone
over and over makes no chain that grows.
"""

from __future__ import annotations

from openai2.core import events as ev
from openai2.history.views import VIEW_TYPES
from openai2.store import Reader


def _last_change(reader: Reader, conversation: str, version: int) -> ev.Recorded | None:
    """The last event at or before *version* that changed the view."""
    for record in reader.events(conversation, upto=version, types=VIEW_TYPES, newest_first=True):
        if record.type == "message_added":
            event = record.event
            if isinstance(event, ev.MessageAdded) and event.request is not None and event.answer is None:
                continue  # a question on record, which waits for its answer
        return record
    return None


def _before(reader: Reader, conversation: str, version: int) -> int | None:
    """The version before the last action that still counts at *version*; None where there is none."""
    while True:
        record = _last_change(reader, conversation, version)
        if record is None or record.type == "forked":
            return None
        event = record.event
        if isinstance(event, ev.Restored) and event.cause is not None:
            version = event.version
            continue
        return max(1, record.batch - 1)


def undo(reader: Reader, conversation: str, version: int, n: int) -> list[ev.Event]:
    """Events that undo up to *n* actions of a stream at *version*, the last first."""
    steps: list[ev.Event] = []
    last = _last_change(reader, conversation, version)
    if last is None:
        return steps
    standing = redo_to = _redone(last)
    while len(steps) < n and (target := _before(reader, conversation, standing)) is not None:
        steps.append(ev.Restored(version=target, cause="undo", redo=redo_to))
        standing, redo_to = target, version + len(steps)
    return steps


def _after(reader: Reader, conversation: str, version: int) -> int | None:
    """The version that a redo at *version* leads to."""
    while True:
        record = _last_change(reader, conversation, version)
        event = None if record is None else record.event
        if not isinstance(event, ev.Restored) or event.cause is None:
            return None
        if event.cause == "undo":
            return event.redo
        version = event.version


def redo(reader: Reader, conversation: str, version: int, n: int) -> list[ev.Event]:
    """Events that redo up to *n* undone actions of a stream at *version*."""
    steps: list[ev.Event] = []
    standing = version
    while len(steps) < n and (target := _after(reader, conversation, standing)) is not None:
        change = _last_change(reader, conversation, target)
        target = target if change is None else min(target, _redone(change))
        steps.append(ev.Restored(version=target, cause="redo"))
        standing = target
    return steps


def _redone(record: ev.Recorded) -> int:
    """The version that an event leads to: where it is a redo, that which it went back to.

    So undoing and redoing the same thing over and over makes no chain that grows.
    """
    event = record.event
    return event.version if isinstance(event, ev.Restored) and event.cause == "redo" else record.version
