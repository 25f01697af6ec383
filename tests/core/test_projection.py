"""The fold: what a view keeps through packing, removing and replaying."""

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
    """Any view: ids in any order, as a question joins after what was added meanwhile."""
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
def test_a_packed_view_comes_back(view: View) -> None:
    back = unpack(pack(view))
    assert back == view and list(back.roles) == list(view.roles)


@given(views_and_indexes())
def test_many_spans_leave_as_few_do(given: tuple[View, list[int]]) -> None:
    view, indexes = given
    spans = [(view.ids[index], view.ids[index]) for index in indexes]
    swept = view.copy()
    gone = swept.remove(spans)
    for span in reversed(spans):
        view.remove([span])
    assert swept == view
    assert gone == [first for first, _ in spans]


@pytest.mark.parametrize("spans", [[(99, 99)], [(3, 99)], [(2, 2), (2, 2)]])
def test_spans_that_do_not_stand_in_the_view_are_refused(spans: list[ev.Span]) -> None:
    for more in (0, 20):
        view = View()
        view.ids = list(range(1, 50))
        view.kinds = ["u"] * len(view.ids)
        with pytest.raises(ValueError, match="is not in the view"):
            view.remove([*spans, *((number, number) for number in range(10, 10 + more))])


@given(views(), st.data())
def test_a_damaged_snapshot_is_an_error_or_another_view(view: View, data: st.DataObject) -> None:
    packed = bytearray(pack(view))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = unpack(bytes(packed))
    except (ValueError, msgspec.DecodeError):
        return
    assert len(back.ids) == len(back.kinds)


@given(views_and_indexes())
def test_spans_take_out_exactly_what_they_name(case: tuple[View, list[int]]) -> None:
    view, indexes = case
    left = [number for index, number in enumerate(view.ids) if index not in indexes]
    kinds = [kind for index, kind in enumerate(view.kinds) if index not in indexes]
    spans = view.spans(indexes)
    assert len(spans) == sum(index - 1 not in indexes for index in indexes)
    pins = view.pins & set(left)
    before = view.copy()
    view.remove(spans)
    assert (view.ids, view.kinds, view.pins) == (left, kinds, pins)
    assert (before.ids == left) == (not indexes)  # a copy does not change with it


@given(views())
def test_units_and_rounds_cover_the_view_in_order(view: View) -> None:
    assert [index for unit in view.units() for index in unit] == list(range(len(view)))
    for unit in view.units():
        kinds = "".join(view.kinds[index] for index in unit)
        assert len(kinds) == 1 or (kinds[0] == "c" and set(kinds[1:]) == {"t"})
    assert view.round_starts() == [index for index, kind in enumerate(view.kinds) if kind == "u"]


def test_a_span_that_does_not_stand_in_the_view() -> None:
    view = View()
    with pytest.raises(ValueError, match="message 7"):
        view.remove([(7, 7)])
    with pytest.raises(ValueError, match="needs the view"):
        view.apply(ev.Restored(version=1), 2)


def test_a_fork_of_an_empty_view_is_replayed() -> None:
    stream: list[tuple[int, ev.Event]] = [
        (1, ev.Forked(parent="p", version=1, base=1)),
        (2, ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'))),
        (3, ev.Restored(version=1)),
    ]
    assert [(at, view.ids.copy()) for at, view in replay(stream, 1, View())] == [(1, []), (2, [3]), (3, [])]


@given(views(), st.integers(0, 10**6))
def test_snapshots_take_a_bounded_share(view: View, tail: int) -> None:
    """Roles' names are text and are guessed at; for all else the promise is kept to the byte."""
    view.roles = {}
    if worth_saving(view, tail):
        assert len(pack(view)) <= max(tail / 16, 13 * len(view) + 200)
