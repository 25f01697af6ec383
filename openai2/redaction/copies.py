"""Find copies of removed texts in other data, and remove them there.

Invariants:
- No I/O.
- Each text that an event loses is looked for, also as a part of a longer text.
- So are the keys, numbers and addresses in it: an answer quotes the key, not the whole question.
- At most MAX_PATTERNS are looked for, whole texts before words, the longest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from openai2.core.typeguards import is_list, is_mapping

#: Bytes. A shorter text occurs in other events by chance.
MIN_LENGTH = 8
MAX_PATTERNS = 24

# Fields whose values are words of the API or ids: they occur in many messages.
_API_FIELDS = frozenset({"type", "role", "id", "tool_call_id", "detail", "format", "tool_choice"})
_WORD = re.compile(rf"[A-Za-z0-9!#$%&*+./@^_~-]{{{MIN_LENGTH},}}")


def lost_texts(before: bytes, after: bytes) -> list[str]:
    """Return the texts of *before* that *after* does not have; both are JSON."""
    kept = set(_texts(msgspec.json.decode(after)))
    return [text for text in dict.fromkeys(_texts(msgspec.json.decode(before))) if text not in kept]


def search_patterns(texts: Sequence[str]) -> list[str]:
    """Return what to look for when *texts* are removed: the texts, and their secret-like words."""
    patterns = sorted((text for text in texts if len(text.encode()) >= MIN_LENGTH), key=len, reverse=True)
    words = {word for text in texts for word in _secret_words(text)}.difference(patterns)
    return [*patterns, *sorted(words, key=lambda word: (-len(word), word))][:MAX_PATTERNS]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_list(value):
        for item in value:
            yield from _texts(item)
    elif is_mapping(value):
        is_function = "arguments" in value or "parameters" in value
        for key, item in value.items():
            if key not in _API_FIELDS and not (is_function and key == "name"):
                yield from _texts(item)


def _secret_words(text: str) -> Iterator[str]:
    """Yield words that look like a key (letters and digits), a long number or an address."""
    for match in _WORD.findall(text):
        word = match.strip("!*+./_~-")
        digits = sum(char.isdigit() for char in word)
        is_key = digits > 0 and any(char.isalpha() for char in word)
        is_number = digits > 8  # a date has 8
        if len(word) >= MIN_LENGTH and (is_key or is_number or "@" in word[1:-1]):
            yield word


def as_stored(texts: Sequence[str]) -> list[bytes]:
    """Return the texts as they are inside a JSON string."""
    return [msgspec.json.encode(text)[1:-1] for text in texts]


def replace_texts(data: bytes, texts: Sequence[str], replacement: str) -> bytes:
    """Return *data*, which is JSON, with each of the texts replaced in all its strings."""
    return msgspec.json.encode(_replace(msgspec.json.decode(data), texts, replacement))


def _replace(value: Any, texts: Sequence[str], replacement: str) -> Any:
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, replacement)
        return value
    if is_list(value):
        return [_replace(item, texts, replacement) for item in value]
    if is_mapping(value):
        return {key: _replace(item, texts, replacement) for key, item in value.items()}
    return value
