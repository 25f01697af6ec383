"""Accumulate the response of a Chat Completions server: bytes in, a message out. No I/O.

Invariants:
- An incomplete response raises `RequestError`; it is never returned as an answer. That covers a body that is
  not a completion, a stream without a finish reason or `[DONE]`, broken JSON, bad UTF-8, and errors sent
  inside a stream.
- Fields that this module does not know are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openai2.core.request_events import REASONING, RequestError
from openai2.core.typeguards import is_dict, is_list, is_mapping
from openai2.request.deltas import drop_empty_fields, merge
from openai2.request.sse import SSEDecoder

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    """The common delta. Any other is decoded as a dict, so that unknown fields are kept."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


# Fields that the answer does not need are of any type: servers send null, numbers and worse.
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
_NOT_A_COMPLETION = "the server's answer is not a chat completion"


def broken(what: str, cause: BaseException | None = None) -> RequestError:
    """Return the error for an unusable response; the caller sees an openai.APIConnectionError."""
    error = RequestError("APIConnectionError", what)
    error.__cause__ = cause
    return error


def api_error(body: Any) -> RequestError:
    """Return the error that the server sent in place of an answer."""
    known: Mapping[str, Any] = body if is_mapping(body) else {}
    message = known.get("message")
    code = known.get("code")
    kind = known.get("type")
    error = RequestError(
        "APIError",
        message if isinstance(message, str) and message else "An error occurred during streaming",
        code=None if code is None else str(code),
        type=kind if isinstance(kind, str) else None,
    )
    error.body = body
    return error


