"""How an event is told to a person: a line or two each, and what it concerned spelled out in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, is_terminal, json_safe, local, one_line, paint, screen
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import replay
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.store import Reader

T = TypeVar("T")


class Layout:
    """How lines are set: the times of a day under that day, the versions under each other."""

    def __init__(self, last: int) -> None:
        self.columns = screen() if is_terminal(sys.stdout) else 1_000_000
        self._wide = len(str(last))
        self._day = ""

    def lines(self, record: ev.Recorded, headline: str, details: Sequence[str]) -> Iterator[str]:
        """The lines of an event."""
        when = local(record.time)
        if self._day != (day := when.strftime("%Y-%m-%d")):
            self._day = day
            yield paint(day, "dim")
        lead = f"{record.version:>{self._wide}} {when:%H:%M:%S} "
        yield paint(lead, "dim") + clip(headline, self.columns - len(lead))
        for line in details:
            yield " " * (self._wide + 3) + paint(clip(line, self.columns - self._wide - 3), "dim")


class Story:
    """The events of a stream behind *after*, up to a version, and how to tell them."""

    def __init__(self, reader: Reader, conversation: str, version: int | None, after: int = 0) -> None:
        self._reader = reader
        self._lineage = Lineage.read(reader, conversation)
        self._after = after
        self._records = list(reader.events(conversation, after=after, upto=version))

    @property
    def last_version(self) -> int:
        """The version of the last event."""
        return self._records[-1].version if self._records else self._after

    def objects(self, last: int | None) -> Iterator[str]:
        """Each event as JSON."""
        for record in _last(self._records, last):
            fields = {
                "conversation": record.conversation,
                "version": record.version,
                "position": record.position,
                "type": record.type,
                "time": record.time,
                "data": msgspec.Raw(record.json or record.left),
                "hash": record.hash,
            }
            yield json_safe(msgspec.json.encode(fields).decode())

    def lines(self, layout: Layout, last: int | None) -> Iterator[str]:
        """Each event for a person: its version and time, what happened, and what that concerned."""
        for record, (headline, *details) in _last(list(self._told()), last):
            yield from layout.lines(record, headline, details)

    def _told(self) -> Iterator[tuple[ev.Recorded, list[str]]]:
        events = [record.event for record in self._records]
        befores = self._befores(events) if not self._after else self._looked_up()
        for record, event, before in zip(self._records, events, befores, strict=True):
            yield record, [one_line(line) for line in self._tell(event, before)]

    def _befores(self, events: list[ev.Event]) -> Iterator[list[int]]:
        """The view as it stood before each event: a rollback's spans are read on it."""
        inherited = None
        if events and isinstance(events[0], ev.Forked):
            inherited = views.inherited(self._reader, self._lineage)
        stream = [(record.version, event) for record, event in zip(self._records, events, strict=True)]
        before: list[int] = inherited.ids.copy() if inherited else []
        for _version, view in replay(stream, self._lineage.base, inherited):
            yield before
            before = view.ids.copy()

    def _looked_up(self) -> Iterator[list[int]]:
        """The same for a few events in the middle of a long stream."""
        for record in self._records:
            yield views.view_at(self._reader, self._lineage, record.version - 1).ids

    def _tell(self, event: ev.Event, before: list[int]) -> list[str]:
        if isinstance(event, ev.MessageAdded):
            return _message(event)
        if isinstance(event, ev.RolledBack):
            return [_rolled_back(event), *self._excerpts(event.spans, before)]
        if isinstance(event, ev.Truncated):
            headline = counted(
                "the limit of {limit} took {n} message out",
                "the limit of {limit} took {n} messages out",
                event.messages,
                limit=event.limit,
            )
            return [headline, *self._excerpts(event.spans, before)]
        if isinstance(event, ev.Pinned):
            return [_("pinned"), *self._said(event.messages)]
        if isinstance(event, ev.Unpinned):
            return [_("unpinned"), *self._said(event.messages)]
        if isinstance(event, ev.Forked):
            return [self._forked(event)]
        if isinstance(event, (ev.RequestStarted, ev.RequestStopped, ev.RequestFailed)):
            return _request(event)
        return _settings(event)

    def _forked(self, event: ev.Forked) -> str:
        parent = self._reader.conversation(event.parent)
        origin = (parent.name if parent else None) or event.parent
        name = event.name or ""
        return _("forked from {origin}@{version} {name}", origin=origin, version=event.version, name=name)

    def _excerpts(self, spans: list[ev.Span], before: list[int]) -> list[str]:
        gone: list[int] = []
        for first, end in spans:
            if first in before and end in before:
                gone += before[before.index(first) : before.index(end) + 1]
        return self._said(gone)

    def _said(self, ids: list[int]) -> list[str]:
        texts = encoded_messages(self._reader, self._lineage, ids)
        return [f"- {_who_said(msg.decode(texts[number]))}" for number in ids if number in texts]


