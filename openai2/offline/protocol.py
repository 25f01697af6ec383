"""The protocol of the offline server: decode requests and build responses in the API's format.

Invariants:
- No I/O, clock or random numbers: the server passes the id and the time of a response.
- What the API would refuse raises `Refusal`, with the API's error object.
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
    """A refused request: an HTTP status and the API's error object."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self.body: dict[str, Any] = {"error": error}


class StreamOptions(msgspec.Struct, frozen=True):
    """The options of a streamed answer."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """The fields that are read of the body of POST /v1/chat/completions."""

    model: str = MODEL
    messages: list[Message] = []
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolUse] | None = None
    tool_choice: str | ToolUse | None = None
    parallel_tool_calls: bool | None = None


class ImageRequest(msgspec.Struct, frozen=True):
    """The fields that are read of the body of POST /v1/images/generations."""

    prompt: str = ""
    n: int | None = None
    response_format: str | None = None


def decode(raw: bytes, kind: type[T]) -> T:
    """Decode a body. Raises Refusal, which names the invalid parameter."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        path = re.search(r"`\$\.?([^`]*)`$", str(error))
        raise Refusal(400, str(error), param=path[1] or None if path else None) from None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"We could not parse the JSON body of your request: {error}") from None


class Chat:
    """The response to a chat request, complete or in chunks."""

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
        self._include_usage = (
            request.stream_options is not None and request.stream_options.include_usage is True
        )

    def completion(self) -> dict[str, Any]:
        """Return the complete response."""
        message: dict[str, Any] = {"role": "assistant", "content": self._reply.text or None, "refusal": None}
        if self._reply.calls:
            message["tool_calls"] = [self._call(place, call) for place, call in enumerate(self._reply.calls)]
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": self._finish}
            for index in range(self._choices)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the chunks: the role, each character, the finish reason, the usage if it is asked for."""
        head: dict[str, Any] = {**self._head, "object": "chat.completion.chunk", "choices": []}
        if self._include_usage:
            head["usage"] = None
        for delta in self._deltas():
            for index in range(self._choices):
                finish = None if delta else self._finish
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
                yield {**head, "choices": [choice]}
        if self._include_usage:
            yield {**head, "usage": self._usage}

    def _deltas(self) -> Iterator[dict[str, Any]]:
        """Yield the deltas of each choice; the last one is empty and goes with the finish reason."""
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


def model_response(name: str) -> dict[str, Any]:
    """Return the description of a model. Every name is one."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai2"}


def images_response(request: ImageRequest, base_url: str, created: int) -> dict[str, Any]:
    """Return the images, as data or as URLs. The URL names the colour, so the server keeps no image."""
    if not request.prompt:
        raise Refusal(400, "'prompt' is missing or empty.", param="prompt")
    if request.response_format not in (None, "url", "b64_json"):
        raise Refusal(400, "'response_format' must be 'url' or 'b64_json'.", param="response_format")
    data: list[dict[str, str]] = []
    for index in range(_count(request.n, most=10)):
        colour = zlib.crc32(f"{index} {request.prompt}".encode()) & 0xFFFFFF
        if request.response_format == "url":
            data.append({"url": f"{base_url}/images/{colour:06x}.png"})
        else:
            data.append({"b64_json": base64.b64encode(png(colour)).decode("ascii")})
    return {"created": created, "data": data}


def png(colour: int) -> bytes:
    """Return a PNG of 16 by 16 pixels in one colour (0xRRGGBB), with a comment that says what it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + colour.to_bytes(3, "big") * 16  # a row begins with its filter, here none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)),
            chunk(b"tEXt", b"Comment\0Made offline by a fixed rule; no image model drew it."),
            chunk(b"IDAT", zlib.compress(row * 16)),
            chunk(b"IEND", b""),
        )
    )
