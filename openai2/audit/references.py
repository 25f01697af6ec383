"""What events refer to, checked while a stream is folded: is it there, and is it what it should be?

Rules: no I/O; `Ledger.enter` folds one event and says in a few words what is wrong with it, or nothing. It
trusts no event: each span, id, version and count is looked up in the view as it stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View, pack, unpack
from openai2.sentence import Sentence, sentence

_NOTHING, _REQUEST = 0, ord("R")
_REMOVAL = (ev.RolledBack, ev.Truncated)


class Family:
    """Streams that are folded side by side, parents before their forks.

    *wanted* are the versions by stream whose views are asked for again: those that are restored, and those
    that forks begin at. They are kept packed, a few bytes a message.
    """

    def __init__(self, wanted: Mapping[str, set[int]]) -> None:
        self._wanted = wanted
        self._streams: dict[str, Ledger] = {}

    def stream(self, conversation: str, parent: ev.Forked | None) -> Ledger:
        """The ledger of a stream that begins now; its parent is known, and has been folded so far."""
        above = None if parent is None else self._streams[parent.parent]
        ledger = Ledger(above, 0 if parent is None else parent.version, self._wanted.get(conversation, set()))
        self._streams[conversation] = ledger
        return ledger

    def knows(self, conversation: str) -> bool:
        """Whether the stream has begun."""
        return conversation in self._streams

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
        self._highest = self.base  # no id in the view is higher

    def enter(self, event: ev.Event, emptied: bool = False) -> Sentence | None:
        """Fold the next event; what is wrong with it, None where nothing is. *emptied*: it is redacted."""
        marks = self._marks
        version = len(marks)
        if isinstance(event, ev.MessageAdded):
            wrong = self._enter_message(event, version)
        elif isinstance(event, ev.RequestStarted):
            wrong = self._judge_request(event, version)
            marks.append(_REQUEST)
        else:
            wrong = self._judge(event, version) or self._apply(event, version)
            marks.append(_NOTHING)
        if emptied:
            self._emptied.add(version)
        if version in self._wanted:
            self._kept[version] = pack(self.view)
        return wrong

    def _enter_message(self, event: ev.MessageAdded, version: int) -> Sentence | None:
        try:
            kind = msg.kind_of(event.message)
        except (msgspec.DecodeError, RecursionError) as fault:
            return sentence("it cannot be read: {reason}", reason=str(fault))
        request = event.request
        if request is not None and self._mark_of(request) != _REQUEST:
            return sentence("request {request} is not on record", request=request)
        wrong = self._judge_question(event) if event.question or event.kinds is not None else None
        if wrong is not None:
            return wrong
        if event.remarks and (gone := _absent(event.remarks, self.view.remarks)) is not None:
            return sentence("remark {message} is not waiting", message=gone)
        self._marks.append(ord(kind))
        if request is None or event.answer is not None:  # else it joins with its answer
            self._highest = self.base + version
            self.view.add(event, self._highest, kind)
        return None

    def _apply(self, event: ev.Event, version: int) -> Sentence | None:
        taken = said = 0
        try:
            if isinstance(event, _REMOVAL):
                taken, said = len(self.view.remove(event.spans)), event.messages
            else:
                self.view.apply(event, self.base + version, lambda at: self._earlier(event, at))
        except (ValueError, KeyError, IndexError) as fault:
            return sentence("it cannot be applied: {reason}", reason=str(fault))
        if taken != said:
            what = "it took {taken} messages out of the view, and says {said}"
            return sentence(what, taken=taken, said=said)
        return None

    def _earlier(self, event: ev.Event, at: int) -> View:
        source = self._above if isinstance(event, ev.Forked) else self
        assert source is not None
        return unpack(source._kept[at])

    def _judge(self, event: ev.Event, version: int) -> Sentence | None:
        if isinstance(event, _REMOVAL):
            return None  # whose spans are looked for where they are taken out
        if isinstance(event, (ev.Pinned, ev.Unpinned)):
            held = self.view.ids if isinstance(event, ev.Pinned) else self.view.pins
            gone = _absent(event.messages, held)
            if gone is not None:
                what = "message {message} does not stand in the view, or is not pinned"
                return sentence(what, message=gone)
        elif isinstance(event, ev.Restored):
            if not 1 <= event.version < version:
                return sentence(
                    "it restores version {version}, which is not before it", version=event.version
                )
            if event.redo is not None and not 1 <= event.redo < version:
                what = "its redo leads to version {version}, which is not before it"
                return sentence(what, version=event.redo)
        elif isinstance(event, (ev.RequestStopped, ev.RequestFailed)):
            if self._mark_of(event.request) != _REQUEST:
                return sentence("request {request} is not on record", request=event.request)
        elif isinstance(event, ev.Redacted):
            if not 1 <= event.version < version:
                return sentence("it redacts version {version}, which is not before it", version=event.version)
            if event.version not in self._emptied:
                what = "it says that version {version} was redacted, but the content is still there"
                return sentence(what, version=event.version)
        elif isinstance(event, (ev.Created, ev.Forked)) and version != 1:
            return sentence("{type} is the first event of a stream, and of nothing else", type=event.type)
        return None

    def _judge_question(self, event: ev.MessageAdded) -> Sentence | None:
        question, kinds = event.question, event.kinds
        if kinds is not None and len(kinds) != len(question):
            return sentence("it has not as many kinds as messages in its question")
        for number, kind in zip(question, kinds or msg.USER * len(question), strict=True):
            if self._mark_of(number) != ord(kind):
                what = "its question {message} is no message on record, or of another kind"
                return sentence(what, message=number)
            if number <= self._highest and number in self.view.ids:  # most are higher
                return sentence("its question {message} stands in the view already", message=number)
        return None

    def _judge_request(self, event: ev.RequestStarted, version: int) -> Sentence | None:
        if not 0 <= event.view < version:
            return sentence("it was asked on version {version}, which is not before it", version=event.view)
        for number in event.question:
            if self._mark_of(number) in (_NOTHING, _REQUEST):
                return sentence("its question {message} is no message on record", message=number)
        if not event.without:
            return None
        gone = _absent([number for span in event.without for number in span], self.view.ids)
        if gone is None:
            return None
        return sentence("message {message} does not stand in the view", message=gone)

    def _mark_of(self, number: int) -> int:
        """The mark of an id, an inherited one's too."""
        ledger = self
        while number <= ledger.base and ledger._above is not None:
            ledger = ledger._above
        version = number - ledger.base
        return ledger._marks[version] if 0 < version < len(ledger._marks) else _NOTHING


def _absent(wanted: Sequence[int], held: Iterable[int]) -> int | None:
    """The first of the wanted that is not there."""
    if not wanted:
        return None
    there = set(held)
    return next((number for number in wanted if number not in there), None)
