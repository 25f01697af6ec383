"""Two branches side by side: what is aligned, what is told of each side, and which words changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import Chat, Engine, Refused, assistant_msg, system_msg, user_msg
from openai2.core.textdiff import align, marked, words
from openai2.core.textdiff import compare as compare_words
from openai2.history.diff import Exchange, Row, Side, compare
from openai2.offline import OfflineServer


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


def exchange(question: str | None, answer: str) -> Exchange:
    asked = None if question is None else user_msg(question)
    return Exchange(asked, Side(messages=[assistant_msg(answer)], text=answer))


def statuses(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.status, row.text) for row in rows]


# -- words


def test_words_are_what_a_reader_points_at() -> None:
    assert words("你好, it's 50 km/h.\n") == [
        *("你", "好", ",", " ", "it", "'", "s", " ", "50", " ", "km", "/", "h", ".", "\n")
    ]


def test_changed_words_are_told_apart() -> None:
    assert marked(compare_words("自然数50的后面是51。", "自然数50的前面是49。")) == (
        "自然数50的[-后-]{+前+}面是[-51-]{+49+}。"
    )
    assert marked(compare_words("the quick fox", "the slow fox jumps")) == (
        "the [-quick-]{+slow+} fox{+ jumps+}"
    )
    assert compare_words("", "") == []


texts = st.text(alphabet="ab 你好\n.", max_size=12)


@given(texts, texts)
def test_each_side_is_kept_to_the_letter(a: str, b: str) -> None:
    found = compare_words(a, b)
    assert "".join(stretch.text for stretch in found if stretch.side != "b") == a
    assert "".join(stretch.text for stretch in found if stretch.side != "a") == b
    assert all(one.side != other.side for one, other in pairwise(found))


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_the_alignment_is_a_longest_one(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    found = align(a, b)
    assert found is not None
    assert all(a[x : x + size] == b[y : y + size] for x, y, size in found)
    assert sum(size for _, _, size in found) == table[-1][-1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x" * 5_000_000, "字" * 500_000),
        ("ab " * 2000, "ab cd " * 1000),
        ("\n".join(f"line {n}" for n in range(20_000)), "\n".join(f"row {n}" for n in range(20_000))),
    ],
    ids=["huge", "repeating", "lines"],
)
def test_large_texts_cost_a_bounded_time(a: str, b: str) -> None:
    started = time.monotonic()
    found = compare_words(a, b)
    assert time.monotonic() - started < 10
    assert "".join(stretch.text for stretch in found if stretch.side != "b") == a


# -- rows


def test_rounds_are_aligned_by_their_question() -> None:
    a = [exchange("one", "1"), exchange("two", "2"), exchange("again", "3"), exchange("mine", "4")]
    b = [exchange("two", "2"), exchange("new", "5"), exchange("again", "six")]
    assert statuses(compare(a, b)) == [
        *(("only_a", "one"), ("same", "two"), ("only_b", "new"), ("changed", "again"), ("only_a", "mine"))
    ]


def test_a_question_that_is_asked_again_and_again() -> None:
    a = [exchange("next?", str(number)) for number in range(4)]
    b = [exchange("next?", str(number)) for number in range(2)]
    assert [row.status for row in compare(a, b)].count("same") == 2


def test_a_fork_and_its_origin(server: OfflineServer) -> None:
    with Chat("sk-test", base_url=server.base_url, conversation="origin") as chat:
        chat.add_dialogs(system_msg("be short"))
        chat.request("自然数1的后面是几?")
        other = chat.fork("branch")
        chat.request("再往后是几?")
        other.request("再往后是几?", model="another-model")
        other.add_dialogs(user_msg("alone"), assistant_msg("yes"))
        told = chat.engine.diff("origin", "branch")
        assert (told.same, told.changed, told.only_a, told.only_b) == (3, 0, 0, 1)
        opening, first, second, alone = told.rows
        assert opening.question is None and first.question == user_msg("自然数1的后面是几?")
        assert second.a is not None and second.b is not None
        assert (second.a.model, second.b.model) == ("gpt-4o-mini", "another-model")
        assert second.a.finish_reason == "stop" and second.a.completion_tokens == 1
        assert second.b.seconds is not None and second.a.id is not None
        assert alone.status == "only_b" and alone.b is not None and alone.b.model is None
        assert told.a.totals.rounds == 2 and told.b.totals.models == ["another-model", "gpt-4o-mini"]
        assert json.loads(json.dumps(told.to_dict()))["rows"][3]["b"]["text"] == "yes"
        then = chat.engine.diff("origin", other.conversation, versions=(6, 1))
        assert [row.status for row in then.rows] == ["same", "same"]
        other.close()


def test_a_changed_answer_shows_its_words(tmp_path: Path) -> None:
    with Engine(tmp_path / "log.db") as engine:
        for name, said in (("a", "伦敦是首都"), ("b", "巴黎是首都")):
            engine.create(name).add([user_msg("首都?"), assistant_msg(said)])
        (row,) = engine.diff("a", "b").rows
        assert row.status == "changed" and marked(row.words) == "[-伦敦-]{+巴黎+}是首都"


def test_nothing_in_common_is_refused() -> None:
    with Engine() as engine:
        engine.create("a").add([system_msg("same"), user_msg("one")])
        engine.create("b").add([system_msg("same"), user_msg("two")])
        with pytest.raises(Refused, match="a and b have no question in common"):
            engine.diff("a", "b")
