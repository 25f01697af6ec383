"""The loopback server: the OpenAI API on 127.0.0.1, answered by fixed rules.

Invariants:
- HTTP only: `offline.protocol` and `offline.rules` compute the responses.
- A response depends on its request only. The list of requests is for tests.
- No header is stored, so no key is.

    POST /v1/chat/completions      streamed or whole; sampling parameters are ignored
    POST /v1/images/generations    a small PNG in one colour, which depends on the prompt
    GET  /v1/models                lists one model; any name is accepted and returned

`usage` is an estimate: a token for every 3 bytes of UTF-8, rounded up, of each text, function name and
arguments; for the prompt also 4 tokens for each message and 85 for each part that is not text.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote

import msgspec

from openai2.offline.protocol import (
    MODEL,
    Chat,
    ChatRequest,
    ImageRequest,
    Refusal,
    decode,
    images_response,
    model_response,
    png,
)
from openai2.offline.rules import answer

__all__ = ["OfflineServer", "Received", "answer"]


class Received(NamedTuple):
    """A received request. *body* is decoded JSON, a str if it is not JSON, or None if it is empty."""

    path: str
    body: Any


class OfflineServer:
    """A loopback server, as a context manager or with start() and close().

    *delay* is the pause in seconds between streamed chunks, and before an answer that is not streamed. Only
    the last *keep* requests are stored.
    """

    MODEL: ClassVar[str] = MODEL

    def __init__(self, delay: float = 0.0, *, keep: int = 1000) -> None:
        self.delay = delay
        self._received: deque[tuple[str, bytes]] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self._http: _Http | None = None
        self._base_url = ""

    def start(self) -> OfflineServer:
        """Listen on a free port. Does nothing if it is started."""
        with self._lock:
            if self._http is None:
                self._http = _Http(self, self._store)
                self._base_url = f"http://127.0.0.1:{self._http.server_port}/v1"
        return self

    def close(self) -> None:
        """Stop listening and cut the open connections. Does nothing if it is closed."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.stop()

    def __enter__(self) -> OfflineServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The URL for a client, also after close(). Raises RuntimeError before start()."""
        if not self._base_url:
            raise RuntimeError("the offline server has no URL before start()")
        return self._base_url

    @property
    def requests(self) -> list[Received]:
        """The stored requests, oldest first. Each access decodes them into a new list."""
        with self._lock:
            received = list(self._received)
        return [Received(path, _decoded(raw)) for path, raw in received]

    def _store(self, path: str, raw: bytes) -> None:
        """Store a request as bytes: they need a tenth of the memory of the decoded body."""
        with self._lock:
            self._received.append((path, raw))


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")


class _Http(ThreadingHTTPServer):
    """The listening socket, the thread that accepts, and the open connections."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = False  # on Windows, other processes could take the port

    def __init__(self, app: OfflineServer, store: Callable[[str, bytes], None]) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, self))
        self.app = app
        self.store = store
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._acceptor = threading.Thread(target=self._accept, name="openai2-offline", daemon=True)
        self._acceptor.start()

    def server_bind(self) -> None:
        # HTTPServer.server_bind asks the name service for the host name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def _accept(self) -> None:
        # serve_forever polls for a shutdown, and stops late.
        while not self.closing.is_set():
            self.handle_request()

    def stop(self) -> None:
        self.closing.set()
        try:
            socket.create_connection(("127.0.0.1", self.server_port), timeout=5).close()  # wakes the acceptor
        except OSError:
            pass
        self._acceptor.join(timeout=5)
        self.server_close()
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)  # its thread wakes up and closes it
                except OSError:
                    pass
            self._changed.wait_for(lambda: not self._open, timeout=5)

    def verify_request(self, request: object, client_address: object) -> bool:
        return not self.closing.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that disconnects is not an error.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """A connection and its requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, http: _Http, *args: Any) -> None:
        self._http = http
        super().__init__(*args)  # handles the whole connection

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: standard error belongs to the program."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse invalid HTTP with the API's error object, and close the connection."""
        self.close_connection = True
        self._send_json(Refusal(code, message or HTTPStatus(code).phrase).body, code)

    def _respond(self) -> None:
        path = unquote(self.path.partition("?")[0])
        try:
            raw = self._read_body()
            self._http.store(path, raw)
            self._route(f"{self.command} {path}", raw)
        except Refusal as refusal:
            self._send_json(refusal.body, refusal.status)

    def _read_body(self) -> bytes:
        # A refused body is read too: to close with unread bytes may lose the refusal.
        if "Transfer-Encoding" in self.headers:
            return b"".join(iter(self._read_chunk, b""))
        return self._read(self.headers.get("Content-Length", "0"), base=10)

    def _read_chunk(self) -> bytes:
        chunk = self._read(self.rfile.readline(100).decode("latin-1").partition(";")[0], base=16)
        # A line end follows each chunk; trailers and an empty line follow the last.
        while self.rfile.readline(65536) not in (b"\r\n", b"\n", b"") and not chunk:
            pass
        return chunk

    def _read(self, length: str, *, base: int) -> bytes:
        """Read *length* bytes, a number in this base."""
        if not re.fullmatch("[0-9]{1,9}" if base == 10 else "[0-9A-Fa-f]{1,7}", length.strip()):
            self.close_connection = True  # the start of the next request is unknown
            raise Refusal(400, "The length of the body is not a number, or too large.")
        size = int(length, base)
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionAbortedError("the client disconnected during its request")
        return data

    def _route(self, line: str, raw: bytes) -> None:
        picture = re.fullmatch(r"GET /v1/images/([0-9a-f]{6})\.png", line)
        if picture:
            self._send(HTTPStatus.OK, "image/png", png(int(picture[1], 16)))
        elif line == "POST /v1/chat/completions":
            self._require_key()
            self._chat(decode(raw, ChatRequest))
        elif line == "POST /v1/images/generations":
            self._require_key()
            request = decode(raw, ImageRequest)
            self._send_json(images_response(request, self._http.app.base_url, int(time.time())))
        elif line == "GET /v1/models":
            self._require_key()
            self._send_json({"object": "list", "data": [model_response(MODEL)]})
        elif line.startswith("GET /v1/models/"):
            self._require_key()
            self._send_json(model_response(line.removeprefix("GET /v1/models/")))
        else:
            raise Refusal(404, f"Invalid URL ({line})", code="unknown_url")

    def _require_key(self) -> None:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "You didn't provide an API key: any will do here.", code="invalid_api_key")

    def _chat(self, request: ChatRequest) -> None:
        chat = Chat(request, os.urandom(12).hex(), int(time.time()))
        if not request.stream:
            self._pause()
            self._send_json(chat.completion())
            return
        chunked = self.request_version != "HTTP/1.0"
        self.close_connection = self.close_connection or not chunked
        coding = "Transfer-Encoding: chunked" if chunked else "Cache-Control: no-cache"
        self._send_head(HTTPStatus.OK, "text/event-stream; charset=utf-8", coding)
        for place, chunk in enumerate(chat.chunks()):
            if place:
                self._pause()
            self._send_event(msgspec.json.encode(chunk), chunked=chunked)
        self._send_event(b"[DONE]", chunked=chunked)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _pause(self) -> None:
        delay = self._http.app.delay
        if delay > 0 and self._http.closing.wait(delay):
            raise ConnectionAbortedError("the server was closed during an answer")

    def _send_event(self, data: bytes, *, chunked: bool) -> None:
        event = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)

    def _send_json(self, body: dict[str, Any], status: int = HTTPStatus.OK) -> None:
        self._send(status, "application/json", msgspec.json.encode(body))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._send_head(status, kind, f"Content-Length: {len(body)}", body)

    def _send_head(self, status: int, kind: str, framing: str, body: bytes = b"") -> None:
        # One write sends head and body in one packet.
        close = "Connection: close\r\n" if self.close_connection else ""
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{framing}\r\nContent-Type: {kind}\r\n"
        self.wfile.write(f"{head}{close}\r\n".encode("ascii") + body)
