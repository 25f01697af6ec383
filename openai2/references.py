"""What events refer to, checked while a stream is folded: is it there, and is it what it should be?

Rules: no I/O; `Ledger.enter` folds one event and says in a few words what is wrong with it, or nothing. It
trusts no event: each span, id, version and count is looked up in the view as it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from openai2 import events as ev
from openai2 import messages as msg
from openai2.projection import Earlier, View

_NOTHING, _REQUEST = 0, ord("R")


class Ledger:
    """A stream while it is folded: its view, and a mark for each version.

    *base* is the id of the last inherited event; *older* gives the type of an inherited event by its id.
    A version's mark is the kind of its message, or that of a request.
    """

    def __init__(self, base: int, older: Callable[[int], str | None]) -> None:
        self.view = View()
        self.emptied: set[int] = set()
        self._base = base
        self._older = older
        self._marks = bytearray(1)

    def enter(self, event: ev.Event, emptied: bool, earlier: Earlier) -> str | None:
        """Fold the next event; what is wrong with it, None where nothing is. *emptied*: it is redacted."""
        version = len(self._marks)
        wrong = self._judge(event, version)
        self._marks.append(_mark(event))
        if emptied:
            self.emptied.add(version)
        if wrong is not None:
            return wrong
        before = len(self.view)
        try:
            self.view.apply(event, self._base + version, earlier)
        except (ValueError, KeyError, IndexError) as fault:
            return f"it cannot be applied: {fault}"
        if isinstance(event, (ev.RolledBack, ev.Truncated)) and before - len(self.view) != event.messages:
            return f"it took {before - len(self.view)} messages out of the view, and says {event.messages}"
        return None

    def _judge(self, event: ev.Event, version: int) -> str | None:
        if isinstance(event, ev.MessageAdded):
            return self._judge_message(event)
        if isinstance(event, (ev.Pinned, ev.Unpinned)):
            held = self.view.ids if isinstance(event, ev.Pinned) else self.view.pins
            return _absent(event.messages, held, "message {} does not stand in the view, or is not pinned")
        if isinstance(event, ev.Restored):
            if not 1 <= event.version < version:
                return f"it restores version {event.version}, which is not before it"
            if event.redo is not None and not 1 <= event.redo < version:
                return f"its redo leads to version {event.redo}, which is not before it"
        elif isinstance(event, ev.RequestStarted):
            return self._judge_request(event, version)
        elif isinstance(event, (ev.RequestStopped, ev.RequestFailed)):
            if self._mark_of(event.request) != _REQUEST:
                return f"request {event.request} is not on record"
        elif isinstance(event, ev.Redacted):
            if not 1 <= event.version < version:
                return f"it redacts version {event.version}, which is not before it"
            if event.version not in self.emptied:
                return f"it says that version {event.version} was redacted, but the content is still there"
        elif isinstance(event, (ev.Created, ev.Forked)) and version != 1:
            return f"{event.type} is the first event of a stream, and of nothing else"
        return None

    def _judge_message(self, event: ev.MessageAdded) -> str | None:
        if event.request is not None and self._mark_of(event.request) != _REQUEST:
            return f"request {event.request} is not on record"
        if event.kinds is not None and len(event.kinds) != len(event.question):
            return "it has not as many kinds as messages in its question"
        for number, kind in zip(event.question, event.kinds or msg.USER * len(event.question), strict=True):
            mark = self._mark_of(number)
            if mark is None:
                if self._older(number) != "message_added":
                    return f"its question {number} is no message on record"
            elif mark != ord(kind):
                return f"its question {number} is no message on record, or of another kind"
            if self.view.ids and number <= self.view.ids[-1] and number in self.view.ids:
                return f"its question {number} stands in the view already"
        return _absent(event.remarks, self.view.remarks, "remark {} is not waiting")

    def _judge_request(self, event: ev.RequestStarted, version: int) -> str | None:
        if not 0 <= event.view < version:
            return f"it was asked on version {event.view}, which is not before it"
        for number in event.question:
            mark = self._mark_of(number)
            if mark in (_NOTHING, _REQUEST) or (mark is None and self._older(number) != "message_added"):
                return f"its question {number} is no message on record"
        ends = [number for span in event.without for number in span]
        return _absent(ends, self.view.ids, "message {} does not stand in the view")

    def _mark_of(self, number: int) -> int | None:
        """The mark of an id; None where it is an inherited one."""
        version = number - self._base
        if version <= 0:
            return None if number > 0 else _NOTHING
        return self._marks[version] if version < len(self._marks) else _NOTHING


def _mark(event: ev.Event) -> int:
    if isinstance(event, ev.MessageAdded):
        return ord(msg.kind_of(event.message))
    return _REQUEST if isinstance(event, ev.RequestStarted) else _NOTHING


def _absent(wanted: Iterable[int], held: Iterable[int], what: str) -> str | None:
    numbers = list(wanted)
    if not numbers:
        return None
    there = set(held)
    gone = next((number for number in numbers if number not in there), None)
    return None if gone is None else what.format(gone)
