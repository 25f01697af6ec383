r"""Lone halves of surrogate pairs in a server's JSON. No I/O.

Some servers cut the JSON escape of a character such as an emoji in two, `"\ud83d"` in one piece and
`"\ude00"` in the next. A half is no character, so no decoder takes it. `mark` puts a marker in its place, a
character for private use. `join` makes characters of the markers that meet, and U+FFFD of each that is alone.
"""

from __future__ import annotations

import re
from typing import Any

from openai2.core.typeguards import is_list, is_mapping

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_OFFSET = 0x10F800 - 0xD800
_PAIR = re.compile("([\U0010f800-\U0010fbff])([\U0010fc00-\U0010ffff])")
_MARKER = re.compile("[\U0010f800-\U0010ffff]")
_FIRST = re.compile("[\U0010f800-\U0010fbff]\\Z")


def mark(data: bytes) -> bytes | None:
    """Return *data* with a marker for each half that is alone; None if there is none."""
    found = False

    def replace(escape: re.Match[bytes]) -> bytes:
        nonlocal found
        if escape[1] is None:
            return escape[0]
        found = True
        return chr(int(escape[1], 16) + _OFFSET).encode()

    marked = _ESCAPE.sub(replace, data)
    return marked if found else None


def ends_with_half(text: str) -> bool:
    """Return whether *text* ends with the marker of a first half, whose second may follow."""
    return _FIRST.search(text) is not None


def join(text: str) -> str:
    """Return *text* without markers."""

    def character(pair: re.Match[str]) -> str:
        high, low = (ord(half) - _OFFSET for half in pair.groups())
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))

    return _MARKER.sub("\ufffd", _PAIR.sub(character, text))


def join_in(value: Any) -> Any:
    """Return decoded JSON without markers."""
    if isinstance(value, str):
        return join(value)
    if is_mapping(value):
        return {join(name): join_in(inner) for name, inner in value.items()}
    if is_list(value):
        return [join_in(inner) for inner in value]
    return value
