"""Typing lines on a terminal: history, several lines, the editor."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from tests.support.cli import CTRL_C, UP, Terminal, shown

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


def test_ctrl_c_at_the_prompt_keeps_the_line_in_the_history() -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.ready().types(CTRL_C).shows("or enter /exit.")
        terminal.ready().types("自然数8的后面是几?").shows("是几?").types(CTRL_C).ready()
        terminal.types(UP).shows("自然数8的后面是几?").types("\r").says("9")
        terminal.enters("/exit")
        assert terminal.ends() == 0


def test_history_is_private_and_lasts_to_the_next_session(home: Path) -> None:
    with Terminal("newchat", "--offline") as terminal:
        terminal.enters("自然数50的后面是几?").says("51").leaves()
    assert stat.S_IMODE((home / "openai2" / "history").stat().st_mode) == 0o600
    with Terminal("chat", "--offline") as terminal:
        terminal.shows("2 messages").ready().types(UP).shows("> 自然数50的后面是几?").types("\r")
        terminal.says("51").leaves()
    assert len(shown()) == 4


def test_alt_enter_and_paste_make_several_lines() -> None:
    with Terminal("newchat", "--offline", columns=30) as terminal:
        terminal.ready().types("第一行").types("\x1b\r").types("第二行").shows("  第二行").types("\r")
        terminal.shows("你说的是：第一行")
        terminal.ready().types("\x1b[200~贴一\n贴二\x1b[201~").shows("  贴二").types("\r")
        terminal.shows("你说的是：贴一").leaves()
    assert [text for text in shown() if "离线" not in text] == ["第一行\n第二行", "贴一\n贴二"]


def test_dumb_terminal_gets_plain_lines() -> None:
    with Terminal("newchat", "--offline", TERM="dumb") as terminal:
        terminal.enters("自然数50的后面是几?").says("51").leaves()
        assert "\x1b" not in "".join(terminal.lines)


def test_editor_text_and_failed_question_can_be_recalled(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf ' and more' >> \"$1\"\n")
    editor.chmod(0o755)
    where = ("--key", "sk-1234567890abcdefgh", "--base-url", "http://127.0.0.1:9/v1")
    with Terminal("newchat", *where, EDITOR=str(editor), VISUAL="") as terminal:
        terminal.ready().types("one line").shows("one line").types("\x18\x05").shows("one line and more")
        terminal.types("\r").shows("openai2: cannot reach the server")
        terminal.ready().types(UP).shows("> one line and more").types(CTRL_C).leaves()
    assert shown() == []
