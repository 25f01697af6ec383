"""Python functions as tools: what a model is told of them, and what comes of a call.

Rules:
- The schema is what the function says of itself: its name, its docstring, its type hints. A parameter may
  be of any type that msgspec knows (Literal, Optional, Annotated, dataclasses, Structs, TypedDicts, enums,
  dates, lists …); its description stands in `Annotated[str, "…"]` or in the docstring's `Args:`.
- Arguments are checked against the types before the function sees them.
- A model's mistake (a tool that it made up, arguments that are no JSON or do not fit) and an error that a
  tool raises are no error here: the model is told in the call's result, which is on record.
- No I/O here, but what the functions do themselves.
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
#: `name: what it is` below `Args:`, with or without a type in brackets; and Sphinx's `:param name: …`.
_ENTRY = re.compile(r"(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_SPHINX = re.compile(r"\s*:param\s+(?:[\w.\[\], |]+\s)?(\w+):\s*(.*)")
_HEADINGS = ("args:", "arguments:", "parameters:")


class Call(NamedTuple):
    """A call that a model asks for."""

    id: str
    name: str
    arguments: str


class Tool:
    """A function that a model may call. *definition* is what the API is told of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = _name(function)
        summary, told = _docstring(function)
        self._signature = inspect.signature(function)
        self._arguments = _struct(self.name, function, self._signature, told)
        try:
            schema, parts = _schema(self._arguments)
        except TypeError as cause:
            raise BadInput("tool {name}: {cause}", name=self.name, cause=str(cause)) from cause
        self._own_defaults(schema)
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
        """Whether its result has to be awaited."""
        called = getattr(self.function, "__call__", None)  # noqa: B004 - an object with async __call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def _own_defaults(self, schema: dict[str, Any]) -> None:
        """Tell the defaults that JSON has a word for; the function itself fills them in."""
        for name, parameter in self._signature.parameters.items():
            if parameter.default is not parameter.empty:
                try:
                    schema["properties"][name]["default"] = msgspec.to_builtins(parameter.default)
                except (TypeError, KeyError):
                    pass

    def bind(self, arguments: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments as the function takes them. Raises ValueError where they do not fit."""
        given = msgspec.json.decode(arguments.strip() or "{}", type=self._arguments)
        by_place: list[Any] = []
        by_name: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            value = getattr(given, name)
            if value is msgspec.UNSET:
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                by_place.append(value)
            else:
                by_name[name] = value
        return tuple(by_place), by_name


def tools_of(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """The tools by name. Raises BadInput for what cannot be one, and for a name that is there twice."""
    tools: dict[str, Tool] = {}
    for function in functions:
        tool = Tool(function)
        if tool.name in tools:
            raise BadInput("there are two tools named {name}", name=tool.name)
        tools[tool.name] = tool
    if not tools:
        raise BadInput("there are no tools to run: request() asks without")
    return tools


def _name(function: object) -> str:
    if not callable(function):
        raise BadInput("a tool is a function, not {kind}", kind=type(function).__name__)
    name = getattr(function, "__name__", None) or type(function).__name__
    if not _NAME.fullmatch(name):
        raise BadInput("a tool's name has letters, digits, _ and - only; {name} has others", name=name)
    return name


def _struct(
    name: str, function: Callable[..., Any], signature: inspect.Signature, told: Mapping[str, str]
) -> type[msgspec.Struct]:
    try:
        target = function if inspect.isroutine(function) else type(function).__call__
        hints = get_type_hints(target, include_extras=True)
    except NameError as cause:
        raise BadInput("tool {name}: a type hint names what is not there: {cause}", name=name,
                       cause=str(cause)) from cause  # fmt: skip
    fields: list[Any] = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadInput(
                "tool {name} takes any number of arguments (*{argument}), which no schema can tell",
                name=name,
                argument=parameter.name,
            )
        kind = _described(hints.get(parameter.name, Any), told.get(parameter.name))
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind | msgspec.UnsetType, msgspec.UNSET))
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as cause:
        raise BadInput("tool {name}: {cause}", name=name, cause=str(cause)) from cause


def _described(kind: Any, told: str | None) -> Any:
    """The type with its description where msgspec looks for it: `Annotated[str, "…"]` is one too."""
    if get_origin(kind) is Annotated:
        bare, *notes = get_args(kind)
        words = [note for note in notes if isinstance(note, str)]
        told = words[0] if words else told
        kind = bare
        for note in notes:
            if isinstance(note, msgspec.Meta):
                kind = Annotated[kind, note]
                told = told if note.description is None else None
    return kind if told is None else Annotated[kind, msgspec.Meta(description=told)]


def _schema(struct: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    (root,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    own = root["$ref"].rpartition("/")[2]
    schema = parts.pop(own)
    schema.pop("title", None)
    schema.setdefault("required", [])
    return schema, {"$defs": parts} if parts else {}


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter."""
    lines = (inspect.getdoc(function if inspect.isroutine(function) else type(function)) or "").splitlines()
    summary: list[str] = []
    told: dict[str, str] = {}
    inside, current, depth = False, "", 0
    for line in lines:
        if match := _SPHINX.match(line):
            current, inside = match[1], False
            told[current] = match[2]
        elif line.strip().lower() in _HEADINGS:
            inside, current, depth = True, "", 0
        elif inside and (match := _ENTRY.fullmatch(line)) and (not depth or len(match[1]) == depth):
            depth, current = len(match[1]), match[2]
            told[current] = match[3]
        elif inside and line.strip() and line[:1].isspace():
            if current:
                told[current] = f"{told[current]} {line.strip()}".strip()
        elif re.fullmatch(r"\w+:\s*", line):
            inside, current, depth = True, "", -1  # Returns:, Raises: … are for people
        elif not inside and not told:
            summary.append(line)
        elif not line[:1].isspace() and line.strip():
            inside = False
    return "\n".join(summary).strip(), {name: text for name, text in told.items() if text}


# -- calls and results


def calls_in(message: Mapping[str, Any]) -> list[Call]:
    """The calls that a model's message asks for, whatever shape they are in."""
    calls: list[Call] = []
    asked = message.get("tool_calls")
    for call in asked if is_list(asked) else []:
        known: Mapping[str, Any] = call if is_mapping(call) else {}
        function = known.get("function")
        inner: Mapping[str, Any] = function if is_mapping(function) else {}
        arguments = inner.get("arguments")
        if not isinstance(arguments, str):  # some servers send the object itself
            arguments = "{}" if arguments is None else msgspec.json.encode(arguments).decode()
        calls.append(Call(str(known.get("id") or ""), str(inner.get("name") or ""), arguments))
    return calls


def result(call: Call, value: Any) -> dict[str, Any]:
    """The message that tells the model what came of a call."""
    return {"role": "tool", "tool_call_id": call.id, "content": _text(value)}


def failure(call: Call, told: str) -> dict[str, Any]:
    """The message that tells the model why nothing came of a call."""
    return result(call, msgspec.json.encode({"error": _sendable(told)}).decode())


def unknown(call: Call, tools: Mapping[str, Tool]) -> dict[str, Any]:
    """The message for a tool that the model made up."""
    return failure(call, f"there is no tool {call.name!r}; the tools are: {', '.join(tools)}")


def raised(call: Call, error: BaseException) -> dict[str, Any]:
    """The message for a tool that raised, or arguments that did not fit."""
    return failure(call, f"{type(error).__name__}: {error}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _sendable(value)
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, say
        return _sendable(str(value))


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def choice_for_round(choice: Any, rounds: int) -> Any:
    """`tool_choice` for a round: one that forces a call holds for the first, or it would never end."""
    return choice if rounds == 0 or choice in (None, "auto", "none") else "auto"


def definitions(tools: Mapping[str, Tool]) -> Sequence[dict[str, Any]]:
    """What the API is told of the tools."""
    return [tool.definition for tool in tools.values()]
