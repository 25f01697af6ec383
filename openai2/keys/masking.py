"""Masking: replace API keys by their masks in text, bytes and JSON.

A key is found as it is, quoted for a URL, in hex and in base64, and by 16 characters of its beginning or end.

Invariants: no I/O. A placeholder that could be a word (`offline`, `EMPTY`, `lm-studio`) is not a secret and
is not replaced, since that would change the text of messages.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, AnyStr

import msgspec

from openai2.core.typeguards import is_list, is_mapping
from openai2.keys.pool import mask

_SHORTEST = 8
_END = 16  # characters: this much of a key is masked without the rest, too

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
    return _masked(text, keys, str)


def encoded(json: bytes, keys: Collection[str]) -> bytes:
    """Return *json*, as msgspec encodes it, with each of *keys* masked."""
    return _masked(json, keys, _in_json)


def value(data: Any, keys: Collection[str]) -> Any:
    """Return *data*, a str, bytes, or dicts and lists of them, with each of *keys* masked."""
    if isinstance(data, str):
        return text(data, keys)
    if isinstance(data, bytes):
        return _masked(data, keys, str.encode)
    if is_mapping(data):
        return {value(name, keys): value(inner, keys) for name, inner in data.items()}
    if is_list(data):
        return [value(inner, keys) for inner in data]
    return data


def _in_json(text: str) -> bytes:
    return _encode(str(text))[1:-1]


def _masked(data: AnyStr, keys: Collection[str], convert: Callable[[str], AnyStr]) -> AnyStr:
    """Return *data* with each of *keys* masked; *convert* gives a str the type and escapes of *data*."""
    secrets = [key for key in keys if is_secret(key)]
    for key in secrets:
        for form in _forms(key):
            if (found := convert(form)) in data:
                data = data.replace(found, convert(mask(key)))
    for key in secrets:
        if len(key) > _END:
            data = _without_ends(data, convert(key), convert(mask(key)))
    return data


@lru_cache(maxsize=64)
def _forms(key: str) -> tuple[str, ...]:
    """Return how a server may write *key*: as it is, quoted for a URL, in hex, in base64."""
    raw = key.encode()
    quoted = "".join(char if char.isalnum() or char in "-._~" else f"%{ord(char):02X}" for char in key)
    forms = [str(key), quoted, raw.hex(), raw.hex().upper()]
    for offset, start in ((0, 0), (1, 2), (2, 3)):  # where the key begins in the bytes that were encoded
        size = (offset + len(raw)) * 8 // 6  # later characters depend on what follows the key
        forms.append(b64encode(bytes(offset) + raw).decode()[start:size])
        forms.append(urlsafe_b64encode(bytes(offset) + raw).decode()[start:size])
    return tuple(dict.fromkeys(forms))


def _find(data: AnyStr, part: AnyStr) -> int:
    before, found, _ = data.partition(part)
    return len(before) if found else -1


def _without_ends(data: AnyStr, key: AnyStr, masked: AnyStr) -> AnyStr:
    """Return *data* with each beginning and each end of *key*, of _END characters or more, masked."""
    while (first := _find(data, key[:_END])) >= 0:
        size = _END
        while size < len(key) and data[first : first + size + 1] == key[: size + 1]:
            size += 1
        data = data[:first] + masked + data[first + size :]
    while (first := _find(data, key[-_END:])) >= 0:
        end, size = first + _END, _END
        while size < len(key) and end > size and data[end - size - 1 : end] == key[-size - 1 :]:
            size += 1
        data = data[: end - size] + masked + data[end:]
    return data
