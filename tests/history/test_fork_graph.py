"""Why a view is what it is, what another limit would leave, and the family as a drawing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import BadInput, Engine, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.history.fork_graph import Member, clip, columns_of, drawing
from openai2.store import Reader
from tests.support.stores import asked, busy


def test_why_names_what_put_a_message_in_and_what_took_it_out() -> None:
    with Engine() as engine:
        a = engine.create("a")
        a.add([user_msg("1"), assistant_msg("2")])
        asked(a, "3", None)
        a.rollback()
        a.undo()
        a.rollback()
        told = {one.message["content"]: one for one in a.why()}
        assert [one.id for one in a.why()] == [2, 3, 5]
        first = told["1"]
        assert not first.in_view and first.put_in and first.taken_out
        assert (first.put_in.type, first.put_in.version) == ("restored", 8)
        assert (first.taken_out.type, first.taken_out.version) == ("rolled_back", 9)
        assert (told["3"].put_in, told["3"].taken_out, told["3"].in_view) == (None, None, False)
        fork = a.fork("b", at=3)
        fork.add([user_msg("4")])
        assert [(one.message["content"], one.in_view) for one in fork.why()] == [
            *[("1", True), ("2", True)],
            ("4", True),
        ]


def test_why_agrees_with_the_view() -> None:
    with Engine() as engine:
        for conversation in busy(engine).values():
            told = conversation.why()
            assert {one.id for one in told if one.in_view} == set(conversation.view().ids)
            assert all(one.put_in for one in told if one.in_view)


def test_what_is_appended_while_it_is_told_is_not_told_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(tmp_path / "store.db") as engine, Engine(tmp_path / "store.db") as other:
        a = engine.create("a")
        a.add([user_msg("1")])
        a.rollback()
        plainly = Reader.events

        def meanwhile(self: Reader, *args: Any, **options: Any) -> Iterator[ev.Recorded]:
            found = list(plainly(self, *args, **options))
            if options.get("types") == ("restored",):
                other.open("a").restore(2)
            return iter(found)

        monkeypatch.setattr(Reader, "events", meanwhile)
        assert [one.in_view for one in a.why()] == [False]
        assert [one.in_view for one in a.why()] == [True]


def test_a_long_story_is_told_in_time() -> None:
    with Engine() as engine:
        a = engine.create("a")
        a.add([user_msg(str(number)) for number in range(12_000)])
        a.pin(*range(0, 12_000, 2))
        began = time.process_time()
        assert len(a.with_limit(6_000)) == 6_000
        assert len(a.why()) == 12_000
        deep = a
        for _ in range(100):
            deep = deep.fork()
        deep.rollback()
        deep.undo()
        assert [one.in_view for one in deep.why()] == [True] * 12_000
        assert time.process_time() - began < 5, "what grows with the square of the length takes longer"


def test_another_limit_is_only_looked_at() -> None:
    with Engine() as engine:
        a = engine.create("a")
        a.add([user_msg(str(number)) for number in range(6)])
        a.pin(0)
        before = a.version
        assert [message["content"] for message in a.with_limit(3)] == ["0", "4", "5"]
        assert len(a.with_limit(99)) == 6
        assert a.version == before
        with pytest.raises(BadInput):
            a.with_limit(0)


def test_a_family_holds_ancestors_and_all_that_forked_from_them() -> None:
    with Engine() as engine:
        conversations = busy(engine)
        found = engine.family("side")
        assert [member.name for member in found] == ["main", "side", "deeper"]
        assert found[2].parent == conversations["side"].id and found[2].at == 1
        assert engine.family("main") == engine.family("deeper") == found
        assert [member.name for member in engine.family("group")] == ["group"]


def _member(name: str, version: int, parent: str | None = None, at: int | None = None) -> Member:
    return Member(id=name, name=name, version=version, created="", parent=parent, at=at)


def test_a_drawing_reads_like_git_log() -> None:
    members = [
        _member("main", 9),
        _member("a", 3, "main", 5),
        _member("b", 2, "main", 5),
        _member("c", 1, "a", 3),
    ]
    assert list(drawing(members, "b")) == [
        "* main@9",
        "| * b@2 (here)",
        "|/",
        "| * c@1",
        "| * a@3",
        "|/",
        "* main@5",
    ]
    assert list(drawing([_member("one", 4)])) == ["* one@4"]
    assert list(drawing([])) == []


def test_where_nothing_of_it_stands_above_a_conversation_goes_on_below_its_fork() -> None:
    members = [
        _member("main", 5),
        _member("a", 3, "main", 5),
        _member("b", 7, "main", 5),
        _member("c", 1, "b", 2),
        _member("d", 4, "main", 2),
    ]
    assert list(drawing(members)) == [
        "* b@7",
        "| * c@1",
        "|/",
        "* b@2",
        "| * a@3",
        "|/",
        "* main@5",
        "| * d@4",
        "|/",
        "* main@2",
    ]


def test_ten_thousand_forks_are_drawn_side_by_side_and_one_from_another() -> None:
    main = _member("main", 9)
    siblings = [main, *(_member(str(number), 2, "main", 5) for number in range(10_000))]
    lines = list(drawing(siblings))
    assert len(lines) == 2 + 2 * 10_000 and max(map(len, lines)) == len("| * 1234@2")
    chain = [main, _member("0", 9, "main", 9)]
    chain += [_member(str(number), 9, str(number - 1), 9) for number in range(1, 10_000)]
    assert list(drawing(chain))[-2:] == ["* 0@9", "* main@9"]
    chain = [main, _member("0", 9, "main", 5)]
    chain += [_member(str(number), 9, str(number - 1), 5) for number in range(1, 10_000)]
    lines = list(drawing(chain, width=60))
    assert len(lines) == 3 * 10_000 + 1 and max(map(columns_of, lines)) == 60


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=12))
def test_a_line_leads_down_from_every_fork_to_what_it_forked_from(forks: list[tuple[int, int]]) -> None:
    """Read from the top, each column holds one conversation until it bends into the one to its left."""
    members = [_member("m", 9)]
    for number, (above, at) in enumerate(forks):
        members.append(_member(f"f{number}", 9, members[above % len(members)].id, at))
    by_id = {member.id: member for member in members}
    columns: list[str] = []
    for line in drawing(members, width=200):
        place = line.count("|")
        if line.endswith("|/"):
            assert len(columns) == place + 1
            parent = by_id[columns.pop()].parent
            assert parent in (columns[-1], by_id[columns[-1]].parent)
            continue
        name, _, _ = line.rpartition(" ")[2].partition("@")
        assert place in (len(columns) - 1, len(columns))
        if place == len(columns):
            columns.append(name)
        elif columns[-1] != name:
            assert by_id[columns[-1]].parent == name
            columns[-1] = name
    assert columns == ["m"]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=12), st.integers(12, 60))
def test_every_conversation_is_drawn_once_and_no_line_is_too_wide(
    forks: list[tuple[int, int]], width: int
) -> None:
    members = [_member("根", 9)]
    for number, (above, at) in enumerate(forks):
        parent = members[above % len(members)]
        members.append(_member(f"分岔 {number}" * 3, 9, parent.id, at))
    lines = list(drawing(members, width=200))
    for member in members:
        assert sum(f"{member.id}@9" in line for line in lines) == 1
    assert all(columns_of(line) <= width for line in drawing(members, width=width) if "*" in line)
    assert all(line.count("*") <= 1 for line in lines)


@given(st.text(max_size=40), st.integers(1, 30))
def test_what_is_clipped_fits(text: str, width: int) -> None:
    assert columns_of(clip(text, width)) <= width
