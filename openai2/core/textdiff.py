"""Which words two texts share: as stretches that are in both, only in the first, or only in the second.

Rules: no I/O. A word is what a reader would point at: a run of letters or digits, one Chinese or Japanese
character (their words have no spaces between them), one mark, one stretch of space. The stretches of one
side, put together, are that text to the letter. The script found is a shortest one (E. Myers, 1986), as
long as there is one of a bounded length; texts that differ more are compared by lines, and lines that
differ more count as replaced. So the cost is bounded, whatever the texts; only the answer gets coarser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

#: Words (or lines) of both sides that may differ before a coarser comparison takes over.
MOST_CHANGES = 800

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|\s+|.", re.DOTALL)

#: Places (in a, in b) where both go on alike, and for how many words.
_Match = tuple[int, int, int]


class Words(msgspec.Struct, frozen=True):
    """A stretch of text; *side* is "both", "a" (only in the first text) or "b" (only in the second)."""

    side: str
    text: str


def words(text: str) -> list[str]:
    """The text's words, in order; put together, they are the text."""
    found: list[str] = _WORD.findall(text)
    return found


def compare(a: str, b: str) -> list[Words]:
    """The stretches of both texts, in order; what was replaced comes as "a", then "b"."""
    merged: list[Words] = []
    for side, text in _stretches(words(a), words(b)):
        if not text:
            continue
        if side == "a" and merged and merged[-1].side == "b":  # what is gone stands before what came
            came = merged.pop()
            _append(merged, side, text)
            merged.append(came)
        else:
            _append(merged, side, text)
    return merged


def marked(stretches: Sequence[Words]) -> str:
    """The stretches as one text: `[-only in a-]` and `{+only in b+}`."""
    frames = {"both": "{}", "a": "[-{}-]", "b": "{{+{}+}}"}
    return "".join(frames[stretch.side].format(stretch.text) for stretch in stretches)


def _append(merged: list[Words], side: str, text: str) -> None:
    if merged and merged[-1].side == side:
        text = merged.pop().text + text
    merged.append(Words(side, text))


def _stretches(a: Sequence[str], b: Sequence[str], *, by_lines: bool = False) -> Iterator[tuple[str, str]]:
    matches = align(a, b)
    if matches is None and not by_lines:
        lines = ["".join(side).splitlines(keepends=True) for side in (a, b)]
        yield from _stretches(*lines, by_lines=True)
        return
    i = j = 0
    for left, right, size in [*(matches or []), (len(a), len(b), 0)]:
        if by_lines and i < left and j < right and matches is not None:
            changed = words("".join(a[i:left])), words("".join(b[j:right]))
            yield from _replaced(*changed)
        else:
            yield "a", "".join(a[i:left])
            yield "b", "".join(b[j:right])
        yield "both", "".join(a[left : left + size])
        i, j = left + size, right + size


def _replaced(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lines for other lines: compared by words where they are near enough to each other."""
    if align(a, b) is not None:
        yield from _stretches(a, b)
    else:
        yield "a", "".join(a)
        yield "b", "".join(b)


def align(a: Sequence[str], b: Sequence[str], most: int = MOST_CHANGES) -> list[_Match] | None:
    """Where both go on alike: a longest common subsequence, in runs. None where more than *most* differ."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    inner = _myers(a[start : len(a) - end], b[start : len(b) - end], most)
    if inner is None:
        return None
    found = [(0, 0, start), *((x + start, y + start, size) for x, y, size in inner)]
    found.append((len(a) - end, len(b) - end, end))
    return [match for match in found if match[2]]


def _myers(a: Sequence[str], b: Sequence[str], most: int) -> list[_Match] | None:
    if abs(len(a) - len(b)) > most:
        return None
    furthest = {1: 0}  # by diagonal, how far into a one gets with so many changes
    trail: list[dict[int, int]] = []
    for changes in range(min(most, len(a) + len(b)) + 1):
        reached: dict[int, int] = {}
        for diagonal in range(-changes, changes + 1, 2):
            below, above = furthest.get(diagonal + 1, -1), furthest.get(diagonal - 1, -2) + 1
            x = max(below, above)
            y = x - diagonal
            if x < 0 or y < 0 or x > len(a) or y > len(b):
                continue
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x += 1
                y += 1
            reached[diagonal] = x
            if x >= len(a) and y >= len(b):
                return _walked_back(trail, furthest, x, y)
        trail.append(furthest)
        furthest = reached
    return None


def _walked_back(trail: list[dict[int, int]], last: dict[int, int], x: int, y: int) -> list[_Match]:
    """The runs that the furthest path went through, from its end to its beginning."""
    found: list[_Match] = []
    for furthest in [last, *reversed(trail)]:
        diagonal = x - y
        below, above = furthest.get(diagonal + 1, -1), furthest.get(diagonal - 1, -2) + 1
        began = max(below, above)
        if began < x:
            found.append((began, began - diagonal, x - began))
        x, y = (below, below - diagonal - 1) if below >= above else (above - 1, above - diagonal)
        if x < 0 or y < 0:
            break
    return found[::-1]
