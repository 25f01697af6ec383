"""Drafts held against the log: each is of a request that was begun in its stream, and has not ended.

Rules: no I/O. What a draft holds of an answer is nowhere else, so only its form can be judged. Of a stream
that is not sound nothing follows for its drafts, and nothing is said of them but what their form shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.errors import NotAMessage
from openai2.sentence import Sentence, sentence
from openai2.store.audit_reader import Drafted

#: No lease ends later, in epoch seconds: the year 10000 begins.
_END_OF_TIME = 253_402_300_800.0


class Requests:
    """The requests of one stream of which there are drafts, and whether they are open."""

    def __init__(self) -> None:
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.deleted = False

    def hear(self, number: int, event: ev.Event) -> None:
        """Take in the next event of the stream; *number* is its id."""
        if isinstance(event, ev.RequestStarted):
            self.begun.add(number)
        elif isinstance(event, ev.MessageAdded):
            if event.request is not None and event.answer is not None:
                self.ended.add(event.request)
        elif isinstance(event, (ev.RequestStopped, ev.RequestFailed)):
            self.ended.add(event.request)
        elif isinstance(event, ev.Deleted):
            self.deleted = True


class Pending:
    """All drafts of a store."""

    def __init__(self, drafts: Iterable[Drafted]) -> None:
        self._drafts = list(drafts)
        self._requests = {draft.conversation: Requests() for draft in self._drafts}

    def of(self, conversation: str) -> Requests | None:
        """What is to hear the events of that stream, if there are drafts of its requests."""
        return self._requests.get(conversation)

    def problems(self, streams: Mapping[str, bool]) -> Iterator[tuple[str, Sentence]]:
        """(conversation, what is wrong); *streams* are those that are there, and whether each is sound."""
        for draft in self._drafts:
            wrong = _form(draft)
            if draft.conversation not in streams:
                wrong = sentence("there is a draft of a conversation that is not there")
            elif wrong is None and streams[draft.conversation]:
                wrong = _judge(draft, self._requests[draft.conversation])
            if wrong is not None:
                yield draft.conversation, wrong


def _form(draft: Drafted) -> Sentence | None:
    request = draft.request
    if draft.odd:
        what = "a column of the draft of request {request} is of the wrong type: {differences}"
        return sentence(what, request=request, differences=draft.odd)
    if not (math.isfinite(draft.lease) and 0 <= draft.lease < _END_OF_TIME):
        what = "the draft of request {request} is kept until {lease}, which is no time"
        return sentence(what, request=request, lease=draft.lease)
    if draft.partial is not None:
        try:
            msg.encode(msg.decode(draft.partial), "the answer")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotAMessage):
            return sentence("the draft of request {request} holds no message", request=request)
    return None


def _judge(draft: Drafted, requests: Requests) -> Sentence | None:
    if draft.request not in requests.begun:
        return sentence(
            "there is a draft of request {request}, which is not on record", request=draft.request
        )
    if draft.request in requests.ended or requests.deleted:
        return sentence("there is a draft of request {request}, which has ended", request=draft.request)
    return None
