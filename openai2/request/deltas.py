"""Putting an answer together from its pieces, and leaving out what says nothing; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai2.core.typeguards import is_dict, is_list, is_mapping


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """The message without the fields that the API fills with null or an empty list.

    Its content stays, null included: that is what an answer with tool calls says.
    """
    return {
        name: value
        for name, value in message.items()
        if name in ("role", "content") or (value is not None and value != [])
    }


def merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to what came before: texts grow, lists go by their items' `index`, objects merge.

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
        fresh: list[Any] = []
        _merge_lists(fresh, value)
        return fresh
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
            match = next((held for held in known if is_dict(held) and held.get("index") == index), None)
        if match is None:
            known.append(_copy(item))
        else:
            merge(match, item)


def usage_in_few(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The API's count of tokens, less its nulls and zeros, which say nothing."""
    if not usage:
        return None
    few: dict[str, Any] = {}
    for name, value in usage.items():
        inner = usage_in_few(value) if is_dict(value) else value
        if inner:
            few[name] = inner
    return few or None
