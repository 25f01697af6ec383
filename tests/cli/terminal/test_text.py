"""What a terminal is sent: harmless, measured in columns, cut and folded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2.cli.terminal.text import clip, fold, json_safe, one_line, pad, table, visible, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("中文", 4), ("a中", 3), ("e\u0301", 1), ("，。", 4), ("ｱ", 1), ("한", 2)],
)
def test_widths(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text())
def test_nothing_unsafe_is_left(text: str) -> None:
    for char in visible(text):
        assert char in "\n\t" or char.isprintable() or ord(char) >= 0xA0
    assert "\n" not in one_line(text)
    assert visible(visible(text)) == visible(text)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_json_says_the_same(text: str) -> None:
    assert json.loads(json_safe(json.dumps(text, ensure_ascii=False))) == text


@given(st.text(alphabet="ab 中文，\n"), st.integers(2, 20))
def test_folding_loses_nothing_and_is_never_too_wide(text: str, columns: int) -> None:
    lines = list(fold(text, columns))
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@given(st.text(alphabet="ab中文"), st.integers(1, 10))
def test_clipping(text: str, columns: int) -> None:
    cut = clip(text, columns)
    assert width(cut) <= columns and (cut == text or cut.endswith("…"))
    assert width(pad(cut, columns)) == columns


def test_tables_line_up_in_chinese() -> None:
    lines = list(table([["名", "n", "x"], ["北京", "10", "y"], ["b", "9", "z" * 50]], 20, frozenset({1})))
    assert lines == ["名     n  x", "北京  10  y", "b      9  " + "z" * 9 + "…"]
