"""Decisions: the events of a command, and the view after them."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from openai2 import NoRoom
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core.projection import View


@st.composite
def views(draw: st.DrawFn) -> View:
    view = View()
    view.kinds = draw(st.lists(st.sampled_from("uuaasct"), max_size=20))
    view.ids = draw(st.permutations(range(1, len(view.kinds) + 1)))
    view.pins = set(draw(st.lists(st.sampled_from(view.ids), max_size=6))) if view.ids else set()
    return view


def folded(view: View, events: Sequence[ev.Event]) -> View:
    after = view.copy()
    for number, event in enumerate(events, 100):
        after.apply(event, number)
    return after


@given(views(), st.integers(1, 12))
def test_truncated_removes_the_earliest_unpinned_units(view: View, limit: int) -> None:
    before = view.copy()
    units = [*view.units()]
    free = [unit for unit in units[:-1] if not any(view.is_pinned(index) for index in unit)]
    fixed = len(view) - sum(len(unit) for unit in free)
    if fixed > limit:
        with pytest.raises(NoRoom):
            decisions.truncated(view, limit)
        return
    events = decisions.truncated(view, limit)
    after = folded(view, events)
    assert view == before
    assert view.pins <= set(after.ids) and [n for n in view.ids if n in set(after.ids)] == after.ids
    if len(view) <= limit:
        assert events == []
        return
    if all(len(unit) == 1 for unit in free):
        assert len(after) == limit
    assert len(after) <= limit
    # A result is never left without its call, and the earliest go first.
    gone = [index for index, number in enumerate(view.ids) if number not in set(after.ids)]
    assert gone == [index for unit in free for index in unit][: len(gone)]
    for unit in view.units():
        assert len({view.ids[index] in set(after.ids) for index in unit}) == 1
    assert decisions.truncated(after, limit) == []


@given(views(), st.none() | st.integers(1, 12), st.text("ust", max_size=3))
def test_sent_fits_the_limit_or_raises(view: View, limit: int | None, kinds: str) -> None:
    assume(len(view) or kinds)
    question = [1000 + place for place in range(len(kinds))]
    try:
        sent = decisions.sent(view, limit, question, kinds)
    except NoRoom:
        assert limit is not None
        last = [*view.units()][-1] if view.ids and not kinds else range(0)
        pinned = [u for u in view.units() if any(view.is_pinned(i) for i in u) or u == last]
        assert sum(len(unit) for unit in pinned) + len(question) > limit
        return
    assert limit is None or len(sent) <= limit
    assert sent.ids[len(sent) - len(question) :] == question
    assert view.pins <= set(sent.ids)
    assert len(set(sent.ids)) == len(sent.ids) and len(sent)


@given(views(), st.integers(1, 30))
def test_rollback_removes_the_last_rounds(view: View, n: int) -> None:
    starts = view.round_starts()
    events = decisions.rollback(view, n)
    after = folded(view, events)
    assert len(after.round_starts()) == max(0, len(starts) - n)
    assert after.ids == view.ids[: len(after)]
    if starts:
        (event,) = events
        assert isinstance(event, ev.RolledBack)
        assert event.messages == len(view) - len(after) and event.rounds == min(n, len(starts))
    else:
        assert events == []


@given(views(), st.lists(st.integers(-25, 25), max_size=4))
def test_pin_and_unpin_are_idempotent(view: View, indexes: list[int]) -> None:
    size = len(view)
    if not all(-size <= index < size for index in indexes):
        for decide in (decisions.pin, decisions.unpin):
            with pytest.raises(IndexError):
                decide(view, indexes)
        return
    named = {view.ids[index] for index in indexes}
    pinned = folded(view, decisions.pin(view, indexes))
    assert pinned.pins == view.pins | named and pinned.ids == view.ids
    assert decisions.pin(pinned, indexes) == []
    unpinned = folded(pinned, decisions.unpin(pinned, indexes))
    assert unpinned.pins == view.pins - named
    assert decisions.unpin(unpinned, indexes) == []
