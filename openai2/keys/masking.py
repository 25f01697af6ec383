"""Scrubbing: what a key is replaced with wherever it could be seen.

Rules: a key is looked for as it stands, in text, bytes, JSON and whatever holds these, and its mask takes
its place. No I/O. What could as well be a word (`offline`, `EMPTY`, `lm-studio`, as local servers want for
a key) is no secret, and is left: masking it would change what people said.
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
    """A key that is used like any str and whose `repr` shows its mask: tracebacks with locals show reprs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{mask(self)}'"

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("a key is not pickled or copied")


def is_secret(key: str) -> bool:
    """Whether a key is one: long enough, and with a digit or OpenAI's prefix, so that it is no word."""
    return len(key) >= _SHORTEST and (key.startswith("sk-") or any(char.isdigit() for char in key))


def text(said: str, keys: Collection[str]) -> str:
    """*said* with each of *keys* masked."""
    for key in keys:
        if is_secret(key) and key in said:
            said = said.replace(key, mask(key))
    return said


def encoded(json: bytes, keys: Collection[str]) -> bytes:
    """*json*, as our own encoder writes it, with each of *keys* masked."""
    for key in keys:
        if is_secret(key) and (written := _encode(str(key))[1:-1]) in json:
            json = json.replace(written, _encode(mask(key))[1:-1])
    return json


def value(held: Any, keys: Collection[str]) -> Any:
    """*held*, text, bytes or anything made of them as JSON is, with each of *keys* masked."""
    if isinstance(held, str):
        return text(held, keys)
    if isinstance(held, bytes):
        for key in keys:
            if is_secret(key):
                held = held.replace(key.encode(), mask(key).encode())
        return held
    if is_mapping(held):
        return {value(name, keys): value(inner, keys) for name, inner in held.items()}
    if is_list(held):
        return [value(inner, keys) for inner in held]
    return held
