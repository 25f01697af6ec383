"""A loopback server over raw sockets that sends exactly the bytes of its script, valid HTTP or not."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self


class Reset(NamedTuple):
    """Close the connection with a TCP reset."""


class Sleep(NamedTuple):
    """Wait so many seconds, or until the server is closed."""

    seconds: float


class Dribble(NamedTuple):
    """Send this piece every *every* seconds, forever."""

    piece: bytes
    every: float = 0.05


Step = bytes | Reset | Sleep | Dribble
Script = Iterable[Step]


class Misbehaving:
    """Plays one script for each request, the last one forever.

    A script can be a function of the request's head and body. A connection takes one request.
    """

    def __init__(self, *scripts: Script | Callable[[bytes, bytes], Script]) -> None:
        self._scripts: Sequence[Script | Callable[[bytes, bytes], Script]] = [
            script if callable(script) else tuple(script) for script in scripts
        ]
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.heads: list[bytes] = []
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    @property
    def asked(self) -> int:
        """Return the number of received requests."""
        return len(self.heads)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                head, body = _request(connection)
                if not head:
                    return
                with self._lock:
                    self.heads.append(head)
                    script = self._scripts[min(len(self.heads), len(self._scripts)) - 1]
                for step in script(head, body) if callable(script) else script:
                    self._do(connection, step)
        finally:
            with self._lock:
                self._open.discard(connection)

    def _do(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, Reset):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(step, Sleep):
            self._closing.wait(step.seconds)
        elif isinstance(step, Dribble):
            while not self._closing.wait(step.every):
                connection.sendall(step.piece)
        else:
            connection.sendall(step)


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower()[:15] == b"content-length:"
        ),
        0,
    )
    while len(body) < length and (more := connection.recv(65536)):
        body += more
    return head, body


# -- what it can send


def head(
    status: str = "200 OK", *headers: str, version: str = "1.1", kind: str = "application/json"
) -> bytes:
    """Return the head of a response that ends with the connection, unless *headers* frame it."""
    lines = [f"HTTP/{version} {status}", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def whole(body: bytes, status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    """Return a response with that body."""
    return head(status, f"Content-Length: {len(body)}", *headers, kind=kind) + body


def completion(text: str = "an answer", **message: Any) -> bytes:
    """Return the JSON of a valid answer."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    ).encode()


def error(message: str = "no", code: str | None = None, kind: str | None = None) -> bytes:
    """Return the JSON of an error."""
    return json.dumps({"error": {"message": message, "code": code, "type": kind, "param": None}}).encode()


EVENTS = head(kind="text/event-stream")
DONE = b"data: [DONE]\n\n"


def event(finish: str | None = None, **delta: Any) -> bytes:
    """Return a chunk as an event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def stream(*texts: str, finish: str | None = "stop", done: bool = True) -> bytes:
    """Return the events of these texts, without a head."""
    events = b"".join(event(content=text) for text in texts)
    return events + (event(finish) if finish else b"") + (DONE if done else b"")


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """Return pieces as HTTP chunks, without a head."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (
        b"0\r\n\r\n" if end else b""
    )


def zipped(body: bytes) -> bytes:
    """Return a response with that body, compressed."""
    packed = gzip.compress(body)
    return head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed


def slices(data: bytes, size: int) -> Iterator[bytes]:
    """Yield *data* in pieces of *size* bytes."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
