"""Decisions: from a view and a command to the events that carry it out.

Invariants: no I/O, no clock. A refusal raises before anything is appended; a command that changes nothing
returns no events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core.projection import View
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, NoIndex, NoRoom


def index_in(view: View, index: int) -> int:
    """Return *index* counted from 0; a negative one counts from the end.

    Raises BadInput if it is not an int, NoIndex (an IndexError) if no message is at that index.
    """
    if not is_int(index):
        raise BadInput("expected an int as index, got {kind}", kind=type(index).__name__)
    size = len(view)
    if not -size <= index < size:
        if not size:
            raise NoIndex("there is no message at {index}: the conversation is empty", index=index)
        raise NoIndex(
            "there is no message at {index}: indexes go from {first} to {last}",
            index=index,
            first=-size,
            last=size - 1,
        )
    return index % size


def add(encoded: Iterable[bytes]) -> list[ev.Event]:
    """Add these encoded messages to the view."""
    return [ev.MessageAdded(message=msgspec.Raw(raw)) for raw in encoded]


def add_within(
    limit: int | None, view: View, next_id: int, encoded: Iterable[bytes], *, pinned: bool = False
) -> list[ev.Event]:
    """Add these encoded messages to the view, *pinned* or not, and truncate it to the *limit*.

    *next_id* is the id of the next event. Raises NoRoom if pinned messages leave no room for the last one.
    """
    events = add(encoded)
    if pinned:
        events.append(ev.Pinned(messages=list(range(next_id, next_id + len(events)))))
    if limit is None:
        return events
    view = view.copy()
    for number, event in enumerate(events, next_id):
        view.apply(event, number)
    return [*events, *truncated(view, limit)]


def pin(view: View, indexes: Sequence[int]) -> list[ev.Event]:
    """Pin the messages at these indexes, except those that are pinned already. Raises NoIndex."""
    ids = {view.ids[index_in(view, index)] for index in indexes}
    unpinned = sorted(ids - view.pins)
    return [ev.Pinned(messages=unpinned)] if unpinned else []


def unpin(view: View, indexes: Sequence[int]) -> list[ev.Event]:
    """Unpin the messages at these indexes, except those that are not pinned. Raises NoIndex."""
    ids = {view.ids[index_in(view, index)] for index in indexes}
    pinned = sorted(ids & view.pins)
    return [ev.Unpinned(messages=pinned)] if pinned else []


def rollback(view: View, rounds: int) -> Sequence[ev.RolledBack]:
    """Remove the last *rounds* rounds, or all if there are fewer.

    Messages before the first user message belong to no round and stay.
    Raises BadInput (a ValueError) if *rounds* is below 1.
    """
    if not is_int(rounds, 1):
        raise BadInput("expected 1 or more rounds to roll back, got {rounds}", rounds=rounds)
    starts = view.round_starts(rounds)
    if not starts:
        return []
    start = starts[0]
    return [
        ev.RolledBack(spans=[(view.ids[start], view.ids[-1])], messages=len(view) - start, rounds=len(starts))
    ]


def check_limit(limit: object) -> int | None:
    """Return *limit*, a MsgMaxCount or None. Raises BadInput (a ValueError) if it is below 1."""
    if limit is None:
        return None
    if not is_int(limit, 1):
        raise BadInput("expected a whole number of 1 or more as MsgMaxCount, got {limit}", limit=limit)
    return limit


def check_text(text: object, what: str) -> str | None:
    """Return *text*, a str or None, if an event can hold it. Raises BadInput, which names it *what*."""
    if text is not None and not isinstance(text, str):
        raise BadInput("expected a str as {what}, got {kind}", what=what, kind=type(text).__name__)
    try:
        if text is not None:
            text.encode()
    except UnicodeEncodeError:
        raise BadInput("{what} holds a lone surrogate, which UTF-8 cannot encode", what=what) from None
    return text


def over(view: View, limit: int, protected: int = 0) -> list[int]:
    """Return the indexes that *limit* removes: the earliest unpinned ones, a call together with its results.

    The last *protected* messages stay. More than *limit* may remain if pinned and protected messages alone
    are more.
    """
    excess = len(view) - limit
    removed: list[int] = []
    if excess <= 0:
        return removed
    end = len(view) - protected
    for unit in view.units():
        if len(removed) >= excess or unit.stop > end:
            break
        if not any(view.is_pinned(index) for index in unit):
            removed.extend(unit)
    return removed


def truncated(view: View, limit: int, request: int | None = None) -> list[ev.Event]:
    """Remove from *view* what *limit* removes; *request* is the id of the request that caused it.

    Raises NoRoom if pinned messages leave no room for the last message, or for the call with its results.
    """
    removed = _checked_over(view, limit, view.last_unit())
    if not removed:
        return []
    return [ev.Truncated(spans=view.spans(removed), messages=len(removed), limit=limit, request=request)]


def sent(view: View, limit: int | None, question: Sequence[int], kinds: str) -> View:
    """Return the view that is sent: *view* with the *question* at its end, cut to *limit*.

    *kinds* holds one letter for each id of *question*. Raises NoRoom if pinned messages leave no room for it.
    """
    whole = view.copy()
    whole.ids.extend(question)
    whole.kinds.extend(kinds)
    if limit is None:
        return whole
    removed = _checked_over(whole, limit, len(question) or whole.last_unit())
    whole.remove(whole.spans(removed))
    return whole


def _checked_over(view: View, limit: int, protected: int) -> list[int]:
    """Return `over`. Raises NoRoom if more than *limit* messages would be left."""
    removed = over(view, limit, protected)
    if len(view) - len(removed) <= limit:
        return removed
    if protected > limit:
        raise NoRoom(
            "{count} messages belong together, but MsgMaxCount={limit} allows fewer: raise the limit",
            count=protected,
            limit=limit,
        )
    raise NoRoom(
        "{pinned} pinned messages leave no room for {count} more with MsgMaxCount={limit}: "
        "unpin some, or raise the limit",
        pinned=len(view.pins),
        count=protected,
        limit=limit,
    )
