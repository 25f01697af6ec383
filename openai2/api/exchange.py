"""One exchange with the API: send a request, receive the bytes of its response, over the SDK's clients.

Invariants:
- A request goes through the client's own `post`, with its body as bytes: the SDK does auth, headers, proxies,
  TLS, redirects and exceptions, and no typed object is made. When the caller asks for it, or `create` is
  patched as tracing tools do, the request goes through `create` (`via_create`), with the same result.
- Every failure is a `RequestError` that carries the `openai` exception for the caller, with all keys masked.
- The package `openai` is imported when the first request is made.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from openai2.api import addresses, clients, deadline, via_create
from openai2.api import errors as api_errors
from openai2.api.options import RequestOptions
from openai2.core import server_fields
from openai2.core.request_events import RequestError
from openai2.request.effects import Send
from openai2.request.response import broken

if TYPE_CHECKING:
    import httpx2
    import openai


def _url(api: openai.OpenAI | openai.AsyncOpenAI) -> str:
    # Absolute: the SDK parses and joins a relative one, a tenth of the CPU of a request.
    return str(api.base_url).rstrip("/") + addresses.ENDPOINT


def _for_server(api: openai.OpenAI | openai.AsyncOpenAI, messages: Sequence[bytes]) -> list[bytes]:
    return server_fields.for_server(messages, api.base_url.host)


#: Most bytes of one answer, unpacked. A program may set another number here.
MOST_BYTES = 64 << 20

#: Bytes from which on a body is sent in pieces, so that the event loop is free between them.
_PIECE = 1 << 19


class _Pieces:
    """A long body for an event loop. It can be sent again, after a redirect."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), _PIECE):
            yield self._data[start : start + _PIECE]


class _Exchange:
    """What both exchanges share: the options, and what has to stay secret.

    *through_create*: call `create` even when it is not patched.
    """

    def __init__(self, options: RequestOptions, *, through_create: bool = False) -> None:
        self._options = options
        self._through_create = through_create
        self._response: httpx2.Response | None = None
        self._answer: Any = None  # what `create` returned
        self.key: str | None = None
        self._received = 0

    def _count(self, piece: bytes) -> bytes:
        """Return *piece*. Raises RequestError if the answer is longer than MOST_BYTES."""
        self._received += len(piece)
        if self._received > MOST_BYTES:
            raise broken(f"the answer is longer than {MOST_BYTES} bytes (openai2.api.exchange.MOST_BYTES)")
        return piece

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def request(self) -> httpx2.Request | None:
        return self._response.request if self._response is not None else None

    def fault_of(self, error: BaseException) -> RequestError:
        """Return the failure that *error* means, with the exception for the caller."""
        secrets = self._options.secrets
        return api_errors.fault_of(error, [self.key, *secrets] if self.key else secrets, self.request)

    def _post_options(self, api: openai.OpenAI | openai.AsyncOpenAI) -> dict[str, Any]:
        options = self._options.create
        # All are named: the SDK makes a deep copy of its default for each that is not.
        return {
            "security": {"bearer_auth": True},
            "headers": options.get("extra_headers") or {},
            "params": options.get("extra_query") or {},
            "timeout": options.get("timeout", api.timeout),
            "max_retries": 0,
        }


