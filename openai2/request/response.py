"""Accumulate the response of a Chat Completions server: bytes in, a message out. No I/O.

Invariants:
- An incomplete response raises `RequestError`; it is never returned as an answer. That covers a body that is
  not a completion, a stream without a finish reason or `[DONE]`, broken JSON, bad UTF-8, and errors sent
  inside a stream.
- Fields that this module does not know are kept.
- Halves of surrogate pairs are joined, in text across pieces too; see `halves`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.core.request_events import REASONING, RequestError
from openai2.core.server_fields import METADATA
from openai2.core.typeguards import is_dict, is_list
from openai2.request import halves
from openai2.request.deltas import drop_empty_fields, merge, tidy_calls
from openai2.request.server_words import ServerWords, is_error, words_of, words_of_bytes
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
    error: Any = None


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


#: The roles that would make another kind of message of an answer.
_NOT_AN_ANSWERS = ("", "user", "system", "developer", "tool", "function")


def broken(what: str, cause: BaseException | None = None) -> RequestError:
    """Return the error for an unusable response; the caller sees an openai.APIConnectionError."""
    error = RequestError("APIConnectionError", what)
    error.__cause__ = cause
    return error


def api_error(body: Any) -> RequestError:
    """Return the error that the server sent in place of an answer."""
    words = words_of(body)
    text = words.text or "the server sent an error without a reason in place of an answer"
    error = RequestError("APIError", text, code=words.code, type=words.type)
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
        self._logprobs: dict[int, list[dict[str, Any]]] = {}
        #: Parts of a content that are not text, each with the number of texts before it.
        self._parts: dict[int, list[tuple[int, Any]]] = {}
        self._has_halves = False
        self._held: dict[tuple[int, str], str] = {}  # first halves whose second may follow
        self._whole: list[dict[str, Any]] = []
        self._reasoning: dict[int, dict[str, list[str]]] = {}

    # -- streamed

    def feed_chunk(self, data: bytes) -> str:
        """Add one streamed event; return the new text of the first choice, '' if there is none."""
        self.new_reasoning, self.has_advanced = "", False
        if data.startswith(b"[DONE]"):
            self.is_done = True
            return "".join([self._release(index) for index in {index for index, _ in self._held}])
        if not data.strip():
            return ""
        try:
            return self._feed_chunk(data)
        except _UNREADABLE as cause:
            words = words_of_bytes(data)
            if is_error(_decoded(data)):
                raise api_error(_decoded(data)) from cause
            raise broken(
                f"the server sent a chunk that is not a chat completion{_quoted(words)}", cause
            ) from cause

    def _feed_chunk(self, data: bytes) -> str:
        try:
            chunk = _chunk(data)
        except msgspec.DecodeError:
            if (marked := halves.mark(data)) is None:
                raise
            self._has_halves = True
            chunk = _chunk(marked)
        if chunk.error:
            raise api_error(chunk.error)
        if chunk.choices is None and is_error(body := _decoded(data)):
            raise api_error(body)
        if is_dict(chunk.usage) and chunk.usage:
            self.usage = self._joined(chunk.usage)
        self.id = self.id or self._joined(_text(chunk.id))
        self.model = self.model or self._joined(_text(chunk.model))
        text = ""
        for choice in chunk.choices or ():
            piece = self._feed_choice(choice, choice.index or 0)
            if not choice.index:
                text += piece
        return text

    def _feed_choice(self, choice: _Choice, index: int) -> str:
        if choice.error:
            raise api_error(choice.error)
        if is_dict(choice.logprobs):
            self._logprobs.setdefault(index, []).append(choice.logprobs)
        text = self._feed_delta(index, choice.delta)
        if reason := _text(choice.finish_reason):
            self._finish[index] = self._joined(reason)
            self.has_advanced = True
            text += self._release(index)
        return text

    def _feed_delta(self, index: int, raw: msgspec.Raw) -> str:
        try:
            delta = _delta(raw)
        except msgspec.DecodeError:
            return self._feed_fields(index, raw)
        for name in REASONING:
            if piece := getattr(delta, name):
                self._add_reasoning(index, name, piece)
        return self._add_text(index, delta.content)

    def _whole_characters(self, index: int, name: str, piece: str) -> str:
        """Return *piece* without a half at its end, which is held until the next one."""
        if not self._has_halves:
            return piece
        piece = self._held.pop((index, name), "") + piece
        if halves.ends_with_half(piece):
            self._held[index, name] = piece[-1]
            piece = piece[:-1]
        return halves.join(piece)

    def _release(self, index: int) -> str:
        """Replace the halves of a choice that are still held; return the text of the first choice."""
        text = ""
        for held_index, name in [*self._held]:
            if held_index == index:
                half = halves.join(self._held.pop((index, name)))
                if name == "content":
                    text = self._add_text(index, half)
                else:
                    self._add_reasoning(index, name, half)
        return "" if index else text

    def _joined(self, value: Any) -> Any:
        return halves.join_in(value) if self._has_halves else value

    def _add_text(self, index: int, text: str | None) -> str:
        if not text:
            return ""
        self.has_advanced = True
        text = self._whole_characters(index, "content", text)
        self._texts.setdefault(index, []).append(text)
        return text

    def _add_parts(self, index: int, parts: list[Any]) -> str:
        text = ""
        for part in parts:
            if (piece := _part_text(part)) is not None:
                text += self._add_text(index, piece)
            elif part is not None:
                self._parts.setdefault(index, []).append((len(self._texts.get(index, ())), part))
                self.has_advanced = True
        return text

    def _add_reasoning(self, index: int, name: str, piece: str) -> None:
        piece = self._whole_characters(index, name, piece)
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
        if not (text is None or isinstance(text, str) or is_list(text)):
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
        if is_list(text):
            return self._add_parts(index, text)
        return self._add_text(index, _text(text))

    def has_answer(self, choices: int = 1) -> bool:
        """Return whether all choices are finished: only the token count and `[DONE]` may follow."""
        return self.is_done or len(self._finish) >= max(choices, len({*self._texts, *self._fields}))

    def check_finished(self, stray: bytes = b"") -> None:
        """Raise RequestError if the stream ended before the answer did.

        *stray* is what the server sent besides events.
        """
        words = words_of_bytes(stray)
        if not self.is_done and not self._finish:
            raise broken(f"the stream was cut: it ended without a finish reason or [DONE]{_quoted(words)}")
        if self.message() is None:
            raise broken(f"the stream ended without an answer{_quoted(words)}")

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
            completion = _with_whole_characters(body)
        except _UNREADABLE as cause:
            is_page = body.lstrip()[:1] == b"<"
            what = "a page (HTML or XML), not a chat completion" if is_page else "not JSON"
            raise broken(f"the server's answer is {what}{_quoted(words_of_bytes(body))}", cause) from cause
        if is_error(completion):
            raise api_error(completion)
        if not is_dict(completion):
            raise broken(_NOT_A_COMPLETION)
        choices = completion.get("choices")
        if not is_list(choices) or not choices:
            raise broken(f"{_NOT_A_COMPLETION}: it has no choices")
        for choice in choices:
            if is_dict(choice) and choice.get("error"):
                raise api_error(choice["error"])
            if not is_dict(choice) or not is_dict(choice.get("message")):
                raise broken(f"{_NOT_A_COMPLETION}: a choice has no message")
        content = choices[0]["message"].get("content")
        if not (content is None or isinstance(content, str) or is_list(content)):
            raise broken(f"{_NOT_A_COMPLETION}: its content is not text")
        self._whole = choices
        self.id = _text(completion.get("id"))
        self.model = _text(completion.get("model"))
        usage = completion.get("usage")
        self.usage = usage if is_dict(usage) else None
        self.is_done = True
        if is_list(content):
            return "".join([_part_text(part) or "" for part in content])
        return _text(content) or ""

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
            return _finished(_tidy(self._whole[0]["message"]))
        return self._streamed(0)

    def _streamed(self, index: int) -> dict[str, Any] | None:
        # Another thread takes drafts while more arrives, so this walks through copies.
        texts, fields = self._texts.get(index), dict(self._fields.get(index, {}))
        parts = [*self._parts.get(index, ())]
        reasoning = {name: "".join(known) for name, known in dict(self._reasoning.get(index, {})).items()}
        rest = {**reasoning, **{name: value for name, value in fields.items() if name != "role"}}
        content: str | list[Any] | None = None if texts is None else "".join(texts)
        if parts:
            content = _content_of([*(texts or ())], parts)
        if content is None and not any(rest.values()):
            return None if index not in self._finish else {"role": "assistant", "content": ""}
        message = self._joined(_tidy({"role": fields.get("role"), "content": content, **rest}))
        return _finished(message) if index in self._finish or self.is_done else message

    def partial(self) -> bytes | None:
        """Return the encoded message so far; None if nothing came. Safe in any thread."""
        fields = dict(self._fields.get(0, {}))
        has_fields = any(value for name, value in fields.items() if name != "role")
        if not (self._texts.get(0) or self._reasoning.get(0) or self._parts.get(0) or has_fields):
            return None
        message = self._streamed(0)
        return None if message is None else _encode(message)

    def choices(self) -> list[msgspec.Raw]:
        """Return the further choices of a request with `n > 1`, verbatim."""
        if self._whole:
            return [msgspec.Raw(_encode(choice)) for choice in self._whole[1:]]
        known = {*self._texts, *self._fields, *self._finish, *self._reasoning, *self._parts}
        choices: list[msgspec.Raw] = []
        for index in sorted(known - {0}):
            choice = {
                "index": index,
                "message": self._streamed(index),
                "finish_reason": self._finish.get(index),
            }
            if logprobs := self._merged_logprobs(index):
                choice["logprobs"] = logprobs
            choices.append(msgspec.Raw(_encode(choice)))
        return choices

    def logprobs(self) -> msgspec.Raw | None:
        """Return the log probabilities of the first choice; None if there are none."""
        found = self._whole[0].get("logprobs") if self._whole else self._merged_logprobs(0)
        return msgspec.Raw(_encode(found)) if found else None

    def _merged_logprobs(self, index: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for piece in self._logprobs.get(index, ()):
            merge(merged, piece)
        joined: dict[str, Any] = self._joined(merged)
        return joined


def _tidy(message: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as a message. Its role is the assistant's, unless the server names one of its own."""
    tidy = drop_empty_fields({"role": "assistant", **message})
    if not isinstance(tidy["role"], str) or tidy["role"] in _NOT_AN_ANSWERS:
        tidy["role"] = "assistant"
    if "tool_calls" in tidy:
        tidy["tool_calls"] = tidy_calls(tidy["tool_calls"])
    return tidy


