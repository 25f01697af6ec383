"""Ids and names of conversations.

Invariants:
- An id is 16 characters of Crockford's base 32 in lower case (no i, l, o, u): 80 bits.
- A checked name can be typed in a shell and printed on one line, and it has no `@`.
"""

from __future__ import annotations

from collections.abc import Callable

from openai2.errors import BadInput

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 16


def new_id() -> str:
    """Return a random id."""
    import secrets  # late: 4 ms that a command which only reads does not need

    return id_from_bytes(secrets.token_bytes(_ID_LENGTH))


def id_from_bytes(data: bytes) -> str:
    """Return the id made from the first 16 bytes of *data*; equal bytes give equal ids."""
    return "".join(_ALPHABET[byte % 32] for byte in data[:_ID_LENGTH])


def is_id(text: str) -> bool:
    """Return True if *text* has the form of an id."""
    return len(text) == _ID_LENGTH and all(char in _ALPHABET for char in text)


def check_name(name: object) -> str | None:
    """Return *name*, a conversation's name or None. Raises BadInput if it could not be typed or printed."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise BadInput("expected a str as name, got {kind}", kind=type(name).__name__)
    if not name.strip() or name != name.strip():
        raise BadInput("a conversation's name must not be empty or have spaces around it")
    if "@" in name:
        raise BadInput("a conversation's name must not contain @, which begins a version")
    if any(char < " " or char in "\x7f\x85\u2028\u2029" or "\ud800" <= char <= "\udfff" for char in name):
        raise BadInput("a conversation's name must not contain control characters")
    if len(name) > 200:
        raise BadInput("a conversation's name must have at most 200 characters, got {size}", size=len(name))
    return name


def free_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return *name*, or *name* with the lowest number behind it that makes it free, as in `name (2)`."""
    free, number = name, 1
    while is_taken(free):
        number += 1
        free = f"{name} ({number})"
    return free
