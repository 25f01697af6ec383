"""A session on a terminal: lines in, answers and notes out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.cli import CTRL_C, LONG, NOTICE, Terminal, ok, shown

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def test_dialogue_edits_in_a_fork_and_switches_back(home: Path) -> None:
    with Terminal("newchat", "--offline", "-c", "numbers", status=True) as terminal:
        terminal.enters("自然数50的后面是几?").says("51")
        terminal.enters("再往后是几?").says("52")
        terminal.ready().shows("numbers · offline · 4 messages · ")
        # The earlier question is at the prompt for editing.
        terminal.enters("/edit 2").shows("`/switch numbers` goes back").shows("> 自然数50的后面是几?")
        terminal.types("\x01" + "\x1b[C" * 3 + "\x1b[3~\x1b[3~7")  # Home, right, delete twice
        terminal.shows("自然数7的后面是几?").types("\r").says("8")
        terminal.ready().shows(" · 2 messages")
        # Tab completes commands and names; the menu goes away again.
        terminal.types("/swi\t").shows("> /switch").types(" nu\t").shows("> /switch numbers").types("\r")
        terminal.shows("numbers · offline · 4 messages").shows("[assistant]:52")
        terminal.enters("/nwe").shows("did you mean /new?")
        terminal.enters("/pin 0").says("pinned").ready().shows("1 pinned")
        terminal.enters("/tmp/x 是什么?").shows("你说的是：/tmp/x 是什么?")
        terminal.enters("//etc 是什么?").shows("你说的是：/etc 是什么?")
        terminal.enters("/exit")
        assert terminal.ends() == 0
    assert shown(None, "numbers")[:4] == ["自然数50的后面是几?", "51", "再往后是几?", "52"]
    assert [line["messages"] for line in json.loads(ok("list", "--json"))] == [8, 2]


def test_slash_commands_report_on_the_screen() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.shows("not a language model")
        terminal.enters("自然数50的后面是几?").says("51")
        terminal.enters("再往后是几?").says("52")
        terminal.enters("/undo").shows("1 action undone")
        terminal.enters("/redo").shows("1 action redone")
        terminal.enters("/rollback").shows("2 messages removed from view")
        terminal.enters("/pin 0 -1").says("pinned")
        terminal.enters("/history").says("[0] user (pinned)").says("[1] assistant (pinned)")
        terminal.enters("/retry").ready()
        terminal.enters("/nothing").shows("there is no /nothing")
        terminal.enters("/pin 9").shows("there is no message at 9")
        terminal.enters("/help").shows("/rollback [n]")
        terminal.leaves()
    assert shown() == ["自然数50的后面是几?", "51"]


def test_two_terminals_report_rounds_of_each_other() -> None:
    with (
        Terminal("newchat", "--offline", "-c", "both", status=True).ready() as one,
        Terminal("chat", "--offline", "-c", "both", status=True) as two,
    ):
        one.enters("自然数50的后面是几?").says("51")
        two.enters("自然数7的后面是几?").shows("another process added 1 round").says("8").ready()
        one.enters(LONG).shows(NOTICE + "请慢")
        two.shows("another process is asking")
        two.enters("再往后是几?").shows("is asking in this conversation, too")
        two.until(lambda lines: any(line.isdigit() and line != "8" for line in lines), "answer").ready()
        one.types(CTRL_C).shows("the text so far is kept")
        one.until(lambda lines: lines.count("another process added 1 round") == 2, "news")
        one.leaves()
        two.leaves()
    texts = shown(None, "both")
    assert len(texts) == 8
    assert texts[::2] == ["自然数50的后面是几?", "自然数7的后面是几?", "再往后是几?", LONG]
