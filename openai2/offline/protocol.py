"""What goes over the offline server's wire: requests decoded, replies in the API's shapes.

The rule of this module: values in, values out. The id and the time of a response come from outside; the
server does the sending. What the API would refuse is raised as a `Refusal`, in the API's own terms.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from openai2.offline.rules import Function, Message, Reply, ToolUse, estimate, estimate_prompt, reply

MODEL = "offline"
T = TypeVar("T")


class Refusal(Exception):
    """A request that is not answered: an HTTP status and the API's error object."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self.body: dict[str, Any] = {"error": error}


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of POST /v1/chat/completions, as far as it matters here."""

    model: str = MODEL
    messages: list[Message] = []
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolUse] | None = None
    tool_choice: str | ToolUse | None = None
    parallel_tool_calls: bool | None = None


class ImageRequest(msgspec.Struct, frozen=True):
    """The body of POST /v1/images/generations, as far as it matters here."""

    prompt: str = ""
    n: int | None = None
    response_format: str | None = None


def decode(raw: bytes, kind: type[T]) -> T:
    """The body as a request of this kind, or a refusal that names the parameter at fault."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        place = re.search(r"`\$\.?([^`]*)`$", str(error))
        raise Refusal(400, str(error), param=place[1] or None if place else None) from None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}") from None


class Chat:
    """One chat request and all that may be sent for it: the whole completion, or its chunks."""

    def __init__(self, request: ChatRequest, key: str, created: int) -> None:
        if not request.messages:
            raise Refusal(400, "'messages' must hold at least one message.", param="messages")
        self._choices = _count(request.n, most=128)
        self._reply = _reply(request)
        self._key = key
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{key}",
            "created": created,
            "model": request.model,
            "system_fingerprint": "offline-not-a-language-model",
        }
        self._finish = "tool_calls" if self._reply.calls else "stop"
        prompt = estimate_prompt(request.messages)
        calls = sum(estimate(call.name) + estimate(call.arguments) for call in self._reply.calls)
        completion = (estimate(self._reply.text) + calls) * self._choices
        self._usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        self._tell_usage = request.stream_options is not None and request.stream_options.include_usage is True

    def completion(self) -> dict[str, Any]:
        """The answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": self._reply.text or None, "refusal": None}
        if self._reply.calls:
            message["tool_calls"] = [self._call(place, call) for place, call in enumerate(self._reply.calls)]
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": self._finish}
            for index in range(self._choices)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The answer in chunks of one character: the role first, the finish reason last, then the usage."""
        head: dict[str, Any] = {**self._head, "object": "chat.completion.chunk", "choices": []}
        if self._tell_usage:
            head["usage"] = None
        for delta in self._deltas():
            for index in range(self._choices):
                finish = None if delta else self._finish
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
                yield {**head, "choices": [choice]}
        if self._tell_usage:
            yield {**head, "usage": self._usage}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        """What each choice is sent; the empty last one carries the finish reason."""
        calls = self._reply.calls
        yield {"role": "assistant", "content": None if calls else "", "refusal": None}
        for character in self._reply.text:
            yield {"content": character}
        for place, call in enumerate(calls):
            yield {"tool_calls": [{"index": place, **self._call(place, Function(call.name))}]}
            for character in call.arguments:
                yield {"tool_calls": [{"index": place, "function": {"arguments": character}}]}
        yield {}

    def _call(self, place: int, call: Function) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": f"call_{self._key}_{place}", "type": "function", "function": function}


def _count(n: int | None, *, most: int) -> int:
    n = 1 if n is None else n
    if not 1 <= n <= most:
        raise Refusal(400, f"'n' must be from 1 to {most}, not {n}.", param="n")
    return n


def _reply(request: ChatRequest) -> Reply:
    choice = request.tool_choice
    names = [tool.function.name for tool in request.tools or () if tool.function.name]
    if isinstance(choice, ToolUse):
        names = [name for name in names if name == choice.function.name]
        if not names:
            raise Refusal(400, "'tool_choice' names a function that is not in 'tools'.", param="tool_choice")
    elif choice == "none":
        names = []
    forced = choice == "required" or isinstance(choice, ToolUse)
    return reply(request.messages, names, forced=forced, parallel=request.parallel_tool_calls is not False)


def model(name: str) -> dict[str, Any]:
    """The description of a model: every name has one."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai2"}


def images(request: ImageRequest, base_url: str, created: int) -> dict[str, Any]:
    """The pictures asked for, in the answer or as addresses; the address holds all that the picture is."""
    if not request.prompt:
        raise Refusal(400, "'prompt' is missing or empty.", param="prompt")
    if request.response_format not in (None, "url", "b64_json"):
        raise Refusal(400, "'response_format' must be 'url' or 'b64_json'.", param="response_format")
    pictures: list[dict[str, str]] = []
    for index in range(_count(request.n, most=10)):
        colour = zlib.crc32(f"{index} {request.prompt}".encode()) & 0xFFFFFF
        if request.response_format == "url":
            pictures.append({"url": f"{base_url}/images/{colour:06x}.png"})
        else:
            pictures.append({"b64_json": base64.b64encode(png(colour)).decode("ascii")})
    return {"created": created, "data": pictures}


def png(colour: int) -> bytes:
    """A PNG of 16 by 16 pixels of this colour (0xRRGGBB), with a comment that says what it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + colour.to_bytes(3, "big") * 16  # each row begins with its filter: none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)),
            chunk(b"tEXt", b"Comment\0Made offline by a fixed rule; no image model drew it."),
            chunk(b"IDAT", zlib.compress(row * 16)),
            chunk(b"IEND", b""),
        )
    )
