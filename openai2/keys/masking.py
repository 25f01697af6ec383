"""Masking: replace API keys by their masks in text, bytes and JSON.

Invariants: no I/O. A placeholder that could be a word (`offline`, `EMPTY`, `lm-studio`) is not a secret and
is not replaced, since that would change the text of messages.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from openai2.core.typeguards import is_list, is_mapping
from openai2.keys.pool import mask

_SHORTEST = 8

_encode = msgspec.json.Encoder().encode


class Hidden(str):
    """A key as a str whose `repr` shows its mask, since tracebacks with locals show reprs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{mask(self)}'"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("a key cannot be pickled or copied")


def is_secret(key: str) -> bool:
    """Return True if *key* is no placeholder: it is long enough, and has a digit or OpenAI's prefix."""
    return len(key) >= _SHORTEST and (key.startswith("sk-") or any(char.isdigit() for char in key))


def text(text: str, keys: Collection[str]) -> str:
    """Return *text* with each of *keys* masked."""
    for key in keys:
        if is_secret(key) and key in text:
            text = text.replace(key, mask(key))
    return text


def encoded(json: bytes, keys: Collection[str]) -> bytes:
    """Return *json*, as msgspec encodes it, with each of *keys* masked."""
    for key in keys:
        if is_secret(key) and (encoded_key := _encode(str(key))[1:-1]) in json:
            json = json.replace(encoded_key, _encode(mask(key))[1:-1])
    return json


def value(data: Any, keys: Collection[str]) -> Any:
    """Return *data*, a str, bytes, or dicts and lists of them, with each of *keys* masked."""
    if isinstance(data, str):
        return text(data, keys)
    if isinstance(data, bytes):
        for key in keys:
            if is_secret(key):
                data = data.replace(key.encode(), mask(key).encode())
        return data
    if is_mapping(data):
        return {value(name, keys): value(inner, keys) for name, inner in data.items()}
    if is_list(data):
        return [value(inner, keys) for inner in data]
    return data
