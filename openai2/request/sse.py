"""Decode server-sent events: bytes in, the data of each event out. No I/O.

Pieces may be cut anywhere: inside a line, inside a character, of any size.
"""

from __future__ import annotations

from collections.abc import Iterator


class SSEDecoder:
    """A decoder of server-sent events.

    *not_sse* collects a response that is JSON or HTML instead, from its first byte on. Some servers do not
    stream when asked to, and some proxies send an error page. It is None for an event stream.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of the line that has not ended yet
        self._data: list[bytes] = []
        self._is_after_cr = False
        self._has_begun = False
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
                return None
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data = []
            return data
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        return None
