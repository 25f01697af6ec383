"""Messages: one OpenAI Chat Completions message is a dict, kept verbatim as its JSON.

Rules: what comes in is checked once, here, and refused by name of its place rather than bent into
shape; what JSON cannot hold exactly (lone surrogates, NaN, bytes, keys that are no strings) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import msgspec

from openai2.core.typeguards import is_list, is_mapping, is_sequence, is_text
from openai2.errors import BadInput, LazyMessage, NotAMessage, lazy_message

Message = dict[str, Any]

#: What names a message in an error: its number in the batch, or what it is for.
Place = int | str

#: Kinds, one letter a message: what rounds and truncation need to know of it.
USER, SYSTEM, ASSISTANT, CALLS, TOOL, OTHER = "u", "s", "a", "c", "t", "o"
_KINDS = {
    "user": USER,
    "system": SYSTEM,
    "developer": SYSTEM,
    "assistant": ASSISTANT,
    "tool": TOOL,
    "function": TOOL,
}

_encode = msgspec.json.Encoder().encode


class _Head(msgspec.Struct):
    role: str = ""
    tool_calls: Any = None
    function_call: Any = None


_head = msgspec.json.Decoder(_Head).decode


def user_msg(text: str) -> Message:
    """A user message: `{'role': 'user', 'content': text}`."""
    return {"role": "user", "content": text}


def assistant_msg(text: str) -> Message:
    """An assistant message: `{'role': 'assistant', 'content': text}`."""
    return {"role": "assistant", "content": text}


def system_msg(text: str) -> Message:
    """A system message: `{'role': 'system', 'content': text}`."""
    return {"role": "system", "content": text}


class Multimodal_Part:
    """Content parts for `request(text, *parts)`."""

    @staticmethod
    def text(text: str) -> Message:
        """A text part."""
        return {"type": "text", "text": text}

    @staticmethod
    def image(data: bytes, mime: str) -> Message:
        """An image part that carries *data* of the type *mime*, such as `image/webp`, in itself."""
        if not _is_binary(data):
            raise TypeError(f"an image part is made from bytes, not from {type(data).__name__}")
        import base64

        encoded = base64.b64encode(data).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{encoded}"}}

    @staticmethod
    def jpeg(data: bytes) -> Message:
        """A part that carries a JPEG image, given as its bytes."""
        return Multimodal_Part.image(data, "image/jpeg")

    @staticmethod
    def png(data: bytes) -> Message:
        """A part that carries a PNG image, given as its bytes."""
        return Multimodal_Part.image(data, "image/png")


def _is_binary(data: object) -> bool:
    return isinstance(data, (bytes, bytearray, memoryview))


def question(text: str | None, parts: Sequence[Mapping[str, Any]], more: Iterable[Any]) -> list[bytes]:
    """The messages that one request adds, encoded: a user message of *text* and *parts*, then *more*.

    Raises BadInput where the text is empty, NotAMessage where something is no part or no message.
    """
    encoded: list[bytes] = []
    if text is not None and not is_text(text):
        raise BadInput("a prompt is a str, not {kind}", kind=type(text).__name__)
    if text is not None and not text.strip() and not parts:
        raise BadInput("the prompt is empty: say something")
    if parts:
        content = [*([Multimodal_Part.text(text)] if text else []), *parts]
        encoded.append(encode({"role": "user", "content": content}, "the prompt"))
    elif text is not None:
        encoded.append(encode(user_msg(text), "the prompt"))
    return encoded + encode_all(more)


def encode_all(messages: Iterable[Any]) -> list[bytes]:
    """Each of *messages* as JSON; all of them are looked at before any is used."""
    if isinstance(messages, (str, bytes)) or is_mapping(messages):
        raise NotAMessage("a list of messages is wanted, not {kind}", kind=type(messages).__name__)
    return [encode(message, place) for place, message in enumerate(messages)]


def encode(message: Any, place: Place) -> bytes:
    """One message as UTF-8 JSON, checked. *place* names it in the error.

    Raises NotAMessage where it is none, or holds what JSON cannot hold exactly.
    """
    _check_message(message, place)
    try:
        return _encode(message)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as fault:
        raise _unwritable(place, fault) from None


def _named(place: Place) -> str | LazyMessage:
    if not isinstance(place, int):
        return place
    return lazy_message("message {number}", number=place)


def _unwritable(place: Place, fault: Exception) -> NotAMessage:
    named = _named(place)
    if isinstance(fault, UnicodeEncodeError):
        return NotAMessage("{place} holds a lone surrogate, which no UTF-8 text can hold", place=named)
    if isinstance(fault, RecursionError):
        return NotAMessage("{place} is nested too deeply", place=named)
    return NotAMessage("{place} cannot be written as JSON: {fault}", place=named, fault=str(fault))


def _check_message(message: Any, place: Place) -> None:
    if not is_mapping(message):
        raise NotAMessage(
            "{place} is no message: a dict with a role is wanted, not {kind}",
            place=_named(place),
            kind=type(message).__name__,
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise NotAMessage("{place} is no message: it has no role", place=_named(place))
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        return  # the everyday message: nothing nested to look into
    if not (is_text(content) or is_sequence(content)) and (content is not None or len(message) < 2):
        raise NotAMessage(
            "{place} is no message: its content is neither text nor a list of parts", place=_named(place)
        )
    if content is None and role in ("user", "system", "developer", "tool"):
        raise NotAMessage(
            "{place} is no message: a {role} message needs content", place=_named(place), role=role
        )
    if is_sequence(content):
        for number, part in enumerate(content):
            if not isinstance(part, (Mapping, str)):
                raise NotAMessage(
                    "{place} is no message: part {number} of its content is {kind}",
                    place=_named(place),
                    number=number,
                    kind=type(part).__name__,
                )
    try:
        _check_json(message, place)
    except RecursionError as fault:
        raise _unwritable(place, fault) from None


def _check_json(value: Any, place: Place) -> None:
    """Refuse what an encoder would bend: NaN to null, bytes to base64, numbers as keys to strings."""
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotAMessage(
                "{place} holds {value}, which JSON has no word for", place=_named(place), value=value
            )
    elif is_mapping(value):
        for key, inner in value.items():
            if not is_text(key):
                raise NotAMessage(
                    "{place} has the key {key}, which is no string", place=_named(place), key=repr(key)
                )
            _check_json(inner, place)
    elif is_sequence(value):
        for inner in value:
            _check_json(inner, place)
    else:
        raise NotAMessage(
            "{place} holds a {kind}, which JSON has no word for",
            place=_named(place),
            kind=type(value).__name__,
        )


#: The encoded message as a dict of one's own. The decoder itself: a function around it would take a fifth of
#: the time that a long view takes.
decode: Callable[[bytes], Message] = msgspec.json.Decoder(Message).decode


def kind_of(raw: bytes | msgspec.Raw) -> str:
    """The one-letter kind of an encoded message."""
    head = _head(raw)
    if head.role == "assistant" and (head.tool_calls or head.function_call):
        return CALLS
    return _KINDS.get(head.role, OTHER)


def kind(message: Mapping[str, Any]) -> str:
    """The one-letter kind of a message."""
    role = message.get("role", "")
    if role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return CALLS
    return _KINDS.get(role, OTHER)


def text_of(message: Mapping[str, Any]) -> str:
    """What a person would read of a message: its text, with a word in brackets for what is none."""
    content = message.get("content")
    if isinstance(content, str):
        text = content
    elif is_list(content):
        text = "\n".join(_part_text(part) for part in content)
    else:
        text = message.get("refusal") or ""
    calls = message.get("tool_calls")
    if is_list(calls):
        text = "\n".join(filter(None, [text, *(_call_text(call) for call in calls)]))
    return text


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if is_mapping(part):
        if isinstance(part.get("text"), str):
            return str(part["text"])
        return f"[{part.get('type', 'part')}]"
    return "[part]"


def _call_text(call: Any) -> str:
    function = call.get("function") if is_mapping(call) else None
    if is_mapping(function):
        return f"[{function.get('name', 'tool')}({function.get('arguments', '')})]"
    return "[tool call]"


class Round(Sequence[Message]):
    """A user message and everything after it up to the next one.

    `str()` and `repr()` read `[user]:再往后呢? [assistant]:7`; an empty round reads as nothing.
    """

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages = tuple(messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return self._messages[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Round) and self._messages == other._messages

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return " ".join(f"[{message.get('role')}]:{text_of(message)}" for message in self._messages)

    __repr__ = __str__
