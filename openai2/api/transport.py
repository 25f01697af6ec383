"""The straight way to a server, for threads: HTTP/1.1 with the standard library's reader of answers.

httpx2's own transport takes four times the CPU for the same exchange. It still carries whatever is not
plain: what goes through a proxy, or sends a body piece by piece. It also carries everything while somebody
has patched it, as tools do that record or trace requests.

Rules: no wait goes past the deadline that is in force; a connection is used again only after an answer that
was read to its end; what goes wrong is the httpx2 exception that the other transport would raise.
"""

from __future__ import annotations

import email.errors
import io
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException, HTTPResponse
from itertools import takewhile
from typing import Any, NamedTuple

import httpcore2
import httpx2

from openai2.api import deadline
from openai2.api.patches import is_patched

#: A head: its first line, then names that are tokens and values on one line (RFC 9112, RFC 9110 5.1, 5.5).
_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00\r\n]*\r\n)*\r\n")
_BUFFER = 65536
#: What the standard library makes of a line that is no header: it takes it, and all behind it, for the body.
_NO_HEAD = (
    email.errors.MissingHeaderBodySeparatorDefect,
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.MisplacedEnvelopeHeaderDefect,
)


class Origin(NamedTuple):
    """Whom a connection leads to."""

    scheme: str
    host: str
    port: int


def body_of(request: httpx2.Request) -> bytes | None:
    """The body of a request that is plain; None for one that another transport has to carry."""
    if request.url.scheme not in ("http", "https") or "sni_hostname" in request.extensions:
        return None
    try:
        return request.content
    except httpx2.RequestNotRead:
        return None


def _origin_of(url: httpx2.URL) -> Origin:
    port = url.port or (443 if url.scheme == "https" else 80)
    return Origin(url.scheme, url.raw_host.decode("ascii"), port)


def head_of(request: httpx2.Request) -> bytes:
    """The request's first line and headers. Raises LocalProtocolError where one is not a header."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [name + b": " + value for name, value in request.headers.raw]
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\r\n") != len(lines) + 1 or _HEAD.fullmatch(head) is None:
        raise httpx2.LocalProtocolError("a header has a name or a value that HTTP does not allow")
    return head


class _Incoming(io.RawIOBase):
    """What comes from a socket; no wait for it goes past the deadline, nor lasts longer than *patience*."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.patience: float | None = None
        self.asleep = False  # reads nothing, so that a look into a buffer does not wait

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.asleep:
            return None
        self._socket.settimeout(deadline.left(self.patience, httpx2.ReadTimeout))
        return self._socket.recv_into(buffer)

    def is_silent(self) -> bool:
        """Whether nothing has come, nor the end."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return False
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return not poll.poll(0)
        return not select.select([self._socket], [], [], 0)[0]


class _Reader(io.BufferedReader):
    """Outlives the answers that are read from it, which close it when they end."""

    def close(self) -> None:
        pass


class _Connection:
    """A connection to a server, and what http.client asks of a socket that it reads an answer from."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = _Incoming(sock)
        self._reader = _Reader(self._incoming, _BUFFER)
        self.idle_since = 0.0

    def makefile(self, mode: str) -> io.BufferedReader:
        """What an answer is read from; *mode* is always `rb`."""
        del mode
        return self._reader

    def is_usable(self) -> bool:
        """Whether the server has neither closed it nor said more than the answer that was read."""
        self._incoming.asleep = True
        said_more = bool(self._reader.peek(1))
        self._incoming.asleep = False
        return not said_more and self._incoming.is_silent()

    def ask(self, request: httpx2.Request, head: bytes, body: bytes) -> HTTPResponse:
        """Send, and read the head of the answer. Raises OSError, HTTPException, httpx2's timeouts."""
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        unsent: OSError | None = None
        try:
            self._socket.settimeout(deadline.left(timeouts.get("write"), httpx2.WriteTimeout))
            self._socket.sendall(head + body)
        except TimeoutError as error:
            raise httpx2.WriteTimeout(str(error)) from error
        except OSError as error:
            unsent = error  # a server may refuse what it has not read to the end, and say why
        self._incoming.patience = timeouts.get("read")
        try:
            while True:
                answer = HTTPResponse(self, method=request.method)  # type: ignore[arg-type]  # it asks for makefile only
                answer.begin()
                if answer.status == 101 or any(isinstance(one, _NO_HEAD) for one in answer.headers.defects):
                    raise HTTPException
                if answer.status >= 200:
                    return answer
        except (OSError, HTTPException):
            if unsent is not None:
                raise httpx2.WriteError(str(unsent)) from unsent
            raise

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _reached(origin: Origin, patience: float | None) -> socket.socket:
    """A connection to the first of the server's addresses that answers. Raises OSError, ConnectTimeout."""
    fault: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(*origin[1:], type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left(patience, httpx2.ConnectTimeout))
            sock.connect(address)
        except OSError as error:
            fault = error
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise fault or OSError(f"{origin.host} has no address")


