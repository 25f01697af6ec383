"""The tree of forks, and its drawing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openai2 import Engine
from openai2.history.fork_graph import Member, clip, columns_of, drawing
from tests.support.stores import busy


def test_family_is_the_whole_tree_of_forks(engine: Engine) -> None:
    conversations = busy(engine)
    found = engine.family("side")
    assert [member.name for member in found] == ["main", "side", "deeper"]
    assert found[2].parent == conversations["side"].id and found[2].at == 1
    assert engine.family("main") == engine.family("deeper") == found
    assert [member.name for member in engine.family("group")] == ["group"]


def _member(name: str, version: int, parent: str | None = None, at: int | None = None) -> Member:
    return Member(id=name, name=name, version=version, created="", parent=parent, at=at)


def test_drawing_looks_like_git_log() -> None:
    forks = [_member("a", 3, "main", 5), _member("b", 2, "main", 5), _member("c", 1, "a", 3)]
    assert list(drawing([_member("main", 9), *forks], "b")) == [
        *("* main@9", "| * b@2 (here)", "|/"),
        *("| * c@1", "| * a@3", "|/", "* main@5"),
    ]
    assert list(drawing([_member("one", 4)])) == ["* one@4"]
    assert list(drawing([])) == []


def test_parent_without_newer_events_is_below_its_fork() -> None:
    forks = [_member("a", 3, "main", 5), _member("b", 7, "main", 5), _member("d", 4, "main", 2)]
    assert list(drawing([_member("main", 5), *forks, _member("c", 1, "b", 2)])) == [
        *("* b@7", "| * c@1", "|/", "* b@2"),
        *("| * a@3", "|/", "* main@5"),
        *("| * d@4", "|/", "* main@2"),
    ]


def test_drawing_of_10000_forks_keeps_its_width() -> None:
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
def test_drawing_connects_every_fork_with_its_parent(forks: list[tuple[int, int]]) -> None:
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
def test_drawing_shows_each_conversation_once(forks: list[tuple[int, int]], width: int) -> None:
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
def test_clipped_text_fits_the_width(text: str, width: int) -> None:
    assert columns_of(clip(text, width)) <= width
