"""A conversation in a log as a recording: its requests, and the responses that the events describe."""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.textdiff import words
from openai2.errors import RecordingError
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.recording.format import Exchange, Request, Response, encode
from openai2.store import Reader

#: What a log does not record of a request.
_NOT_RECORDED = ("path", "stream", "stream_options")


def exchanges_of(conversation: Conversation) -> list[Exchange]:
    """Return the requests of a conversation's own stream that were answered, or refused by the API.

    Raises RecordingError if it has none.
    """
    exchanges: list[Exchange] = []
    with conversation.store.reading() as reader:
        lineage = Lineage.read(reader, conversation.id)
        requests: dict[int, tuple[ev.RequestStarted, list[int]]] = {}
        for record in reader.events(conversation.id):
            event, number = record.event, lineage.base + record.version
            if isinstance(event, ev.RequestStarted):
                requests[number] = (event, list(event.question))
                continue
            if not isinstance(event, (ev.MessageAdded, ev.RequestFailed)) or event.request not in requests:
                continue
            started, question = requests[event.request]
            if isinstance(event, ev.MessageAdded) and event.answer is None:
                question.append(number)
            elif isinstance(event, ev.MessageAdded) or event.status is not None:
                request = _request(reader, lineage, started, question)
                response = _answer(event) if isinstance(event, ev.MessageAdded) else _refusal(event)
                place = f"{conversation.name or conversation.id}, version {record.version}"
                exchanges.append(Exchange(request, response, place, _NOT_RECORDED))
    if not exchanges:
        raise RecordingError(
            "conversation {conversation} has no answered request to replay",
            conversation=conversation.name or conversation.id,
        )
    return exchanges


def _request(reader: Reader, lineage: Lineage, started: ev.RequestStarted, question: list[int]) -> Request:
    view = views.view_at(reader, lineage, started.view)
    view.remove(started.without)
    messages = encoded_messages(reader, lineage, [*view.ids, *question])
    kinds = "".join(msg.kind_of(messages[id]) for id in question)
    sent = decisions.sent(view, started.limit, question, kinds)
    options = dict(started.options)
    extra: dict[str, Any] = options.pop("extra_body", None) or {}
    body = {
        "messages": [msg.decode(messages[id]) for id in sent.ids],
        "model": started.model,
        **options,
        **extra,
    }
    return Request("POST", "/v1/chat/completions", body)


def _refusal(event: ev.RequestFailed) -> Response:
    error = {"message": event.message, "type": None, "param": None, "code": event.code}
    return Response(event.status or 0, "application/json", [encode({"error": error})])


def _answer(event: ev.MessageAdded) -> Response:
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
    return Response(200, "application/json", [encode(body)])


def as_stream(response: Response) -> Response:
    """Return a complete response as a stream of words; a refusal stays as it is."""
    if response.status != 200 or "json" not in response.content_type:
        return response
    body: dict[str, Any] = msgspec.json.decode(response.pieces[0])
    head = {**body, "object": "chat.completion.chunk", "usage": None}
    pieces: list[bytes] = []

    def add(choices: list[dict[str, Any]], usage: Any = None) -> None:
        pieces.append(b"data: " + encode({**head, "choices": choices, "usage": usage}) + b"\n\n")

    for index, choice in enumerate(body["choices"]):
        message: dict[str, Any] = dict(choice["message"])
        content = message.pop("content", None)
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": n, **call} for n, call in enumerate(message["tool_calls"])]
        deltas = [
            message,
            *({"content": word} for word in words(content if isinstance(content, str) else "")),
        ]
        for delta in deltas:
            add([{"index": index, "delta": delta, "finish_reason": None}])
        add([{"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}])
    if body.get("usage"):
        add([], body["usage"])
    return Response(200, "text/event-stream", [*pieces, b"data: [DONE]\n\n"])
