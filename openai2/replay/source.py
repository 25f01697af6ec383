"""What a replay has before it: the source's events, read once, and the requests among them to ask again.

Rules: no I/O. `openai2.replay.plan` tells which requests those are, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View


class SourceEvent(NamedTuple):
    """One event of the source: its number, that of its batch, the last number of the streams before its
    own, and whether its content was redacted."""

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


class Source:
    """What happened in the source, and which of it happens again: the steps after *start*."""

    def __init__(self, told: Sequence[SourceEvent], start: int) -> None:
        self.start = start
        self.messages: dict[int, msgspec.Raw] = {}
        self.views: dict[int, View] = {}
        self.removed: dict[int, list[list[int]]] = {}
        self.steps: dict[int, Step] = {}
        #: By the number of a step: of what the limit took then, and of what its answer took the place of.
        self.limits: dict[int, int] = {}
        self.swaps: dict[int, int] = {}
        self.later = [one for one in told if one.number > start]
        self._started: dict[int, tuple[ev.RequestStarted, list[int]]] = {}
        self._emptied: set[int] = set()
        self._fold(told)
        self.goes_back = any(isinstance(one.event, ev.Restored) for one in self.later)
        self.says_system = any(
            isinstance(one.event, ev.MessageAdded) and msg.kind_of(one.event.message) == msg.SYSTEM
            for one in self.later
        )
        self._choose()

    def _fold(self, told: Iterable[SourceEvent]) -> None:
        told = list(told)
        wanted = {one.after + one.event.version for one in told if isinstance(one.event, ev.Restored)}
        view = View()
        for number, _, after, event, emptied in told:
            if isinstance(event, ev.MessageAdded):
                self.messages[number] = event.message
                if emptied:
                    self._emptied.add(number)
                if event.request in self._started and event.answer is None:
                    self._started[event.request][1].append(number)
            elif isinstance(event, ev.RequestStarted):
                self._started[number] = (event, list(event.question))
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                self.removed[number] = [_stretch(view, span) for span in event.spans]
            if isinstance(event, ev.Restored):
                view.become(self.views[after + event.version])
            elif not isinstance(event, ev.Forked):  # which changes nothing along a lineage
                view.apply(event, number)
            if number in wanted or number == self.start:
                self.views[number] = view.copy()

    def _choose(self) -> None:
        """Find the requests to ask again."""
        results = _results(self.messages)
        asked_later = {q for started, _ in self._started.values() for q in started.question}
        requests: dict[int, int] = {}
        swaps: dict[int, int] = {}
        for number, _, _, event, _ in self.later:
            if isinstance(event, ev.MessageAdded) and event.answer is not None and event.request is not None:
                question, request = event.question, event.request
                if _calls(event.message) & results:
                    continue
            elif isinstance(event, ev.RequestStopped) and not event.kept:
                request = event.request
                question = self._started[request][1] if request in self._started else []
                if not question or asked_later.intersection(question):
                    continue
            else:
                if isinstance(event, ev.Truncated) and event.request in requests:
                    self.limits[requests[event.request]] = number
                elif isinstance(event, ev.RolledBack) and event.request is not None:
                    swaps[event.request] = number
                continue
            if request in self._started and self._emptied.isdisjoint(question):
                remarks = event.remarks if isinstance(event, ev.MessageAdded) else []
                self.steps[number] = Step(number, self._started[request][0], list(question), remarks)
                requests[request] = number
                if request in swaps:
                    self.swaps[number] = swaps[request]
        self._asked = set(requests)

    def is_asked(self, request: int | None) -> bool:
        """Whether that request of the source is one that is asked again."""
        return request in self._asked


def _stretch(view: View, span: ev.Span) -> list[int]:
    return view.ids[view.ids.index(span[0]) : view.ids.index(span[1]) + 1]


class _Tools(msgspec.Struct):
    role: str = ""
    tool_call_id: Any = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: Any = None


_tools = msgspec.json.Decoder(_Tools).decode
_OLD_STYLE = "a function_call, which has no id"


def _calls(raw: msgspec.Raw) -> set[str]:
    """The ids of the calls that an answer makes."""
    said = _tools(raw)
    return {str(call.get("id")) for call in said.tool_calls or []} | (
        {_OLD_STYLE} if said.function_call else set()
    )


def _results(messages: dict[int, msgspec.Raw]) -> set[str]:
    """The ids of the calls whose results are on record."""
    heads = [_tools(raw) for raw in messages.values() if msg.kind_of(raw) == msg.TOOL]
    return {_OLD_STYLE if head.role == "function" else str(head.tool_call_id) for head in heads}