def _finished(message: dict[str, Any]) -> dict[str, Any]:
    """Return a whole answer: one without a content, or with reasoning alone, has an empty text."""
    names = message.keys() - {"role", "content"}
    is_silent = message.get("content") is None and not names - {*REASONING} - METADATA
    if is_silent and (names or "content" not in message):
        return {**message, "content": ""}
    return message


def _part_text(part: Any) -> str | None:
    """Return the text of a part of a content; None for a part of another kind."""
    if isinstance(part, str):
        return part
    if is_dict(part) and part.get("type", "text") in ("text", "output_text") and part.get("text") is not None:
        return part["text"] if isinstance(part["text"], str) else None
    return None


def _content_of(texts: list[str], parts: list[tuple[int, Any]]) -> list[Any]:
    """Return a content of parts: the *texts*, and *parts* at their places among them."""
    content: list[Any] = []
    done = 0
    for place, part in [*parts, (len(texts), None)]:
        if text := "".join(texts[done:place]):
            _add_part(content, {"type": "text", "text": text})
        if part is not None:
            _add_part(content, part)
        done = place
    return content


def _add_part(content: list[Any], part: Any) -> None:
    """Add *part*, a piece of the last one if both are texts, or both lists of texts as in `thinking`."""
    last = content[-1] if content else None
    kind = part.get("type") if is_dict(part) else None
    if not isinstance(kind, str):
        content.append(part)
        return
    if is_dict(last) and last.get("type") == kind and len(last) == len(part) == 2:
        known, more = last.get(kind), part.get(kind)
        if isinstance(known, str) and isinstance(more, str):
            content[-1] = {**last, kind: known + more}
            return
        if is_list(known) and is_list(more):
            for inner in more:
                _add_part(known, inner)
            return
    content.append({**part, kind: [*part[kind]]} if is_list(part.get(kind)) else part)


def _with_whole_characters(body: bytes) -> Any:
    try:
        return _decode(body)
    except msgspec.DecodeError:
        if (marked := halves.mark(body)) is None:
            raise
        return halves.join_in(_decode(marked))


def _decoded(data: bytes) -> Any:
    """Return what *data* is in JSON; None if it is not JSON."""
    try:
        return _decode(data)
    except _UNREADABLE:
        return None


def _quoted(words: ServerWords) -> str:
    return f": {words.text}" if words.text else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
