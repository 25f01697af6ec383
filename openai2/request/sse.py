"""Server-sent events: bytes in, the data of each event out; no I/O.

Pieces may be cut anywhere: in a line, in a character, one byte at a time or megabytes at once.
"""

from __future__ import annotations

from collections.abc import Iterator


class Events:
    """Server-sent events: `feed` takes bytes as they come and gives the data of each whole event.

    `whole` gathers what is no stream of events but JSON, or a page, from its first byte on: some servers
    do not stream, whatever they are asked, and some proxies say in HTML what is wrong.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that has not ended yet
        self._data: list[bytes] = []
        self._after_cr = False
        self._began = False
        self.whole: list[bytes] | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of the events that *piece* completes."""
        if not self._began:
            piece = piece.removeprefix(b"\xef\xbb\xbf")
            if not self._parts and not piece.strip():
                return
            self._began = True
            if piece.lstrip()[:1] in (b"{", b"[", b"<"):
                self.whole = []
        if self.whole is not None:
            self.whole.append(piece)
            return
        # A lone CR ends a line too; of a CR LF that was cut in two, the LF is left out here.
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        lines = piece.splitlines(keepends=True)  # of bytes: at CR, LF and CR LF, nowhere else
        for line in lines:
            bare = line.rstrip(b"\r\n")
            if len(bare) == len(line):
                self._parts.append(line)
                self._after_cr = False
                return
            self._after_cr = line.endswith(b"\r")
            if self._parts:
                self._parts.append(bare)
                bare = b"".join(self._parts)
                self._parts.clear()
            if (data := self._line(bare)) is not None:
                yield data

    def finish(self) -> Iterator[bytes]:
        """The event that the end of the stream completes, where its last blank line is missing."""
        for line in (b"".join(self._parts), b""):
            if (data := self._line(line)) is not None:
                yield data
        self._parts.clear()

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            if not self._data:
                return None
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data = []
            return data
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        return None
