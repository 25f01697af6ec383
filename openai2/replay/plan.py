"""What a replay does next: a walk over the source's events, given what the branch has done. No I/O.

A `Source` comes from the source's whole lineage, a `Branch` from the branch's own events. So a stopped replay
continues where it was, in any process.

Invariants, after the fork and in the source's order:
- A request that was answered, or stopped by its caller, is asked again with its options and limit; a retry is
  a retry. Left out are failed requests, questions with redacted content, and requests that were stopped
  before any output and asked again later.
- A tool call whose results are on record is copied with its question and its results: tools do not run again,
  and their results would not fit another call. The request that follows the results is asked.
- Every other change of the view (imports, pins, rollbacks, truncations, restores, roles, remarks) is repeated
  on the messages that correspond to those of the source.
- Another system message replaces the content of the source's system messages, which keep their places and
  pins; only one is in the view at a time. If the source has none, the new one comes first, pinned.
- Names, settings, archiving and redactions concern the source only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import groupby, islice
from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.core.request_events import RequestSpec
from openai2.replay.source import Source, SourceEvent, Step


class Branch:
    """The state of a replay: `apply` adds an event of the branch, `next` returns what to do.

    *events* are the branch's so far. It shares the source's events up to the number `source.start`.
    """

    def __init__(self, source: Source, system: str | None, events: Iterable[ev.Event] = ()) -> None:
        base = source.start
        events = list(events)
        self.view = source.views[base].copy()
        self.version = 0
        self.asked = 0
        self._source = source
        self._base = base
        self._system = system
        self._done = base
        self._copies: dict[int, list[int]] = {}
        self._requests: dict[int, tuple[int, list[int], list[int]]] = {}
        self._unanswered: dict[int, int] = {}
        self._partial: int | None = None
        self._reached: list[tuple[int, int]] = []
        self._views: dict[int, View] = {}
        self._has_restores = source.has_restores or any(isinstance(each, ev.Restored) for each in events)
        for version, event in enumerate(events, 1):
            self.apply(version, event)

    # -- what the branch has done

    def apply(self, version: int, event: ev.Event) -> None:
        """Add the branch's event at *version*."""
        number = self._base + version
        if isinstance(event, ev.RequestStarted) and event.replays in self._source.steps:
            step = self._source.steps[event.replays]
            self._requests[number] = (step.number, self._pending(step), list(event.question))
        elif isinstance(event, ev.MessageAdded) and event.request in self._requests:
            self._note_request(event, event.request, number)
        elif event.replays is not None:
            self._done = max(self._done, event.replays)
            if isinstance(event, (ev.MessageAdded, ev.RemarkAdded)):
                self._copies.setdefault(event.replays, []).append(number)
        elif isinstance(event, ev.Truncated) and event.request in self._requests:
            asked = self._requests[event.request][0]
            self._done = max(self._done, self._source.limits.get(asked, asked))
        if not isinstance(event, ev.Forked):  # the view starts as the fork's
            self.view.apply(event, number, self._views.__getitem__)
        self.version = version
        if isinstance(event, ev.RolledBack) and event.request in self._requests:
            swap = self._source.swaps.get(self._requests[event.request][0])  # the new answer follows
            if swap is not None:
                self._reached.append((swap, version))
        elif self._partial is None:
            self._reached.append((self._done, version))
        if self._has_restores:
            self._views[version] = self.view.copy()

    def _note_request(self, event: ev.MessageAdded, request: int, number: int) -> None:
        step, pending, question = self._requests[request]
        if event.answer is None:
            question.append(number)
            self._unanswered.update(zip(pending, question, strict=False))
            return
        for old, new in zip(pending, question, strict=False):
            self._copies.setdefault(old, []).append(new)
            self._unanswered.pop(old, None)
        self._copies.setdefault(step, []).append(number)
        self._partial = step if event.answer.stopped else None
        if self._partial is None:
            self._done = max(self._done, step)
            self.asked += 1

    def _pending(self, step: Step) -> list[int]:
        """Return the messages of a question that are not in the view yet."""
        return [old for old in step.question if not self._is_in_view(old) and not self._is_dropped(old)]

    # -- what comes next

    @property
    def missing(self) -> int:
        """The number of questions that are not asked yet."""
        return sum(number > self._done for number in self._source.steps)

    def setup(self) -> list[ev.Event]:
        """Return the events right behind the fork: a new system message, unless one comes later."""
        has_system = msg.SYSTEM in self.view.kinds
        if self._system is None or not (has_system or not self._source.has_later_system):
            return []
        new = None if has_system else msg.encode(msg.system_msg(self._system), "the system message")
        return self._rebuilt(self.view.copy(), self._base, new)

    def next(self) -> list[ev.Event] | RequestSpec | None:
        """Return the events to append next as one batch, or the request to ask; None at the end.

        The returned events count as applied.
        """
        later = self._source.later
        left = islice(later, bisect_right(later, self._done, key=lambda each: each.number), None)
        for _, batch in groupby(left, key=lambda each: (each.after, each.batch)):
            events: list[ev.Event] = []
            for original in batch:
                if original.number in self._source.steps:
                    return events or self._request(self._source.steps[original.number])
                for event in self._repeated(original):
                    events.append(event)
                    self.apply(self.version + 1, event)
            if events:
                return events
        return None

    def _request(self, step: Step) -> RequestSpec:
        pending = self._pending(step)
        again = [(self._unanswered[old], msg.kind_of(self._source.messages[old]))
                 for old in pending if old in self._unanswered]  # fmt: skip
        fresh = [self._text(old) for old in pending if old not in self._unanswered]
        return RequestSpec(
            question=[text for text in fresh if text is not None],
            model=step.started.model,
            options=step.started.options,
            stream=step.started.stream,
            limit=step.started.limit,
            again=again,
            retry=step.started.retry or self._partial == step.number,
            after=None if step.after is None else self._copy(step.after, set(self.view.ids)),
            remarks=self._mapped(step.remarks, self.view.remarks),
            replays=step.number,
        )

    # -- events that are repeated

    def _repeated(self, original: SourceEvent) -> list[ev.Event]:
        event, number = original.event, original.number
        if isinstance(event, ev.MessageAdded):
            return self._repeated_message(event, number)
        if isinstance(event, (ev.Pinned, ev.Unpinned)):
            pinning = isinstance(event, ev.Pinned)
            ids = self._mapped(event.messages, self.view.ids)
            ids = [id for id in ids if (id in self.view.pins) != pinning]
            return [type(event)(messages=sorted(ids), replays=number)] if ids else []
        if isinstance(event, (ev.RolledBack, ev.Truncated)):
            return [] if self._source.is_asked(event.request) else self._repeated_removal(event, number)
        if isinstance(event, ev.Restored):
            return self._repeated_restore(event, original)
        if isinstance(event, (ev.RoleSet, ev.RemarkAdded)):
            return [msgspec.structs.replace(event, replays=number)]
        return []

    def _repeated_message(self, event: ev.MessageAdded, number: int) -> list[ev.Event]:
        if not event.joins_view or (event.request is not None and self._source.is_asked(event.request)):
            return []
        copied = [(old, self._text(old)) for old in [*event.question, number] if not self._is_in_view(old)]
        remarks = self._mapped(event.remarks, self.view.remarks)
        return [
            ev.MessageAdded(message=msgspec.Raw(text), replays=old, remarks=remarks if old == number else [])
            for old, text in copied
            if text is not None
        ]

    def _repeated_removal(self, event: ev.RolledBack | ev.Truncated, number: int) -> list[ev.Event]:
        removed: set[int] = set()
        for ids in self._source.removed[number]:
            places = [self.view.ids.index(id) for id in self._mapped(ids, self.view.ids)]
            if places:
                removed.update(range(min(places), max(places) + 1))
        if not removed:
            return []
        spans = self.view.spans(sorted(removed))
        changed: dict[str, Any] = {"spans": spans, "messages": len(removed), "replays": number}
        changed["request"] = None
        if isinstance(event, ev.RolledBack) and event.remarks:
            used = set(range(self._base + self.version + 1)).difference(self.view.remarks)
            changed["remarks"] = self._mapped(event.remarks, used)
        if isinstance(event, ev.RolledBack) and event.rounds:
            changed["rounds"] = sum(self.view.kinds[place] == msg.USER for place in removed)
        return [msgspec.structs.replace(event, **changed)]

    def _repeated_restore(self, event: ev.Restored, original: SourceEvent) -> list[ev.Event]:
        goal = original.after + event.version
        if goal < self._base:  # the branch has no such version: build its view from copies
            return self._rebuilt(self._source.views[goal], original.number)
        redo = None if event.redo is None else original.after + event.redo
        return [
            ev.Restored(
                version=self._version_at(goal),
                cause=event.cause,
                redo=None if redo is None or redo < self._base else self._version_at(redo),
                replays=original.number,
            )
        ]

    def _version_at(self, number: int) -> int:
        """Return the branch's version whose view corresponds to the source's after event *number*."""
        return self._reached[bisect_right(self._reached, (number, self.version)) - 1][1]

    def _rebuilt(self, goal: View, number: int, first: bytes | None = None) -> list[ev.Event]:
        """Return events that replace the view by *first* and copies of the source's view *goal*."""
        events: list[ev.Event] = []
        if self.view.ids or number > self._base:  # even if nothing is removed: it marks the position
            everything = self.view.spans(range(len(self.view)))
            events.append(
                ev.RolledBack(spans=everything, messages=len(self.view), reason="replay", replays=number)
            )
        texts = [(old, self._source.messages[old]) for old in goal.ids]
        if self._system is not None:  # keep only the first system message, with the new content
            system = [old for old, raw in texts if msg.kind_of(raw) == msg.SYSTEM]
            texts = [
                (old, msgspec.Raw(self._changed(raw)) if old in system else raw)
                for old, raw in texts
                if old not in system[1:]
            ]
        pins: list[int] = []
        place = self._base + self.version + len(events)
        if first is not None:
            events.append(ev.MessageAdded(message=msgspec.Raw(first)))
            pins.append(place := place + 1)
        for old, raw in texts:
            events.append(ev.MessageAdded(message=raw, replays=old))
            place += 1
            if old in goal.pins:
                pins.append(place)
        if pins:
            events.append(ev.Pinned(messages=pins, replays=number))
        return events

    def _text(self, old: int) -> bytes | None:
        """Return the source's message as the branch has it; None if it is left out."""
        raw = self._source.messages[old]
        if self._is_dropped(old):
            return None
        return self._changed(raw) if msg.kind_of(raw) == msg.SYSTEM else bytes(raw)

    def _is_dropped(self, old: int) -> bool:
        if self._system is None or msg.kind_of(self._source.messages[old]) != msg.SYSTEM:
            return False
        return msg.SYSTEM in self.view.kinds

    def _changed(self, raw: msgspec.Raw) -> bytes:
        if self._system is None:
            return bytes(raw)
        return msg.encode({**msg.decode(bytes(raw)), "content": self._system}, "the system message")

    # -- which message corresponds to which

    def _mapped(self, originals: Iterable[int], among: Iterable[int]) -> list[int]:
        """Return the ids in *among* that correspond to the source's ids."""
        known = set(among)
        copies = (self._copy(original, known) for original in originals)
        return [copy for copy in copies if copy is not None]

    def _copy(self, original: int, among: set[int]) -> int | None:
        candidates = [*([original] if original <= self._base else []), *self._copies.get(original, [])]
        return next((id for id in reversed(candidates) if id in among), None)

    def _is_in_view(self, old: int) -> bool:
        return self._copy(old, set(self.view.ids)) is not None
