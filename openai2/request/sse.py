"""Decode server-sent events: bytes in, the data of each event out. No I/O.

Pieces may be cut anywhere: inside a line, inside a character, of any size. Some servers name an error by the
field `error:` or by `event: error`; the data of such an event is `{"error": …}`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from openai2.core.typeguards import is_mapping

_FIELDS = (b"data", b"event", b"id", b"retry", b"error")
_MAX_STRAY = 4000  # bytes


class SSEDecoder:
    """A decoder of server-sent events.

    *not_sse* collects a response that is JSON or HTML instead, from its first byte on. Some servers do not
    stream when asked to, and some proxies send an error page. It is None for an event stream. *stray* is
    what came in lines that are neither fields nor comments, such as a message in plain text.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of the line that has not ended yet
        self._data: list[bytes] = []
        self._is_after_cr = False
        self._is_error = False
        self._has_begun = False
        self.stray = b""
        self.not_sse: list[bytes] | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data of each event that *piece* completes."""
        if not self._has_begun:
            piece = piece.removeprefix(b"\xef\xbb\xbf")
            if not self._line and not piece.strip():
                return
            self._has_begun = True
            if piece.lstrip()[:1] in (b"{", b"[", b"<"):
                self.not_sse = []
        if self.not_sse is not None:
            self.not_sse.append(piece)
            return
        # A lone CR ends a line too. When a CR LF is cut in two, skip the LF here.
        if self._is_after_cr and piece:
            self._is_after_cr = False
            piece = piece.removeprefix(b"\n")
        for line in piece.splitlines(keepends=True):  # bytes split at CR, LF and CR LF only
            bare = line.rstrip(b"\r\n")
            if len(bare) == len(line):
                self._line.append(line)
                self._is_after_cr = False
                return
            self._is_after_cr = line.endswith(b"\r")
            if self._line:
                self._line.append(bare)
                bare = b"".join(self._line)
                self._line.clear()
            if (data := self._end_line(bare)) is not None:
                yield data

    def finish(self) -> Iterator[bytes]:
        """Yield the last event if the stream ends without its blank line."""
        for line in (b"".join(self._line), b""):
            if (data := self._end_line(line)) is not None:
                yield data
        self._line.clear()

    def _end_line(self, line: bytes) -> bytes | None:
        if not line:
            if not self._data:
                self._is_error = False
                return None
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            is_error, self._data, self._is_error = self._is_error, [], False
            return _error(data) if is_error else data
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            return None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"error":
            self._data.append(value)
            self._is_error = True
        elif name == b"event":
            self._is_error = value == b"error"
        elif name and name not in _FIELDS and len(self.stray) < _MAX_STRAY:
            self.stray += line[:_MAX_STRAY] + b"\n"
        return None


def _error(data: bytes) -> bytes:
    """Return the data of an event that is called an error as `{"error": …}`."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = data.decode(errors="replace")
    if is_mapping(value) and value.get("error"):
        return data
    return msgspec.json.encode({"error": value or "an error without a reason"})
