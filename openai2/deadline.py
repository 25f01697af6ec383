"""Deadlines: however slowly a server dribbles, an exchange ends in time.

A timeout of the SDK counts from one read to the next, so a byte now and then keeps a request alive for
ever. Here the network under a client is wrapped: as long as `until` is in force in a thread or task, no
read waits past it; where no `until` is in force, reads wait as long as they would. What else the wrapping
does spares CPU: a request leaves in one piece, and an idle connection is asked whether it still is there by
one `poll`.

A client that a caller brought along (`http_client=`) is left alone; there the time is looked at between
the pieces of an answer only.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

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


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """The seconds that may still be waited. Raises *late* where there are none."""
    end = _end.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise late("the time for this request is over")
    return left if timeout is None else min(timeout, left)


class _Stream:
    """A connection whose reads and writes keep to the deadline, and that sends a request whole.

    The head of a request and its body are written apart, and their end is told by an empty write; sent
    together, they take half the calls of the system, and a packet less.
    """

    _held = b""

    def __init__(self, inner: Any) -> None:
        import httpcore2

        self._inner = inner
        self._late_read: type[Exception] = httpcore2.ReadTimeout
        self._late_write: type[Exception] = httpcore2.WriteTimeout
        self._late_connect: type[Exception] = httpcore2.ConnectTimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _due(self, buffer: bytes) -> bytes:
        """What is to be sent now that *buffer* is written: nothing before the end, then all."""
        whole = self._held + buffer
        self._held = whole if buffer else b""
        return b"" if buffer else whole


class _SyncStream(_Stream):
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:  # what talks like this is no request: a proxy's greeting, say
            self.write(b"", timeout)
        data: bytes = self._inner.read(max_bytes, timeout=_left(timeout, self._late_read))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if due := self._due(buffer):
            self._inner.write(due, timeout=_left(timeout, self._late_write))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        left = _left(timeout, self._late_connect)
        return type(self)(self._inner.start_tls(ssl_context, server_hostname=server_hostname, timeout=left))


class _AsyncStream(_Stream):
    _poll: Any = None
    _socket: Any = None

    def get_extra_info(self, info: str) -> Any:
        # The pool asks every idle connection this, twice a request; by way of anyio, which looks up all
        # that there is to know of a socket, that takes a seventh of the CPU of 50 requests at a time.
        if info != "is_readable" or not hasattr(select, "poll"):
            return self._inner.get_extra_info(info)
        if self._poll is None:
            self._socket = self._inner.get_extra_info("socket")
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
        return self._socket.fileno() < 0 or bool(self._poll.poll(0))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            await self.write(b"", timeout)
        data: bytes = await self._inner.read(max_bytes, timeout=_left(timeout, self._late_read))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if due := self._due(buffer):
            await self._inner.write(due, timeout=_left(timeout, self._late_write))

    async def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        left = _left(timeout, self._late_connect)
        inner = await self._inner.start_tls(ssl_context, server_hostname=server_hostname, timeout=left)
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
        left = _left(timeout, self._late)
        return _SyncStream(self._inner.connect_tcp(host, port, timeout=left, **options))


class _AsyncNetwork(_Network):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        left = _left(timeout, self._late)
        return _AsyncStream(await self._inner.connect_tcp(host, port, timeout=left, **options))


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