def _said(error: OSError | HTTPException, kind: type[httpx2.TransportError]) -> httpx2.TransportError:
    """The httpx2 exception that says what went wrong; *kind* where the network did."""
    if isinstance(error, HTTPException):  # some are OSErrors as well; they quote what the server sent
        return httpx2.RemoteProtocolError(
            f"the server's answer broke off, or is not HTTP ({type(error).__name__})"
        )
    if isinstance(error, TimeoutError):
        kind = httpx2.ConnectTimeout if kind is httpx2.ConnectError else httpx2.ReadTimeout
    said = kind(str(error))
    said.__cause__ = error
    return said


def _response(answer: HTTPResponse, body: _Body) -> httpx2.Response:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    about = {"http_version": b"HTTP/1.1", "reason_phrase": answer.reason.encode("latin-1")}
    return httpx2.Response(answer.status, headers=headers, stream=body, extensions=about)


class _Body(httpx2.SyncByteStream):
    """The body of an answer. *done* is called with whether the connection can carry another exchange."""

    def __init__(self, answer: HTTPResponse, done: Callable[[bool], None]) -> None:
        self._answer = answer
        self._done = [done]
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        try:
            while piece := answer.read1(_BUFFER):
                yield piece
        except (OSError, HTTPException) as error:
            fault = _said(error, httpx2.ReadError)
        else:
            self._whole = not answer.length
            if self._whole:
                return
            fault = httpx2.RemoteProtocolError("the server closed the connection in the middle of its answer")
        raise fault

    def close(self) -> None:
        if self._done:
            with suppress(IndexError):  # somebody else closes it at the same time
                self._done.pop()(self._whole and not self._answer.will_close)


class Direct(httpx2.HTTPTransport):
    """Carries what is plain by itself, and leaves the rest to httpx2."""

    def __init__(self, limits: httpx2.Limits) -> None:
        self._tls = httpx2.create_ssl_context()
        super().__init__(verify=self._tls, limits=limits)
        self._tls.set_alpn_protocols(["http/1.1"])
        self._most_idle = limits.max_keepalive_connections or 0
        self._rest = limits.keepalive_expiry or 0.0
        self._idle: dict[Origin, list[_Connection]] = {}  # those that are idle longest in front
        # Reentrant: the garbage collector may close a dropped answer in the middle of our lines.
        self._lock = threading.RLock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and return the answer, of which only the head was read."""
        body = body_of(request)
        if (
            body is None
            or is_patched(httpx2.HTTPTransport.handle_request, "httpx2")
            or is_patched(httpcore2.ConnectionPool.handle_request, "httpcore2")
        ):
            return super().handle_request(request)
        origin = _origin_of(request.url)
        head = head_of(request)
        connection = self._idle_one(origin) or self._connected(origin, request)
        try:
            answer = connection.ask(request, head, body)
        except (OSError, HTTPException) as error:
            connection.close()
            fault = _said(error, httpx2.ReadError)
        except BaseException:
            connection.close()
            raise
        else:
            return _response(answer, _Body(answer, partial(self._done, origin, connection)))
        raise fault

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is idle; what still carries an answer is closed at its end."""
        with self._lock:
            self._most_idle = 0
            idle = [connection for held in self._idle.values() for connection in held]
            self._idle.clear()
        for connection in idle:
            connection.close()
        super().close()

    def _idle_one(self, origin: Origin) -> _Connection | None:
        oldest = time.monotonic() - self._rest
        while True:
            with self._lock:
                held = self._idle.get(origin, [])
                connection = held.pop() if held and held[-1].idle_since >= oldest else None
                expired = list(takewhile(lambda one: one.idle_since < oldest, held))
                del held[: len(expired)]
            for one in expired:
                one.close()
            if connection is None or connection.is_usable():
                return connection
            connection.close()

    def _done(self, origin: Origin, connection: _Connection, again: bool) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            if again and sum(map(len, list(self._idle.values()))) < self._most_idle:
                self._idle.setdefault(origin, []).append(connection)
                return
        connection.close()

    def _connected(self, origin: Origin, request: httpx2.Request) -> _Connection:
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        sock: socket.socket | None = None
        try:
            sock = _reached(origin, timeouts.get("connect"))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if origin.scheme == "https":
                sock.settimeout(deadline.left(timeouts.get("connect"), httpx2.ConnectTimeout))
                sock = self._tls.wrap_socket(sock, server_hostname=origin.host)
        except OSError as error:
            fault = _said(error, httpx2.ConnectError)
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return _Connection(sock)
        if sock is not None:
            sock.close()
        raise fault
