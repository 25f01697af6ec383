"""Where a text that is removed may stand elsewhere: what to look for, and how to take it out.

Rules: no I/O. Looked for is every text that the event loses, whole, be it a part of a longer one; and of
these texts the words that are telling by themselves, as keys, numbers and addresses are, since who answers
a message with a secret in it quotes the secret and not the message. What is short, or stands everywhere, is
not looked for; nor are more than MOST, the longest words first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from openai2.core.typeguards import is_list, is_mapping

#: Bytes; a shorter text stands elsewhere by chance.
LEAST = 8
#: Texts and words that are looked for.
MOST = 24

# What an API's words are the values of; they are in every message of their kind.
_NAMING = frozenset({"type", "role", "id", "tool_call_id", "detail", "format", "tool_choice"})
_WORD = re.compile(rf"[A-Za-z0-9!#$%&*+./@^_~-]{{{LEAST},}}")
_ALWAYS_TELLING = 20  # characters
_NUMBER = 9  # digits: more than a day's, fewer than a telephone's


def lost(before: bytes, after: bytes) -> list[str]:
    """The texts that go where data, JSON, becomes *after*."""
    left = set(_texts(msgspec.json.decode(after)))
    return [text for text in dict.fromkeys(_texts(msgspec.json.decode(before))) if text not in left]


def telling(texts: Sequence[str]) -> list[str]:
    """What to look for of these: texts, and words, the longest first."""
    words = {word for text in texts for word in _words(text)}
    wanted = sorted((text for text in texts if len(text.encode()) >= LEAST), key=len, reverse=True)
    wanted += sorted(words.difference(wanted), key=lambda word: (-len(word), word))
    return wanted[:MOST]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_list(value):
        for one in value:
            yield from _texts(one)
    elif is_mapping(value):
        is_function = "arguments" in value or "parameters" in value
        for key, one in value.items():
            if key not in _NAMING and not (is_function and key == "name"):
                yield from _texts(one)


def _words(text: str) -> Iterator[str]:
    for found in _WORD.findall(text):
        word = found.strip("!*+./_~-")
        if len(word) >= LEAST and _is_telling(word):
            yield word


def _is_telling(word: str) -> bool:
    digits = sum(char.isdigit() for char in word)
    mixed = digits > 0 and any(char.isalpha() for char in word)
    return mixed or digits >= _NUMBER or len(word) >= _ALWAYS_TELLING or "@" in word[1:-1]


def as_stored(texts: Sequence[str]) -> list[bytes]:
    """The texts as they stand inside of JSON."""
    return [msgspec.json.encode(text)[1:-1] for text in texts]


def without(data: bytes, texts: Sequence[str], gone: str) -> bytes:
    """Data, JSON, with *gone* wherever one of the texts stands in it."""
    return msgspec.json.encode(_without(msgspec.json.decode(data), texts, gone))


def _without(value: Any, texts: Sequence[str], gone: str) -> Any:
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, gone)
        return value
    if is_list(value):
        return [_without(one, texts, gone) for one in value]
    if is_mapping(value):
        return {key: _without(one, texts, gone) for key, one in value.items()}
    return value
