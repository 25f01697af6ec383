"""Deadlines: however slowly a server dribbles, an exchange ends in time.

A timeout of the SDK counts from one read to the next, so a byte now and then keeps a request alive for
ever. Our transports ask here how long they may wait: as long as `until` is in force in a thread or task, no
wait goes past it; where none is, waits last as long as they would. Under httpx2's own transports the network
is wrapped to the same end.

A client that a caller brought along (`http_client=`) is left alone; there the time is looked at between
the pieces of an answer only.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from typing import Any, TypeVar

T = TypeVar("T")

_OVER = "the time for this request is over"
_end: ContextVar[float | None] = ContextVar("openai2_deadline", default=None)


class until:  # noqa: N801 - it reads as the word that it is: with until(when)
    """A context in which no wait for the network goes past *when* on the monotonic clock."""

    __slots__ = ("_token", "_when")

    def __init__(self, when: float | None) -> None:
        self._when = when

    def __enter__(self) -> None:
        self._token: Token[float | None] = _end.set(self._when)

    def __exit__(self, *exc: object) -> None:
        _end.reset(self._token)


def passed(when: float | None) -> bool:
    """Whether it is later than *when*."""
    return when is not None and time.monotonic() >= when


def left(timeout: float | None, late: type[Exception]) -> float | None:
    """The seconds that may still be waited. Raises *late* where there are none."""
    end = _end.get()
    if end is None:
        return timeout
    remaining = end - time.monotonic()
    if remaining <= 0:
        raise late(_OVER)
    return remaining if timeout is None else min(timeout, remaining)


async def bounded(waiting: Callable[[], Awaitable[T]], late: type[Exception]) -> T:
    """What *waiting* gives. Raises *late* where the time that is left runs out before."""
    seconds = left(None, late)
    if seconds is None:
        return await waiting()
    import anyio

    with anyio.move_on_after(seconds):
        return await waiting()
    raise late(_OVER)


class _Stream:
    """A connection whose reads and writes keep to the deadline."""

    def __init__(self, inner: Any) -> None:
        import httpcore2

        self._inner = inner
        self._late_read: type[Exception] = httpcore2.ReadTimeout
        self._late_write: type[Exception] = httpcore2.WriteTimeout
        self._late_connect: type[Exception] = httpcore2.ConnectTimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _SyncStream(_Stream):
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._inner.read(max_bytes, timeout=left(timeout, self._late_read))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=left(timeout, self._late_write))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        most = left(timeout, self._late_connect)
        return type(self)(self._inner.start_tls(ssl_context, server_hostname=server_hostname, timeout=most))


class _AsyncStream(_Stream):
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = await self._inner.read(max_bytes, timeout=left(timeout, self._late_read))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout=left(timeout, self._late_write))

    async def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        most = left(timeout, self._late_connect)
        inner = await self._inner.start_tls(ssl_context, server_hostname=server_hostname, timeout=most)
        return type(self)(inner)


class _Network:
    """What opens connections; those that it opens keep to the deadline."""

    def __init__(self, inner: Any) -> None:
        import httpcore2

        self._inner = inner
        self._late: type[Exception] = httpcore2.ConnectTimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _SyncNetwork(_Network):
    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> Any:
        most = left(timeout, self._late)
        return _SyncStream(self._inner.connect_tcp(host, port, timeout=most, **options))


class _AsyncNetwork(_Network):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        most = left(timeout, self._late)
        return _AsyncStream(await self._inner.connect_tcp(host, port, timeout=most, **options))


def keep(http: Any, *, blocking: bool) -> None:
    """Let the connections of an httpx2 client, which is ours and new, keep to deadlines.

    The client offers no public way to name its network. Should the names below change one day, deadlines
    are kept between pieces only, and a test tells.
    """
    wrap: Callable[[Any], _Network] = _SyncNetwork if blocking else _AsyncNetwork
    transports = [getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()]
    for transport in transports:
        pool: Any = getattr(transport, "_pool", None)
        network = getattr(pool, "_network_backend", None)
        if network is not None and not isinstance(network, _Network):
            pool._network_backend = wrap(network)
