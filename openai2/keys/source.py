"""Where the keys of a request come from: a pool, one key, or a function of the caller's.

Invariants: no I/O; the key of the environment is read by `base_chat`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from openai2.keys.classify import Outcome
from openai2.keys.masking import Hidden
from openai2.keys.pool import AKPool, check_key, fingerprint

#: What a caller may pass as `api_key`; None is the key of the environment.
ApiKey = str | AKPool | Callable[[], str] | None


class KeySource(Protocol):
    """What a request needs of its keys; `AKPool` documents the three methods."""

    def checkout(self, tried: Collection[str] = ()) -> str | None: ...
    def wakes_in(self, tried: Collection[str] | None = None) -> float | None: ...
    def report(self, key: str, outcome: Outcome) -> None: ...


class SingleKey:
    """One key, tried once. The empty key leaves the credentials to the SDK's client."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = Hidden(key)

    def checkout(self, tried: Collection[str] = ()) -> str | None:
        return None if tried else self.key

    def wakes_in(self, tried: Collection[str] | None = None) -> float | None:
        return None

    def report(self, key: str, outcome: Outcome) -> None:
        pass

    def __repr__(self) -> str:
        return f"<key {fingerprint(self.key)}>"


class CallableKey(SingleKey):
    """The key that a function returns; each request calls it again."""

    __slots__ = ("_get_key",)

    def __init__(self, get_key: Callable[[], str]) -> None:
        self._get_key = get_key

    def checkout(self, tried: Collection[str] = ()) -> str | None:
        return None if tried else check_key(self._get_key())

    def __repr__(self) -> str:
        return "<key from a function>"


def key_source(api_key: ApiKey) -> KeySource | None:
    """Return the source for *api_key*; None for None. Raises BadInput if the key cannot be sent."""
    if api_key is None or isinstance(api_key, AKPool):
        return api_key
    return CallableKey(api_key) if callable(api_key) else SingleKey(check_key(api_key))
