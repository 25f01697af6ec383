"""Recordings: the exchanges of a program with the API, as a file that lives in a test-suite.

Rules: JSON Lines, made to be read and reviewed. The first line says what it is, `{"openai2 recording": 1}`;
then for each exchange a line with the request, one with the head of the response, and one for each piece
in which the answer came. Of headers only the content type is kept, of addresses only the path, so that no
key is in it; one that a body or an answer repeats is replaced. A piece that is one event of a stream, or a
JSON body, is written as the JSON that it is; any other as text, or as base64 where it is none.

A conversation in a log can stand for a recording too; see `of`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.textdiff import words
from openai2.core.typeguards import is_dict
from openai2.errors import RecordingError
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages

VERSION = 1
_HEAD = "openai2 recording"
_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True):
    """A request; the body as decoded JSON, or as size and SHA-256 where it is none."""

    method: str
    path: str
    body: Any = None


class Answered(msgspec.Struct):
    """An answer: the pieces in which it came, and the failure of the connection that ended it, if any."""

    status: int = 0
    content_type: str = ""
    pieces: list[bytes] = []
    failure: tuple[str, str] | None = None


class Exchange(msgspec.Struct):
    """A request and its answer; *place* says where it stands, *loose* what a log does not know of it."""

    asked: Asked
    answered: Answered
    place: str = ""
    loose: tuple[str, ...] = ()


def body_of(content: bytes, content_type: str) -> Any:
    """A request's body as a recording has it."""
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        boundary = re.search("boundary=([^;]+)", content_type)  # a new one each time
        if boundary:
            content = content.replace(boundary[1].strip('"').encode(), b"boundary")
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


# -- the file


