"""Why messages are in view or not, and what another limit would leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import BadInput, Engine, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.store import Reader
from tests.support.stores import asked, busy


def test_why_names_events_that_put_in_and_took_out(engine: Engine) -> None:
    a = engine.create("a")
    a.add([user_msg("1"), assistant_msg("2")])
    asked(a, "3", None)
    a.rollback()
    a.undo()
    a.rollback()
    reasons = {reason.message["content"]: reason for reason in a.why()}
    assert [one.id for one in a.why()] == [2, 3, 5]
    first = reasons["1"]
    assert not first.in_view and first.put_in and first.taken_out
    assert (first.put_in.type, first.put_in.version) == ("restored", 8)
    assert (first.taken_out.type, first.taken_out.version) == ("rolled_back", 9)
    assert (reasons["3"].put_in, reasons["3"].taken_out, reasons["3"].in_view) == (None, None, False)
    fork = a.fork("b", at=3)
    fork.add([user_msg("4")])
    assert [(one.message["content"], one.in_view) for one in fork.why()] == [
        *[("1", True), ("2", True)],
        ("4", True),
    ]


def test_why_agrees_with_the_view(engine: Engine) -> None:
    for conversation in busy(engine).values():
        reasons = conversation.why()
        assert {reason.id for reason in reasons if reason.in_view} == set(conversation.view().ids)
        assert all(reason.put_in for reason in reasons if reason.in_view)


def test_why_ignores_events_appended_meanwhile(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(path) as other:
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


def test_why_of_a_long_view_takes_linear_time(engine: Engine) -> None:
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


def test_with_limit_changes_nothing(engine: Engine) -> None:
    a = engine.create("a")
    a.add([user_msg(str(number)) for number in range(6)])
    a.pin(0)
    before = a.version
    assert [message["content"] for message in a.with_limit(3)] == ["0", "4", "5"]
    assert len(a.with_limit(99)) == 6
    assert a.version == before
    with pytest.raises(BadInput):
        a.with_limit(0)
