"""Merge the deltas of a streamed answer, and drop fields that carry nothing. No I/O.

Invariants: calls of tools come out as the API defines them, however a compatible server streams them: with an
index that several calls share, without an index, without ids, with a name that each piece repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openai2.core.typeguards import is_dict, is_int, is_list, is_mapping


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

    These are the rules of the API's own accumulators (openai-python, lib/streaming/_deltas.py), except for
    `tool_calls`, and for labels that some servers repeat.
    """
    for name, value in delta.items():
        known = into.get(name)
        if name == "tool_calls" and is_list(value):
            into[name] = known if is_list(known) else []
            _merge_calls(into[name], value)
        elif known is None:
            into[name] = _copy(value)
        elif name in ("index", "type", "role", "id"):
            into[name] = value or known
        elif name in _LABELS and isinstance(value, str) and isinstance(known, str):
            into[name] = value if value.startswith(known) else known + value
        elif isinstance(value, str) and isinstance(known, str):
            into[name] = known + value
        elif is_mapping(value) and is_dict(known):
            merge(known, value)
        elif is_list(value) and is_list(known):
            _merge_lists(known, value)
        elif value is not None:
            into[name] = _copy(value)


#: Texts that do not grow by repeating: a piece with the same text again adds nothing.
_LABELS = frozenset(("name", "format", "signature", "mime_type"))


def _merge_calls(known: list[Any], more: list[Any]) -> None:
    for place, piece in enumerate(more):
        if not is_mapping(piece):
            continue
        index = piece.get("index")
        if not is_int(index):
            index = place if len(more) > 1 else None
        call = _continued(known, piece, index)
        if call is None:
            call = {} if index is None else {"index": index}
            known.append(call)
        merge(call, {name: value for name, value in piece.items() if name != "index"})


def _continued(
    known: list[dict[str, Any]], piece: Mapping[str, Any], index: int | None
) -> dict[str, Any] | None:
    """Return the call that *piece* continues; None if it begins another one."""
    call_id, (name, arguments) = piece.get("id"), _function(piece)
    calls = [call for call in known if index is None or call.get("index", index) == index]
    if not calls:
        return None
    last = calls[-1]
    known_name, known_arguments = _function(last)
    is_same_name = not (name and known_name) or name.startswith(known_name)
    if call_id:
        same = [call for call in calls if call.get("id") == call_id]
        if same:
            return same[-1]
        if name and (last.get("id") or not is_same_name):
            return None
    if name and ((arguments and _is_whole(known_arguments)) or (index is None and not is_same_name)):
        return None
    return last


def _function(call: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the name and the arguments of a call, or of a piece of one."""
    function = call.get("function")
    if not is_mapping(function):
        return "", None
    name = function.get("name")
    return name if isinstance(name, str) else "", function.get("arguments")


def _is_whole(arguments: Any) -> bool:
    """Return whether the arguments of a call are complete."""
    if not isinstance(arguments, str):
        return arguments is not None
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def tidy_calls(calls: Any) -> Any:
    """Return *calls* of tools as the API takes them back; what is no list of calls is returned unchanged.

    `index` belongs to the stream. `type` is added, and arguments that are an object become JSON text.
    """
    if not is_list(calls) or not all(is_mapping(call) for call in calls):
        return calls
    return [_tidy_call(call) for call in calls]


def _tidy_call(call: Mapping[str, Any]) -> dict[str, Any]:
    tidy = {name: value for name, value in dict(call).items() if name != "index"}
    if is_mapping(function := tidy.get("function")):
        tidy.setdefault("type", "function")
        if is_mapping(arguments := function.get("arguments")):
            tidy["function"] = {**function, "arguments": msgspec.json.encode(dict(arguments)).decode()}
    return tidy


def name_calls(message: dict[str, Any], request: int) -> None:
    """Give each call of a tool that has no id one that no other call of the conversation has.

    *request* is the id of the request.
    """
    calls = message.get("tool_calls")
    for place, call in enumerate(calls if is_list(calls) else []):
        if is_dict(call) and not call.get("id"):
            rest = {name: value for name, value in call.items() if name != "id"}
            call.clear()
            call.update(id=f"call_{request}_{place}", **rest)


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
