"""`TypeGuard` helpers for decoded JSON and for unchecked arguments.

A plain isinstance() would leave type checkers with a dict of unknown values, or with a check that they take
for unnecessary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return True for a mapping, as a JSON object is."""
    return isinstance(value, (dict, Mapping))  # dict first: the check of an ABC takes five times as long


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Return True for a decoded JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return True for a decoded JSON array."""
    return isinstance(value, list)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Return True for what is encoded as a JSON array."""
    return isinstance(value, (list, tuple))


def is_text(value: object) -> TypeGuard[str]:
    """Return True for a str."""
    return isinstance(value, str)


def is_int(value: object, least: int | None = None) -> TypeGuard[int]:
    """Return True for an int that is not a bool and not below *least*."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)
