"""Keys, outcomes and a pool on a clock that does not move, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai2.keys.classify import Outcome, Verdict, classify_failure
from openai2.keys.pool import AKPool, KeyStatus, fingerprint

NOW = 1_700_000_000.0  # a Tuesday in November 2023
A, B, C = "sk-test-0001-aaaaaaaa", "sk-test-0002-bbbbbbbb", "sk-test-0003-cccccccc"

OK = Outcome(prompt_tokens=3, completion_tokens=4)
DENIED = Verdict(reason="unauthorized", another=True, out=True)
LIMITED = Verdict(reason="rate_limit", another=True)
BROKE = Verdict(reason="quota", another=True)
REFUSED = Verdict(reason="refused", another=True)
SERVER = Verdict(reason="server", retry=True, backoff=0.5)
FINAL = Verdict(reason="request")


def limited(seconds: float) -> Verdict:
    return Verdict(reason="rate_limit", another=True, rest=seconds)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def names(count: int) -> list[str]:
    return [f"sk-test-{number:04}" for number in range(count)]


def pool_of(*keys: str, clock: Clock | None = None, **options: Any) -> AKPool:
    """Return a pool without jitter, on a clock that only the test moves."""
    return AKPool(keys, clock=clock or Clock(), random=lambda: 0.0, **options)


def take(pool: AKPool, count: int, tried: tuple[str, ...] = ()) -> list[str]:
    keys = [pool.checkout(tried) for _ in range(count)]
    assert None not in keys
    return [key for key in keys if key is not None]


def status_of(pool: AKPool, key: str) -> KeyStatus:
    return next(status for status in pool.status() if status.fingerprint == fingerprint(key))


def verdict(
    status: int | None = 429,
    *,
    code: str | None = None,
    type: str | None = None,
    message: str = "",
    headers: Mapping[str, str] | None = None,
    now: float = NOW,
) -> Verdict:
    return classify_failure(
        status=status, code=code, type=type, headers=headers or {}, message=message, wall_now=now
    )


def rest(**headers: str) -> float | None:
    return verdict(headers={name.replace("_", "-"): text for name, text in headers.items()}).rest