class Exchange(_Exchange):
    """One attempt of one request over a blocking client."""

    _pieces: Iterator[bytes] | None = None
    _api: openai.OpenAI | None = None  # the SDK closes a client that nothing refers to

    def send(self, send: Send) -> None:
        """Send the request and wait for the head of the response. Raises RequestError."""
        self.close()
        self.key, self._received = send.key, 0
        api = self._api = clients.client(send.key, self._options.client)
        try:
            self._send(api, send)
        except Exception as error:
            if api_errors.is_mistake(error):
                raise
            fault = self.fault_of(error)
        else:
            return
        raise fault

    def _send(self, api: openai.OpenAI, send: Send) -> None:
        create: Any = api.chat.completions.create
        if self._through_create or via_create.is_patched(create):
            arguments = via_create.arguments(self._options.create, _for_server(api, send.messages))
            if send.until is not None:
                arguments["timeout"] = deadline.shorten(arguments.get("timeout", api.timeout), send.until)
            self._answer = create(**arguments)
            self._pieces = via_create.pieces(self._answer, stream=self._options.stream)
            return
        import httpx2

        options: Any = self._post_options(api)
        options["timeout"] = deadline.shorten(options["timeout"], send.until)
        response: httpx2.Response = api.post(
            _url(api),
            cast_to=httpx2.Response,
            content=self._options.body(_for_server(api, send.messages)),
            options=options,
            stream=True,  # so that the deadline is checked between the pieces of a whole answer, too
        )
        self._response = response
        self._pieces = response.iter_bytes()

    def receive(self, until: float | None) -> bytes | None:
        """Return the next piece of a stream, or a whole answer; None at the end. Raises RequestError."""
        assert self._pieces is not None
        try:
            deadline.seconds_left(until)
            if self._options.stream:
                first = next(self._pieces, None)
                return None if first is None else self._count(first)
            pieces: list[bytes] = []
            for piece in self._pieces:
                pieces.append(self._count(piece))
                deadline.seconds_left(until)
            return b"".join(pieces) or None
        except Exception as error:  # noqa: BLE001 - what a server sends is no mistake of the program
            fault = self.fault_of(error)
        raise fault

    def close(self) -> None:
        """Free the connection: it is kept after a complete response, and closed after an incomplete one."""
        answer: Any = self._answer if self._response is None else self._response
        self._response = self._answer = self._pieces = self._api = None
        if (close := getattr(answer, "close", None)) is not None:
            close()

    def abort(self) -> None:
        """Cut the connection, so that a thread that waits for the response gets an error."""
        response: Any = self._response or getattr(self._answer, "response", None)
        network = getattr(response, "extensions", {}).get("network_stream")
        connected = None if network is None else network.get_extra_info("socket")
        if isinstance(connected, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # of TLS too: it is not ours to end


class AsyncExchange(_Exchange):
    """One attempt of one request over an async client."""

    _pieces: AsyncIterator[bytes] | None = None
    _api: openai.AsyncOpenAI | None = None

    async def send(self, send: Send) -> None:
        """Send the request and wait for the head of the response. Raises RequestError."""
        await self.close()
        self.key, self._received = send.key, 0
        api = self._api = await clients.acquire(send.key, self._options.client)
        try:
            await deadline.within(send.until, partial(self._send, api, send))
        except Exception as error:
            if api_errors.is_mistake(error):
                raise
            fault = self.fault_of(error)
        else:
            return
        raise fault

    async def _send(self, api: openai.AsyncOpenAI, send: Send) -> None:
        create: Any = api.chat.completions.create
        if self._through_create or via_create.is_patched(create):
            messages = _for_server(api, send.messages)
            self._answer = await create(**via_create.arguments(self._options.create, messages))
            self._pieces = via_create.apieces(self._answer, stream=self._options.stream)
            return
        import httpx2

        options: Any = self._post_options(api)
        content = self._options.body(_for_server(api, send.messages))
        if len(content) > _PIECE:
            options["headers"] = {**options["headers"], "Content-Length": str(len(content))}
        try:
            response: Any = await api.post(
                _url(api),
                cast_to=httpx2.Response,
                content=_Pieces(content) if len(content) > _PIECE else content,
                options=options,
                stream=True,  # so that a whole answer is counted while it is read
            )
        except ValueError as error:  # how aiohttp refuses a header with a line end
            raise httpx2.LocalProtocolError(str(error)) from error
        self._response = response
        self._pieces = response.aiter_bytes()

    async def receive(self, until: float | None) -> bytes | None:
        """Return the next piece of a stream, or a whole answer; None at the end. Raises RequestError."""
        assert self._pieces is not None
        pieces = self._pieces
        try:
            if not self._options.stream:
                return await deadline.within(until, lambda: self._read(pieces)) or None
            piece = await deadline.within(until, lambda: anext(pieces, None))
            return None if piece is None else self._count(piece)
        except Exception as error:  # noqa: BLE001 - what a server sends is no mistake of the program
            fault = self.fault_of(error)
        raise fault

    async def _read(self, pieces: AsyncIterator[bytes]) -> bytes:
        return b"".join([self._count(piece) async for piece in pieces])

    async def close(self) -> None:
        """Free the connection: it is kept after a complete response, and closed after an incomplete one."""
        api, response, answer = self._api, self._response, self._answer
        self._response = self._answer = self._pieces = self._api = None
        try:
            if response is not None:
                await response.aclose()
            elif (close := getattr(answer, "close", None)) is not None:
                await close()
        finally:
            if api is not None:
                clients.release(api)


def load() -> None:
    """Import the `openai` package now, which takes about a second, rather than at the first request."""
    import_module("openai")
