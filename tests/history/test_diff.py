"""Diff of two branches: alignment by question, and the facts about each side."""

from __future__ import annotations

import json

import pytest

from openai2 import Chat, Engine, Refused, assistant_msg, system_msg, user_msg
from openai2.core.textdiff import marked
from openai2.history.diff import Exchange, Row, Side, compare
from openai2.offline import OfflineServer


def exchange(question: str | None, answer: str) -> Exchange:
    asked = None if question is None else user_msg(question)
    return Exchange(asked, Side(messages=[assistant_msg(answer)], text=answer))


def statuses(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.status, row.text) for row in rows]


# -- rows


def test_compare_aligns_rounds_by_question() -> None:
    a = [exchange("one", "1"), exchange("two", "2"), exchange("again", "3"), exchange("mine", "4")]
    b = [exchange("two", "2"), exchange("new", "5"), exchange("again", "six")]
    assert statuses(compare(a, b)) == [
        *(("only_a", "one"), ("same", "two"), ("only_b", "new"), ("changed", "again"), ("only_a", "mine"))
    ]


def test_compare_aligns_repeated_questions() -> None:
    a = [exchange("next?", str(number)) for number in range(4)]
    b = [exchange("next?", str(number)) for number in range(2)]
    assert [row.status for row in compare(a, b)].count("same") == 2


def test_diff_of_fork_shows_answers_and_totals(offline: OfflineServer) -> None:
    with Chat("sk-test", base_url=offline.base_url, conversation="origin") as chat:
        chat.add_dialogs(system_msg("be short"))
        chat.request("自然数1的后面是几?")
        other = chat.fork("branch")
        chat.request("再往后是几?")
        other.request("再往后是几?", model="another-model")
        other.add_dialogs(user_msg("alone"), assistant_msg("yes"))
        diff = chat.engine.diff("origin", "branch")
        assert (diff.same, diff.changed, diff.only_a, diff.only_b) == (3, 0, 0, 1)
        opening, first, second, alone = diff.rows
        assert opening.question is None and first.question == user_msg("自然数1的后面是几?")
        assert second.a is not None and second.b is not None
        assert (second.a.model, second.b.model) == ("gpt-4o-mini", "another-model")
        assert second.a.finish_reason == "stop" and second.a.completion_tokens == 1
        assert second.b.seconds is not None and second.a.id is not None
        assert alone.status == "only_b" and alone.b is not None and alone.b.model is None
        assert diff.a.totals.rounds == 2 and diff.b.totals.models == ["another-model", "gpt-4o-mini"]
        assert json.loads(json.dumps(diff.to_dict()))["rows"][3]["b"]["text"] == "yes"
        then = chat.engine.diff("origin", other.conversation, versions=(6, 1))
        assert [row.status for row in then.rows] == ["same", "same"]
        other.close()


def test_diff_of_changed_answer_has_word_diff(engine: Engine) -> None:
    for name, answer in (("a", "伦敦是首都"), ("b", "巴黎是首都")):
        engine.create(name).add([user_msg("首都?"), assistant_msg(answer)])
    (row,) = engine.diff("a", "b").rows
    assert row.status == "changed" and marked(row.words) == "[-伦敦-]{+巴黎+}是首都"


def test_diff_without_common_question_is_refused(engine: Engine) -> None:
    engine.create("a").add([system_msg("same"), user_msg("one")])
    engine.create("b").add([system_msg("same"), user_msg("two")])
    with pytest.raises(Refused, match="a and b have no question in common"):
        engine.diff("a", "b")
