"""Sum up requests by key, model or day: count, failures, tokens, seconds. A query on the log, not a table.

Invariants:
- A request counts at the event that ends it, with the token usage that the server reported.
- By key, each attempt counts for its own key. By model and by day, a request counts once, and as failed only
  if its last attempt failed.
- A request that its caller stopped is not a failure.
- Keys appear as fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from openai2.core import events as ev
from openai2.core.typeguards import is_int, is_mapping
from openai2.errors import BadInput

By = Literal["key", "model", "day"]

#: The types of the events that `stats` needs.
TYPES = ("forked", "request_started", "message_added", "request_stopped", "request_failed")


class Line(msgspec.Struct, kw_only=True):
    """The sums for one key, model or day; *name* is '' if the log does not name it."""

    name: str
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def count(
        self, *, failed: bool = False, usage: Mapping[str, Any] | None = None, seconds: float | None = None
    ) -> None:
        """Add one request or attempt."""
        self.requests += 1
        self.failures += failed
        self.prompt_tokens += _tokens(usage, "prompt_tokens")
        self.completion_tokens += _tokens(usage, "completion_tokens")
        self.seconds = round(self.seconds + (seconds or 0.0), 6)


def _tokens(usage: Mapping[str, Any] | None, name: str) -> int:
    tokens = usage.get(name) if usage else None
    return tokens if is_int(tokens, 0) else 0


def stats(records: Iterable[ev.Recorded], by: str = "model") -> list[Line]:
    """Return the lines for these events, given in the order of commit.

    Days are in order; keys and models start with the most used. Raises BadInput (a ValueError) if *by* is
    not key, model or day.
    """
    if by not in ("key", "model", "day"):
        raise BadInput("expected usage by key, model or day, got {by}", by=repr(by))
    lines: dict[str, Line] = {}

    def line(name: str | None) -> Line:
        return lines.setdefault(name or "", Line(name=name or ""))

    bases: dict[str, int] = {}
    asked: dict[tuple[str, int], str | None] = {}  # model of each open request
    for record in records:
        event = record.event
        if isinstance(event, ev.Forked):
            bases[record.conversation] = event.base
            continue
        if isinstance(event, ev.RequestStarted):
            asked[record.conversation, bases.get(record.conversation, 0) + record.version] = event.model
            continue
        ended = _end(event)
        if ended is None:
            continue
        request, key, failed, usage, seconds, attempts = ended
        model = asked.pop((record.conversation, request), None)
        if by == "key":
            for attempt in attempts:
                line(str(attempt.get("key") or "")).count(failed=True)
        name = {"key": key, "model": model, "day": record.time[:10]}[by]
        line(name).count(failed=failed, usage=usage, seconds=seconds)
    if by == "day":
        return [lines[day] for day in sorted(lines)]
    return sorted(lines.values(), key=lambda line: (-line.requests, line.name))


_End = tuple[int, str | None, bool, Mapping[str, Any] | None, float | None, list[dict[str, Any]]]


def _end(event: ev.Event) -> _End | None:
    """Return (request, key, failed, usage, seconds, attempts) if the event ends a request, else None."""
    if isinstance(event, ev.MessageAdded) and event.answer is not None and event.request is not None:
        answer = event.answer
        usage = answer.usage if is_mapping(answer.usage) else None
        return event.request, answer.key, False, usage, answer.seconds, answer.attempts
    if isinstance(event, ev.RequestStopped) and not event.kept:  # if kept, its answer is counted
        return event.request, event.key, False, None, event.seconds, event.attempts
    if isinstance(event, ev.RequestFailed):
        return event.request, event.key, True, None, event.seconds, event.attempts
    return None
