"""What a value turns out to be, told in a way that type checkers follow.

JSON from outside is typed `Any`, and arguments may be anything whatever their annotation says; a plain
isinstance() would leave a checker with a dict of unknowns, or with a check that it takes for needless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether it has names and values, as a JSON object does."""
    return isinstance(value, (dict, Mapping))  # dict first: to ask an ABC takes five times as long


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a decoded JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a decoded JSON array."""
    return isinstance(value, list)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether it is written as a JSON array."""
    return isinstance(value, (list, tuple))


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a str."""
    return isinstance(value, str)


def is_int(value: object, least: int | None = None) -> TypeGuard[int]:
    """Whether it is a whole number (True is none), and not below *least*."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)
