"""Text for a terminal: made harmless, measured in columns, clipped and folded."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2.cli.terminal.text import clip, fold, json_safe, one_line, pad, table, visible, width
from tests.support.cli import Terminal, run


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("中文", 4), ("a中", 3), ("e\u0301", 1), ("，。", 4), ("ｱ", 1), ("한", 2)],
)
def test_width_counts_terminal_columns(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text())
def test_visible_leaves_no_unsafe_character(text: str) -> None:
    for char in visible(text):
        assert char in "\n\t" or char.isprintable() or ord(char) >= 0xA0
    assert "\n" not in one_line(text)
    assert visible(visible(text)) == visible(text)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_json_safe_keeps_the_value(text: str) -> None:
    assert json.loads(json_safe(json.dumps(text, ensure_ascii=False))) == text


@given(st.text(alphabet="ab 中文，\n"), st.integers(2, 20))
def test_fold_keeps_all_text_within_the_columns(text: str, columns: int) -> None:
    lines = list(fold(text, columns))
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@given(st.text(alphabet="ab中文"), st.integers(1, 10))
def test_clip_and_pad_fit_the_columns(text: str, columns: int) -> None:
    cut = clip(text, columns)
    assert width(cut) <= columns and (cut == text or cut.endswith("…"))
    assert width(pad(cut, columns)) == columns


def test_table_columns_line_up_in_chinese() -> None:
    lines = list(table([["名", "n", "x"], ["北京", "10", "y"], ["b", "9", "z" * 50]], 20, frozenset({1})))
    assert lines == ["名     n  x", "北京  10  y", "b      9  " + "z" * 9 + "…"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_control_characters_are_shown_not_obeyed() -> None:
    run("newchat", "--offline", input="\x1b[2J\x9b31m 改 \x07")
    with Terminal("show") as terminal:
        terminal.shows("^[[2J\\x9b31m 改 ^G")
        assert terminal.ends() == 0
