"""Merge the deltas of a streamed answer, and drop fields that carry nothing. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai2.core.typeguards import is_dict, is_list, is_mapping


def drop_empty_fields(message: dict[str, Any]) -> dict[str, Any]:
    """Return *message* without the fields that the API fills with null or an empty list.

    `content` stays even if it is null: an answer with tool calls has it so.
    """
    return {
        name: value
        for name, value in message.items()
        if name in ("role", "content") or (value is not None and value != [])
    }


def merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge *delta* into *into*: append texts, merge objects, and match list items by their `index`.

    These are the rules of the API's own accumulators (openai-python, lib/streaming/_deltas.py).
    """
    for name, value in delta.items():
        known = into.get(name)
        if known is None:
            into[name] = _copy(value)
        elif name in ("index", "type", "role", "id"):
            into[name] = value or known
        elif isinstance(value, str) and isinstance(known, str):
            into[name] = known + value
        elif is_mapping(value) and is_dict(known):
            merge(known, value)
        elif is_list(value) and is_list(known):
            _merge_lists(known, value)
        elif value is not None:
            into[name] = _copy(value)


def _copy(value: Any) -> Any:
    if is_list(value):
        items: list[Any] = []
        _merge_lists(items, value)
        return items
    if is_mapping(value):
        copied: dict[str, Any] = {}
        merge(copied, value)
        return copied
    return value


def _merge_lists(known: list[Any], more: list[Any]) -> None:
    for item in more:
        index = item.get("index") if is_mapping(item) else None
        match = None
        if isinstance(index, int):
            match = next((old for old in known if is_dict(old) and old.get("index") == index), None)
        if match is None:
            known.append(_copy(item))
        else:
            merge(match, item)


def compact_usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the API's token counts without nulls and zeros; None if nothing is left."""
    if not usage:
        return None
    compact: dict[str, Any] = {}
    for name, value in usage.items():
        inner = compact_usage(value) if is_dict(value) else value
        if inner:
            compact[name] = inner
    return compact or None
