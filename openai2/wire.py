"""What a Chat Completions server says, bytes in and a message out; no I/O.

Rules: a half is never taken for a whole. A body that is no completion, a stream that ends without a
finish reason or `[DONE]`, broken JSON, bad UTF-8 and an error inside a stream each raise `Fault`.
Pieces may be cut anywhere: in a line, in a character, one byte at a time or megabytes at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from openai2.shapes import is_dict, is_list, is_mapping
from openai2.turn import Fault

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    """The everyday delta; every other goes the slow way, so that nothing unknown is lost."""

    content: str


class _Choice(msgspec.Struct):
    delta: msgspec.Raw = msgspec.Raw(b"{}")
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk).decode
_delta = msgspec.json.Decoder(_Delta).decode


def broken(what: str, cause: BaseException | None = None) -> Fault:
    """The fault of an answer that cannot be one; the caller sees an openai.APIConnectionError."""
    fault = Fault("APIConnectionError", what)
    fault.__cause__ = cause
    return fault


def api_error(body: Any) -> Fault:
    """The fault of an error that came where an answer should have been."""
    known: Mapping[str, Any] = body if is_mapping(body) else {}
    message = known.get("message")
    code = known.get("code")
    kind = known.get("type")
    fault = Fault(
        "APIError",
        message if isinstance(message, str) and message else "An error occurred during streaming",
        code=None if code is None else str(code),
        type=kind if isinstance(kind, str) else None,
    )
    fault.body = body
    return fault


class Events:
    """Server-sent events: `feed` takes bytes as they come and gives the data of each whole event."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of the events that *piece* completes."""
        self._rest += piece
        rest = self._rest
        if b"\r" in piece or self._after_cr:
            yield from self._feed_any_line_end()
            return
        start, search = 0, self._searched
        while (end := rest.find(b"\n", search)) >= 0:
            line = bytes(rest[start:end])
            start = search = end + 1
            if (data := self._line(line)) is not None:
                yield data
        del rest[:start]
        self._searched = len(rest)

    def _feed_any_line_end(self) -> Iterator[bytes]:
        # A lone CR ends a line too, so one at the very end has to wait for what follows.
        self._after_cr = True
        text = bytes(self._rest)
        held = text.endswith(b"\r")
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(lines.pop() + (b"\r" if held else b""))
        self._searched = 0
        for line in lines:
            if (data := self._line(line)) is not None:
                yield data

    def finish(self) -> Iterator[bytes]:
        """The event that the end of the stream completes, where its last blank line is missing."""
        for line in (bytes(self._rest).rstrip(b"\r"), b""):
            if (data := self._line(line)) is not None:
                yield data
        self._rest.clear()

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            if not self._data:
                return None
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data = []
            return data
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        return None


