"""The straight way to a server, for event loops: aiohttp's connections under a client of httpx2.

The SDK knows aiohttp for programs that ask much at once. Here it carries what is plain, as `direct` does for
threads; the rest goes by httpx2's own transport.

Rules: no wait goes past the deadline that is in force; what came before a connection broke is handed out
before that is said; what goes wrong is the httpx2 exception that the other transport would raise. No
exception of aiohttp leaves here, since they hold the request's headers.
"""

from __future__ import annotations

import asyncio
import io
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import httpcore2
import httpx2
import yarl

from openai2.api import deadline
from openai2.api.patches import is_patched
from openai2.api.transport import body_of, head_of

#: The longest line and header of an answer that is read, in bytes.
_LONGEST = 65536

#: Bytes of a body from which on it is sent in pieces, between which the loop goes on.
_LARGE = 1 << 20

#: What aiohttp raises, and what httpx2 would; the first that fits.
_MEANING: Sequence[tuple[type[Exception], type[httpx2.TransportError]]] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
)


def _said(error: Exception) -> httpx2.TransportError:
    kind = next(meant for raised, meant in _MEANING if isinstance(error, raised))
    below = getattr(error, "os_error", error)  # in the words of the system, as `direct` has them
    text = str(below) or type(error).__name__
    if kind is httpx2.RemoteProtocolError:  # it quotes what the server has sent
        text = f"the server's answer broke off, or is not HTTP ({type(error).__name__})"
    said = kind(text)
    if not isinstance(below, aiohttp.ClientError):
        said.__cause__ = below
    return said


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content: Any = self._answer.content
        try:
            while not content.at_eof():
                if piece := content.read_nowait() or await deadline.bounded(
                    content.readany, httpx2.ReadTimeout
                ):
                    yield piece
        except (aiohttp.ClientError, OSError) as error:
            fault = _said(error)
        else:
            return
        # No public method reads on once a connection broke, whatever is still there.
        if rest := content._read_nowait(-1):
            yield rest
        raise fault

    def cut(self) -> None:
        """The connection is closed: whoever waits for more is told."""
        self._answer.content.set_exception(aiohttp.ClientConnectionError("the client was closed"))

    async def aclose(self) -> None:
        """Let the connection go, to be used again where the answer was read to its end."""
        self._answer.close()


def _drop(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections without waiting, perhaps in another thread, or after the loop has ended."""
    connector = session.connector
    if connector is None:  # they are closed
        return
    session.detach()
    if loop.is_closed():
        closing = connector.close().__await__()
        with suppress(StopIteration):  # there is nothing to wait for
            next(closing)
    elif _running_loop() is loop:
        _shut(connector)
    else:
        loop.call_soon_threadsafe(_shut, connector)


#: Tasks that close connections: a loop alone keeps none alive.
_closing: set[asyncio.Future[None]] = set()


def _shut(connector: aiohttp.BaseConnector) -> None:
    task = asyncio.ensure_future(connector.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class AsyncDirect(httpx2.AsyncHTTPTransport):
    """Carries what is plain by aiohttp, and leaves the rest to httpx2."""

    def __init__(self, limits: httpx2.Limits) -> None:
        tls = httpx2.create_ssl_context()
        super().__init__(verify=tls, limits=limits)
        tls.set_alpn_protocols(["http/1.1"])
        self._tls = tls
        self._limits = limits
        self._opened: aiohttp.ClientSession | None = None
        self._bodies: weakref.WeakSet[_Body] = weakref.WeakSet()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and return the answer, of which only the head was read."""
        body = body_of(request)
        if (
            body is None
            or is_patched(httpx2.AsyncHTTPTransport.handle_async_request, "httpx2")
            or is_patched(httpcore2.AsyncConnectionPool.handle_async_request, "httpcore2")
        ):
            return await super().handle_async_request(request)
        head_of(request)  # who sees to it that headers are headers
        try:
            headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        except UnicodeDecodeError:  # aiohttp says everything in UTF-8
            return await super().handle_async_request(request)
        plain = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
        url = yarl.URL(str(plain), encoded=True)  # who asks is in a header by now
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        limits = aiohttp.ClientTimeout(
            total=None,
            connect=timeouts.get("pool"),
            sock_connect=timeouts.get("connect"),
            sock_read=timeouts.get("read"),
        )

        async def asked() -> aiohttp.ClientResponse:
            return await self._session().request(
                request.method,
                url,
                headers=headers,
                data=body if len(body) < _LARGE else io.BytesIO(body),
                allow_redirects=False,
                timeout=limits,
            )

        try:
            answer = await deadline.bounded(asked, httpx2.ReadTimeout)
        except (aiohttp.ClientError, OSError) as error:
            fault = _said(error)
        else:
            about = {"http_version": b"HTTP/1.1", "reason_phrase": (answer.reason or "").encode()}
            stream = _Body(answer)
            self._bodies.add(stream)
            return httpx2.Response(answer.status, headers=answer.raw_headers, stream=stream, extensions=about)
        raise fault

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; who reads from one of them is told."""
        for body in list(self._bodies):
            body.cut()
        if self._opened is not None:
            await self._opened.close()
        await super().aclose()

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:  # not before: it belongs to the loop that runs
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._tls,
                    limit=self._limits.max_connections or 0,
                    keepalive_timeout=self._limits.keepalive_expiry or 0,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),  # httpx2 keeps them
                auto_decompress=False,
                max_line_size=_LONGEST,
                max_field_size=_LONGEST,
            )
            # Held by this alone, so that who collects garbage comes to us before he comes to them.
            weakref.finalize(self, _drop, self._opened, asyncio.get_running_loop()).atexit = False
        return self._opened
