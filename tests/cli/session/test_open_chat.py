"""`chat` and `newchat` on a terminal: a person types, answers stream, Ctrl-C stops, a crash is mended."""

from __future__ import annotations

import json
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import LONG, NOTICE, Terminal, contents, kill_in_an_answer, ok, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def shown(*args: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(ok("show", "--json", *args))
    return messages


def logged(*args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ok("log", "--json", *args).splitlines()]


def test_a_dialogue_in_chinese() -> None:
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
        terminal.ready().types("\x04")
        assert terminal.ends() == 0
    assert contents(shown()) == ["自然数50的后面是几?", "51"]


def test_ctrl_c_stops_an_answer_and_keeps_what_came() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数1的后面是几?").says("2")
        terminal.enters(LONG).shows(NOTICE + "请慢").types("\x03").shows("the text so far is kept")
        terminal.enters("自然数7的后面是几?").says("8")
        terminal.ready().types("\x04")
        assert terminal.ends() == 0
    texts = contents(shown())
    assert texts[2] == LONG and len(texts) == 6
    assert texts[3].startswith(NOTICE + "请慢") and len(texts[3]) < len(NOTICE + LONG)
    answers = [event["data"]["answer"] for event in logged() if "answer" in event["data"]]
    assert [answer.get("stopped", False) for answer in answers] == [False, True, False]
    assert [event["type"] for event in logged()].count("request_stopped") == 1


def test_ctrl_c_stops_waiting_for_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with Terminal("newchat", "--key", "sk-1234567890abcdefgh", "--base-url", url) as terminal:
            terminal.enters("在吗?")
            connection, _address = silent.accept()
            with connection:
                assert connection.recv(1)
                terminal.types("\x03").shows("before any text arrived").ready().types("\x04")
                assert terminal.ends() == 0
    assert shown() == []
    assert logged()[-1]["type"] == "request_stopped"


def test_ctrl_c_at_the_prompt_says_how_to_leave_and_loses_nothing() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.ready().types("\x03").shows("or enter /exit.")
        terminal.ready().types("自然数8的后面是几?").shows("是几?").types("\x03").ready()
        terminal.types("\x1b[A").shows("自然数8的后面是几?").types("\r").says("9")
        terminal.enters("/exit")
        assert terminal.ends() == 0


def test_what_was_typed_is_there_in_the_next_session(home: Path) -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数50的后面是几?").says("51").ready().types("\x04")
        assert terminal.ends() == 0
    assert stat.S_IMODE((home / "openai2" / "history").stat().st_mode) == 0o600
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("2 messages").ready().types("\x1b[A").shows("> 自然数50的后面是几?").types("\r")
        terminal.says("51").ready().types("\x04")
        assert terminal.ends() == 0
    assert len(shown()) == 4


def test_several_lines_by_alt_enter_and_by_paste() -> None:
    with Terminal("newchat", "--offline", columns=30) as terminal:
        terminal.ready().types("第一行").types("\x1b\r").types("第二行").shows("  第二行").types("\r")
        terminal.shows("你说的是：第一行")
        terminal.ready().types("\x1b[200~贴一\n贴二\x1b[201~").shows("  贴二").types("\r")
        terminal.shows("你说的是：贴一").ready().types("\x04")
        assert terminal.ends() == 0
    assert [text for text in contents(shown()) if "离线" not in text] == ["第一行\n第二行", "贴一\n贴二"]


def test_an_error_is_a_line_and_the_prompt_comes_back() -> None:
    with Terminal(
        "newchat", "--key", "sk-1234567890abcdefgh", "--base-url", "http://127.0.0.1:9/v1"
    ) as terminal:
        terminal.enters("在吗?").shows("openai2: cannot reach the server").ready().types("\x04")
        assert terminal.ends() == 0
    assert shown() == []


def test_a_slash_of_ones_own() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("//etc 是什么?").shows("你说的是：/etc 是什么?").ready().types("\x04")
        assert terminal.ends() == 0


def test_a_dumb_terminal_gets_plain_lines() -> None:
    with Terminal("newchat", "--offline", TERM="dumb") as terminal:
        terminal.enters("自然数50的后面是几?").says("51").ready().types("\x04")
        assert terminal.ends() == 0
        assert "\x1b" not in "".join(terminal.lines)


def test_ctrl_c_ends_a_single_question_with_130() -> None:
    with Terminal("newchat", "--offline", LONG) as terminal:
        terminal.shows(NOTICE + "请慢").types("\x03").shows("the text so far is kept")
        assert terminal.ends() == 130
    assert shown()[1]["content"].startswith(NOTICE + "请慢")


def test_control_characters_are_not_obeyed() -> None:
    run("newchat", "--offline", input="\x1b[2J\x9b31m 改 \x07")
    with Terminal("show") as terminal:
        terminal.shows("^[[2J\\x9b31m 改 ^G")
        assert terminal.ends() == 0


# -- after a crash


def _crash() -> None:
    """A session that is killed in the middle of an answer, of which something is on disk."""
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数50的后面是几?").says("51")
        kill_in_an_answer(terminal)


def test_a_cut_answer_is_kept_asked_again_or_dropped() -> None:
    _crash()
    note = run("chat", "--offline", "自然数1的后面是几?")
    assert note.stdout == "2\n" and "was interrupted" in note.stderr
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("interrupted when the program ended").shows(NOTICE + "请慢").shows("keep/again/drop]")
        terminal.types("\x04").shows("you will be asked again").ready().types("\x04")
        assert terminal.ends() == 0
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("k\r").ready().types("\x04")
        assert terminal.ends() == 0
    assert contents(shown())[4] == LONG and contents(shown())[5].startswith(NOTICE)
    with Terminal("chat", "--offline") as terminal:
        terminal.ready()
        assert "keep/again/drop" not in "".join(terminal.lines)


def test_a_cut_question_is_asked_again() -> None:
    _crash()
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("again\r")
        terminal.until(lambda lines: "".join(lines).count(NOTICE) == 2, "new answer").types("\x03")
        terminal.shows("the text so far is kept").ready().types("\x04")
        assert terminal.ends() == 0
    assert len(shown()) == 4
    assert [event["data"]["error"] for event in logged() if event["type"] == "request_failed"] == [
        "Interrupted"
    ]
