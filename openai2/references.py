"""What events refer to, checked while a stream is folded: is it there, and is it what it should be?

Rules: no I/O; `Ledger.enter` folds one event and says in a few words what is wrong with it, or nothing. It
trusts no event: each span, id, version and count is looked up in the view as it stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from openai2 import events as ev
from openai2 import messages as msg
from openai2.projection import View, pack, unpack

_NOTHING, _REQUEST = 0, ord("R")


class Family:
    """Streams that are folded one after the other, parents before their forks.

    *wanted* are the versions by stream whose views are asked for again: those that are restored, and those
    that forks begin at. They are kept packed, a few bytes a message.
    """

    def __init__(self, wanted: Mapping[str, set[int]]) -> None:
        self._wanted = wanted
        self._streams: dict[str, Ledger] = {}

    def stream(self, conversation: str, parent: ev.Forked | None) -> Ledger:
        """The ledger of a stream that begins now; its parent has been folded."""
        above = None if parent is None else self._streams[parent.parent]
        ledger = Ledger(above, 0 if parent is None else parent.version, self._wanted.get(conversation, set()))
        self._streams[conversation] = ledger
        return ledger

    def forget_view(self, conversation: str) -> None:
        """The stream is folded; only what its forks need is kept."""
        self._streams[conversation].view = View()


class Ledger:
    """A stream while it is folded: its view, and a mark for each version.

    *above* is the ledger of the stream that it forked from at *forked*. A version's mark is the kind of its
    message, or that of a request.
    """

    def __init__(self, above: Ledger | None, forked: int, wanted: set[int]) -> None:
        self.view = View()
        self.base: int = 0 if above is None else above.base + forked
        self._above = above
        self._forked = forked
        self._wanted = wanted
        self._kept: dict[int, bytes] = {}
        self._emptied: set[int] = set()
        self._marks = bytearray(1)

    def enter(self, event: ev.Event, emptied: bool) -> str | None:
        """Fold the next event; what is wrong with it, None where nothing is. *emptied*: it is redacted."""
        version = len(self._marks)
        wrong = self._judge(event, version)
        self._marks.append(_mark(event))
        if emptied:
            self._emptied.add(version)
        if wrong is not None:
            return wrong
        before = len(self.view)
        try:
            self.view.apply(event, self.base + version, lambda at: self._earlier(event, at))
        except (ValueError, KeyError, IndexError) as fault:
            return f"it cannot be applied: {fault}"
        if isinstance(event, (ev.RolledBack, ev.Truncated)) and before - len(self.view) != event.messages:
            return f"it took {before - len(self.view)} messages out of the view, and says {event.messages}"
        if version in self._wanted:
            self._kept[version] = pack(self.view)
        return None

    def _earlier(self, event: ev.Event, at: int) -> View:
        source = self._above if isinstance(event, ev.Forked) else self
        assert source is not None
        return unpack(source._kept[at])

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
            if event.version not in self._emptied:
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
            if mark != ord(kind):
                return f"its question {number} is no message on record, or of another kind"
            if self.view.ids and number <= self.view.ids[-1] and number in self.view.ids:
                return f"its question {number} stands in the view already"
        return _absent(event.remarks, self.view.remarks, "remark {} is not waiting")

    def _judge_request(self, event: ev.RequestStarted, version: int) -> str | None:
        if not 0 <= event.view < version:
            return f"it was asked on version {event.view}, which is not before it"
        for number in event.question:
            if self._mark_of(number) in (_NOTHING, _REQUEST):
                return f"its question {number} is no message on record"
        ends = [number for span in event.without for number in span]
        return _absent(ends, self.view.ids, "message {} does not stand in the view")

    def _mark_of(self, number: int) -> int:
        """The mark of an id, an inherited one's too."""
        ledger = self
        while number <= ledger.base and ledger._above is not None:
            ledger = ledger._above
        version = number - ledger.base
        return ledger._marks[version] if 0 < version < len(ledger._marks) else _NOTHING


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
