"""What requests have cost: a query on the log, by key, model or day.

Rules: nothing is kept for it. A request counts where it ended, with what the server said of its tokens. By
key, each try counts for the key that it was made with, and a failed one as that key's failure; by model and
by day, a request is one, and only the last try says whether it failed. A request that its caller stopped is
no failure. Keys are told by their fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from openai2.core import events as ev
from openai2.core.typeguards import is_int, is_mapping
from openai2.errors import BadInput

By = Literal["key", "model", "day"]

#: The events that are looked at.
TYPES = ("forked", "request_started", "message_added", "request_stopped", "request_failed")


class Line(msgspec.Struct, kw_only=True):
    """What one key, model or day has cost; *name* is '' where the log does not say which."""

    name: str
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def count(
        self, *, failed: bool = False, usage: Mapping[str, Any] | None = None, seconds: float | None = None
    ) -> None:
        """One more."""
        self.requests += 1
        self.failures += failed
        self.prompt_tokens += _tokens(usage, "prompt_tokens")
        self.completion_tokens += _tokens(usage, "completion_tokens")
        self.seconds = round(self.seconds + (seconds or 0.0), 6)


def _tokens(usage: Mapping[str, Any] | None, name: str) -> int:
    tokens = usage.get(name) if usage else None
    return tokens if is_int(tokens, 0) else 0


def stats(records: Iterable[ev.Recorded], by: str = "model") -> list[Line]:
    """The lines for these events, which come in the order of their commit.

    Days come in their order, keys and models with the most used first.

    Raises BadInput (a ValueError) where *by* is none of key, model, day.
    """
    if by not in ("key", "model", "day"):
        raise BadInput("usage is told by key, model or day, not by {by}", by=repr(by))
    lines: dict[str, Line] = {}

    def line(name: str | None) -> Line:
        return lines.setdefault(name or "", Line(name=name or ""))

    bases: dict[str, int] = {}
    asked: dict[tuple[str, int], str | None] = {}  # the model of each request that is open
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
    """(request, key, failed, usage, seconds, attempts) of an event that ends a request."""
    if isinstance(event, ev.MessageAdded) and event.answer is not None and event.request is not None:
        answer = event.answer
        usage = answer.usage if is_mapping(answer.usage) else None
        return event.request, answer.key, False, usage, answer.seconds, answer.attempts
    if isinstance(event, ev.RequestStopped) and not event.kept:  # else its answer was counted
        return event.request, event.key, False, None, event.seconds, event.attempts
    if isinstance(event, ev.RequestFailed):
        return event.request, event.key, True, None, event.seconds, event.attempts
    return None
