"""A loopback HTTP server with scripted replies: bodies, events, errors, cut connections."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

#: Seconds that the server waits for a test to continue; only a failing test waits so long.
TIMEOUT = 30.0


class Asked(NamedTuple):
    """A received request; header names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Any
    connection: int


class Reply(NamedTuple):
    """A reply. *pieces* are sent one by one; the server waits for an Event among them.

    *stream*: send the pieces as HTTP chunks. *cut*: close the connection before the reply is complete.
    """

    status: int = 200
    pieces: Iterable[bytes | threading.Event] = ()
    headers: Mapping[str, str] = {}
    stream: bool = False
    cut: bool = False


def body(value: Any, status: int = 200, **headers: str) -> Reply:
    """Return a whole reply with this JSON."""
    return Reply(status, [json.dumps(value).encode()], headers)


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Return an error as the API words it."""
    details = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return body({"error": details}, status, **headers)


def completion(message: Any, *more: Any, finish: str = "stop", **fields: Any) -> Reply:
    """Return a whole answer; several messages are choices (`n > 1`), a str is an assistant's content."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one} if isinstance(one, str) else one,
            "finish_reason": finish,
            "logprobs": None,
        }
        for index, one in enumerate((message, *more))
    ]
    return body({"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": choices, **fields})


def sse(*chunks: Any, done: bool = True) -> list[bytes]:
    """Return chunks as server-sent events; bytes are sent as they are."""
    lines = [c if isinstance(c, bytes) else b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of one choice."""
    choice = {"index": index, "delta": fields, "finish_reason": finish, "logprobs": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def spoken(text: str, finish: str | None = "stop", done: bool = True) -> list[bytes]:
    """Return the events of this text, one for each character."""
    chunks = [delta(role="assistant", content=""), *(delta(content=char) for char in text)]
    if finish is not None:
        chunks.append(delta(finish=finish))
    return sse(*chunks, done=done)


def streamed(pieces: Iterable[bytes | threading.Event], cut: bool = False) -> Reply:
    """Return a streamed answer."""
    return Reply(200, pieces, {"Content-Type": "text/event-stream"}, stream=True, cut=cut)


Script = Callable[[Asked], Reply]


class ScriptedServer:
    """Sends one reply after the other, the last one forever. A reply can be a function of the request."""

    def __init__(self, *replies: Reply | Script) -> None:
        self.replies = list(replies)
        self.asked: list[Asked] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with server._lock:
                    server.connections += 1
                    server._open.add(self.connection)
                    self.number = server.connections

            def finish(self) -> None:
                with server._lock:
                    server._open.discard(self.connection)
                super().finish()

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, json.loads(raw or b"null"), self.number)
                self._send(server._next(asked))

            do_GET = do_POST

            def _send(self, reply: Reply) -> None:
                self.send_response_only(reply.status)
                headers = {"Content-Type": "application/json", **reply.headers}
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if reply.stream:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for piece in _after_events(reply.pieces):
                        if piece:
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                            self.wfile.flush()
                    if not reply.cut:
                        self.wfile.write(b"0\r\n\r\n")
                else:
                    whole = b"".join(_after_events(reply.pieces))
                    self.send_header("Content-Length", str(len(whole) + 100 * reply.cut))
                    self.end_headers()
                    self.wfile.write(whole)
                self.close_connection = self.close_connection or reply.cut

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # tests disconnect during a reply on purpose

        self._http = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def open(self) -> int:
        """Return the number of open connections."""
        with self._lock:
            return len(self._open)

    def _next(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply if isinstance(reply, Reply) else reply(asked)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _after_events(pieces: Iterable[bytes | threading.Event]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, threading.Event):
            piece.wait(TIMEOUT)
        else:
            yield piece
