"""Whole sessions on a terminal: what a person types, and what is then on the screen and on record."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import LONG, NOTICE, Terminal, contents, kill_in_an_answer, ok

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")

UP, CTRL_C, CTRL_D = "\x1b[A", "\x03", "\x04"


def shown(*args: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(ok("show", "--json", *args))
    return messages


def test_a_dialogue_that_forks_and_comes_back(home: Path) -> None:
    with Terminal("newchat", "--offline", "-c", "numbers", status=True) as terminal:
        terminal.enters("自然数50的后面是几?").says("51")
        terminal.enters("再往后是几?").says("52")
        terminal.ready().shows("numbers · offline · 4 messages · ")
        # An earlier question stands at the prompt again, to be changed.
        terminal.enters("/edit 2").shows("`/switch numbers` goes back").shows("> 自然数50的后面是几?")
        terminal.types("\x01" + "\x1b[C" * 3 + "\x1b[3~\x1b[3~7").shows("自然数7的后面是几?").types(
            "\r"
        ).says("8")
        terminal.ready().shows(" · 2 messages")
        # Tab completes commands and names; the menu goes away again.
        terminal.types("/swi\t").shows("> /switch").types(" nu\t").shows("> /switch numbers").types("\r")
        terminal.shows("numbers · offline · 4 messages").shows("[assistant]:52")
        terminal.enters("/nwe").shows("did you mean /new?")
        terminal.enters("/pin 0").says("pinned").ready().shows("1 pinned")
        terminal.enters("/tmp/x 是什么?").shows("你说的是：/tmp/x 是什么?")
        terminal.enters("/exit")
        assert terminal.ends() == 0
    assert contents(shown("numbers"))[:4] == ["自然数50的后面是几?", "51", "再往后是几?", "52"]
    listed = json.loads(ok("list", "--json"))
    assert [line["messages"] for line in listed] == [6, 2]


def test_stopping_leaving_and_what_is_typed_meanwhile() -> None:
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
    assert len(shown()) == 6


def test_markdown_code_and_a_resize_in_mid_answer() -> None:
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


def test_a_narrow_terminal_without_colours() -> None:
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


def test_two_terminals_on_one_conversation() -> None:
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
        one.ready().types(CTRL_D)
        two.types(CTRL_D)
        assert one.ends() == two.ends() == 0
    texts = contents(shown("both"))
    assert len(texts) == 8 and texts[::2] == [
        "自然数50的后面是几?",
        "自然数7的后面是几?",
        "再往后是几?",
        LONG,
    ]


def test_an_editor_and_a_question_that_failed(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf ' and more' >> \"$1\"\n")
    editor.chmod(0o755)
    where = ("--key", "sk-1234567890abcdefgh", "--base-url", "http://127.0.0.1:9/v1")
    with Terminal("newchat", *where, EDITOR=str(editor), VISUAL="") as terminal:
        terminal.ready().types("one line").shows("one line").types("\x18\x05").shows("one line and more")
        terminal.types("\r").shows("openai2: cannot reach the server")
        terminal.ready().types(UP).shows("> one line and more").types(CTRL_C).ready().types(CTRL_D)
        assert terminal.ends() == 0


def test_a_cut_answer_is_dropped() -> None:
    with Terminal("newchat", "--offline") as terminal:
        kill_in_an_answer(terminal)
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("keep/again/drop]").types("x\r")
        terminal.until(lambda lines: "".join(lines).count("keep/again/drop]") == 2, "the question again")
        terminal.types("drop\r").ready()
        terminal.enters("自然数1的后面是几?").says("2").ready().types(CTRL_D)
        assert terminal.ends() == 0
    assert contents(shown()) == ["自然数1的后面是几?", "2"]
    assert "Interrupted" in ok("log", "--json")
