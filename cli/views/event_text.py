"""Events as lines of text: what happened, and the messages that it affected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, json_safe, local, one_line, output_columns, paint
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import replay
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.store import Reader

T = TypeVar("T")


class Layout:
    """Columns for the version and time of each event, under a line for each day."""

    def __init__(self, last_version: int) -> None:
        self.columns = output_columns()
        self._version_width = len(str(last_version))
        self._day = ""

    def lines(self, record: ev.Recorded, headline: str, details: Sequence[str]) -> Iterator[str]:
        """Yield the lines of one event."""
        time = local(record.time)
        if self._day != (day := time.strftime("%Y-%m-%d")):
            self._day = day
            yield paint(day, "dim")
        lead = f"{record.version:>{self._version_width}} {time:%H:%M:%S} "
        yield paint(lead, "dim") + clip(headline, self.columns - len(lead))
        indent = self._version_width + 3
        for line in details:
            yield " " * indent + paint(clip(line, self.columns - indent), "dim")


class EventLog:
    """The events of a stream after version *after* up to *version* (None: the last)."""

    def __init__(self, reader: Reader, conversation: str, version: int | None, after: int = 0) -> None:
        self._reader = reader
        self._lineage = Lineage.read(reader, conversation)
        self._after = after
        self._records = list(reader.events(conversation, after=after, upto=version))

    @property
    def last_version(self) -> int:
        """The version of the last event; *after* if there is none."""
        return self._records[-1].version if self._records else self._after

    def json_lines(self, last: int | None) -> Iterator[str]:
        """Yield each event, or the last *last* ones, as a JSON object on one line."""
        for record in _tail(self._records, last):
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
        """Yield the text of each event, or of the last *last* ones."""
        for record, (headline, *details) in _tail(list(self._texts()), last):
            yield from layout.lines(record, headline, details)

    def _texts(self) -> Iterator[tuple[ev.Recorded, list[str]]]:
        events = [record.event for record in self._records]
        previous_ids = self._folded_ids(events) if not self._after else self._read_ids()
        for record, event, ids in zip(self._records, events, previous_ids, strict=True):
            yield record, [one_line(line) for line in self._describe(event, ids)]

    def _folded_ids(self, events: list[ev.Event]) -> Iterator[list[int]]:
        """Yield the ids in view before each event; the spans of a rollback refer to them."""
        inherited = None
        if events and isinstance(events[0], ev.Forked):
            inherited = views.inherited(self._reader, self._lineage)
        stream = [(record.version, event) for record, event in zip(self._records, events, strict=True)]
        ids: list[int] = inherited.ids.copy() if inherited else []
        for _version, view in replay(stream, self._lineage.base, inherited):
            yield ids
            ids = view.ids.copy()

    def _read_ids(self) -> Iterator[list[int]]:
        """Like `_folded_ids`, for a few events of a long stream."""
        for record in self._records:
            yield views.view_at(self._reader, self._lineage, record.version - 1).ids

    def _describe(self, event: ev.Event, previous_ids: list[int]) -> list[str]:
        """Return a headline and the details of an event."""
        if isinstance(event, ev.MessageAdded):
            return _describe_message(event)
        if isinstance(event, ev.RolledBack):
            return [_describe_rollback(event), *self._removed(event.spans, previous_ids)]
        if isinstance(event, ev.Truncated):
            headline = counted(
                "the limit of {limit} removed {n} message",
                "the limit of {limit} removed {n} messages",
                event.messages,
                limit=event.limit,
            )
            return [headline, *self._removed(event.spans, previous_ids)]
        if isinstance(event, ev.Pinned):
            return [_("pinned"), *self._quote(event.messages)]
        if isinstance(event, ev.Unpinned):
            return [_("unpinned"), *self._quote(event.messages)]
        if isinstance(event, ev.Forked):
            return [self._describe_fork(event)]
        if isinstance(event, (ev.RequestStarted, ev.RequestStopped, ev.RequestFailed)):
            return _describe_request(event)
        return [_describe_change(event)]

    def _describe_fork(self, event: ev.Forked) -> str:
        parent = self._reader.conversation(event.parent)
        origin = (parent.name if parent else None) or event.parent
        name = event.name or ""
        return _("forked from {origin}@{version} {name}", origin=origin, version=event.version, name=name)

    def _removed(self, spans: list[ev.Span], previous_ids: list[int]) -> list[str]:
        removed: list[int] = []
        for first, last in spans:
            if first in previous_ids and last in previous_ids:
                removed += previous_ids[previous_ids.index(first) : previous_ids.index(last) + 1]
        return self._quote(removed)

    def _quote(self, ids: list[int]) -> list[str]:
        texts = encoded_messages(self._reader, self._lineage, ids)
        return [f"- {_with_role(msg.decode(texts[number]))}" for number in ids if number in texts]


def answer_facts(
    model: str | None,
    usage: Mapping[str, Any] | None,
    seconds: float | None,
    finish_reason: str | None = None,
    *,
    stopped: bool = False,
    key: str | None = None,
    attempts: int = 0,
) -> list[str]:
    """Return the known facts of an answer as short texts; *usage* is the API's count of tokens."""
    facts = [model] if model else []
    if usage and usage.get("prompt_tokens") is not None:
        sent, received = usage["prompt_tokens"], usage.get("completion_tokens") or 0
        facts.append(_("{asked} + {came} tokens", asked=sent, came=received))
    if key is not None:
        facts.append(_("key {key}", key=key))
    if seconds is not None:
        facts.append(_("{seconds} s", seconds=f"{seconds:.2f}"))
    if attempts:
        facts.append(counted("after {n} failed attempt", "after {n} failed attempts", attempts))
    if finish_reason not in (None, "stop"):
        facts.append(finish_reason)
    if stopped:
        facts.append(_("stopped early"))
    return facts


