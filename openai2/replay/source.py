"""The source of a replay: its events, and the requests among them to ask again. No I/O.

`openai2.replay.plan` documents which requests those are, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View


class SourceEvent(NamedTuple):
    """An event of the source: its number in the lineage, that of its batch, and the last number of the
    streams before its own."""

    number: int
    batch: int
    after: int
    event: ev.Event
    is_redacted: bool = False


class Step(NamedTuple):
    """A request to ask again, at the place where it was answered."""

    number: int
    started: ev.RequestStarted
    question: list[int]
    remarks: list[int]
    after: int | None = None


class Source:
    """The events of the source, and the requests to ask again: the *steps* after the number *start*."""

    def __init__(self, events: Sequence[SourceEvent], start: int) -> None:
        self.start = start
        self.messages: dict[int, msgspec.Raw] = {}
        self.views: dict[int, View] = {}
        self.removed: dict[int, list[list[int]]] = {}
        self.steps: dict[int, Step] = {}
        #: By the number of a step: the event that applied its limit, and the one that removed the old answer.
        self.limits: dict[int, int] = {}
        self.swaps: dict[int, int] = {}
        self.later = [each for each in events if each.number > start]
        self._started: dict[int, tuple[ev.RequestStarted, list[int]]] = {}
        self._redacted: set[int] = set()
        self._fold(events)
        self.has_restores = any(isinstance(each.event, ev.Restored) for each in self.later)
        self.has_later_system = any(
            isinstance(each.event, ev.MessageAdded) and msg.kind_of(each.event.message) == msg.SYSTEM
            for each in self.later
        )
        self._choose()

    def _fold(self, events: Sequence[SourceEvent]) -> None:
        restored = {each.after + each.event.version for each in events if isinstance(each.event, ev.Restored)}
        view = View()
        for number, _, after, event, is_redacted in events:
            if isinstance(event, ev.MessageAdded):
                self.messages[number] = event.message
                if is_redacted:
                    self._redacted.add(number)
                if event.request in self._started and event.answer is None:
                    self._started[event.request][1].append(number)
            elif isinstance(event, ev.RequestStarted):
                self._started[number] = (event, list(event.question))
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                self.removed[number] = [_ids_in(view, span) for span in event.spans]
            if isinstance(event, ev.Restored):
                view.become(self.views[after + event.version])
            elif not isinstance(event, ev.Forked):  # a fork's view is its parent's
                view.apply(event, number)
            if number in restored or number == self.start:
                self.views[number] = view.copy()

    def _choose(self) -> None:
        """Find the requests to ask again."""
        results = _results(self.messages)
        asked_again = {id for started, _ in self._started.values() for id in started.question}
        requests: dict[int, int] = {}
        swaps: dict[int, int] = {}
        for number, _, _, event, _ in self.later:
            if isinstance(event, ev.MessageAdded) and event.answer is not None and event.request is not None:
                question, request = event.question, event.request
                if not event.joined or _calls(event.message) & results:
                    continue
            elif isinstance(event, ev.RequestStopped) and not event.kept:
                request = event.request
                question = self._started[request][1] if request in self._started else []
                if not question or asked_again.intersection(question):
                    continue
            else:
                if isinstance(event, ev.Truncated) and event.request in requests:
                    self.limits[requests[event.request]] = number
                elif isinstance(event, ev.RolledBack) and event.request is not None:
                    swaps[event.request] = number
                continue
            if request in self._started and self._redacted.isdisjoint(question):
                remarks, after = (
                    (event.remarks, event.after) if isinstance(event, ev.MessageAdded) else ([], None)
                )
                started = self._started[request][0]
                self.steps[number] = Step(number, started, list(question), remarks, after)
                requests[request] = number
                if request in swaps:
                    self.swaps[number] = swaps[request]
        self._asked = set(requests)

    def is_asked(self, request: int | None) -> bool:
        """Return whether that request of the source is asked again."""
        return request in self._asked


def _ids_in(view: View, span: ev.Span) -> list[int]:
    return view.ids[view.ids.index(span[0]) : view.ids.index(span[1]) + 1]


class _ToolFields(msgspec.Struct):
    role: str = ""
    tool_call_id: Any = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: Any = None


_tools = msgspec.json.Decoder(_ToolFields).decode
#: Stands for the id of a `function_call`, which has none.
_FUNCTION_CALL = "function_call"


def _calls(raw: msgspec.Raw) -> set[str]:
    """Return the ids of the calls in an answer."""
    answer = _tools(raw)
    return {str(call.get("id")) for call in answer.tool_calls or []} | (
        {_FUNCTION_CALL} if answer.function_call else set()
    )


def _results(messages: dict[int, msgspec.Raw]) -> set[str]:
    """Return the ids of the calls whose results are on record."""
    results = [_tools(raw) for raw in messages.values() if msg.kind_of(raw) == msg.TOOL]
    return {_FUNCTION_CALL if each.role == "function" else str(each.tool_call_id) for each in results}
