"""Read requests from the log: how one started, and which one is still without an answer."""

from __future__ import annotations

from typing import NamedTuple

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.errors import DamagedStore
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.store import Reader


class StartedRequest(NamedTuple):
    """A request on record: its first event, and (id, kind) of each message of its question."""

    event: ev.RequestStarted
    question: list[tuple[int, str]]


def started_request(reader: Reader, conversation: str, base: int, request: int) -> StartedRequest:
    """Read the request with the id *request*. Raises DamagedStore if there is none."""
    version = request - base
    records = list(reader.events(conversation, after=version - 1, upto=version))
    if not records or not isinstance(records[0].event, ev.RequestStarted):
        raise DamagedStore(
            "conversation {conversation} has no request {request}", conversation=conversation, request=request
        )
    event = records[0].event
    repeated = encoded_messages(reader, Lineage.read(reader, conversation), event.question)
    question = [(number, msg.kind_of(repeated[number])) for number in event.question]
    for record in reader.events(conversation, after=version, types=("message_added",)):
        if record.batch != records[0].batch:
            break
        added = record.event
        if isinstance(added, ev.MessageAdded) and added.request == request:
            question.append((base + record.version, msg.kind_of(added.message)))
    return StartedRequest(event, question)


def last_unanswered(reader: Reader, conversation: str, base: int) -> StartedRequest | None:
    """Read the last request if it failed, or was stopped before any output; else return None."""
    ends = ("message_added", "request_failed", "request_stopped")
    for record in reader.events(conversation, types=ends, newest_first=True):
        event = record.event
        if isinstance(event, ev.RequestFailed) or (isinstance(event, ev.RequestStopped) and not event.kept):
            return started_request(reader, conversation, base, event.request)
        if isinstance(event, ev.MessageAdded) and event.request is not None and event.answer is None:
            continue
        return None
    return None
