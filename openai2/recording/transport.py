"""Record or replay at the transport: what clients of `httpx2` would send over the network.

Invariants:
- While a recording is active, the requests of every client with a network transport, sync or async, go to it.
- If several are active, the last one gets the requests.
- When the last one ends, the transports are as they were.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

import httpx2

from openai2.recording.format import Exchange, Request, Response, body_of

_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


class Recording(Protocol):
    """A recording that is active: `find` returns a recorded response, `start` begins a new exchange."""

    @property
    def recording(self) -> bool: ...
    def find(self, request: Request) -> Response: ...
    def start(self, request: Request) -> Exchange: ...


class _Replayed(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The body of a recorded response."""

    def __init__(self, recorded: Response, request: httpx2.Request) -> None:
        self._recorded = recorded
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        yield from self._recorded.pieces
        _raise_failure(self._recorded, self._request)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class _Recorded(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """The body of a response that is being recorded. *keys* are replaced in the recording."""

    def __init__(self, inner: Any, recorded: Response, keys: Sequence[bytes]) -> None:
        self._inner = inner
        self._recorded = recorded
        self._keys = keys

    def _record(self, piece: bytes) -> None:
        pieces = self._recorded.pieces
        pieces.append(_without_keys(piece, self._keys))
        last = b"".join(pieces[-8:])
        if any(key in last for key in self._keys):  # a key can be split over pieces
            pieces[-8:] = [_without_keys(last, self._keys)]

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._inner:
                self._record(piece)
                yield piece
        except httpx2.HTTPError as error:
            self._recorded.failure = _failure(error, self._keys)
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                self._record(piece)
                yield piece
        except httpx2.HTTPError as error:
            self._recorded.failure = _failure(error, self._keys)
            raise

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def _raise_failure(recorded: Response, request: httpx2.Request) -> None:
    if recorded.failure is not None:
        name, message = recorded.failure
        raise getattr(httpx2, name, httpx2.NetworkError)(message, request=request)


def _failure(error: Exception, keys: Sequence[bytes]) -> tuple[str, str]:
    return type(error).__name__, _without_keys(str(error).encode(), keys).decode()


def _without_keys(content: bytes, keys: Sequence[bytes]) -> bytes:
    for key in keys:
        content = content.replace(key, b"[key]")
    return content


def _keys_in(request: httpx2.Request) -> list[bytes]:
    values = [request.headers.get(name, "") for name in _KEY_HEADERS]
    return [value.split()[-1].encode() for value in values if value.strip()]


class _Call:
    """One request to a patched transport."""

    def __init__(self, request: httpx2.Request) -> None:
        self.recording = _active[-1]
        self._request = request
        self._keys = _keys_in(request)
        body = body_of(_without_keys(request.content, self._keys), request.headers.get("content-type", ""))
        self._recorded_request = Request(request.method, request.url.path, body)

    def replay(self) -> httpx2.Response:
        """Return the recorded response."""
        recorded = self.recording.find(self._recorded_request)
        if not recorded.status:
            _raise_failure(recorded, self._request)
        headers = {"content-type": recorded.content_type} if recorded.content_type else {}
        return httpx2.Response(recorded.status, headers=headers, stream=_Replayed(recorded, self._request))

    def start(self) -> None:
        """Begin to record the exchange."""
        self._response = self.recording.start(self._recorded_request).response
        self._request.headers["accept-encoding"] = "identity"  # a recording is readable

    def record(self, response: httpx2.Response) -> httpx2.Response:
        """Return *response* with a body that is recorded while it is read."""
        self._response.status = response.status_code
        self._response.content_type = response.headers.get("content-type", "")
        response.stream = _Recorded(response.stream, self._response, self._keys)
        return response

    def record_failure(self, error: httpx2.HTTPError) -> None:
        """Record that there was no response."""
        self._response.failure = _failure(error, self._keys)


def _sync_handler(original: Callable[..., httpx2.Response]) -> Callable[..., httpx2.Response]:
    def handle_request(transport: Any, request: httpx2.Request) -> httpx2.Response:
        request.read()
        call = _Call(request)
        if not call.recording.recording:
            return call.replay()
        call.start()
        try:
            return call.record(original(transport, request))
        except httpx2.HTTPError as error:
            call.record_failure(error)
            raise

    return handle_request


def _async_handler(original: Callable[..., Any]) -> Callable[..., Any]:
    async def handle_async_request(transport: Any, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        call = _Call(request)
        if not call.recording.recording:
            return call.replay()
        call.start()
        try:
            return call.record(await original(transport, request))
        except httpx2.HTTPError as error:
            call.record_failure(error)
            raise

    return handle_async_request


_active: list[Recording] = []
_lock = threading.Lock()
#: The patched methods: class, name and original.
_patched: list[tuple[type, str, Callable[..., Any]]] = []


def begin(recording: Recording) -> None:
    """Make *recording* the one that gets the requests."""
    with _lock:
        _active.append(recording)
        if len(_active) == 1:
            _patch()


def end(recording: Recording) -> None:
    """Take *recording* out. Does nothing if it is not active."""
    with _lock:
        if recording in _active:
            _active.remove(recording)
            while _patched and not _active:
                setattr(*_patched.pop())


def _patch() -> None:
    import openai  # defines its transport over aiohttp

    _replace(httpx2.HTTPTransport, "handle_request", _sync_handler)
    _replace(httpx2.AsyncHTTPTransport, "handle_async_request", _async_handler)
    for kind in httpx2.AsyncBaseTransport.__subclasses__():
        # Not the SDK's forwarding transports: the transport below them is patched.
        if kind.__module__.startswith(f"{openai.__name__}.") and "aiohttp" in kind.__module__:
            _replace(kind, "handle_async_request", _async_handler)


def _replace(kind: type, name: str, handler: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original: Callable[..., Any] = getattr(kind, name)
    _patched.append((kind, name, original))
    setattr(kind, name, handler(original))
