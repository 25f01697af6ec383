"""References of events and drafts, checked while a stream is folded: does the target exist, and does it fit?

Invariants:
- No I/O.
- No event is trusted: each span, id, version and count is looked up in the view at that version.
- The text of a draft is nowhere else, so only its form can be checked. In a damaged stream, nothing more is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.core.snapshot import pack, unpack
from openai2.errors import LazyMessage, lazy_message
from openai2.store.audit_reader import Drafted

_OTHER, _REQUEST, _REMARK = 0, ord("R"), ord("M")  # marks of events that are not messages
_REMOVALS = (ev.RolledBack, ev.Truncated)
_MAX_LEASE = 253_402_300_800.0  # epoch seconds: the year 10000


class References:
    """All streams of a store, folded side by side, parents before their forks.

    *needed_views* are the versions, by stream, whose views are needed again: by `restored` and by forks.
    They are kept packed, a few bytes a message.
    """

    def __init__(self, needed_views: Mapping[str, set[int]]) -> None:
        self._needed_views = needed_views
        self._streams: dict[str, StreamReferences] = {}

    def begin(self, conversation: str, fork: ev.Forked | None) -> StreamReferences:
        """Begin a stream. The parent of a *fork* must be known, and folded up to the fork."""
        parent = None if fork is None else self._streams[fork.parent]
        stream = StreamReferences(
            parent, 0 if fork is None else fork.version, self._needed_views.get(conversation, set())
        )
        self._streams[conversation] = stream
        return stream

    def has(self, conversation: str) -> bool:
        """Return True if the stream has begun."""
        return conversation in self._streams


class StreamReferences:
    """The fold of one stream: its view, and a mark for each version.

    *parent* is the stream that it forked from, at the version *forked_at*. A mark is the kind of the message,
    _REQUEST or _OTHER.
    """

    def __init__(self, parent: StreamReferences | None, forked_at: int, needed_views: set[int]) -> None:
        self.view = View()
        self.base: int = 0 if parent is None else parent.base + forked_at
        self._parent = parent
        self._needed_views = needed_views
        self._views: dict[int, bytes] = {}
        self._redacted: set[int] = set()
        self._marks = bytearray(1)
        self._highest = self.base  # no id in the view is higher

    def apply(self, event: ev.Event, is_redacted: bool = False) -> LazyMessage | None:
        """Fold the next event; return what is wrong with it, or None. *is_redacted*: its data was removed."""
        version = len(self._marks)
        if isinstance(event, ev.MessageAdded):
            wrong = self._apply_message(event, version)
        elif isinstance(event, ev.RequestStarted):
            wrong = self._check_request(event, version)
            self._marks.append(_REQUEST)
        else:
            wrong = self._check(event, version) or self._apply_change(event, version)
            self._marks.append(_REMARK if isinstance(event, ev.RemarkAdded) else _OTHER)
        if is_redacted:
            self._redacted.add(version)
        if version in self._needed_views:
            self._views[version] = pack(self.view)
        return wrong

    def drop_view(self) -> None:
        """Drop the view of a stream that has ended; the views that forks need stay."""
        self.view = View()

    def _apply_message(self, event: ev.MessageAdded, version: int) -> LazyMessage | None:
        try:
            kind = msg.kind_of(event.message)
        except (msgspec.DecodeError, RecursionError) as error:
            return lazy_message("it cannot be read: {reason}", reason=str(error))
        request = event.request
        if request is not None and self._mark(request) != _REQUEST:
            return lazy_message("request {request} is not on record", request=request)
        wrong = self._check_question(event) if event.question or event.kinds is not None else None
        if wrong is not None:
            return wrong
        if event.after is not None and event.after not in self.view.ids:
            return lazy_message("message {message} is not in the view", message=event.after)
        if not event.joined and (
            event.answer is None or event.question or event.remarks or event.after is not None
        ):
            return lazy_message("it is not in the view, but names what joined the view with it")
        if event.remarks and (missing := _first_missing(event.remarks, self.view.remarks)) is not None:
            return lazy_message("remark {message} is not pending", message=missing)
        self._marks.append(ord(kind))
        if event.joins_view:
            self._highest = self.base + version
            self.view.add(event, self._highest, kind)
        return None

    def _apply_change(self, event: ev.Event, version: int) -> LazyMessage | None:
        removed = recorded = 0
        try:
            before = len(self.view)
            self.view.apply(event, self.base + version, lambda at: self._earlier_view(event, at))
            if isinstance(event, _REMOVALS):
                removed, recorded = before - len(self.view), event.messages
        except (ValueError, KeyError, IndexError) as error:
            return lazy_message("it cannot be applied: {reason}", reason=str(error))
        if removed != recorded:
            what = "it removed {removed} messages from the view, but records {recorded}"
            return lazy_message(what, removed=removed, recorded=recorded)
        return None

    def _earlier_view(self, event: ev.Event, version: int) -> View:
        stream = self._parent if isinstance(event, ev.Forked) else self
        assert stream is not None
        return unpack(stream._views[version])

    def _check(self, event: ev.Event, version: int) -> LazyMessage | None:
        if isinstance(event, _REMOVALS):  # removing the spans from the view checks them
            returned = event.remarks if isinstance(event, ev.RolledBack) else []
            for number in returned:
                if self._mark(number) != _REMARK or number in self.view.remarks:
                    return lazy_message("remark {message} is not on record, or is pending", message=number)
            return None
        if isinstance(event, (ev.Pinned, ev.Unpinned)):
            known = self.view.ids if isinstance(event, ev.Pinned) else self.view.pins
            missing = _first_missing(event.messages, known)
            if missing is not None:
                return lazy_message("message {message} is not in the view, or is not pinned", message=missing)
        elif isinstance(event, ev.Restored):
            if not 1 <= event.version < version:
                return lazy_message(
                    "it restores version {version}, which is not earlier", version=event.version
                )
            if event.redo is not None and not 1 <= event.redo < version:
                what = "its redo leads to version {version}, which is not earlier"
                return lazy_message(what, version=event.redo)
        elif isinstance(event, (ev.RequestStopped, ev.RequestFailed)):
            if self._mark(event.request) != _REQUEST:
                return lazy_message("request {request} is not on record", request=event.request)
        elif isinstance(event, ev.Redacted):
            if not 1 <= event.version < version:
                return lazy_message(
                    "it redacts version {version}, which is not earlier", version=event.version
                )
            if event.version not in self._redacted:
                what = "it records that version {version} was redacted, but the content is still there"
                return lazy_message(what, version=event.version)
        elif isinstance(event, (ev.Created, ev.Forked)) and version != 1:
            return lazy_message("{type} must be the first event of a stream", type=event.type)
        return None

    def _check_question(self, event: ev.MessageAdded) -> LazyMessage | None:
        question, kinds = event.question, event.kinds
        if kinds is not None and len(kinds) != len(question):
            return lazy_message("its question does not have as many kinds as messages")
        for number, kind in zip(question, kinds or msg.USER * len(question), strict=True):
            if self._mark(number) != ord(kind):
                what = "its question {message} is not a message on record, or is of another kind"
                return lazy_message(what, message=number)
            if number <= self._highest and number in self.view.ids:  # most are higher
                return lazy_message("its question {message} is in the view already", message=number)
        return None

    def _check_request(self, event: ev.RequestStarted, version: int) -> LazyMessage | None:
        if not 0 <= event.view < version:
            return lazy_message("it was asked on version {version}, which is not earlier", version=event.view)
        for number in event.question:
            if self._mark(number) in (_OTHER, _REQUEST, _REMARK):
                return lazy_message("its question {message} is not a message on record", message=number)
        named = [number for span in event.without for number in span]
        if event.after is not None:
            named.append(event.after)
        if not named:
            return None
        missing = _first_missing(named, self.view.ids)
        return (
            None if missing is None else lazy_message("message {message} is not in the view", message=missing)
        )

    def _mark(self, number: int) -> int:
        """Return the mark of an id of this stream, or of an inherited one."""
        stream = self
        while number <= stream.base and stream._parent is not None:
            stream = stream._parent
        version = number - stream.base
        return stream._marks[version] if 0 < version < len(stream._marks) else _OTHER


def _first_missing(numbers: Sequence[int], known: Iterable[int]) -> int | None:
    if not numbers:
        return None
    known = set(known)
    return next((number for number in numbers if number not in known), None)


class StreamRequests:
    """Which requests of one stream have started, and which have ended."""

    def __init__(self) -> None:
        self.started: set[int] = set()
        self.ended: set[int] = set()
        self.is_deleted = False

    def apply(self, number: int, event: ev.Event) -> None:
        """Fold the next event, whose id is *number*."""
        if isinstance(event, ev.RequestStarted):
            self.started.add(number)
        elif isinstance(event, ev.MessageAdded):
            if event.request is not None and event.answer is not None:
                self.ended.add(event.request)
        elif isinstance(event, (ev.RequestStopped, ev.RequestFailed)):
            self.ended.add(event.request)
        elif isinstance(event, ev.Deleted):
            self.is_deleted = True


class DraftCheck:
    """Checks drafts: the request of each has started in its stream, and has not ended."""

    def __init__(self, drafts: Iterable[Drafted]) -> None:
        self._drafts = list(drafts)
        self._requests = {draft.conversation: StreamRequests() for draft in self._drafts}

    def requests(self, conversation: str) -> StreamRequests | None:
        """Return the requests of a stream, to apply its events to; None if it has no drafts."""
        return self._requests.get(conversation)

    def problems(self, is_sound: Mapping[str, bool]) -> Iterator[tuple[str, LazyMessage]]:
        """Yield (conversation, what is wrong). *is_sound* has every conversation of the store."""
        for draft in self._drafts:
            wrong = _check_form(draft)
            if draft.conversation not in is_sound:
                wrong = lazy_message("a draft belongs to a conversation that does not exist")
            elif wrong is None and is_sound[draft.conversation]:
                wrong = _check_request(draft, self._requests[draft.conversation])
            if wrong is not None:
                yield draft.conversation, wrong


def _check_form(draft: Drafted) -> LazyMessage | None:
    request = draft.request
    if draft.odd:
        what = "a column of the draft of request {request} is of the wrong type: {differences}"
        return lazy_message(what, request=request, differences=draft.odd)
    if not (math.isfinite(draft.lease) and 0 <= draft.lease < _MAX_LEASE):
        what = "the lease of the draft of request {request} ends at {lease}, which is not a time"
        return lazy_message(what, request=request, lease=draft.lease)
    if draft.partial is not None and not msg.is_message(draft.partial):
        return lazy_message("the draft of request {request} is not a message", request=request)
    return None


def _check_request(draft: Drafted, requests: StreamRequests) -> LazyMessage | None:
    if draft.request not in requests.started:
        return lazy_message(
            "a draft belongs to request {request}, which is not on record", request=draft.request
        )
    if draft.request in requests.ended or requests.is_deleted:
        return lazy_message("a draft belongs to request {request}, which has ended", request=draft.request)
    return None
