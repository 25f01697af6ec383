"""Plan undo and redo: the `restored` events that they append to a stream.

Invariants:
- No stack is kept: an undo's event names the version that a redo restores, and earlier steps are found by
  reading the stream backwards.
- One step undoes one batch, the events of one append.
- A redo restores the version before the undo, not the undo's own event. So repeated undo and redo does not
  build a growing chain.
"""

from __future__ import annotations

from openai2.core import events as ev
from openai2.history.views import VIEW_TYPES
from openai2.store import Reader


def undo(reader: Reader, conversation: str, version: int, n: int) -> list[ev.Event]:
    """Return the events that undo up to *n* actions of a stream at *version*, latest action first."""
    steps: list[ev.Event] = []
    last = _last_change(reader, conversation, version)
    if last is None:
        return steps
    current = redo_to = _effective_version(last)
    while len(steps) < n and (target := _undo_target(reader, conversation, current)) is not None:
        steps.append(ev.Restored(version=target, cause="undo", redo=redo_to))
        current, redo_to = target, version + len(steps)
    return steps


def redo(reader: Reader, conversation: str, version: int, n: int) -> list[ev.Event]:
    """Return the events that redo up to *n* undone actions of a stream at *version*."""
    steps: list[ev.Event] = []
    current = version
    while len(steps) < n and (target := _redo_target(reader, conversation, current)) is not None:
        change = _last_change(reader, conversation, target)
        current = target if change is None else min(target, _effective_version(change))
        steps.append(ev.Restored(version=current, cause="redo"))
    return steps


def _undo_target(reader: Reader, conversation: str, version: int) -> int | None:
    """Return the version before the last action that still counts at *version*, None if there is none."""
    while True:
        record = _last_change(reader, conversation, version)
        if record is None or record.type == "forked":
            return None
        event = record.event
        if isinstance(event, ev.Restored) and event.cause is not None:
            version = event.version
            continue
        return max(1, record.batch - 1)


def _redo_target(reader: Reader, conversation: str, version: int) -> int | None:
    """Return the version that a redo at *version* restores, None if nothing was undone last."""
    while True:
        record = _last_change(reader, conversation, version)
        event = None if record is None else record.event
        if not isinstance(event, ev.Restored) or event.cause is None:
            return None
        if event.cause == "undo":
            return event.redo
        version = event.version


def _last_change(reader: Reader, conversation: str, version: int) -> ev.Recorded | None:
    """Return the last event at or before *version* that changed the view."""
    for record in reader.events(conversation, upto=version, types=VIEW_TYPES, newest_first=True):
        if record.type == "message_added":
            event = record.event
            if isinstance(event, ev.MessageAdded) and not event.joins_view:
                continue
        return record
    return None


def _effective_version(record: ev.Recorded) -> int:
    """Return the version whose view an event leads to: for a redo, the version that it restored."""
    event = record.event
    return event.version if isinstance(event, ev.Restored) and event.cause == "redo" else record.version
