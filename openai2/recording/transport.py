"""Standing in at the transport: where the clients of `httpx2` would go over the network.

Rules: while a recording is active, each request of each client with an ordinary transport, sync or async,
goes to it: it answers, or lets the request through and notes down what comes. Several may be active, one
inside the other; the innermost is asked. Nothing is left behind when the last one ends.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

import httpx2

from openai2.recording import format as recording_format
from openai2.recording.format import Answered, Asked, Exchange

_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


class Recording(Protocol):
    """Who answers: `find` gives an answer on record, `start` begins to note one down."""

    @property
    def recording(self) -> bool: ...
    def find(self, asked: Asked) -> Answered: ...
    def start(self, asked: Asked) -> Exchange: ...


class _Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """An answer as it was recorded."""

    def __init__(self, answered: Answered, request: httpx2.Request) -> None:
        self._answered = answered
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answered.pieces
        _fail_as_recorded(self._answered, self._request)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class _Tee(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """An answer as it comes, noted down on its way; *keys* are replaced in the note."""

    def __init__(self, inner: Any, exchange: Exchange, keys: Sequence[bytes]) -> None:
        self._inner = inner
        self._exchange = exchange
        self._keys = keys

    def _note(self, piece: bytes) -> None:
        pieces = self._exchange.answered.pieces
        pieces.append(_without(piece, self._keys))
        whole = b"".join(pieces[-8:])
        if any(key in whole for key in self._keys):  # one that came in two pieces
            pieces[-8:] = [_without(whole, self._keys)]

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._inner:
                self._note(piece)
                yield piece
        except httpx2.HTTPError as error:
            self._exchange.answered.failure = _failure(error, self._keys)
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                self._note(piece)
                yield piece
        except httpx2.HTTPError as error:
            self._exchange.answered.failure = _failure(error, self._keys)
            raise

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def _fail_as_recorded(answered: Answered, request: httpx2.Request) -> None:
    if answered.failure is not None:
        name, message = answered.failure
        kind = getattr(httpx2, name, httpx2.NetworkError)
        raise kind(message, request=request)


def _failure(error: Exception, keys: Sequence[bytes]) -> tuple[str, str]:
    return type(error).__name__, _without(str(error).encode(), keys).decode()


def _without(said: bytes, keys: Sequence[bytes]) -> bytes:
    for key in keys:
        said = said.replace(key, b"[key]")
    return said


def _keys_in(request: httpx2.Request) -> list[bytes]:
    values = [request.headers.get(name, "") for name in _KEY_HEADERS]
    return [value.split()[-1].encode() for value in values if value.strip()]


def _asked(request: httpx2.Request, keys: Sequence[bytes]) -> Asked:
    content = _without(request.content, keys)
    body = recording_format.body_of(content, request.headers.get("content-type", ""))
    return Asked(request.method, request.url.path, body)


def _replayed(recording: Recording, request: httpx2.Request) -> httpx2.Response:
    answered = recording.find(_asked(request, _keys_in(request)))
    if not answered.status:
        _fail_as_recorded(answered, request)
    headers = {"content-type": answered.content_type} if answered.content_type else {}
    return httpx2.Response(answered.status, headers=headers, stream=_Pieces(answered, request))


def _noted(response: httpx2.Response, exchange: Exchange, keys: Sequence[bytes]) -> httpx2.Response:
    exchange.answered.status = response.status_code
    exchange.answered.content_type = response.headers.get("content-type", "")
    response.stream = _Tee(response.stream, exchange, keys)
    return response


_active: list[Recording] = []
_lock = threading.Lock()
_sync_original: Callable[..., Any] = httpx2.HTTPTransport.handle_request
_async_original: Callable[..., Any] = httpx2.AsyncHTTPTransport.handle_async_request


def _handle(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
    recording = _active[-1]
    request.read()
    if not recording.recording:
        return _replayed(recording, request)
    keys = _keys_in(request)
    exchange = recording.start(_asked(request, keys))
    request.headers["accept-encoding"] = "identity"  # what is written down is to be read
    try:
        return _noted(_sync_original(transport, request), exchange, keys)
    except httpx2.HTTPError as error:
        exchange.answered.failure = _failure(error, keys)
        raise


async def _async_handle(transport: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
    recording = _active[-1]
    await request.aread()
    if not recording.recording:
        return _replayed(recording, request)
    keys = _keys_in(request)
    exchange = recording.start(_asked(request, keys))
    request.headers["accept-encoding"] = "identity"
    try:
        return _noted(await _async_original(transport, request), exchange, keys)
    except httpx2.HTTPError as error:
        exchange.answered.failure = _failure(error, keys)
        raise


def begin(recording: Recording) -> None:
    """From now on, this one is asked."""
    global _sync_original, _async_original  # noqa: PLW0603 - somebody else may have patched them meanwhile
    with _lock:
        if not _active:
            _sync_original = httpx2.HTTPTransport.handle_request
            _async_original = httpx2.AsyncHTTPTransport.handle_async_request
            _patch(_handle, _async_handle)
        _active.append(recording)


def end(recording: Recording) -> None:
    """It is asked no more."""
    with _lock:
        if recording in _active:
            _active.remove(recording)
            if not _active:
                _patch(_sync_original, _async_original)


def _patch(sync_handler: Callable[..., Any], async_handler: Callable[..., Any]) -> None:
    setattr(httpx2.HTTPTransport, "handle_request", sync_handler)  # noqa: B010 - a type is not to be changed
    setattr(httpx2.AsyncHTTPTransport, "handle_async_request", async_handler)  # noqa: B010
