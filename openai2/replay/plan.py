"""What a replay does next: a walk over the source's events, given what the branch has done already.

Rules: no I/O. A `Source` is read from the source's whole lineage, a `Branch` from the branch's own events;
so a replay that was stopped goes on where it was, whoever stopped it. After the fork, in the source's order:

- a request that was answered, or stopped by its caller, is asked again with the options and the limit it
  had, so that the limit takes what it took; a retry is a retry. One that failed is left out, as is a
  question whose content was redacted, and one that was stopped with nothing to show and asked again later;
- a call of tools whose results are on record is carried over with its question, and so are the results: a
  tool is not run again, and what it said would not fit another call. What the model made of them is asked;
- all else that changed the view (imports, pins, rollbacks, truncations, restores, roles, remarks) happens
  as it happened, to the messages that stand for those of the source;
- with another system message, the source's system messages keep their places and pins and change their
  content; only one stands in the view at a time. Where the source has none, it comes first, pinned.

Names, settings, archiving and redactions are about the source itself and stay there.
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
    """A replay as it stands: `apply` its events, then ask `next` what to do.

    *events* are those that it has so far. It shares the source's events up to the number `source.start`.
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
        self._images: dict[int, list[int]] = {}
        self._requests: dict[int, tuple[int, list[int], list[int]]] = {}
        self._unanswered: dict[int, int] = {}
        self._partial: int | None = None
        self._reached: list[tuple[int, int]] = []
        self._views: dict[int, View] = {}
        self._goes_back = source.goes_back or any(isinstance(one, ev.Restored) for one in events)
        for version, event in enumerate(events, 1):
            self.apply(version, event)

    # -- what the branch did

    def apply(self, version: int, event: ev.Event) -> None:
        """Take note of the branch's event at *version*."""
        number = self._base + version
        if isinstance(event, ev.RequestStarted) and event.replays in self._source.steps:
            step = self._source.steps[event.replays]
            self._requests[number] = (step.number, self._pending(step), list(event.question))
        elif isinstance(event, ev.MessageAdded) and event.request in self._requests:
            self._note_request(event, event.request, number)
        elif event.replays is not None:
            self._done = max(self._done, event.replays)
            if isinstance(event, (ev.MessageAdded, ev.RemarkAdded)):
                self._images.setdefault(event.replays, []).append(number)
        elif isinstance(event, ev.Truncated) and event.request in self._requests:
            asked = self._requests[event.request][0]
            self._done = max(self._done, self._source.limits.get(asked, asked))
        if not isinstance(event, ev.Forked):  # its view is where we began
            self.view.apply(event, number, self._views.__getitem__)
        self.version = version
        if isinstance(event, ev.RolledBack) and event.request in self._requests:
            swap = self._source.swaps.get(self._requests[event.request][0])  # the new answer follows
            if swap is not None:
                self._reached.append((swap, version))
        elif self._partial is None:
            self._reached.append((self._done, version))
        if self._goes_back:
            self._views[version] = self.view.copy()

    def _note_request(self, event: ev.MessageAdded, request: int, number: int) -> None:
        step, pending, question = self._requests[request]
        if event.answer is None:
            question.append(number)
            self._unanswered.update(zip(pending, question, strict=False))
            return
        for old, new in zip(pending, question, strict=False):
            self._images.setdefault(old, []).append(new)
            self._unanswered.pop(old, None)
        self._images.setdefault(step, []).append(number)
        self._partial = step if event.answer.stopped else None
        if self._partial is None:
            self._done = max(self._done, step)
            self.asked += 1

    def _pending(self, step: Step) -> list[int]:
        """The messages of a question that are still to join the view."""
        return [old for old in step.question if not self._stands(old) and not self._is_dropped(old)]

    # -- what is next

    @property
    def missing(self) -> int:
        """How many questions are still to be asked."""
        return sum(number > self._done for number in self._source.steps)

    def setup(self) -> list[ev.Event]:
        """What comes right behind the fork: a new system message, where it does not come later."""
        stands = msg.SYSTEM in self.view.kinds
        if self._system is None or not (stands or not self._source.says_system):
            return []
        new = None if stands else msg.encode(msg.system_msg(self._system), "the system message")
        return self._rebuilt(self.view.copy(), self._base, new)

    def next(self) -> list[ev.Event] | RequestSpec | None:
        """What to append next, as one batch, or what to ask; None where all is done.

        Events that it returns count as applied.
        """
        later = self._source.later
        left = islice(later, bisect_right(later, self._done, key=lambda one: one.number), None)
        for _, batch in groupby(left, key=lambda one: (one.after, one.batch)):
            events: list[ev.Event] = []
            for told in batch:
                if told.number in self._source.steps:
                    return events or self._ask(self._source.steps[told.number])
                for event in self._carried(told):
                    events.append(event)
                    self.apply(self.version + 1, event)
            if events:
                return events
        return None

    def _ask(self, step: Step) -> RequestSpec:
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
            remarks=self._mapped(step.remarks, self.view.remarks),
            replays=step.number,
        )

    # -- events that happen again

    def _carried(self, told: SourceEvent) -> list[ev.Event]:
        event, number = told.event, told.number
        if isinstance(event, ev.MessageAdded):
            return self._carried_message(event, number)
        if isinstance(event, (ev.Pinned, ev.Unpinned)):
            pinning = isinstance(event, ev.Pinned)
            ids = self._mapped(event.messages, self.view.ids)
            ids = [one for one in ids if (one in self.view.pins) != pinning]
            return [type(event)(messages=sorted(ids), replays=number)] if ids else []
        if isinstance(event, (ev.RolledBack, ev.Truncated)):
            return [] if self._source.is_asked(event.request) else self._carried_removal(event, number)
        if isinstance(event, ev.Restored):
            return self._carried_restore(event, told)
        if isinstance(event, (ev.RoleSet, ev.RemarkAdded)):
            return [msgspec.structs.replace(event, replays=number)]
        return []

    def _carried_message(self, event: ev.MessageAdded, number: int) -> list[ev.Event]:
        if event.request is not None and (event.answer is None or self._source.is_asked(event.request)):
            return []
        copied = [(old, self._text(old)) for old in [*event.question, number] if not self._stands(old)]
        remarks = self._mapped(event.remarks, self.view.remarks)
        return [
            ev.MessageAdded(message=msgspec.Raw(text), replays=old, remarks=remarks if old == number else [])
            for old, text in copied
            if text is not None
        ]

    def _carried_removal(self, event: ev.RolledBack | ev.Truncated, number: int) -> list[ev.Event]:
        gone: set[int] = set()
        for stretch in self._source.removed[number]:
            places = [self.view.ids.index(one) for one in self._mapped(stretch, self.view.ids)]
            if places:
                gone.update(range(min(places), max(places) + 1))
        if not gone:
            return []
        spans = self.view.spans(sorted(gone))
        changed: dict[str, Any] = {"spans": spans, "messages": len(gone), "request": None, "replays": number}
        if isinstance(event, ev.RolledBack) and event.rounds:
            changed["rounds"] = sum(self.view.kinds[place] == msg.USER for place in gone)
        return [msgspec.structs.replace(event, **changed)]

    def _carried_restore(self, event: ev.Restored, told: SourceEvent) -> list[ev.Event]:
        goal = told.after + event.version
        if goal < self._base:  # the branch has no event of that time: it makes the view anew
            return self._rebuilt(self._source.views[goal], told.number)
        redo = None if event.redo is None else told.after + event.redo
        return [
            ev.Restored(
                version=self._version_at(goal),
                cause=event.cause,
                redo=None if redo is None or redo < self._base else self._version_at(redo),
                replays=told.number,
            )
        ]

    def _version_at(self, number: int) -> int:
        """The branch's version that shows what the source's event *number* left."""
        return self._reached[bisect_right(self._reached, (number, self.version)) - 1][1]

    def _rebuilt(self, goal: View, number: int, first: bytes | None = None) -> list[ev.Event]:
        """Events that put *first* and copies of the source's view *goal* in place of the view."""
        events: list[ev.Event] = []
        if self.view.ids or number > self._base:  # even where it takes nothing, it says where we are
            everything = self.view.spans(range(len(self.view)))
            events.append(
                ev.RolledBack(spans=everything, messages=len(self.view), reason="replay", replays=number)
            )
        texts = [(old, self._source.messages[old]) for old in goal.ids]
        if self._system is not None:  # only the first system message stays, with the new content
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
        """The source's message as the branch says it; None where it is left out."""
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

    # -- which message stands for which

    def _mapped(self, old: Iterable[int], standing: Iterable[int]) -> list[int]:
        there = set(standing)
        images = (self._image(one, there) for one in old)
        return [image for image in images if image is not None]

    def _image(self, old: int, there: set[int]) -> int | None:
        candidates = [*([old] if old <= self._base else []), *self._images.get(old, [])]
        return next((one for one in reversed(candidates) if one in there), None)

    def _stands(self, old: int) -> bool:
        return self._image(old, set(self.view.ids)) is not None
