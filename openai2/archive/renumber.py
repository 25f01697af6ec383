"""The same fact told in another stream: an event whose ids and versions are counted differently.

Rules: no I/O; nothing but numbers changes. Which fields hold ids and which hold versions is said here and
nowhere else; the test of this module finds a field that was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from openai2.core import events as ev
from openai2.core.typeguards import is_sequence

Number = Callable[[int], int]
E = TypeVar("E", bound=msgspec.Struct)

#: Fields that hold ids: one, a list of them, or spans.
IDS = frozenset({"request", "question", "remarks", "messages", "spans", "without"})
#: Fields that hold a version of the stream itself.
VERSIONS = frozenset({"version", "redo", "view", "seen"})


def moved(event: ev.Event, ids: Number, versions: Number) -> ev.Event:
    """The event with its *ids* and *versions* counted as these say. Not for `forked`."""
    if isinstance(event, ev.Forked):
        raise ValueError("what a fork begins with is for its maker to say")
    told = _renumbered(event, ids, versions)
    if isinstance(told, ev.MessageAdded) and told.answer is not None:
        told = msgspec.structs.replace(told, answer=_renumbered(told.answer, ids, versions))
    return told


def moved_data(tag: str, data: bytes, ids: Number, versions: Number) -> bytes:
    """The same for an event's data."""
    return ev.encode(moved(ev.decode(tag, data), ids, versions))


def _renumbered(struct: E, ids: Number, versions: Number) -> E:
    counts = isinstance(struct, (ev.RolledBack, ev.Truncated))  # whose `messages` is a number of them
    changed: dict[str, object] = {}
    for field in struct.__struct_fields__:
        value = getattr(struct, field)
        if field in VERSIONS and isinstance(value, int):
            changed[field] = versions(value)
        elif field in IDS and not (counts and field == "messages"):
            changed[field] = _mapped(value, ids)
    return msgspec.structs.replace(struct, **changed) if changed else struct


def _mapped(value: Any, ids: Number) -> Any:
    if isinstance(value, int):
        return ids(value)
    if is_sequence(value):
        return type(value)(_mapped(one, ids) for one in value)
    return value