def write(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Put the exchanges into the file, all or nothing."""
    lines = [_encode({_HEAD: VERSION})]
    for exchange in exchanges:
        asked, answered = exchange.asked, exchange.answered
        lines.append(_encode({"request": asked}))
        if answered.status:
            head = {"status": answered.status, "content_type": answered.content_type}
            lines.append(_encode({"response": head}))
        lines += [_encode({"piece": shown}) for shown in _shown(answered)]
        if answered.failure is not None:
            lines.append(_encode({"failure": answered.failure}))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_bytes(b"\n".join(lines) + b"\n")
    new.replace(path)


def _shown(answered: Answered) -> Iterator[Any]:
    whole = b"".join(answered.pieces)
    if "json" in answered.content_type:
        try:
            yield {"json": msgspec.json.decode(whole)}
            return
        except (ValueError, RecursionError):
            pass
    for piece in answered.pieces:
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            yield {"base64": base64.b64encode(piece).decode()}
            continue
        event = re.fullmatch(r"data: (\{.*\})\n\n", text)
        try:
            decoded = msgspec.json.decode(event[1]) if event else None
        except (ValueError, RecursionError):
            decoded = None
        exact = decoded is not None and b"data: " + _encode(decoded) + b"\n\n" == piece
        yield {"data": decoded} if exact else text


def read(path: Path) -> list[Exchange]:
    """The exchanges of the file. Raises RecordingError for one that is empty, newer, or no recording."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as fault:
        raise RecordingError("{path} cannot be read: {reason}", path=path, reason=fault.strerror) from fault
    found: list[Exchange] = []
    for number, line in enumerate(lines, 1):
        try:
            entry: Any = msgspec.json.decode(line)
            if number == 1:
                _check_head(entry, path)
            else:
                _take(found, entry, f"{path.name}, line {number}")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as fault:
            if isinstance(fault, RecordingError):
                raise
            raise RecordingError(
                "{path} is no recording of openai2: line {line} is none of its lines", path=path, line=number
            ) from fault
    if not found:
        raise RecordingError(
            "the recording {path} is empty: record it anew, with OPENAI2_RECORD=1", path=path
        )
    if any(not held.answered.status and held.answered.failure is None for held in found):
        raise RecordingError("the recording {path} is cut off: a request has no answer", path=path)
    return found


def _check_head(entry: dict[str, Any], path: Path) -> None:
    version = entry[_HEAD]
    if not isinstance(version, int) or version > VERSION:
        raise RecordingError(
            "the recording {path} was written by a newer openai2 (its format is {found}, this one knows "
            "{known}): update openai2, or record it anew",
            path=path,
            found=version,
            known=VERSION,
        )


def _take(found: list[Exchange], entry: dict[str, Any], place: str) -> None:
    ((name, value),) = entry.items()
    if name == "request":
        found.append(Exchange(msgspec.convert(value, Asked), Answered(pieces=[]), place))
    elif name == "response":
        found[-1].answered.status = int(value["status"])
        found[-1].answered.content_type = str(value["content_type"])
    elif name == "piece":
        found[-1].answered.pieces.append(_piece(value))
    elif name == "failure":
        found[-1].answered.failure = (str(value[0]), str(value[1]))
    else:
        raise ValueError(name)


def _piece(shown: Any) -> bytes:
    if not is_dict(shown):
        return str(shown).encode()
    if "json" in shown:
        return _encode(shown["json"])
    if "data" in shown:
        return b"data: " + _encode(shown["data"]) + b"\n\n"
    return base64.b64decode(shown["base64"])


# -- a conversation as a recording


def of(conversation: Conversation) -> list[Exchange]:
    """The requests of a conversation's own stream that were answered, or refused by the API.

    A log keeps whole answers, so a stream comes word by word; and whether a request wants a stream is not
    compared. Raises RecordingError where there is none.
    """
    found: list[Exchange] = []
    with conversation.store.reading() as reader:
        lineage = Lineage.read(reader, conversation.id)
        requests: dict[int, tuple[ev.RequestStarted, list[int]]] = {}
        for record in reader.events(conversation.id):
            event, number = record.event, lineage.base + record.version
            if isinstance(event, ev.RequestStarted):
                requests[number] = (event, list(event.question))
            elif isinstance(event, (ev.MessageAdded, ev.RequestFailed)) and event.request in requests:
                started, question = requests[event.request]
                if isinstance(event, ev.MessageAdded) and event.answer is None:
                    question.append(number)
                    continue
                if isinstance(event, ev.RequestFailed):
                    if event.status is None:
                        continue
                    answered = _refused(event)
                else:
                    answered = _whole(event)
                view = views.view_at(reader, lineage, started.view)
                view.remove(started.without)
                texts = encoded_messages(reader, lineage, [*view.ids, *question])
                kinds = "".join(msg.kind_of(texts[one]) for one in question)
                sent = decisions.sent(view, started.limit, question, kinds)
                options = dict(started.options)
                extra: dict[str, Any] = options.pop("extra_body", None) or {}
                messages = [msg.decode(texts[one]) for one in sent.ids]
                body = {"messages": messages, "model": started.model, **options, **extra}
                asked = Asked("POST", "/v1/chat/completions", body)
                place = f"{conversation.name or conversation.id}, version {record.version}"
                found.append(Exchange(asked, answered, place, ("path", "stream", "stream_options")))
    if not found:
        raise RecordingError(
            "conversation {conversation} holds no answered request: there is nothing to answer from",
            conversation=conversation.name or conversation.id,
        )
    return found


def _refused(event: ev.RequestFailed) -> Answered:
    error = {"message": event.message, "type": None, "param": None, "code": event.code}
    return Answered(event.status or 0, "application/json", [_encode({"error": error})])


def _whole(event: ev.MessageAdded) -> Answered:
    answer = event.answer or ev.Answer()
    choice = {"index": 0, "message": event.message, "finish_reason": answer.finish_reason or "stop"}
    body = {
        "id": answer.id,
        "object": "chat.completion",
        "created": 0,
        "model": answer.model,
        "choices": [choice, *answer.choices],
        "usage": answer.usage,
    }
    return Answered(200, "application/json", [_encode(body)])


def streamed(answered: Answered) -> Answered:
    """The same answer, a whole one, as a stream that comes word by word."""
    if answered.status != 200 or "json" not in answered.content_type:
        return answered
    body: dict[str, Any] = msgspec.json.decode(answered.pieces[0])
    head = {**body, "object": "chat.completion.chunk", "usage": None}
    pieces: list[bytes] = []

    def add(choices: list[dict[str, Any]], usage: Any = None) -> None:
        pieces.append(b"data: " + _encode({**head, "choices": choices, "usage": usage}) + b"\n\n")

    for index, choice in enumerate(body["choices"]):
        message: dict[str, Any] = dict(choice["message"])
        content = message.pop("content", None)
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]
        add([{"index": index, "delta": message, "finish_reason": None}])
        for word in words(content) if isinstance(content, str) else []:
            add([{"index": index, "delta": {"content": word}, "finish_reason": None}])
        add([{"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}])
    if body.get("usage"):
        add([], body["usage"])
    return Answered(200, "text/event-stream", [*pieces, b"data: [DONE]\n\n"])