class ResponseAccumulator:
    """A response as it arrives: `feed_chunk` takes a streamed event, `feed_body` a whole body.

    `message`, `choices` and the other members return what has arrived.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.usage: dict[str, Any] | None = None
        self.is_done = False
        #: The reasoning of the first choice in the last chunk.
        self.new_reasoning = ""
        #: Whether the last chunk brought a part of an answer.
        self.has_advanced = False
        self._texts: dict[int, list[str]] = {}
        self._fields: dict[int, dict[str, Any]] = {}
        self._finish: dict[int, str] = {}
        self._logprobs: list[Any] = []
        self._whole: list[dict[str, Any]] = []
        self._reasoning: dict[int, dict[str, list[str]]] = {}

    # -- streamed

    def feed_chunk(self, data: bytes) -> str:
        """Add one streamed event; return the new text of the first choice, '' if there is none."""
        self.new_reasoning, self.has_advanced = "", False
        if data.startswith(b"[DONE]"):
            self.is_done = True
            return ""
        if not data.strip():
            return ""
        try:
            return self._feed_chunk(data)
        except _UNREADABLE as cause:
            raise broken("the server sent a chunk that is not a chat completion", cause) from cause

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
            self.has_advanced = True
        if choice.logprobs and index == 0:
            self._logprobs.append(choice.logprobs)
        try:
            delta = _delta(choice.delta)
        except msgspec.DecodeError:
            return self._feed_fields(index, choice.delta)
        for name in REASONING:
            if piece := getattr(delta, name):
                self._add_reasoning(index, name, piece)
        return self._add_text(index, delta.content)

    def _add_text(self, index: int, text: str | None) -> str:
        if text:
            self._texts.setdefault(index, []).append(text)
            self.has_advanced = True
        return text or ""

    def _add_reasoning(self, index: int, name: str, piece: str) -> None:
        known = self._reasoning.setdefault(index, {})
        known.setdefault(name, []).append(piece)
        self.has_advanced = True
        if index == 0 and name == next(iter(known)):  # some servers send the same under both names
            self.new_reasoning += piece

    def _feed_fields(self, index: int, raw: msgspec.Raw) -> str:
        delta = _decode(raw)
        if delta is None:
            return ""
        if not is_dict(delta):
            raise broken("the server sent a chunk whose delta is not an object")
        text = delta.pop("content", None)
        if text is not None and not isinstance(text, str):
            raise broken("the server sent a chunk whose content is not text")
        for name in REASONING:
            if isinstance(piece := delta.get(name), str):
                del delta[name]
                if piece:
                    self._add_reasoning(index, name, piece)
        if delta:
            if any(value for name, value in delta.items() if name != "role"):
                self.has_advanced = True
            merge(self._fields.setdefault(index, {}), delta)
        return self._add_text(index, text)

    def has_answer(self, choices: int = 1) -> bool:
        """Return whether all choices are finished: only the token count and `[DONE]` may follow."""
        return self.is_done or len(self._finish) >= max(choices, len({*self._texts, *self._fields}))

    def check_finished(self) -> None:
        """Raise RequestError if the stream ended before the answer did."""
        if not self.is_done and not self._finish:
            raise broken("the stream was cut: it ended without a finish reason or [DONE]")
        if self.message() is None:
            raise broken("the stream ended without an answer")

    # -- whole

    def feed_body(self, body: bytes) -> str:
        """Add a whole response; return the text of its first choice, '' if it has none.

        A stream that was not asked for is accumulated. Raises RequestError, a *final* one if the server does
        not speak this API, so that a retry would not help.
        """
        if body.lstrip()[:5] == b"data:":
            return self._feed_events(body)
        try:
            return self._feed_completion(body)
        except RequestError as error:
            is_cut = not body.strip() or "truncated" in str(error.__cause__)
            error.final = error.kind != "APIError" and not is_cut
            raise

    def _feed_events(self, body: bytes) -> str:
        decoder = SSEDecoder()
        texts = [self.feed_chunk(data) for part in (decoder.feed(body), decoder.finish()) for data in part]
        self.check_finished()
        return "".join(texts)

    def _feed_completion(self, body: bytes) -> str:
        try:
            completion = _decode(body)
        except _UNREADABLE as cause:
            is_page = body.lstrip()[:1] == b"<"
            what = "a page (HTML or XML), not a chat completion" if is_page else "not JSON"
            raise broken(f"the server's answer is {what}", cause) from cause
        if not is_dict(completion):
            raise broken(_NOT_A_COMPLETION)
        if completion.get("error") and not completion.get("choices"):
            raise api_error(completion["error"])
        choices = completion.get("choices")
        if not is_list(choices) or not choices:
            raise broken(f"{_NOT_A_COMPLETION}: it has no choices")
        for choice in choices:
            if not is_dict(choice) or not is_dict(choice.get("message")):
                raise broken(f"{_NOT_A_COMPLETION}: a choice has no message")
        content = choices[0]["message"].get("content")
        if content is not None and not isinstance(content, (str, list)):
            raise broken(f"{_NOT_A_COMPLETION}: its content is not text")
        self._whole = choices
        self.id = _text(completion.get("id"))
        self.model = _text(completion.get("model"))
        usage = completion.get("usage")
        self.usage = usage if is_dict(usage) else None
        self.is_done = True
        return content if isinstance(content, str) else ""

    # -- the result

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, in the API's word."""
        if self._whole:
            return _text(self._whole[0].get("finish_reason"))
        return self._finish.get(0)

    def message(self) -> dict[str, Any] | None:
        """Return the answer as a message without empty fields; None if nothing came."""
        if self._whole:
            return drop_empty_fields({"role": "assistant", **self._whole[0]["message"]})
        return self._streamed(0)

    def _streamed(self, index: int) -> dict[str, Any] | None:
        # Another thread takes drafts while more arrives, so this walks through copies.
        texts, fields = self._texts.get(index), dict(self._fields.get(index, {}))
        reasoning = {name: "".join(parts) for name, parts in dict(self._reasoning.get(index, {})).items()}
        rest = {**reasoning, **{name: value for name, value in fields.items() if name != "role"}}
        if texts is None and not any(rest.values()):
            return None if index not in self._finish else {"role": "assistant", "content": ""}
        content = None if texts is None else "".join(texts)
        if texts is None and index in self._finish and not rest.keys() - {*REASONING}:
            content = ""  # reasoning without an answer
        if is_list(rest.get("tool_calls")):  # `index` belongs to the stream, not to the call
            rest["tool_calls"] = [
                {name: value for name, value in dict(call).items() if name != "index"}
                for call in list(rest["tool_calls"])
                if is_mapping(call)
            ]
        role = _text(fields.get("role")) or "assistant"
        return drop_empty_fields({"role": role, "content": content, **rest})

    def partial(self) -> bytes | None:
        """Return the encoded message so far; None if nothing came. Safe in any thread."""
        fields = dict(self._fields.get(0, {}))
        has_fields = any(value for name, value in fields.items() if name != "role")
        if not self._texts.get(0) and not self._reasoning.get(0) and not has_fields:
            return None
        message = self._streamed(0)
        return None if message is None else _encode(message)

    def choices(self) -> list[msgspec.Raw]:
        """Return the further choices of a request with `n > 1`, verbatim."""
        if self._whole:
            return [msgspec.Raw(_encode(choice)) for choice in self._whole[1:]]
        indexes = sorted({*self._texts, *self._fields, *self._finish, *self._reasoning} - {0})
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
        """Return the log probabilities of the first choice; None if there are none."""
        merged: dict[str, Any] = {}
        if self._whole:
            merged = self._whole[0].get("logprobs") or {}
        for piece in self._logprobs:
            merge(merged, piece)
        return msgspec.Raw(_encode(merged)) if merged else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
