"""The events of one request to the model: those that open it, and those that close it.

Invariants: no I/O, no clock. Sync, async and streaming callers share these functions, and so does the
recovery of a request that a crash cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.errors import BadInput, Refused

#: The fields in which servers send the model's reasoning.
REASONING = ("reasoning_content", "reasoning")


class RequestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for.

    - *question*: the new messages, encoded;
    - *again*: the ids and kinds of recorded messages that are asked again;
    - *retry*: leave the last answer out, and replace it by the new one;
    - *remarks*: the ids of a group chat's remarks that are part of the question;
    - *options*: those of the API;
    - *replays*: in a replay, the number of the event that is replayed.
    """

    question: list[bytes]
    model: str | None
    options: dict[str, Any] = {}
    stream: bool = False
    limit: int | None = None
    again: list[tuple[int, str]] = []
    retry: bool = False
    remarks: list[int] = []
    send_reasoning: bool = False
    replays: int | None = None


class StreamState(msgspec.Struct, frozen=True):
    """The state of a stream: its view, its version, and the id of its next event."""

    view: View
    version: int
    next_id: int


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded request.

    - *request*: its id;
    - *version*, *basis*: the version of the view that it was asked on, and the ids in that view;
    - *question*, *kinds*: the ids of its question, and their kinds;
    - *sent*: the ids of the messages that are sent;
    - *leaving*: the ids of the answer that a retry replaces.
    """

    request: int
    version: int
    question: list[int]
    kinds: str
    sent: list[int]
    leaving: list[int]
    basis: list[int]
    spec: RequestSpec


def begin(spec: RequestSpec, state: StreamState) -> tuple[list[ev.Event], OpenRequest]:
    """Return the events that record the request, and the request as recorded.

    Raises NoRoom if pinned messages leave no room, Refused or BadInput if there is no question.
    """
    view = state.view
    request = state.next_id
    leaving: list[int] = []
    without: list[ev.Span] = []
    if spec.retry:
        view, leaving, without = _without_last_answer(view)
    recorded = [number for number, _ in spec.again]
    question = [*recorded, *range(request + 1, request + 1 + len(spec.question))]
    kinds = "".join([kind for _, kind in spec.again] + [msg.kind_of(raw) for raw in spec.question])
    if not question and not len(view):
        raise BadInput("there is nothing to ask: the conversation and the prompt are empty")
    sent = decisions.sent(view, spec.limit, question, kinds)
    started = ev.RequestStarted(
        model=spec.model,
        view=state.version,
        stream=spec.stream,
        limit=spec.limit,
        options=spec.options,
        question=recorded,
        without=without,
        retry=spec.retry,
        replays=spec.replays,
    )
    added = [ev.MessageAdded(message=msgspec.Raw(raw), request=request) for raw in spec.question]
    opened = OpenRequest(
        request=request,
        version=state.version,
        question=question,
        kinds=kinds,
        sent=sent.ids,
        leaving=leaving,
        basis=state.view.ids.copy(),
        spec=spec,
    )
    return [started, *added], opened


def _without_last_answer(view: View) -> tuple[View, list[int], list[ev.Span]]:
    starts = view.round_starts(1)
    if not starts:
        raise Refused("there is no question to ask again")
    first = starts[-1] + 1
    leaving = view.ids[first:]
    spans = view.spans(range(first, len(view)))
    shorter = view.copy()
    shorter.remove(spans)
    return shorter, leaving, spans


def answered(opened: OpenRequest, state: StreamState, message: bytes, answer: ev.Answer) -> list[ev.Event]:
    """Add the question and its answer to the view, then truncate it to the limit."""
    view = state.view
    number = state.next_id
    events: list[ev.Event] = []
    if view.ids != opened.basis:  # the view changed during the request: record which one was answered
        answer = msgspec.structs.replace(answer, seen=opened.version)
    if opened.spec.retry:
        leaving = set(opened.leaving)
        indexes = [index for index, message_id in enumerate(view.ids) if message_id in leaving]
        if indexes:
            replaced = ev.RolledBack(
                spans=view.spans(indexes), messages=len(indexes), reason="retry", request=opened.request
            )
            view = view.copy()
            view.remove(replaced.spans)
            events.append(replaced)
            number += 1
    present = set(view.ids)
    question = zip(opened.question, opened.kinds, strict=True)
    joining = [(message_id, kind) for message_id, kind in question if message_id not in present]
    kinds = "".join(kind for _, kind in joining)
    waiting = set(view.remarks)
    added = ev.MessageAdded(
        message=msgspec.Raw(message),
        request=opened.request,
        question=[message_id for message_id, _ in joining],
        kinds=None if not kinds.strip(msg.USER) else kinds,
        remarks=[remark for remark in opened.spec.remarks if remark in waiting],
        answer=answer,
    )
    events.append(added)
    if opened.spec.limit is not None:
        view = view.copy()
        view.apply(added, number)
        events += decisions.truncated(view, opened.spec.limit, opened.request)
    return events


def stopped(
    opened: OpenRequest,
    state: StreamState,
    partial: bytes | None,
    answer: ev.Answer,
    reason: str = "caller",
) -> list[ev.Event]:
    """Close a request that its caller stopped: a *partial* answer joins the view, marked as stopped.

    Without one the view stays; reasoning alone is recorded, and is not an answer.
    """
    events: list[ev.Event] = []
    bare, reasoning = (None, None) if partial is None else split_reasoning(partial)
    if bare is None or not opened.spec.send_reasoning:
        partial = bare
        if partial is not None and reasoning is not None:
            answer = msgspec.structs.replace(answer, reasoning=reasoning)
    if partial is not None:
        events = answered(opened, state, partial, msgspec.structs.replace(answer, stopped=True))
    events.append(
        ev.RequestStopped(
            request=opened.request,
            reason=reason,
            kept=partial is not None,
            reasoning=reasoning if partial is None else None,
            key=answer.key,
            attempts=answer.attempts,
            seconds=answer.seconds,
        )
    )
    return events


def split_reasoning(encoded: bytes) -> tuple[bytes | None, str | None]:
    """Return a message without its reasoning (None if nothing else is in it), and the reasoning.

    Some servers send the same reasoning in two fields; it is returned once.
    """
    if b'"reasoning' not in encoded:
        return encoded, None
    message: dict[str, Any] = msgspec.json.decode(encoded)
    found = [message.pop(name) for name in REASONING if isinstance(message.get(name), str)]
    if not found:
        return encoded, None
    is_empty = message.get("content") is None and not message.keys() - {"role", "content"}
    return None if is_empty else msgspec.json.encode(message), found[0] or None


def failed(
    opened: OpenRequest, partial: bytes | None, answer: ev.Answer, error: RequestError
) -> list[ev.Event]:
    """Close a request that failed: the view stays, and a *partial* answer is recorded."""
    return [
        ev.RequestFailed(
            request=opened.request,
            error=error.kind,
            message=error.message,
            status=error.status,
            code=error.code,
            partial=None if partial is None else msgspec.Raw(partial),
            key=answer.key,
            attempts=answer.attempts,
            seconds=answer.seconds,
        )
    ]


class RequestError(Exception):
    """Why an attempt failed, without a dependency on the library that raised.

    - *kind*: the class name of the exception that the caller sees; *error*: that exception;
    - *message*, *status*, *code*, *type*, *headers*, *body*: what the API sent, with every key masked;
    - *final*: True if asking again would not help.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        headers: dict[str, str] | None = None,
        error: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.headers = headers or {}
        self.body: Any = None
        self.error = error
        self.final = False


class CallerLeft(BaseException):
    """The caller left: it dropped the iterator, its task was cancelled, or Ctrl-C was pressed."""


def recovered(
    request: int, started: ev.RequestStarted, question: Sequence[tuple[int, str]], view: View
) -> OpenRequest:
    """Return a request that another process began, from its events; *view* is the view it was asked on."""
    leaving: list[int] = []
    for first, last in started.without:
        if first in view.ids and last in view.ids:
            leaving += view.ids[view.ids.index(first) : view.ids.index(last) + 1]
    return OpenRequest(
        request=request,
        version=started.view,
        question=[number for number, _ in question],
        kinds="".join(kind for _, kind in question),
        sent=[],
        leaving=leaving,
        basis=view.ids,
        spec=RequestSpec(
            question=[],
            model=started.model,
            options=started.options,
            stream=started.stream,
            limit=started.limit,
            retry=started.retry,
        ),
    )
