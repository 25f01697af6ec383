"""One request to the model, as decisions: what is put on record before it, and what after.

Rules: no I/O, no clock. `begin` says which events open the request and what is sent; `answered`,
`stopped` and `failed` say which events close it. Sync, async and streaming callers share them, and so
does whoever recovers a request that a crash cut off.
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

#: Where servers put what a model thinks before it answers.
REASONING = ("reasoning_content", "reasoning")


class RequestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants asked.

    *question* are the new messages, encoded; *again* the ids and kinds of messages on record that are
    asked again; *retry*: the last answer is left out, and makes way when the new one is there.
    *remarks* are the ids of a group chat's remarks that are in the question. *options* are the API's.
    *replays*: the number of the event that is replayed, in a replay.
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
    """Where a conversation stands: its view, its stream's version, and the id of its next event."""

    view: View
    version: int
    next_id: int


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is on record: its id, its question, the messages sent, and what is to leave.

    *version* and *basis* are those of the view that it was asked on: its version, and the ids in it.
    """

    request: int
    version: int
    question: list[int]
    kinds: str
    sent: list[int]
    leaving: list[int]
    basis: list[int]
    asked: RequestSpec


def begin(ask: RequestSpec, state: StreamState) -> tuple[list[ev.Event], OpenRequest]:
    """The events that put the request on record, and what it then is.

    Raises NoRoom where pins leave no room, Refused or BadInput where there is nothing to ask.
    """
    view = state.view
    request = state.next_id
    leaving: list[int] = []
    without: list[ev.Span] = []
    if ask.retry:
        view, leaving, without = _without_last_answer(view)
    old = [number for number, _ in ask.again]
    new = [request + 1 + place for place in range(len(ask.question))]
    question = old + new
    kinds = "".join([kind for _, kind in ask.again] + [msg.kind_of(raw) for raw in ask.question])
    if not question and not len(view):
        raise BadInput("there is nothing to ask: the conversation is empty, and so is the prompt")
    sent = decisions.sent(view, ask.limit, question, kinds)
    events: list[ev.Event] = [
        ev.RequestStarted(
            model=ask.model,
            view=state.version,
            stream=ask.stream,
            limit=ask.limit,
            options=ask.options,
            question=old,
            without=without,
            retry=ask.retry,
            replays=ask.replays,
        )
    ]
    events += [ev.MessageAdded(message=msgspec.Raw(raw), request=request) for raw in ask.question]
    begun = OpenRequest(
        request=request,
        version=state.version,
        question=question,
        kinds=kinds,
        sent=sent.ids,
        leaving=leaving,
        basis=state.view.ids.copy(),
        asked=ask,
    )
    return events, begun


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


def answered(begun: OpenRequest, state: StreamState, message: bytes, answer: ev.Answer) -> list[ev.Event]:
    """The question and its answer join the view, in one transaction; the limit takes what it takes."""
    view = state.view
    number = state.next_id
    events: list[ev.Event] = []
    if view.ids != begun.basis:  # others went on meanwhile; the record says what was answered
        answer = msgspec.structs.replace(answer, seen=begun.version)
    if begun.asked.retry:
        old = set(begun.leaving)
        gone = [index for index, held in enumerate(view.ids) if held in old]
        if gone:
            swap = ev.RolledBack(
                spans=view.spans(gone), messages=len(gone), reason="retry", request=begun.request
            )
            view = view.copy()
            view.remove(swap.spans)
            events.append(swap)
            number += 1
    standing = set(view.ids)
    joins = [(held, kind) for held, kind in zip(begun.question, begun.kinds, strict=True)
             if held not in standing]  # fmt: skip
    kinds = "".join(kind for _, kind in joins)
    waiting = set(view.remarks)
    added = ev.MessageAdded(
        message=msgspec.Raw(message),
        request=begun.request,
        question=[held for held, _ in joins],
        kinds=None if not kinds.strip(msg.USER) else kinds,
        remarks=[remark for remark in begun.asked.remarks if remark in waiting],
        answer=answer,
    )
    events.append(added)
    if begun.asked.limit is not None:
        view = view.copy()
        view.apply(added, number)
        events += decisions.truncated(view, begun.asked.limit, begun.request)
    return events


def stopped(
    begun: OpenRequest,
    state: StreamState,
    partial: bytes | None,
    answer: ev.Answer,
    reason: str = "caller",
) -> list[ev.Event]:
    """The caller left early: what came joins the view, marked; if nothing came, the view stays.

    What a model thought before it said anything is nothing yet; it is kept on record.
    """
    events: list[ev.Event] = []
    told, reasoning = (None, None) if partial is None else split_reasoning(partial)
    if told is None or not begun.asked.send_reasoning:
        partial = told
        if partial is not None and reasoning is not None:
            answer = msgspec.structs.replace(answer, reasoning=reasoning)
    if partial is not None:
        marked = msgspec.structs.replace(answer, stopped=True)
        events = answered(begun, state, partial, marked)
    events.append(
        ev.RequestStopped(
            request=begun.request,
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
    """A message without its reasoning (None where nothing else is in it), and that reasoning.

    The same reasoning under two names, as some servers send it, is one.
    """
    if b'"reasoning' not in encoded:
        return encoded, None
    message: dict[str, Any] = msgspec.json.decode(encoded)
    found = [message.pop(name) for name in REASONING if isinstance(message.get(name), str)]
    if not found:
        return encoded, None
    content = message.get("content")
    bare = content is None and not message.keys() - {"role", "content"}
    return None if bare else msgspec.json.encode(message), found[0] or None


def failed(
    begun: OpenRequest, partial: bytes | None, answer: ev.Answer, fault: RequestError
) -> list[ev.Event]:
    """The request failed: the view stays, and what came is kept on record."""
    return [
        ev.RequestFailed(
            request=begun.request,
            error=fault.kind,
            message=fault.message,
            status=fault.status,
            code=fault.code,
            partial=None if partial is None else msgspec.Raw(partial),
            key=answer.key,
            attempts=answer.attempts,
            seconds=answer.seconds,
        )
    ]


class RequestError(Exception):
    """Why a try failed, without a word of whose exception it was.

    *kind* names the class of the exception that the caller will see, *error* is that exception. The
    rest is what the API said, with every key masked.
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
        self.final = False  # asking again would not help


class CallerLeft(BaseException):
    """The caller left: the iterator was dropped, the task cancelled, Ctrl-C pressed."""


def recovered(
    request: int, started: ev.RequestStarted, question: Sequence[tuple[int, str]], view: View
) -> OpenRequest:
    """A request that another process began, from what it put on record; *view* is what it was asked on."""
    leaving: list[int] = []
    for first, last in started.without:
        if first in view.ids and last in view.ids:
            leaving += view.ids[view.ids.index(first) : view.ids.index(last) + 1]
    return OpenRequest(
        request=request,
        version=started.view,
        question=[held for held, _ in question],
        kinds="".join(kind for _, kind in question),
        sent=[],
        leaving=leaving,
        basis=view.ids,
        asked=RequestSpec(
            question=[],
            model=started.model,
            options=started.options,
            stream=started.stream,
            limit=started.limit,
            retry=started.retry,
        ),
    )
