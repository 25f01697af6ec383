"""What is known of one request while it runs: its time, its keys, and what came of its tries; no I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.keys import masking
from openai2.keys.pool import fingerprint
from openai2.request.deltas import usage_in_few
from openai2.request.effects import Policy
from openai2.request.response import Reply

_encode = msgspec.json.Encoder().encode


class RequestProgress:
    """What is known of the request while it runs."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.started = self.moved = policy.clock()
        self.reply = Reply()
        self.key: str | None = None
        self.secrets: list[str] = list(policy.secrets)
        self.attempts: list[dict[str, Any]] = []
        self.handed_out = False
        self.faults = 0

    def use(self, key: str) -> None:
        """From here on it is *key* that pays, and that must not be seen."""
        self.key = key or None
        self.reply = Reply()
        if key and key not in self.secrets:
            self.secrets.append(key)

    def partial(self) -> bytes | None:
        """What has come, with keys masked that a server echoed."""
        partial = self.reply.partial()
        return None if partial is None else self.scrubbed(partial)

    def scrubbed(self, encoded: bytes) -> bytes:
        return masking.encoded(encoded, self.secrets)

    def spent(self) -> float:
        return self.policy.clock() - self.started

    def affords(self, seconds: float) -> bool:
        """Whether so long a wait leaves the request within its time."""
        patience = self.policy.patience
        return patience is None or self.spent() + seconds <= patience

    def until(self) -> float | None:
        """When the wait that begins now is over."""
        patience = self.policy.patience
        return None if patience is None else self.moved + patience

    def bill(self) -> ev.Answer:
        """Who paid, for how long, and what failed before."""
        return ev.Answer(
            seconds=round(self.spent(), 6),
            key=None if self.key is None else fingerprint(self.key),
            attempts=self.attempts,
        )

    def answer(self) -> ev.Answer:
        reply = self.reply
        told = msgspec.structs.replace(
            self.bill(),
            model=reply.model,
            id=reply.id,
            finish_reason=reply.finish_reason,
            usage=usage_in_few(reply.usage),
            choices=reply.choices(),
            logprobs=reply.logprobs(),
        )
        encoded = _encode(told)
        scrubbed = self.scrubbed(encoded)
        return told if scrubbed == encoded else msgspec.json.decode(scrubbed, type=ev.Answer)
