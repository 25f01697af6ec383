"""Answers on a terminal while they stream, and Ctrl-C."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from tests.support.cli import CTRL_C, LONG, NOTICE, Terminal, logged, shown

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def test_ctrl_c_stops_waiting_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with Terminal("newchat", "--key", "sk-1234567890abcdefgh", "--base-url", url) as terminal:
            terminal.enters("在吗?")
            connection, _address = silent.accept()
            with connection:
                assert connection.recv(1)
                terminal.types(CTRL_C).shows("before any text arrived").leaves()
    assert shown() == []
    assert logged()[-1]["type"] == "request_stopped"


def test_ctrl_c_ends_a_single_question_with_status_130() -> None:
    with Terminal("newchat", "--offline", LONG) as terminal:
        terminal.shows(NOTICE + "请慢").types(CTRL_C).shows("the text so far is kept")
        assert terminal.ends() == 130
    assert shown()[1].startswith(NOTICE + "请慢")


def test_ctrl_c_keeps_the_text_so_far_and_the_typed_keys() -> None:
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
    texts = shown()
    assert texts[0] == LONG and len(texts) == 6
    assert texts[1].startswith(NOTICE + "请慢") and len(texts[1]) < len(NOTICE + LONG)
    answers = [event["data"]["answer"] for event in logged() if "answer" in event["data"]]
    assert [answer.get("stopped", False) for answer in answers] == [True, False, True]
    assert [event["type"] for event in logged()].count("request_stopped") == 2


def test_resize_during_an_answer_wraps_each_word_once() -> None:
    question = "# 标题\n\nSome **bold** words.\n\n```python\nx = 1\n```\n\n- 一\n- 二\n\n" + "词 " * 150
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
        terminal.leaves()


def test_no_color_and_narrow_terminal_show_plain_colours() -> None:
    with Terminal("newchat", "--offline", columns=20, rows=40, NO_COLOR="1", status=True) as terminal:
        terminal.enters("自然数50的后面是几?").says("51").ready().shows(" · offline")
        terminal.enters("**粗体** and `code` and many more words").shows("粗体 and code").ready()
        rows = terminal.screen.buffer.values()
        assert {cell.fg for row in rows for cell in row.values() if cell.data.strip()} == {"default"}
        terminal.leaves()
