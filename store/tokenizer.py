"""Cut texts and queries for the full-text index, and show what was found.

Invariants:
- Texts and queries are cut alike: first Unicode's NFKC, so that full and half width are equal; then each
  Chinese character, kana and Korean syllable becomes a word. SQLite's unicode61 splits at punctuation, folds
  case and removes accents.
- In a query, the characters between two spaces are one phrase, and a text must contain all phrases. So a run
  of Chinese is found wherever the same characters follow each other.
- A place in a cut text maps back to a place in the original text, which is what people see.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import cache, lru_cache
from itertools import accumulate

from openai2.core.typeguards import is_text
from openai2.errors import BadInput

Spans = list[tuple[int, int]]

#: Mark the begin and end of a found phrase in a cut text, which contains neither.
OPEN, CLOSE = "\x02", "\x03"

# Scripts without spaces between words: CJK with repetition signs and numerals, kana, bopomofo, hangul.
_APART = (
    "[\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0002fa1f\U00030000-\U000323af]"
)
# A character and what NFKC may join to it: accents, voice marks of kana, vowels and finals of Korean.
_clusters = re.compile(
    ".[\u0300-\u036f\u1160-\u11ff\u20d0-\u20ff\u3099\u309a\uff9e\uff9f]*", re.DOTALL
).findall
_no_text = re.compile("[\x00\ud800-\udfff]")
_unmarkable = re.compile(f"[\x00{OPEN}{CLOSE}]")  # FTS5 stops at a NUL
_ends = re.compile(r"[\s,.;:!?，。；：！？、]")


# These take milliseconds to compile, and a search in ASCII does not need them.
@cache
def _runs_apart() -> re.Pattern[str]:
    return re.compile(f"{_APART}+")


@cache
def _one_apart() -> re.Pattern[str]:
    return re.compile(_APART)


@cache
def _raw_pieces() -> re.Pattern[str]:
    return re.compile('"((?:[^"]|"")*)"|[0-9A-Za-z_\x1a\x80-\U0010ffff]+')


#: Characters in a snippet.
SNIPPET = 120
_LEAD = 24  # characters before the first mark


def query(text: object, raw: bool = False) -> str:
    """Return the FTS5 query for a search text (*raw*: in FTS5's syntax). Raises BadInput if it is empty."""
    if not is_text(text):
        raise BadInput("the search text must be a str, not {kind}", kind=type(text).__name__)
    if not text.strip():
        raise BadInput("the search text is empty: give a word")
    return _raw_query(text) if raw else _plain_query(text)


def _plain_query(text: str) -> str:
    """Return a query for all words of the text; '' if it has neither letters nor digits."""
    words = dict.fromkeys(unicodedata.normalize("NFKC", _no_text.sub(" ", text)).split())
    return " ".join(_quoted(cut(word)) for word in words if any(map(_is_wordy, word)))


def _raw_query(text: str) -> str:
    """Return a query in FTS5's syntax, its strings and words cut as texts are."""
    return _raw_pieces().sub(_cut_piece, " ".join(_no_text.sub(" ", text).split()))


def _cut_piece(piece: re.Match[str]) -> str:
    if piece[1] is not None:
        return _quoted(cut(piece[1].replace('""', '"')))
    return piece[0] if piece[0].isascii() else _quoted(cut(piece[0]))


def _quoted(phrase: str) -> str:
    return '"' + phrase.strip().replace('"', '""') + '"'


def _is_wordy(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LN" or category == "Co"


# -- cutting a text, and finding the way back


def cut(text: str) -> str:
    """Return the text as the index reads it."""
    if text.isascii():
        return text
    return _runs_apart().sub(_spread, unicodedata.normalize("NFKC", text))


def _spread(run: re.Match[str]) -> str:
    return f" {' '.join(run[0])} "


@lru_cache(maxsize=1 << 15)
def _cut_cluster(cluster: str) -> str:
    return _one_apart().sub(r" \g<0> ", unicodedata.normalize("NFKC", cluster))


def markable(text: str) -> str:
    """Return the text cut as by `cut`, but with spaces that let `spans` find the way back."""
    text = _unmarkable.sub(" ", text)
    return text if text.isascii() else "".join(map(_cut_cluster, _clusters(text)))


def spans(text: str, marked: str) -> Spans:
    """Return the places in *text* of the phrases that are marked in its `markable` form."""
    before, *pieces = marked.split(OPEN)
    done = len(before)  # characters of the cut text so far
    places: Spans = []
    for piece in pieces:
        phrase, _, rest = piece.partition(CLOSE)
        places.append((done, done + len(phrase)))
        done += len(phrase) + len(rest)
    if text.isascii() or not places:
        return places
    clusters = _clusters(text)
    cut_starts = list(accumulate(map(len, map(_cut_cluster, clusters)), initial=0))
    starts = list(accumulate(map(len, clusters), initial=0))
    return [
        (starts[bisect_right(cut_starts, first) - 1], starts[bisect_right(cut_starts, end - 1)])
        for first, end in places
    ]


# -- snippets


def snippet(text: str, places: Spans, size: int = SNIPPET) -> tuple[str, Spans]:
    """Return about *size* characters around the most marks, on one line, and the marks in them."""
    if len(text) <= size:
        return _one_line(text), places
    first, end = _best_range(places, size)
    start = max(0, min(first - _LEAD, len(text) - size))
    if end > start + size:  # more marks are worth more than the text before them
        start = first
    start, stop = _whole_words(text, start, first, min(len(text), start + size))
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shift = len(before) - start
    inside = [(max(a, start) + shift, min(b, stop) + shift) for a, b in places if a < stop and b > start]
    return before + _one_line(text[start:stop]) + after, inside


def _one_line(text: str) -> str:
    # One space for each character, so that the marks keep their places.
    return re.sub(r"\s", " ", text)


def _best_range(places: Spans, size: int) -> tuple[int, int]:
    """Return first and last place of the range of *size* characters that holds the most marks."""
    best, most, last = (0, 0), 0, 0
    for index, (first, _) in enumerate(places):
        last = max(last, index)
        while last + 1 < len(places) and places[last + 1][1] <= first + size:
            last += 1
        if last - index + 1 > most:
            most, best = last - index + 1, (first, places[last][1])
    return best


def _whole_words(text: str, start: int, first: int, stop: int) -> tuple[int, int]:
    """Return the range without partial words at its ends; *first* is the first mark."""
    if start and text[start - 1].isalnum():
        end = _ends.search(text, start, min(first, start + _LEAD))
        start = end.end() if end else start
    if stop < len(text) and text[stop].isascii() and text[stop].isalnum():
        space = text.rfind(" ", stop - _LEAD, stop)
        stop = space if space > first + _LEAD else stop
    return start, stop
