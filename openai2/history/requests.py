"""Read requests from the log: how one started, and which one is still without an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.errors import DamagedStore
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages, events_by_id
from openai2.history.views import view_at
from openai2.store import Reader

_PAGE = 64  # events read at once in search of the last answer


class StartedRequest(NamedTuple):
    """A request on record: its first event, and (id, kind) of each message of its question."""

    event: ev.RequestStarted
    question: list[tuple[int, str]]


def started_request(reader: Reader, lineage: Lineage, request: int) -> StartedRequest:
    """Read the request with the id *request*, of this stream or inherited. Raises DamagedStore if there is
    none.
    """
    conversation, version = lineage.place(request)
    base = request - version
    records = list(reader.events(conversation, after=version - 1, upto=version))
    if not records or not isinstance(records[0].event, ev.RequestStarted):
        raise DamagedStore(
            "conversation {conversation} has no request {request}", conversation=conversation, request=request
        )
    event = records[0].event
    repeated = encoded_messages(reader, lineage, event.question)
    question = [(number, msg.kind_of(repeated[number])) for number in event.question]
    for record in reader.events(conversation, after=version, types=("message_added",)):
        if record.batch != records[0].batch:
            break
        added = record.event
        if isinstance(added, ev.MessageAdded) and added.request == request:
            question.append((base + record.version, msg.kind_of(added.message)))
    return StartedRequest(event, question)


def last_unanswered(reader: Reader, lineage: Lineage) -> StartedRequest | None:
    """Read the last request if it failed, or was stopped before any output; else return None."""
    for event in _ends(reader, lineage):
        if isinstance(event, ev.RequestFailed) or (isinstance(event, ev.RequestStopped) and not event.kept):
            return started_request(reader, lineage, event.request)
        if isinstance(event, ev.MessageAdded) and event.request is not None and event.answer is None:
            continue
        return None
    return None


def _ends(reader: Reader, lineage: Lineage) -> Iterator[ev.Event]:
    """Yield the events that may end a request, newest first, through all parts of a lineage."""
    types = ("message_added", "request_failed", "request_stopped")
    for part in reversed(lineage.parts):
        upto = None if part.upto is None else part.upto - part.after
        for record in reader.events(part.conversation, upto=upto, types=types, newest_first=True):
            yield record.event


def question_out_of_view(reader: Reader, lineage: Lineage, view: View) -> list[tuple[int, str]]:
    """Return (id, kind) of each message of the last question if its answer is in view, but it is not.

    Truncation leaves an answer so. Return an empty list if the last question is in view.
    """
    request = _last_answered(reader, lineage, view)
    if request is None:
        return []
    started, question = started_request(reader, lineage, request)
    if not any(kind == msg.USER for _, kind in question):  # tool results, or the view as it was
        conversation, _ = lineage.place(request)
        asked_on = view_at(reader, Lineage.read(reader, conversation), started.view)
        starts = asked_on.round_starts(1)
        question = _whole_question(reader, lineage, asked_on.ids[starts[0]]) if starts else []
    if not set(view.ids).isdisjoint(number for number, _ in question):
        return []
    return question


def _last_answered(reader: Reader, lineage: Lineage, view: View) -> int | None:
    """Return the request of the last answer in view, None if a question comes after it."""
    starts = view.round_starts(1)
    behind = view.ids[starts[0] + 1 :] if starts else view.ids
    for end in range(len(behind), 0, -_PAGE):
        for event in reversed(events_by_id(reader, lineage, behind[max(0, end - _PAGE) : end])):
            if isinstance(event, ev.MessageAdded) and event.answer is not None:
                return event.request
    return None


def _whole_question(reader: Reader, lineage: Lineage, number: int) -> list[tuple[int, str]]:
    """Return (id, kind) of each message of the question that the user message *number* belongs to."""
    (event,) = events_by_id(reader, lineage, [number])
    if isinstance(event, ev.MessageAdded) and event.request is not None:
        return started_request(reader, lineage, event.request).question
    return [(number, msg.USER)]


def used_remarks(reader: Reader, lineage: Lineage, ids: Iterable[int]) -> list[int]:
    """Return the remarks of a group chat that the questions among the messages *ids* used."""
    used: list[int] = []
    for part, versions in lineage.places(ids):
        for _, data in reader.added(part.conversation, versions):
            event = ev.decode("message_added", data) if b'"remarks":[' in data else None
            if isinstance(event, ev.MessageAdded):
                used += event.remarks
    return sorted(used)
