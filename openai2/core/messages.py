"""Messages: OpenAI Chat Completions messages as dicts, stored verbatim as JSON.

Invariants: a message is checked once, here. An invalid one is refused, never converted; so are values that
JSON cannot represent exactly (lone surrogates, NaN, bytes, keys that are not strings).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import msgspec

from openai2.core.nesting import MAX_MESSAGE_DEPTH, is_deeper
from openai2.core.typeguards import is_list, is_mapping, is_sequence, is_text
from openai2.errors import BadInput, LazyMessage, NotAMessage, lazy_message

Message = dict[str, Any]

#: A message in an error text: its number in the batch, or a name such as "the prompt".
Place = int | str

#: The kind of a message in one letter: what rounds and truncation depend on.
USER, SYSTEM, ASSISTANT, CALLS, TOOL, OTHER = "u", "s", "a", "c", "t", "o"
#: The kinds that an answer is made of: what stands behind a question until the next one.
ANSWERS = frozenset((ASSISTANT, CALLS, TOOL, OTHER))
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
    """Return a user message: `{'role': 'user', 'content': text}`."""
    return {"role": "user", "content": text}


def assistant_msg(text: str) -> Message:
    """Return an assistant message: `{'role': 'assistant', 'content': text}`."""
    return {"role": "assistant", "content": text}


def system_msg(text: str) -> Message:
    """Return a system message: `{'role': 'system', 'content': text}`."""
    return {"role": "system", "content": text}


class Multimodal_Part:
    """Content parts for `request(text, *parts)`."""

    @staticmethod
    def text(text: str) -> Message:
        """Return a text part."""
        return {"type": "text", "text": text}

    @staticmethod
    def image(data: bytes, mime: str) -> Message:
        """Return an image part that embeds *data* of the type *mime*, such as `image/webp`."""
        if not _is_binary(data):
            raise TypeError(f"expected bytes as image, got {type(data).__name__}")
        import base64

        encoded = base64.b64encode(data).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{encoded}"}}

    @staticmethod
    def jpeg(data: bytes) -> Message:
        """Return a part that embeds a JPEG image."""
        return Multimodal_Part.image(data, "image/jpeg")

    @staticmethod
    def png(data: bytes) -> Message:
        """Return a part that embeds a PNG image."""
        return Multimodal_Part.image(data, "image/png")


def _is_binary(data: object) -> bool:
    return isinstance(data, (bytes, bytearray, memoryview))


def question(text: str | None, parts: Sequence[Mapping[str, Any]], more: Iterable[Any]) -> list[bytes]:
    """Return the encoded messages of a request: a user message of *text* and *parts*, then *more*.

    Raises BadInput if the text is empty, NotAMessage if a part or a message is invalid.
    """
    encoded: list[bytes] = []
    if text is not None and not is_text(text):
        raise BadInput("expected a str as prompt, got {kind}", kind=type(text).__name__)
    if text is not None and not text.strip() and not parts:
        raise BadInput("the prompt is empty: enter some text")
    if parts:
        content = [*([Multimodal_Part.text(text)] if text else []), *parts]
        encoded.append(encode({"role": "user", "content": content}, "the prompt"))
    elif text is not None:
        encoded.append(encode(user_msg(text), "the prompt"))
    return encoded + encode_all(more)


def encode_all(messages: Iterable[Any]) -> list[bytes]:
    """Return each of *messages* as JSON. Raises NotAMessage for the first invalid one."""
    if isinstance(messages, (str, bytes)) or is_mapping(messages):
        raise NotAMessage("expected a list of messages, got {kind}", kind=type(messages).__name__)
    return [encode(message, place) for place, message in enumerate(messages)]


def encode(message: Any, place: Place) -> bytes:
    """Return a checked message as UTF-8 JSON. *place* names it in the error.

    Raises NotAMessage if it is invalid, or if JSON cannot represent it exactly.
    """
    _check_message(message, place)
    try:
        encoded = _encode(message)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as fault:
        raise _encoding_error(place, fault) from None
    if is_deeper(encoded, MAX_MESSAGE_DEPTH):
        raise _encoding_error(place, RecursionError())
    return encoded


def is_message(raw: bytes) -> bool:
    """Return True if *raw* is the JSON of a message."""
    try:
        encode(decode(raw), "the message")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotAMessage):
        return False
    return True


def _place_name(place: Place) -> str | LazyMessage:
    if not isinstance(place, int):
        return place
    return lazy_message("message {number}", number=place)


def _encoding_error(place: Place, fault: Exception) -> NotAMessage:
    name = _place_name(place)
    if isinstance(fault, UnicodeEncodeError):
        return NotAMessage("{place} holds a lone surrogate, which UTF-8 cannot encode", place=name)
    if isinstance(fault, RecursionError):
        return NotAMessage("{place} is nested too deeply", place=name)
    return NotAMessage("{place} cannot be encoded as JSON: {fault}", place=name, fault=str(fault))


def _check_message(message: Any, place: Place) -> None:
    if not is_mapping(message):
        raise NotAMessage(
            "{place}: expected a dict with a role, got {kind}",
            place=_place_name(place),
            kind=type(message).__name__,
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise NotAMessage("{place} has no role", place=_place_name(place))
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        return  # the usual message: nothing nested to check
    if not (is_text(content) or is_sequence(content)) and (content is not None or len(message) < 2):
        raise NotAMessage("{place}: expected text or a list of parts as content", place=_place_name(place))
    if content is None and role in ("user", "system", "developer", "tool"):
        raise NotAMessage("{place}: a {role} message needs content", place=_place_name(place), role=role)
    if is_sequence(content):
        for number, part in enumerate(content):
            if not isinstance(part, (Mapping, str)):
                raise NotAMessage(
                    "{place}: expected a dict or a str as part {number} of its content, got {kind}",
                    place=_place_name(place),
                    number=number,
                    kind=type(part).__name__,
                )
    try:
        _check_json(message, place)
    except RecursionError as fault:
        raise _encoding_error(place, fault) from None


def _check_json(value: Any, place: Place) -> None:
    """Refuse values that msgspec would convert: NaN to null, bytes to base64, int keys to str."""
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotAMessage(
                "{place} holds {value}, which JSON cannot represent", place=_place_name(place), value=value
            )
    elif is_mapping(value):
        for key, inner in value.items():
            if not is_text(key):
                raise NotAMessage(
                    "{place}: expected strings as keys, got {key}", place=_place_name(place), key=repr(key)
                )
            _check_json(inner, place)
    elif is_sequence(value):
        for inner in value:
            _check_json(inner, place)
    else:
        raise NotAMessage(
            "{place} holds a {kind}, which JSON cannot represent",
            place=_place_name(place),
            kind=type(value).__name__,
        )


#: Decode a message into a new dict. Not wrapped in a function, which would slow down long views by a fifth.
decode: Callable[[bytes], Message] = msgspec.json.Decoder(Message).decode


def kind_of(raw: bytes | msgspec.Raw) -> str:
    """Return the one-letter kind of an encoded message."""
    head = _head(raw)
    if head.role == "assistant" and (head.tool_calls or head.function_call):
        return CALLS
    return _KINDS.get(head.role, OTHER)


def kind(message: Mapping[str, Any]) -> str:
    """Return the one-letter kind of a message."""
    role = message.get("role", "")
    if role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return CALLS
    return _KINDS.get(role, OTHER)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message for people, with `[image_url]` and the like for parts without text."""
    content = message.get("content")
    if isinstance(content, str):
        text = content
    elif is_list(content):
        text = "\n".join(_part_text(part) for part in content)
    else:
        refusal = message.get("refusal")
        text = refusal if isinstance(refusal, str) else ""
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
    """A user message and everything after it up to the next user message.

    `str()` and `repr()` return `[user]:再往后呢? [assistant]:7`, and an empty string for an empty round.
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
