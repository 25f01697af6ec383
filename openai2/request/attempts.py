"""The state of one request over its attempts: time, keys, failures and the response so far. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.core.request_events import RequestError
from openai2.keys import masking
from openai2.keys.pool import fingerprint
from openai2.request.deltas import compact_usage
from openai2.request.response import ResponseAccumulator

_encode = msgspec.json.Encoder().encode


class AttemptPolicy(msgspec.Struct, frozen=True):
    """How often and how long a request is attempted; see `openai2.request.flow`.

    *clock* returns seconds, *wall* seconds since 1970, *random* a number from 0 up to 1. *timeout* is in
    seconds, None means no limit. *secrets* are sent besides the key, in headers of the caller.
    """

    clock: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]
    retries: int = 2
    timeout: float | None = 600.0
    secrets: tuple[str, ...] = ()


class RequestProgress:
    """The state of a request while it runs."""

    def __init__(self, policy: AttemptPolicy) -> None:
        self.policy = policy
        self.started = self.last_progress = policy.clock()
        self.response = ResponseAccumulator()
        self.key: str | None = None
        self.secrets: list[str] = list(policy.secrets)
        self.attempts: list[dict[str, Any]] = []
        self.has_output = False  # the caller has received a piece: the request is not sent again
        self.caller_error: Exception | None = None  # raised by the caller's code, not by the server's answer
        self.retries = 0

    def use(self, key: str) -> None:
        """Start an attempt with *key*, and mask it from now on."""
        self.key = key or None
        self.response = ResponseAccumulator()
        if key and key not in self.secrets:
            self.secrets.append(key)

    def partial(self) -> bytes | None:
        """Return the message received so far, masked; None if nothing came. Safe in any thread."""
        partial = self.response.partial()
        return None if partial is None else self.mask(partial)

    def mask(self, encoded: bytes) -> bytes:
        return masking.encoded(encoded, self.secrets)

    def mask_text(self, text: str) -> str:
        return masking.text(text, self.secrets)

    def has_time_for(self, seconds: float) -> bool:
        """Return whether a wait of *seconds* ends within the request's timeout."""
        timeout = self.policy.timeout
        return timeout is None or self._elapsed() + seconds <= timeout

    def mark_progress(self) -> None:
        """Start the timeout again: the server sent something, or the consumer took its time."""
        self.last_progress = self.policy.clock()

    def deadline(self) -> float | None:
        """Return the time at which the wait that begins now ends."""
        timeout = self.policy.timeout
        return None if timeout is None else self.last_progress + timeout

    def note_attempt(self, key: str, error: RequestError, reason: str) -> None:
        """Keep a failed attempt for the record."""
        attempt: dict[str, Any] = {"error": error.kind, "reason": reason}
        if key:
            attempt["key"] = fingerprint(key)
        if error.status is not None:
            attempt["status"] = error.status
        if error.code is not None:
            attempt["code"] = self.mask_text(error.code)[:100]
        self.attempts.append(attempt)

    def costs(self) -> ev.Answer:
        """Return which key paid, the duration, and the attempts that failed before."""
        return ev.Answer(
            seconds=round(self._elapsed(), 6),
            key=None if self.key is None else fingerprint(self.key),
            attempts=self.attempts,
        )

    def answer(self) -> ev.Answer:
        """Return `costs`, and what the response says of itself, masked."""
        response = self.response
        answer = msgspec.structs.replace(
            self.costs(),
            model=response.model,
            id=response.id,
            finish_reason=response.finish_reason,
            usage=compact_usage(response.usage),
            choices=response.choices(),
            logprobs=response.logprobs(),
        )
        encoded = _encode(answer)
        masked = self.mask(encoded)
        return answer if masked == encoded else msgspec.json.decode(masked, type=ev.Answer)

    def _elapsed(self) -> float:
        return self.policy.clock() - self.started
