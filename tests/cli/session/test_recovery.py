"""Answers that a crash interrupted: kept, asked again, or dropped."""

from __future__ import annotations

import sys

import pytest

from tests.support.cli import (
    CTRL_C,
    CTRL_D,
    LONG,
    NOTICE,
    Terminal,
    kill_in_an_answer,
    logged,
    ok,
    run,
    shown,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def _crash() -> None:
    """Kill a session during an answer, after a part of the answer is on disk."""
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数50的后面是几?").says("51")
        kill_in_an_answer(terminal)


def test_interrupted_answer_is_kept_when_the_person_decides() -> None:
    _crash()
    note = run("chat", "--offline", "自然数1的后面是几?")
    assert note.stdout == "2\n" and "was interrupted" in note.stderr
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("interrupted when the program ended").shows(NOTICE + "请慢").shows("keep/again/drop]")
        terminal.types(CTRL_D).shows("you will be asked again").leaves()
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("k\r").leaves()
    assert shown()[4] == LONG and shown()[5].startswith(NOTICE)
    with Terminal("chat", "--offline") as terminal:
        terminal.ready()
        assert "keep/again/drop" not in "".join(terminal.lines)


def test_interrupted_answer_is_asked_again() -> None:
    _crash()
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("again\r")
        terminal.until(lambda lines: "".join(lines).count(NOTICE) == 2, "new answer").types(CTRL_C)
        terminal.shows("the text so far is kept").leaves()
    assert len(shown()) == 4
    failed = [event["data"]["error"] for event in logged() if event["type"] == "request_failed"]
    assert failed == ["Interrupted"]


def test_interrupted_answer_is_dropped() -> None:
    _crash()
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("x\r")
        terminal.until(lambda lines: "".join(lines).count("keep/again/drop]") == 2, "the question again")
        terminal.types("drop\r").ready()
        terminal.enters("自然数1的后面是几?").says("2").leaves()
    assert shown() == ["自然数50的后面是几?", "51", "自然数1的后面是几?", "2"]
    assert "Interrupted" in ok("log", "--json")
