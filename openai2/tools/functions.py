"""Python functions as tools: their schemas, their calls, and the results for the model.

Invariants:
- A schema comes from the function's name, docstring and type hints. A parameter may have any type that
  msgspec knows (Literal, Optional, Annotated, dataclasses, Structs, TypedDicts, enums, dates, lists …). Its
  description comes from `Annotated[str, "…"]` or from the docstring's `Args:`.
- Arguments are checked against the types before the function gets them.
- A model's mistake (an unknown tool, arguments that are not JSON or do not fit) and an exception of a tool
  become the call's result, which the model gets and which is on record.
- No I/O, except what the functions do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from openai2.core.typeguards import is_list, is_mapping
from openai2.errors import BadInput

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: `name: description` below `Args:`, with or without a type in brackets; and Sphinx's `:param name: …`.
_ENTRY = re.compile(r"(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_SPHINX = re.compile(r"\s*:param\s+(?:[\w.\[\], |]+\s)?(\w+):\s*(.*)")
_HEADINGS = ("args:", "arguments:", "parameters:")


class Call(NamedTuple):
    """A tool call in a model's answer."""

    id: str
    name: str
    arguments: str


class Tool:
    """A function that a model may call. *definition* is its entry in the API's `tools`.

    Raises BadInput for a function that cannot be a tool.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = _name(function)
        summary, descriptions = _docstring(function)
        self._signature = inspect.signature(function)
        self._arguments = _struct(self.name, function, self._signature, descriptions)
        try:
            schema, parts = _schema(self._arguments)
        except TypeError as cause:
            raise BadInput("tool {name}: {cause}", name=self.name, cause=str(cause)) from cause
        self._add_defaults(schema)
        self.definition: dict[str, Any] = {
            "type": "function",
            "function": {"name": self.name, "parameters": {**schema, **parts}},
        }
        if summary:
            self.definition["function"]["description"] = summary

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    @property
    def is_async(self) -> bool:
        """Whether the function has to be awaited."""
        called = getattr(self.function, "__call__", None)  # noqa: B004 - an object with async __call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def _add_defaults(self, schema: dict[str, Any]) -> None:
        """Add the defaults that JSON can express; the function itself fills them in."""
        for name, parameter in self._signature.parameters.items():
            if parameter.default is not parameter.empty:
                try:
                    schema["properties"][name]["default"] = msgspec.to_builtins(parameter.default)
                except (TypeError, KeyError):
                    pass

    def bind(self, arguments: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and named arguments of a call. Raises ValueError if they do not fit."""
        decoded = msgspec.json.decode(arguments.strip() or "{}", type=self._arguments)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            value = getattr(decoded, name)
            if value is msgspec.UNSET:
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[name] = value
        return tuple(positional), named


def tools_of(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """Return the tools by name. Raises BadInput for a bad tool and for a name used twice."""
    tools: dict[str, Tool] = {}
    for function in functions:
        tool = Tool(function)
        if tool.name in tools:
            raise BadInput("there are two tools named {name}", name=tool.name)
        tools[tool.name] = tool
    if not tools:
        raise BadInput("there are no tools: use request(), or pass tools=[…]")
    return tools


def _name(function: object) -> str:
    if not callable(function):
        raise BadInput("expected a function as a tool, got {kind}", kind=type(function).__name__)
    name = getattr(function, "__name__", None) or type(function).__name__
    if not _NAME.fullmatch(name):
        raise BadInput("invalid tool name {name}: use letters, digits, _ and -", name=name)
    return name


def _struct(
    name: str, function: Callable[..., Any], signature: inspect.Signature, descriptions: Mapping[str, str]
) -> type[msgspec.Struct]:
    try:
        target = function if inspect.isroutine(function) else type(function).__call__
        hints = get_type_hints(target, include_extras=True)
    except NameError as cause:
        raise BadInput(
            "tool {name}: a type hint is not defined: {cause}", name=name, cause=str(cause)
        ) from cause
    fields: list[Any] = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadInput(
                "tool {name} takes any number of arguments (*{argument}), which a schema cannot express",
                name=name,
                argument=parameter.name,
            )
        kind = _described(hints.get(parameter.name, Any), descriptions.get(parameter.name))
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind | msgspec.UnsetType, msgspec.UNSET))
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as cause:
        raise BadInput("tool {name}: {cause}", name=name, cause=str(cause)) from cause


