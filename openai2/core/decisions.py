"""Decisions: a view and a wish in, the events that fulfil it out, or a refusal.

Rules: no I/O, no clock; a refusal raises before anything is appended, and a wish that changes nothing
gives no events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core.projection import View
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, NoIndex, NoRoom


def index_in(view: View, index: int) -> int:
    """The place from 0 on that *index* means; negative ones count from the end.

    Raises NoIndex (an IndexError) where no message stands there.
    """
    if not is_int(index):
        raise BadInput("an index is an int, not {kind}", kind=type(index).__name__)
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
    """Put these messages into the view."""
    return [ev.MessageAdded(message=msgspec.Raw(raw)) for raw in encoded]


def pin(view: View, indexes: Sequence[int]) -> list[ev.Event]:
    """Pin the messages at these indexes; pinned ones may be among them."""
    ids = {view.ids[index_in(view, index)] for index in indexes}
    fresh = sorted(ids - view.pins)
    return [ev.Pinned(messages=fresh)] if fresh else []


def unpin(view: View, indexes: Sequence[int]) -> list[ev.Event]:
    """Unpin the messages at these indexes; unpinned ones may be among them."""
    ids = {view.ids[index_in(view, index)] for index in indexes}
    held = sorted(ids & view.pins)
    return [ev.Unpinned(messages=held)] if held else []


def rollback(view: View, rounds: int) -> list[ev.Event]:
    """Take the last *rounds* rounds out; more than there are means all of them.

    What stands before the first user message belongs to no round and stays.
    Raises BadInput (a ValueError) where *rounds* is below 1.
    """
    if not is_int(rounds, 1):
        raise BadInput("the number of rounds to roll back is 1 or more, not {rounds}", rounds=rounds)
    starts = view.round_starts(rounds)
    if not starts:
        return []
    start = starts[0]
    return [
        ev.RolledBack(spans=[(view.ids[start], view.ids[-1])], messages=len(view) - start, rounds=len(starts))
    ]


def check_limit(limit: object) -> int | None:
    """A MsgMaxCount, checked. Raises BadInput (a ValueError) below 1."""
    if limit is None:
        return None
    if not is_int(limit, 1):
        raise BadInput("MsgMaxCount is a whole number of 1 or more, not {limit}", limit=limit)
    return limit


def check_text(text: object, what: str) -> str | None:
    """A text that an event is to hold, or None, checked: what cannot be read again is not written.

    Raises BadInput, which says *what* it is.
    """
    if text is not None and not isinstance(text, str):
        raise BadInput("{what} is a str, not {kind}", what=what, kind=type(text).__name__)
    try:
        if text is not None:
            text.encode()
    except UnicodeEncodeError:
        raise BadInput("{what} holds a lone surrogate, which no UTF-8 text can hold", what=what) from None
    return text


def over(view: View, limit: int, protected: int = 0) -> list[int]:
    """The indexes that *limit* takes out: the earliest unpinned ones, a call together with its results.

    The last *protected* messages are left alone. There may remain more than *limit* where pins and
    protected messages alone are more.
    """
    excess = len(view) - limit
    gone: list[int] = []
    if excess <= 0:
        return gone
    end = len(view) - protected
    for unit in view.units():
        if len(gone) >= excess or unit.stop > end:
            break
        if not any(view.pinned_at(index) for index in unit):
            gone.extend(unit)
    return gone


def truncated(view: View, limit: int, request: int | None = None) -> list[ev.Event]:
    """What the limit takes out of the view as it stands."""
    gone = over(view, limit)
    if not gone:
        return []
    return [ev.Truncated(spans=view.spans(gone), messages=len(gone), limit=limit, request=request)]


def sent(view: View, limit: int | None, question: Sequence[int], kinds: str) -> View:
    """The view as it is sent: with the *question* at its end, cut to *limit*.

    Raises NoRoom where pinned messages leave no room for the question.
    """
    whole = view.copy()
    whole.ids.extend(question)
    whole.kinds.extend(kinds)
    if limit is None:
        return whole
    protected = len(question) or (len(_last_unit(whole)) if len(whole) else 0)
    gone = over(whole, limit, protected)
    if len(whole) - len(gone) > limit:
        raise NoRoom(
            "{pinned} pinned messages and the question are more than MsgMaxCount={limit} allows: "
            "unpin some, or raise the limit",
            pinned=len(whole.pins),
            limit=limit,
        )
    whole.remove(whole.spans(gone))
    return whole


def _last_unit(view: View) -> range:
    last = range(0)
    for unit in view.units():
        last = unit
    return last
