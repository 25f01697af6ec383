"""Read an archive: check its form and yield its events (see `format`).

Invariant: every line is encoded again and compared, so a change that keeps the meaning is found too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from openai2.archive.format import FORMAT, End, Header, Line
from openai2.core import events as ev
from openai2.errors import ArchiveError

_NOT_AN_ARCHIVE = "the file is not an openai2 archive"
IS_DATABASE = "the file is a database, not an archive: `--db FILE` opens a store"
IS_EMPTY = "the file holds no message and no event: nothing was imported"
_HEADS_LINE = b'{"heads":'


class Outline(NamedTuple):
    """What is needed before the events are checked.

    *forked* are the first events of forks, by conversation. *redacted* are redactions by (conversation,
    version). *needed_views* are the versions, by conversation, whose views `restored` and `forked` events
    name. *starts* are the (offset in bytes, line number) of each stream's first event, in order.
    """

    header: Header
    heads: dict[str, str]
    forked: dict[str, ev.Forked]
    redacted: dict[tuple[str, int], ev.Redacted]
    needed_views: dict[str, set[int]]
    starts: dict[str, tuple[int, int]]


_decode_line = msgspec.json.Decoder(Line, strict=True).decode
_decode_header = msgspec.json.Decoder(Header, strict=True).decode
_decode_end = msgspec.json.Decoder(End, strict=True).decode


def refuse_foreign(start: bytes) -> None:
    """Raise ArchiveError if *start*, the first bytes of a file, is not UTF-8 text."""
    if start.startswith(b"SQLite format 3\0"):
        raise ArchiveError(IS_DATABASE)
    if start[:2] == b"\x1f\x8b":
        raise ArchiveError("the file is compressed (gzip): unpack it first")
    if start[:3] == b"\xef\xbb\xbf":
        raise ArchiveError("the file begins with a byte order mark: remove it first")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:64]:
        raise ArchiveError("the file is not UTF-8 (it seems to be UTF-16): convert it first")
    if not start.strip():
        raise ArchiveError("the file is empty")


def read_outline(file: IO[bytes]) -> Outline:
    """Read an archive once, from its beginning, and check that it is whole. Raises ArchiveError."""
    file.seek(0)
    header = _read_header(file.readline())
    outline = Outline(header, {}, {}, {}, {}, {})
    events, current, offset = 0, "", file.tell()
    for raw in file:
        if raw.startswith(_HEADS_LINE):
            heads = _read_end(raw, file.read(1))
            break
        events += 1
        record = _read_record(raw, events + 1)
        if record.conversation != current:
            current = record.conversation
            outline.starts.setdefault(current, (offset, events + 1))
        _add_to_outline(outline, record, events + 1)
        offset += len(raw)
    else:
        raise ArchiveError(
            "the archive is cut off: its end is missing after {events} of {all} events",
            events=events,
            all=header.events,
        )
    if (events, len(heads)) != (header.events, header.conversations):
        raise ArchiveError(
            "the archive's first line promises {all} events of {conversations} conversations, "
            "but it has {events} events",
            all=header.events,
            conversations=header.conversations,
            events=events,
        )
    if not events:
        raise ArchiveError(IS_EMPTY)
    outline.heads.update(heads)
    for fork in outline.forked.values():
        outline.needed_views.setdefault(fork.parent, set()).add(fork.version)
    return outline


def _read_header(raw: bytes) -> Header:
    try:
        header = _decode_header(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError(_NOT_AN_ARCHIVE) from None
    if header.openai2 != "archive":
        raise ArchiveError(_NOT_AN_ARCHIVE)
    if header.format > FORMAT:
        raise ArchiveError(
            "the archive was written by a newer openai2 (its format is {found}, this one knows {known}): "
            "update openai2",
            found=header.format,
            known=FORMAT,
        )
    if header.format != FORMAT or raw != msgspec.json.encode(header) + b"\n":
        raise ArchiveError("the archive's first line was changed")
    return header


def _read_end(raw: bytes, rest: bytes) -> dict[str, str]:
    """Return the heads in the last line; *rest* is what follows it."""
    if rest or not raw.endswith(b"\n"):
        raise ArchiveError("the archive does not end after its last line")
    try:
        heads = _decode_end(raw).heads
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError("the archive's last line was changed") from None
    if raw != msgspec.json.encode(End(heads), order="deterministic") + b"\n":
        raise ArchiveError("the archive's last line was changed")
    return heads


def _add_to_outline(outline: Outline, record: ev.Recorded, line: int) -> None:
    if record.type not in ("forked", "redacted", "restored") or not record.json:
        return
    event = event_of(record, line)
    name = record.conversation
    if isinstance(event, ev.Forked):
        outline.forked[name] = event
    elif isinstance(event, ev.Restored):
        outline.needed_views.setdefault(name, set()).add(event.version)
    elif isinstance(event, ev.Redacted):
        outline.redacted[name, event.version] = event
        if event.version == 1 and (fork := _decode_forked(bytes(event.left))):
            outline.forked.setdefault(name, fork)


def _decode_forked(data: bytes) -> ev.Forked | None:
    try:
        event = ev.decode("forked", data)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, ev.Forked) else None


def _read_record(raw: bytes, line: int) -> ev.Recorded:
    """Return the event of a line, with its number for errors. Raises ArchiveError."""
    try:
        fields = _decode_line(raw)
        data = fields.data.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ArchiveError(
            "line {line} of the archive is not an event: it was cut off or changed", line=line
        ) from error
    if raw != msgspec.json.encode(fields) + b"\n":
        raise ArchiveError("line {line} of the archive was changed", line=line)
    return ev.Recorded(
        *(fields.conversation, fields.version, 0, fields.batch, fields.type, fields.time, data, fields.hash)
    )


def event_of(record: ev.Recorded, line: int) -> ev.Event:
    """Decode the event of a line. Raises ArchiveError."""
    try:
        return ev.decode(record.type, record.json or record.left)
    except ev.DECODE_ERRORS as error:
        raise ArchiveError(
            "the event in line {line} of the archive cannot be decoded: {reason}",
            line=line,
            reason=str(error),
        ) from error


def records(
    file: IO[bytes], outline: Outline, conversation: str | None = None
) -> Iterator[tuple[int, ev.Recorded]]:
    """Yield (line number, event), from the first event on, or from the first event of a *conversation*."""
    if conversation is None:
        file.seek(0)
        file.readline()
        first = 2
    else:
        offset, first = outline.starts[conversation]
        file.seek(offset)
    for line, raw in enumerate(iter(file.readline, b""), first):
        if raw.startswith(_HEADS_LINE):
            return
        yield line, _read_record(raw, line)