class Reply:
    """The answer as it comes, whole or in pieces, and what it is when it is there.

    `feed_chunk` takes one streamed event and gives the text to show; `feed_body` takes a whole answer.
    Then `message`, `choices` and the rest say what came.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.usage: dict[str, Any] | None = None
        self.done = False
        self._texts: dict[int, list[str]] = {}
        self._fields: dict[int, dict[str, Any]] = {}
        self._finish: dict[int, str] = {}
        self._logprobs: list[Any] = []
        self._whole: list[dict[str, Any]] = []

    # -- in pieces

    def feed_chunk(self, data: bytes) -> str:
        """One streamed event; the new text of the first choice, '' where it brought none."""
        if data.startswith(b"[DONE]"):
            self.done = True
            return ""
        try:
            chunk = _chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
            raise broken("the server sent a chunk that is no chat completion", cause) from cause
        if chunk.error:
            raise api_error(chunk.error)
        if chunk.usage:
            self.usage = chunk.usage
        if self.id is None:
            self.id = chunk.id
        if self.model is None:
            self.model = chunk.model
        text = ""
        for choice in chunk.choices or ():
            piece = self._feed_choice(choice)
            if choice.index == 0:
                text += piece
        return text

    def _feed_choice(self, choice: _Choice) -> str:
        index = choice.index
        if choice.finish_reason:
            self._finish[index] = choice.finish_reason
        if choice.logprobs and index == 0:
            self._logprobs.append(choice.logprobs)
        try:
            text = _delta(choice.delta).content
        except msgspec.DecodeError:
            text = self._feed_fields(index, choice.delta)
        if text:
            self._texts.setdefault(index, []).append(text)
        return text

    def _feed_fields(self, index: int, raw: msgspec.Raw) -> str:
        delta = _decode(raw)
        if delta is None:
            return ""
        if not is_dict(delta):
            raise broken("the server sent a chunk whose delta is no object")
        text = delta.pop("content", None)
        if text is not None and not isinstance(text, str):
            raise broken("the server sent a chunk whose content is no text")
        if delta:
            merge(self._fields.setdefault(index, {}), delta)
        return text or ""

    def check_finished(self) -> None:
        """Raise Fault where the stream ended before the answer did."""
        if not self.done and not self._finish:
            raise broken("the stream was cut: it ended without a finish reason or [DONE]")
        if not self._finish and self.message() is None:
            raise broken("the stream ended without an answer")

    # -- whole

    def feed_body(self, body: bytes) -> str:
        """A whole answer; the text of its first choice, '' where it has none."""
        try:
            completion = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
            raise broken("the server's answer is no JSON", cause) from cause
        if not is_dict(completion):
            raise broken("the server's answer is no chat completion")
        if completion.get("error") and not completion.get("choices"):
            raise api_error(completion["error"])
        choices = completion.get("choices")
        if not is_list(choices) or not choices:
            raise broken("the server's answer is no chat completion: it has no choices")
        for choice in choices:
            if not is_dict(choice) or not is_dict(choice.get("message")):
                raise broken("the server's answer is no chat completion: a choice has no message")
        content = choices[0]["message"].get("content")
        if content is not None and not isinstance(content, (str, list)):
            raise broken("the server's answer is no chat completion: its content is no text")
        self._whole = choices
        self.id = _text(completion.get("id"))
        self.model = _text(completion.get("model"))
        usage = completion.get("usage")
        self.usage = usage if is_dict(usage) else None
        self.done = True
        return content if isinstance(content, str) else ""

    # -- what came

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, in the API's word."""
        if self._whole:
            return _text(self._whole[0].get("finish_reason"))
        return self._finish.get(0)

    def message(self) -> dict[str, Any] | None:
        """The answer as a message, less the fields that the API fills with null or an empty list.

        None where nothing came.
        """
        if self._whole:
            return plain(self._whole[0]["message"])
        return self._streamed(0)

    def _streamed(self, index: int) -> dict[str, Any] | None:
        # A draft is taken by another thread while more comes: what is walked through here is a copy.
        texts, fields = self._texts.get(index), dict(self._fields.get(index, {}))
        rest = {name: value for name, value in fields.items() if name != "role"}
        if texts is None and not any(rest.values()):
            return None if index not in self._finish else {"role": "assistant", "content": ""}
        content = None if texts is None else "".join(texts)
        if is_list(rest.get("tool_calls")):  # their place in the stream is no part of them
            rest["tool_calls"] = [
                {name: value for name, value in dict(call).items() if name != "index"}
                for call in list(rest["tool_calls"])
            ]
        return plain({"role": fields.get("role") or "assistant", "content": content, **rest})

    def partial(self) -> bytes | None:
        """What came so far as an encoded message; None for nothing. Safe to call from any thread."""
        texts, fields = self._texts.get(0), dict(self._fields.get(0, {}))
        if not texts and not any(value for name, value in fields.items() if name != "role"):
            return None
        message = self._streamed(0)
        return None if message is None else _encode(message)

    def choices(self) -> list[msgspec.Raw]:
        """The further choices of a request with `n > 1`, verbatim."""
        if self._whole:
            return [msgspec.Raw(_encode(choice)) for choice in self._whole[1:]]
        indexes = sorted((set(self._texts) | set(self._fields) | set(self._finish)) - {0})
        return [
            msgspec.Raw(
                _encode(
                    {
                        "index": index,
                        "message": self._streamed(index),
                        "finish_reason": self._finish.get(index),
                    }
                )
            )
            for index in indexes
        ]

    def logprobs(self) -> msgspec.Raw | None:
        """The log probabilities of the first choice, where they were asked for."""
        found: dict[str, Any] = {}
        if self._whole:
            found = self._whole[0].get("logprobs") or {}
        for piece in self._logprobs:
            merge(found, piece)
        return msgspec.Raw(_encode(found)) if found else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


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
            into[name] = value


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
            match = next((held for held in known if held.get("index") == index), None)
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
        inner = usage_in_few(value) if is_mapping(value) else value
        if inner:
            few[name] = inner
    return few or None
