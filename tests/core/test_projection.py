"""The fold: removing spans, replaying, and packing a view."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from openai2.core import events as ev
from openai2.core.projection import View, replay
from openai2.core.snapshot import pack, unpack, worth_saving


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any view; ids are in any order, since a question joins with its answer."""
    view = View()
    view.ids = draw(st.lists(st.integers(1, 10**9), unique=True, max_size=30))
    view.kinds = draw(st.lists(st.sampled_from("usacto"), min_size=len(view.ids), max_size=len(view.ids)))
    view.pins = set(draw(st.lists(st.sampled_from(view.ids), max_size=5))) if view.ids else set()
    view.roles = draw(st.dictionaries(st.text(max_size=5), st.integers(1, 99), max_size=3))
    view.remarks = draw(st.lists(st.integers(1, 99), unique=True, max_size=3))
    return view


@st.composite
def views_and_indexes(draw: st.DrawFn) -> tuple[View, list[int]]:
    view = draw(views())
    if not view.ids:
        return view, []
    return view, sorted(set(draw(st.lists(st.integers(0, len(view) - 1)))))


@given(views())
def test_unpack_returns_the_packed_view(view: View) -> None:
    back = unpack(pack(view))
    assert back == view and list(back.roles) == list(view.roles)


@given(views_and_indexes())
def test_many_spans_are_removed_like_single_ones(given: tuple[View, list[int]]) -> None:
    view, indexes = given
    spans = [(view.ids[index], view.ids[index]) for index in indexes]
    at_once = view.copy()
    removed = at_once.remove(spans)
    for span in reversed(spans):
        view.remove([span])
    assert at_once == view
    assert removed == [first for first, _ in spans]


@pytest.mark.parametrize("spans", [[(99, 99)], [(3, 99)], [(2, 2), (2, 2)]])
def test_remove_raises_for_spans_not_in_the_view(spans: list[ev.Span]) -> None:
    for more in (0, 20):
        view = View()
        view.ids = list(range(1, 50))
        view.kinds = ["u"] * len(view.ids)
        with pytest.raises(ValueError, match="is not in the view"):
            view.remove([*spans, *((number, number) for number in range(10, 10 + more))])


@given(views(), st.data())
def test_damaged_snapshot_raises_or_is_a_valid_view(view: View, data: st.DataObject) -> None:
    packed = bytearray(pack(view))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = unpack(bytes(packed))
    except (ValueError, msgspec.DecodeError):
        return
    assert len(back.ids) == len(back.kinds)


@given(views_and_indexes())
def test_remove_takes_exactly_the_spans(case: tuple[View, list[int]]) -> None:
    view, indexes = case
    left = [number for index, number in enumerate(view.ids) if index not in indexes]
    kinds = [kind for index, kind in enumerate(view.kinds) if index not in indexes]
    spans = view.spans(indexes)
    assert len(spans) == sum(index - 1 not in indexes for index in indexes)
    pins = view.pins & set(left)
    before = view.copy()
    view.remove(spans)
    assert (view.ids, view.kinds, view.pins) == (left, kinds, pins)
    assert (before.ids == left) == (not indexes)


@given(views())
def test_units_and_rounds_cover_the_view_in_order(view: View) -> None:
    assert [index for unit in view.units() for index in unit] == list(range(len(view)))
    for unit in view.units():
        kinds = "".join(view.kinds[index] for index in unit)
        assert len(kinds) == 1 or (kinds[0] == "c" and set(kinds[1:]) == {"t"})
    assert view.round_starts() == [index for index, kind in enumerate(view.kinds) if kind == "u"]


def test_apply_without_the_needed_view_raises() -> None:
    view = View()
    with pytest.raises(ValueError, match="message 7"):
        view.remove([(7, 7)])
    with pytest.raises(ValueError, match="needs the view"):
        view.apply(ev.Restored(version=1), 2)


def test_replay_of_a_fork_of_an_empty_view() -> None:
    stream: list[tuple[int, ev.Event]] = [
        (1, ev.Forked(parent="p", version=1, base=1)),
        (2, ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'))),
        (3, ev.Restored(version=1)),
    ]
    assert [(at, view.ids.copy()) for at, view in replay(stream, 1, View())] == [(1, []), (2, [3]), (3, [])]


@given(views(), st.integers(0, 10**6))
def test_snapshot_takes_a_bounded_share(view: View, tail: int) -> None:
    """Roles are left out, since the length of their names is an estimate."""
    view.roles = {}
    if worth_saving(view, tail):
        assert len(pack(view)) <= max(tail / 16, 13 * len(view) + 200)
