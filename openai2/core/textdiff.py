"""Word diff: the stretches that two texts share, and those that only one of them has.

Invariants:
- The stretches of one side, joined, are that text.
- A word is a run of letters or digits, one Chinese or Japanese character, one punctuation mark, or one run of
  white space.
- The time is bounded: texts that differ much are compared by lines, and lines that differ much are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import msgspec

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|\s+|.", re.DOTALL)
_MOST_PAIRS = 1_000_000  # items of one side times items of the other: about a second in the worst case

_Match = tuple[int, int, int]


class Words(msgspec.Struct, frozen=True):
    """A stretch of text; *side* is "both", "a" (only in the first text) or "b" (only in the second)."""

    side: str
    text: str


def words(text: str) -> list[str]:
    """Return the words of *text* in order; joined, they are *text*."""
    found: list[str] = _WORD.findall(text)
    return found


def compare(a: str, b: str) -> list[Words]:
    """Return the stretches of both texts in order; a replacement is an "a" followed by a "b"."""
    groups = [["", "", ""]]
    for removed, added, both in _chunks(a, b):
        if groups[-1][2] and (removed or added):
            groups.append(["", "", ""])
        groups[-1] = [old + new for old, new in zip(groups[-1], (removed, added, both), strict=True)]
    sides = ("a", "b", "both")
    return [Words(side, text) for group in groups for side, text in zip(sides, group, strict=True) if text]


def marked(stretches: Sequence[Words]) -> str:
    """Return the stretches as one text: `[-only in a-]` and `{+only in b+}`."""
    frames = {"both": "{}", "a": "[-{}-]", "b": "{{+{}+}}"}
    return "".join(frames[stretch.side].format(stretch.text) for stretch in stretches)


def align(a: Sequence[str], b: Sequence[str], most: int | None = None) -> list[_Match] | None:
    """Return (start in *a*, start in *b*, length) of the stretches that both share, in order.

    None if what is between the common beginning and end makes more than *most* pairs.
    """
    shorter = min(len(a), len(b))
    start = next((n for n in range(shorter) if a[n] != b[n]), shorter)
    end = next((n for n in range(shorter - start) if a[-1 - n] != b[-1 - n]), shorter - start)
    left, right = a[start : len(a) - end], b[start : len(b) - end]
    if most is not None and len(left) * len(right) > most:
        return None
    blocks = SequenceMatcher(str.isspace, left, right, autojunk=False).get_matching_blocks()
    inner = [(i + start, j + start, size) for i, j, size in blocks]
    return [match for match in ((0, 0, start), *inner, (len(a) - end, len(b) - end, end)) if match[2]]


def _chunks(a: str, b: str) -> Iterator[tuple[str, str, str]]:
    """Yield (only in *a*, only in *b*, then in both), by words or, if that costs too much, by lines."""
    sides = words(a), words(b)
    matches = align(*sides, _MOST_PAIRS)
    if matches is not None:
        yield from _joined(*sides, matches)
        return
    lines = a.splitlines(keepends=True), b.splitlines(keepends=True)
    for removed, added, both in _joined(*lines, align(*lines, _MOST_PAIRS) or []):
        sides = words(removed), words(added)
        yield from _joined(*sides, align(*sides, _MOST_PAIRS) or [])
        yield "", "", both


def _joined(a: Sequence[str], b: Sequence[str], matches: Sequence[_Match]) -> Iterator[tuple[str, str, str]]:
    i = j = 0
    for left, right, size in [*matches, (len(a), len(b), 0)]:
        yield "".join(a[i:left]), "".join(b[j:right]), "".join(a[left : left + size])
        i, j = left + size, right + size