def _described(kind: Any, description: str | None) -> Any:
    """Return the type with its description as msgspec expects it. `Annotated[str, "…"]` takes precedence."""
    if get_origin(kind) is Annotated:
        bare, *notes = get_args(kind)
        texts = [note for note in notes if isinstance(note, str)]
        description = texts[0] if texts else description
        kind = bare
        for note in notes:
            if isinstance(note, msgspec.Meta):
                kind = Annotated[kind, note]
                description = description if note.description is None else None
    return kind if description is None else Annotated[kind, msgspec.Meta(description=description)]


def _schema(struct: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    (root,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    own = root["$ref"].rpartition("/")[2]
    schema = parts.pop(own)
    schema.pop("title", None)
    schema.setdefault("required", [])
    return schema, {"$defs": parts} if parts else {}


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of the function, and of each parameter."""
    lines = (inspect.getdoc(function if inspect.isroutine(function) else type(function)) or "").splitlines()
    summary: list[str] = []
    descriptions: dict[str, str] = {}
    inside, current, depth = False, "", 0
    for line in lines:
        if match := _SPHINX.match(line):
            current, inside = match[1], False
            descriptions[current] = match[2]
        elif line.strip().lower() in _HEADINGS:
            inside, current, depth = True, "", 0
        elif inside and (match := _ENTRY.fullmatch(line)) and (not depth or len(match[1]) == depth):
            depth, current = len(match[1]), match[2]
            descriptions[current] = match[3]
        elif inside and line.strip() and line[:1].isspace():
            if current:
                descriptions[current] = f"{descriptions[current]} {line.strip()}".strip()
        elif re.fullmatch(r"\w+:\s*", line):
            inside, current, depth = True, "", -1  # Returns:, Raises: … are not for the model
        elif not inside and not descriptions:
            summary.append(line)
        elif not line[:1].isspace() and line.strip():
            inside = False
    return "\n".join(summary).strip(), {name: text for name, text in descriptions.items() if text}


# -- calls and results


def calls_in(message: Mapping[str, Any]) -> list[Call]:
    """Return the tool calls of a model's message; malformed ones have empty fields."""
    calls: list[Call] = []
    listed = message.get("tool_calls")
    for call in listed if is_list(listed) else []:
        known: Mapping[str, Any] = call if is_mapping(call) else {}
        function = known.get("function")
        inner: Mapping[str, Any] = function if is_mapping(function) else {}
        arguments = inner.get("arguments")
        if not isinstance(arguments, str):  # some servers send an object
            arguments = "{}" if arguments is None else msgspec.json.encode(arguments).decode()
        calls.append(Call(str(known.get("id") or ""), str(inner.get("name") or ""), arguments))
    return calls


def result(call: Call, value: Any) -> dict[str, Any]:
    """Return the message with the result of a call."""
    return {"role": "tool", "tool_call_id": call.id, "content": _text(value)}


def failure(call: Call, reason: str) -> dict[str, Any]:
    """Return the message that says why a call has no result."""
    return result(call, msgspec.json.encode({"error": _sendable(reason)}).decode())


def unknown(call: Call, tools: Mapping[str, Tool]) -> dict[str, Any]:
    """Return the message for a tool that does not exist."""
    return failure(call, f"there is no tool {call.name!r}; the tools are: {', '.join(tools)}")


def raised(call: Call, error: BaseException) -> dict[str, Any]:
    """Return the message for a tool that raised, or for arguments that do not fit."""
    return failure(call, f"{type(error).__name__}: {error}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _sendable(value)
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):  # for example keys that are not strings
        return _sendable(str(value))


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def choice_for_round(choice: Any, rounds: int) -> Any:
    """Return `tool_choice` for a round: a forced call applies to the first only, so that the loop ends."""
    return choice if rounds == 0 or choice in (None, "auto", "none") else "auto"


def definitions(tools: Mapping[str, Tool]) -> Sequence[dict[str, Any]]:
    """Return the API's `tools`."""
    return [tool.definition for tool in tools.values()]