def _last(items: list[T], number: int | None) -> list[T]:
    return items if number is None else items[len(items) - number if number < len(items) else 0 :]


def _who_said(message: msg.Message) -> str:
    return f"{message.get('role')}: {msg.text_of(message)}"


def _message(event: ev.MessageAdded) -> list[str]:
    said = _who_said(msg.decode(bytes(event.message)))
    answer = event.answer
    if answer is None:
        return [said if event.request is not None else _("{said} (added)", said=said)]
    facts = [answer.model or "", *_paid(answer.key, answer.seconds, answer.attempts)]
    usage = answer.usage or {}
    if "prompt_tokens" in usage:
        asked, came = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        facts.insert(1, _("{asked} + {came} tokens", asked=asked, came=came))
    if answer.finish_reason not in (None, "stop"):
        facts.append(str(answer.finish_reason))
    if answer.stopped:
        facts.append(_("stopped early"))
    told = " · ".join(filter(None, facts))
    return [said, told] if told else [said]


def _paid(key: str | None, seconds: float | None, attempts: list[dict[str, object]]) -> list[str]:
    facts: list[str] = []
    if key is not None:
        facts.append(_("key {key}", key=key))
    if seconds is not None:
        facts.append(_("{seconds} s", seconds=f"{seconds:.2f}"))
    if attempts:
        facts.append(counted("after {n} failed try", "after {n} failed tries", len(attempts)))
    return facts


def _rolled_back(event: ev.RolledBack) -> str:
    if event.reason == "retry":
        return _("the old answer made way for a new one")
    if event.rounds:
        return counted("rolled back {n} round", "rolled back {n} rounds", event.rounds)
    return counted("took {n} message out", "took {n} messages out", event.messages)


def _request(event: ev.RequestStarted | ev.RequestStopped | ev.RequestFailed) -> list[str]:
    if isinstance(event, ev.RequestStarted):
        model = event.model or _("the model")
        if event.limit is None:
            return [_("asked {model}", model=model)]
        return [_("asked {model}, with {limit} messages at most", model=model, limit=event.limit)]
    facts = " · ".join(_paid(event.key, event.seconds, event.attempts))
    if isinstance(event, ev.RequestStopped):
        recovered = event.reason == "recovered"
        if not event.kept:
            return [_("stopped before anything came")]
        return [_("the cut answer was kept") if recovered else _("stopped; what had come was kept")]
    status = "" if event.status is None else f"{event.status} "
    told = [_("failed: {status}{error}: {message}", status=status, error=event.error, message=event.message)]
    if event.partial is not None:
        told.append(_("what had come: {said}", said=_who_said(msg.decode(bytes(event.partial)))))
    return [*told, facts] if facts else told


def _settings(event: ev.Event) -> list[str]:
    told = event.type
    if isinstance(event, ev.Created):
        told = _("began") if event.name is None else _("began, named {name}", name=event.name)
    elif isinstance(event, ev.Restored):
        sentences = {
            "undo": _("undone: back to version {version}"),
            "redo": _("redone: forward to version {version}"),
        }
        sentence = sentences.get(event.cause or "", _("restored version {version}"))
        told = _(sentence, version=event.version)
    elif isinstance(event, ev.Configured):
        chosen = [event.model or "", "" if event.limit is None else _("limit {n}", n=event.limit)]
        told = _("set for this conversation: {settings}", settings=", ".join(filter(None, chosen)))
    elif isinstance(event, ev.Renamed):
        told = _("named {name}", name=event.name) if event.name else _("its name was taken away")
    elif isinstance(event, ev.Archived):
        told = _("archived")
    elif isinstance(event, ev.Unarchived):
        told = _("taken out of the archive")
    elif isinstance(event, ev.Redacted):
        reason = event.reason or _("no reason given")
        told = _(
            "the content of version {version} was removed: {reason}", version=event.version, reason=reason
        )
    elif isinstance(event, ev.RoleSet):
        description = event.description or _("(taken away)")
        told = _("role {name}: {description}", name=event.name, description=description)
    elif isinstance(event, ev.RemarkAdded):
        heard = ", ".join(event.audiences)
        told = _("{speaker} to {heard}: {remark}", speaker=event.speaker, heard=heard, remark=event.remark)
    return [told]
