"""Word diffs: what a word is, which stretches change, and what a large text costs."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2.core.textdiff import align, compare, marked, words

texts = st.text(alphabet="ab 你好\n.", max_size=12)
items = st.lists(st.sampled_from("abc"), max_size=8)


def test_word_is_a_run_a_cjk_character_or_a_mark() -> None:
    assert words("你好, it's 50 km/h.\n") == [
        *("你", "好", ",", " ", "it", "'", "s", " ", "50", " ", "km", "/", "h", ".", "\n")
    ]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("自然数50的后面是51。", "自然数50的前面是49。", "自然数50的[-后-]{+前+}面是[-51-]{+49+}。"),
        ("the quick fox", "the slow fox jumps", "the [-quick-]{+slow+} fox{+ jumps+}"),
        ("", "", ""),
    ],
)
def test_compare_marks_changed_words(a: str, b: str, expected: str) -> None:
    assert marked(compare(a, b)) == expected


@given(texts, texts)
def test_compare_keeps_both_texts(a: str, b: str) -> None:
    found = compare(a, b)
    assert "".join(stretch.text for stretch in found if stretch.side != "b") == a
    assert "".join(stretch.text for stretch in found if stretch.side != "a") == b
    assert all(before.side != after.side for before, after in pairwise(found))


@given(items, items)
def test_align_finds_equal_stretches_in_order(a: list[str], b: list[str]) -> None:
    found = align(a, b) or []
    assert all(a[i : i + size] == b[j : j + size] and size for i, j, size in found)
    ends = [(i + size <= k and j + size <= n) for (i, j, size), (k, n, _) in pairwise(found)]
    assert all(ends)
    assert bool(found) == (not set(a).isdisjoint(b))


def test_compare_of_long_texts_finds_words_in_changed_lines() -> None:
    a = [f"line {n} stays\n" if n % 2 else f"old number {n}\n" for n in range(900)]
    b = [line.replace("old", "new") for line in a]
    assert marked(compare("".join(a), "".join(b))) == "".join(a).replace("old", "[-old-]{+new+}")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x" * 5_000_000, "字" * 500_000),
        ("ab " * 2000, "ab cd " * 1000),
        ("ab " * 490, "ab cd " * 245),
        ("\n".join(f"line {n}" for n in range(20_000)), "\n".join(f"row {n}" for n in range(20_000))),
    ],
    ids=["huge", "repeating", "below the bound", "lines"],
)
def test_compare_of_large_texts_takes_bounded_time(a: str, b: str) -> None:
    started = time.monotonic()
    found = compare(a, b)
    assert time.monotonic() - started < 10
    assert "".join(stretch.text for stretch in found if stretch.side != "b") == a
