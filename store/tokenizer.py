"""Terms: how a text is cut for the full-text index, how what is looked for is cut to match it, and how
what was found is shown.

Rules:
- Text and question are cut alike: Unicode's NFKC first, so that full and half width are one, then each
  Chinese character, kana and Korean syllable stands apart, as a word of its own. SQLite's unicode61
  does the rest: it splits at punctuation, folds case and takes accents away.
- In a question, what stands between spaces is a phrase, and all phrases are wanted. So a run of Chinese
  is found wherever just these characters follow each other, be it one character or a sentence.
- A place in a cut text leads back to the place in the text itself, since people are shown their own text.
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

#: Mark where a found phrase begins and ends in a cut text, which has neither of them.
OPEN, CLOSE = "\x02", "\x03"

# Written without spaces between words: CJK with its repetition signs and numerals, kana, bopomofo, hangul.
_APART = (
    "[\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0002fa1f\U00030000-\U000323af]"
)
# A character and what may melt into it: accents, the voice marks of kana, the vowels and ends of Korean.
_clusters = re.compile(
    ".[\u0300-\u036f\u1160-\u11ff\u20d0-\u20ff\u3099\u309a\uff9e\uff9f]*", re.DOTALL
).findall
_no_text = re.compile("[\x00\ud800-\udfff]")
_unmarkable = re.compile(f"[\x00{OPEN}{CLOSE}]")  # FTS5 ends what it marks at a NUL
_ends = re.compile(r"[\s,.;:!?，。；：！？、]")


# These take milliseconds to compile: where all is ASCII, a search does without them.
@cache
def _runs_apart() -> re.Pattern[str]:
    return re.compile(f"{_APART}+")


@cache
def _one_apart() -> re.Pattern[str]:
    return re.compile(_APART)


@cache
def _raw_pieces() -> re.Pattern[str]:
    return re.compile('"((?:[^"]|"")*)"|[0-9A-Za-z_\x1a\x80-\U0010ffff]+')


#: Characters that a snippet shows.
SNIPPET = 120
_LEAD = 24  # of them before the first mark


def query(text: object, raw: bool = False) -> str:
    """The FTS5 query for what somebody typed. Raises BadInput where there is nothing in it."""
    if not is_text(text):
        raise BadInput("what to search for is a str, not {kind}", kind=type(text).__name__)
    if not text.strip():
        raise BadInput("there is nothing to search for: say a word")
    return _raw_query(text) if raw else _plain_query(text)


def _plain_query(text: str) -> str:
    """All words of the text; '' where it holds neither letter nor digit."""
    words = dict.fromkeys(unicodedata.normalize("NFKC", _no_text.sub(" ", text)).split())
    return " ".join(_quoted(cut(word)) for word in words if any(map(_is_wordy, word)))


def _raw_query(text: str) -> str:
    """A query that a person wrote themselves, its strings and words cut as texts are."""
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


# -- a text, there and back


def cut(text: str) -> str:
    """The text as the index reads it."""
    if text.isascii():
        return text
    return _runs_apart().sub(_spread, unicodedata.normalize("NFKC", text))


def _spread(run: re.Match[str]) -> str:
    return f" {' '.join(run[0])} "


@lru_cache(maxsize=1 << 15)
def _cut_cluster(cluster: str) -> str:
    return _one_apart().sub(r" \g<0> ", unicodedata.normalize("NFKC", cluster))


def markable(text: str) -> str:
    """The text cut so that `spans` finds back from it: as by `cut`, but for the number of spaces."""
    text = _unmarkable.sub(" ", text)
    return text if text.isascii() else "".join(map(_cut_cluster, _clusters(text)))


def spans(text: str, marked: str) -> Spans:
    """Where in the text the phrases stand that are marked in its `markable` form."""
    before, *pieces = marked.split(OPEN)
    done = len(before)  # characters of the cut text that lie behind
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


# -- what is shown


def snippet(text: str, places: Spans, size: int = SNIPPET) -> tuple[str, Spans]:
    """About *size* characters of the text, on one line, where most marks are; and the marks in them."""
    if len(text) <= size:
        return _one_line(text), places
    first, end = _best_stretch(places, size)
    start = max(0, min(first - _LEAD, len(text) - size))
    if end > start + size:  # all that fits is worth more than what leads up to it
        start = first
    start, stop = _whole_words(text, start, first, min(len(text), start + size))
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shift = len(before) - start
    inside = [(max(a, start) + shift, min(b, stop) + shift) for a, b in places if a < stop and b > start]
    return before + _one_line(text[start:stop]) + after, inside


def _one_line(text: str) -> str:
    # One for one, so that the marks keep their places.
    return re.sub(r"\s", " ", text)


def _best_stretch(places: Spans, size: int) -> tuple[int, int]:
    """Where the stretch of *size* characters begins and ends that holds most marks."""
    best, most, last = (0, 0), 0, 0
    for index, (first, _) in enumerate(places):
        last = max(last, index)
        while last + 1 < len(places) and places[last + 1][1] <= first + size:
            last += 1
        if last - index + 1 > most:
            most, best = last - index + 1, (first, places[last][1])
    return best


def _whole_words(text: str, start: int, first: int, stop: int) -> tuple[int, int]:
    """The stretch without the halves of words at its ends; *first* is where the first mark stands."""
    if start and text[start - 1].isalnum():
        end = _ends.search(text, start, min(first, start + _LEAD))
        start = end.end() if end else start
    if stop < len(text) and text[stop].isascii() and text[stop].isalnum():
        space = text.rfind(" ", stop - _LEAD, stop)
        stop = space if space > first + _LEAD else stop
    return start, stop