def _tail(items: list[T], count: int | None) -> list[T]:
    return items if count is None else items[max(len(items) - count, 0) :]


def _with_role(message: msg.Message) -> str:
    return f"{message.get('role')}: {msg.text_of(message)}"


def _describe_message(event: ev.MessageAdded) -> list[str]:
    text = _with_role(msg.decode(bytes(event.message)))
    answer = event.answer
    if answer is None:
        return [text if event.request is not None else _("{message} (added)", message=text)]
    facts = answer_facts(
        answer.model,
        answer.usage,
        answer.seconds,
        answer.finish_reason,
        stopped=answer.stopped,
        key=answer.key,
        attempts=len(answer.attempts),
    )
    if not event.joined:
        facts.append(_("not in the view: there was no place for it behind its question"))
    return [text, " · ".join(facts)] if facts else [text]


def _describe_rollback(event: ev.RolledBack) -> str:
    if event.reason == "retry":
        return _("removed the old answer before a retry")
    if event.rounds:
        return counted("rolled back {n} round", "rolled back {n} rounds", event.rounds)
    return counted("removed {n} message", "removed {n} messages", event.messages)


def _describe_request(event: ev.RequestStarted | ev.RequestStopped | ev.RequestFailed) -> list[str]:
    if isinstance(event, ev.RequestStarted):
        model = event.model or _("the model")
        if event.limit is None:
            return [_("asked {model}", model=model)]
        return [_("asked {model}, with at most {limit} messages", model=model, limit=event.limit)]
    if isinstance(event, ev.RequestStopped):
        if not event.kept:
            return [_("stopped before the answer began")]
        if event.reason == "recovered":
            return [_("kept the part of the answer received before a crash")]
        return [_("stopped; kept the part of the answer received so far")]
    status = "" if event.status is None else f"{event.status} "
    lines = [_("failed: {status}{error}: {message}", status=status, error=event.error, message=event.message)]
    if event.partial is not None:
        partial = _with_role(msg.decode(bytes(event.partial)))
        lines.append(_("received until then: {message}", message=partial))
    facts = answer_facts(None, None, event.seconds, key=event.key, attempts=len(event.attempts))
    return [*lines, " · ".join(facts)] if facts else lines


def _describe_change(event: ev.Event) -> str:
    """Return the text of an event about the conversation as a whole; of an unknown event, its type."""
    if isinstance(event, ev.Created):
        return _("created") if event.name is None else _("created, named {name}", name=event.name)
    if isinstance(event, ev.Restored):
        if event.cause == "undo":
            return _("undone: back to version {version}", version=event.version)
        if event.cause == "redo":
            return _("redone: forward to version {version}", version=event.version)
        return _("restored version {version}", version=event.version)
    if isinstance(event, ev.Configured):
        limit = _("no limit") if event.limit == 0 else _("limit {n}", n=event.limit)
        settings = [event.model or "", "" if event.limit is None else limit]
        return _("settings of this conversation: {settings}", settings=", ".join(filter(None, settings)))
    if isinstance(event, ev.Renamed):
        return _("named {name}", name=event.name) if event.name else _("name removed")
    if isinstance(event, ev.Archived):
        return _("archived")
    if isinstance(event, ev.Unarchived):
        return _("taken out of the archive")
    if isinstance(event, ev.Redacted):
        reason = event.reason or _("no reason given")
        return _("redacted the content of version {version}: {reason}", version=event.version, reason=reason)
    if isinstance(event, ev.RoleSet):
        description = event.description or _("(removed)")
        return _("role {name}: {description}", name=event.name, description=description)
    if isinstance(event, ev.RemarkAdded):
        audiences = "、".join(event.audiences)
        return _(
            "{speaker} to {audiences}: {remark}",
            speaker=event.speaker,
            audiences=audiences,
            remark=event.remark,
        )
    return event.type
