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
from openai2.core.server_fields import METADATA
from openai2.errors import BadInput, NoRoom, Refused

#: The fields in which servers send the model's reasoning.
REASONING = ("reasoning_content", "reasoning")


class RequestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for.

    - *question*: the new messages, encoded;
    - *again*: the ids and kinds of recorded messages that are asked again;
    - *retry*: leave the last answer out, and replace it by the new one;
    - *after*: ask only the view up to the message with this id, and put the answer behind it;
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
    after: int | None = None
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
    - *leaving*: the ids of the answer that a retry replaces;
    - *after*: the id of the message in view that the answer belongs behind; None: at the view's end.
    """

    request: int
    version: int
    question: list[int]
    kinds: str
    sent: list[int]
    leaving: list[int]
    after: int | None
    basis: list[int]
    spec: RequestSpec


def begin(spec: RequestSpec, state: StreamState) -> tuple[list[ev.Event], OpenRequest]:
    """Return the events that record the request, and the request as recorded.

    Raises NoRoom if pinned messages leave no room, Refused if there is no question or if the answer that a
    retry replaces is pinned, BadInput if the view and the question are empty.
    """
    request = state.next_id
    left_out = _left_out(spec, state.view)
    view = state.view
    without = view.spans(left_out)
    if without:
        view = view.copy()
        view.remove(without)
    recorded = [number for number, _ in spec.again]
    question = [*recorded, *range(request + 1, request + 1 + len(spec.question))]
    kinds = "".join([kind for _, kind in spec.again] + [msg.kind_of(raw) for raw in spec.question])
    if not question and not len(view):
        raise BadInput("there is nothing to ask: the conversation and the prompt are empty")
    after = _place(spec, state.view, kinds)
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
        after=after,
        replays=spec.replays,
    )
    added = [ev.MessageAdded(message=msgspec.Raw(raw), request=request) for raw in spec.question]
    opened = OpenRequest(
        request=request,
        version=state.version,
        question=question,
        kinds=kinds,
        sent=sent.ids,
        leaving=_leaving(state.view, left_out) if spec.retry else [],
        after=after,
        basis=state.view.ids.copy(),
        spec=spec,
    )
    return [started, *added], opened


def _left_out(spec: RequestSpec, view: View) -> list[int]:
    """Return the indexes of the messages in view that the request does not send. Raises Refused."""
    if spec.retry and spec.again:  # truncation removed the question, not its answer
        first = next(
            (index for index, number in enumerate(view.ids) if number > spec.again[-1][0]), len(view)
        )
    elif spec.retry or spec.after is not None:
        first = _question_end(spec, view) + 1
    else:
        return []
    if spec.after is not None:
        return list(range(first, len(view)))
    behind = range(first, len(view))
    if any(view.is_pinned(index) and view.kinds[index] in msg.ANSWERS for index in behind):
        raise Refused("the answer to replace is pinned: unpin it to ask again")
    return [index for index in behind if not view.is_pinned(index)]


def _question_end(spec: RequestSpec, view: View) -> int:
    """Return the index of the message that the answer belongs behind. Raises Refused if there is none."""
    if spec.after is not None and spec.after in view.ids:
        return view.ids.index(spec.after)
    starts = view.round_starts(1)
    if not starts:
        raise Refused("there is no question to ask again")
    return starts[-1]


def _place(spec: RequestSpec, view: View, kinds: str) -> int | None:
    """Return the id of the message in view that the answer belongs behind; None: at the view's end.

    *kinds* are those of the question. A tool's result belongs behind its call.
    """
    if kinds and not kinds.startswith(msg.TOOL):
        return None
    if not kinds and (spec.retry or spec.after is not None):
        return view.ids[_question_end(spec, view)]
    return view.ids[-1] if len(view) else None


def _leaving(view: View, left_out: Sequence[int]) -> list[int]:
    """Return the ids of the answer among the messages that a retry leaves out: those up to the next round."""
    leaving: list[int] = []
    for index in left_out:
        if view.kinds[index] == msg.USER:
            break
        leaving.append(view.ids[index])
    return leaving


def answered(opened: OpenRequest, state: StreamState, message: bytes, answer: ev.Answer) -> list[ev.Event]:
    """Add the question and its answer to the view, then truncate it to the limit.

    The answer stands right behind its question. If that place is gone or taken, or if pinned messages leave
    no room, the view stays as it is, and the answer is on record only (see `refusal`).
    """
    if state.view.ids != opened.basis:  # the view changed during the request: record which one was answered
        answer = msgspec.structs.replace(answer, seen=opened.version)
    try:
        events = _joining(opened, state, message, answer)
    except NoRoom:
        events = None
    if events is not None:
        return events
    added = ev.MessageAdded(message=msgspec.Raw(message), request=opened.request, answer=answer, joined=False)
    return [added]


def refusal(events: Sequence[ev.Event], state: StreamState) -> Refused | None:
    """Return the error for the caller if *events*, which end a request, hold an answer out of the view."""
    for number, event in enumerate(events, state.next_id):
        if isinstance(event, ev.MessageAdded) and not event.joined:
            return Refused(
                "the conversation was changed before the answer came: the place behind the question is gone "
                "or taken, or pinned messages leave no room. The view stays as it is, and the answer is on "
                "record as message {message}",
                message=number,
            )
    return None


def _joining(
    opened: OpenRequest, state: StreamState, message: bytes, answer: ev.Answer
) -> list[ev.Event] | None:
    """Return the events that put question and answer into the view; None if their place is gone or taken."""
    view = state.view
    number = state.next_id
    events: list[ev.Event] = []
    leaving = set(opened.leaving) - view.pins
    if leaving:
        indexes = [index for index, message_id in enumerate(view.ids) if message_id in leaving]
        if opened.question and not indexes:
            return None  # another answer has replaced the one that this retry was to replace
        if indexes:
            replaced = ev.RolledBack(
                spans=view.spans(indexes), messages=len(indexes), reason="retry", request=opened.request
            )
            view = view.copy()
            view.remove(replaced.spans)
            events.append(replaced)
            number += 1
    question, kinds, after = opened.question, opened.kinds, opened.after
    if question and not set(question).isdisjoint(view.ids):  # another request brought the question into view
        question, kinds, after = [], "", question[-1]
    if after is not None:
        if after not in view.ids:
            return None
        behind = view.kinds[view.ids.index(after) + 1 :]
        if behind and behind[0] in msg.ANSWERS:
            return None
        if not behind:
            after = None
    waiting = set(view.remarks)
    added = ev.MessageAdded(
        message=msgspec.Raw(message),
        request=opened.request,
        question=question,
        kinds=None if not kinds.strip(msg.USER) else kinds,
        remarks=[remark for remark in opened.spec.remarks if remark in waiting],
        answer=answer,
        after=after,
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
    is_empty = message.get("content") is None and not message.keys() - {"role", "content"} - METADATA
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
    left_out: list[int] = []
    for first, last in started.without:
        if first in view.ids and last in view.ids:
            left_out += range(view.ids.index(first), view.ids.index(last) + 1)
    return OpenRequest(
        request=request,
        version=started.view,
        question=[number for number, _ in question],
        kinds="".join(kind for _, kind in question),
        sent=[],
        leaving=_leaving(view, left_out) if started.retry else [],
        after=started.after,
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
