"""Answers on a terminal while they stream, and Ctrl-C."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from tests.support.cli import (
    CTRL_C,
    CTRL_D,
    LONG,
    NOTICE,
    Terminal,
    contents,
    logged_events,
    shown_messages,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def test_ctrl_c_stops_an_answer_and_keeps_the_text_so_far() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数1的后面是几?").says("2")
        terminal.enters(LONG).shows(NOTICE + "请慢").types(CTRL_C).shows("the text so far is kept")
        terminal.enters("自然数7的后面是几?").says("8")
        terminal.ready().types(CTRL_D)
        assert terminal.ends() == 0
    texts = contents(shown_messages())
    assert texts[2] == LONG and len(texts) == 6
    assert texts[3].startswith(NOTICE + "请慢") and len(texts[3]) < len(NOTICE + LONG)
    answers = [event["data"]["answer"] for event in logged_events() if "answer" in event["data"]]
    assert [answer.get("stopped", False) for answer in answers] == [False, True, False]
    assert [event["type"] for event in logged_events()].count("request_stopped") == 1


def test_ctrl_c_stops_waiting_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with Terminal("newchat", "--key", "sk-1234567890abcdefgh", "--base-url", url) as terminal:
            terminal.enters("在吗?")
            connection, _address = silent.accept()
            with connection:
                assert connection.recv(1)
                terminal.types(CTRL_C).shows("before any text arrived").ready().types(CTRL_D)
                assert terminal.ends() == 0
    assert shown_messages() == []
    assert logged_events()[-1]["type"] == "request_stopped"


def test_ctrl_c_ends_a_single_question_with_status_130() -> None:
    with Terminal("newchat", "--offline", LONG) as terminal:
        terminal.shows(NOTICE + "请慢").types(CTRL_C).shows("the text so far is kept")
        assert terminal.ends() == 130
    assert shown_messages()[1]["content"].startswith(NOTICE + "请慢")


def test_keys_typed_during_an_answer_reach_the_next_prompt() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters(LONG).shows(NOTICE + "请慢")
        terminal.types("自然数8的后面是几?\r")  # during the answer: it is not mixed into it
        time.sleep(0.3)
        terminal.types(CTRL_C).shows("the text so far is kept")
        assert "自然数8" not in "".join(terminal.lines).partition("the text so far")[0]
        terminal.says("9")
        terminal.enters(LONG).until(lambda lines: "".join(lines).count(NOTICE) == 2, "second answer")
        terminal.types(CTRL_C).until(lambda lines: "".join(lines).count("is kept") == 2, "second stop")
        terminal.ready().types(CTRL_C)  # and a second one leaves
        assert terminal.ends() == 0
    assert len(shown_messages()) == 6


def test_resize_during_an_answer_wraps_each_word_once() -> None:
    question = "\n".join(
        [
            "# 标题",
            "",
            "Some **bold** words.",
            "",
            "```python",
            "x = 1",
            "```",
            "",
            "- 一",
            "- 二",
            "",
            "词 " * 150,
        ]
    )
    with Terminal("newchat", "--offline", columns=60, rows=24, XTERM_VERSION="XTerm(390)") as terminal:
        terminal.ready().types(f"\x1b[200~{question}\x1b[201~").shows("词").types("\r")
        terminal.shows("Some bold words.").shows("• 二").shows("词 词 词")
        terminal.resize(30, 24)
        time.sleep(0.5)
        terminal.resize(44, 24).ready()
        answer = [line for line in terminal.everything if not line.startswith(">")]
        # The end of the answer is laid out for the last width, each word of it once.
        words = [line for line in answer if line.startswith("词")]
        assert "".join(words).count("词") == 150, "\n".join(answer)
        terminal.types(CTRL_D)
        assert terminal.ends() == 0


def test_no_color_and_narrow_terminal_show_plain_colours() -> None:
    with Terminal("newchat", "--offline", columns=20, rows=40, NO_COLOR="1", status=True) as terminal:
        terminal.enters("自然数50的后面是几?").says("51").ready().shows(" · offline")
        terminal.enters("**粗体** and `code` and many more words").shows("粗体 and code")
        terminal.ready()
        colours = {
            cell.fg for row in terminal.screen.buffer.values() for cell in row.values() if cell.data.strip()
        }
        assert colours == {"default"}
        terminal.types(CTRL_D)
        assert terminal.ends() == 0
