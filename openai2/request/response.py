"""What a Chat Completions server says, bytes in and a message out; no I/O.

Rules: a half is never taken for a whole. A body that is no completion, a stream that ends without a
finish reason or `[DONE]`, broken JSON, bad UTF-8 and an error inside a stream each raise `RequestError`.
Pieces may be cut anywhere: in a line, in a character, one byte at a time or megabytes at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openai2.core.request_events import REASONING, RequestError
from openai2.core.typeguards import is_dict, is_list, is_mapping
from openai2.request.deltas import merge, plain
from openai2.request.sse import Events

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    """The everyday delta; every other goes the slow way, so that nothing unknown is lost."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


# What nobody needs for the answer itself is of any type: servers send null, numbers and worse.
class _Choice(msgspec.Struct):
    delta: msgspec.Raw = msgspec.Raw(b"{}")
    index: int | None = 0
    finish_reason: Any = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    id: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk).decode
_delta = msgspec.json.Decoder(_Delta).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def broken(what: str, cause: BaseException | None = None) -> RequestError:
    """The fault of an answer that cannot be one; the caller sees an openai.APIConnectionError."""
    fault = RequestError("APIConnectionError", what)
    fault.__cause__ = cause
    return fault


def api_error(body: Any) -> RequestError:
    """The fault of an error that came where an answer should have been."""
    known: Mapping[str, Any] = body if is_mapping(body) else {}
    message = known.get("message")
    code = known.get("code")
    kind = known.get("type")
    fault = RequestError(
        "APIError",
        message if isinstance(message, str) and message else "An error occurred during streaming",
        code=None if code is None else str(code),
        type=kind if isinstance(kind, str) else None,
    )
    fault.body = body
    return fault


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
        self._thoughts: dict[int, dict[str, list[str]]] = {}
        #: What the last chunk brought of the first choice's reasoning.
        self.thought = ""
        #: Whether the last chunk brought anything of an answer.
        self.moved = False

    # -- in pieces

    def feed_chunk(self, data: bytes) -> str:
        """One streamed event; the new text of the first choice, '' where it brought none."""
        self.thought, self.moved = "", False
        if data.startswith(b"[DONE]"):
            self.done = True
            return ""
        if not data.strip():
            return ""
        try:
            return self._feed_chunk(data)
        except _UNREADABLE as cause:
            raise broken("the server sent a chunk that is no chat completion", cause) from cause

    def _feed_chunk(self, data: bytes) -> str:
        chunk = _chunk(data)
        if chunk.error:
            raise api_error(chunk.error)
        if is_dict(chunk.usage) and chunk.usage:
            self.usage = chunk.usage
        self.id = self.id or _text(chunk.id)
        self.model = self.model or _text(chunk.model)
        text = ""
        for choice in chunk.choices or ():
            piece = self._feed_choice(choice, choice.index or 0)
            if not choice.index:
                text += piece
        return text

    def _feed_choice(self, choice: _Choice, index: int) -> str:
        if reason := _text(choice.finish_reason):
            self._finish[index] = reason
            self.moved = True
        if choice.logprobs and index == 0:
            self._logprobs.append(choice.logprobs)
        try:
            delta = _delta(choice.delta)
        except msgspec.DecodeError:
            return self._feed_fields(index, choice.delta)
        for name in REASONING:
            if thought := getattr(delta, name):
                self._think(index, name, thought)
        return self._say(index, delta.content)

    def _say(self, index: int, text: str | None) -> str:
        if text:
            self._texts.setdefault(index, []).append(text)
            self.moved = True
        return text or ""

    def _think(self, index: int, name: str, thought: str) -> None:
        known = self._thoughts.setdefault(index, {})
        known.setdefault(name, []).append(thought)
        self.moved = True
        if index == 0 and name == next(iter(known)):  # some servers send the same under both names
            self.thought += thought

    def _feed_fields(self, index: int, raw: msgspec.Raw) -> str:
        delta = _decode(raw)
        if delta is None:
            return ""
        if not is_dict(delta):
            raise broken("the server sent a chunk whose delta is no object")
        text = delta.pop("content", None)
        if text is not None and not isinstance(text, str):
            raise broken("the server sent a chunk whose content is no text")
        for name in REASONING:
            if isinstance(thought := delta.get(name), str):
                del delta[name]
                if thought:
                    self._think(index, name, thought)
        if delta:
            self.moved = self.moved or any(value for name, value in delta.items() if name != "role")
            merge(self._fields.setdefault(index, {}), delta)
        return self._say(index, text)

    def complete(self, choices: int = 1) -> bool:
        """Whether the answer is there: all that may still come is the count of tokens and `[DONE]`."""
        return self.done or len(self._finish) >= max(choices, len({*self._texts, *self._fields}))

    def check_finished(self) -> None:
        """Raise RequestError where the stream ended before the answer did."""
        if not self.done and not self._finish:
            raise broken("the stream was cut: it ended without a finish reason or [DONE]")
        if self.message() is None:
            raise broken("the stream ended without an answer")

    # -- whole

    def feed_body(self, body: bytes) -> str:
        """A whole answer; the text of its first choice, '' where it has none.

        A stream that was not asked for is put together. Raises RequestError; a *final* one if the server does
        not speak this API, so that a retry would not help.
        """
        if body.lstrip()[:5] == b"data:":
            return self._feed_events(body)
        try:
            return self._feed_whole(body)
        except RequestError as fault:
            cut = not body.strip() or "truncated" in str(fault.__cause__)
            fault.final = fault.kind != "APIError" and not cut
            raise

    def _feed_events(self, body: bytes) -> str:
        events = Events()
        texts = [self.feed_chunk(data) for part in (events.feed(body), events.finish()) for data in part]
        self.check_finished()
        return "".join(texts)

    def _feed_whole(self, body: bytes) -> str:
        try:
            completion = _decode(body)
        except _UNREADABLE as cause:
            what = "a page (HTML or XML), no chat completion" if body.lstrip()[:1] == b"<" else "no JSON"
            raise broken(f"the server's answer is {what}", cause) from cause
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
            return plain({"role": "assistant", **self._whole[0]["message"]})
        return self._streamed(0)

    def _streamed(self, index: int) -> dict[str, Any] | None:
        # A draft is taken by another thread while more comes: what is walked through here is a copy.
        texts, fields = self._texts.get(index), dict(self._fields.get(index, {}))
        thoughts = {name: "".join(parts) for name, parts in dict(self._thoughts.get(index, {})).items()}
        rest = {**thoughts, **{name: value for name, value in fields.items() if name != "role"}}
        if texts is None and not any(rest.values()):
            return None if index not in self._finish else {"role": "assistant", "content": ""}
        content = None if texts is None else "".join(texts)
        if texts is None and index in self._finish and not rest.keys() - {*REASONING}:
            content = ""  # it thought, and said nothing
        if is_list(rest.get("tool_calls")):  # their place in the stream is no part of them
            rest["tool_calls"] = [
                {name: value for name, value in dict(call).items() if name != "index"}
                for call in list(rest["tool_calls"])
                if is_mapping(call)
            ]
        return plain({"role": _text(fields.get("role")) or "assistant", "content": content, **rest})

    def partial(self) -> bytes | None:
        """What came so far as an encoded message; None for nothing. Safe to call from any thread."""
        texts, fields = self._texts.get(0), dict(self._fields.get(0, {}))
        thoughts = self._thoughts.get(0)
        if not texts and not thoughts and not any(v for name, v in fields.items() if name != "role"):
            return None
        message = self._streamed(0)
        return None if message is None else _encode(message)

    def choices(self) -> list[msgspec.Raw]:
        """The further choices of a request with `n > 1`, verbatim."""
        if self._whole:
            return [msgspec.Raw(_encode(choice)) for choice in self._whole[1:]]
        indexes = sorted({*self._texts, *self._fields, *self._finish, *self._thoughts} - {0})
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
