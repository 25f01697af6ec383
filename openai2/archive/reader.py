"""Reading an archive: is it one, is it whole, and what are its lines (see `archive`)?

Rule: every line is written again and compared, so that what was changed in it, and means the same, is
noticed as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from openai2.archive.format import FORMAT, End, Header, Line
from openai2.core import events as ev
from openai2.errors import ArchiveError

_NO_ARCHIVE = "this is no archive of openai2"


class Outline(NamedTuple):
    """What the first reading of an archive gives: what has to be known before its events are judged.

    *forked* by conversation; *redacted* by what they took; *wanted*, the versions whose views are asked
    for again; *starts*, where in the file each stream begins, in order.
    """

    header: Header
    heads: dict[str, str]
    forked: dict[str, ev.Forked]
    redacted: dict[tuple[str, int], ev.Redacted]
    wanted: dict[str, set[int]]
    starts: dict[str, int]


_line = msgspec.json.Decoder(Line, strict=True).decode
_header = msgspec.json.Decoder(Header, strict=True).decode
_end = msgspec.json.Decoder(End, strict=True).decode


def refuse_foreign(start: bytes) -> None:
    """Raise ArchiveError where a file's first bytes are not those of UTF-8 text."""
    if start[:2] == b"\x1f\x8b":
        raise ArchiveError("the file is compressed (gzip): unpack it first")
    if start[:3] == b"\xef\xbb\xbf":
        raise ArchiveError("the file begins with a byte order mark, which an archive does not")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start[:64]:
        raise ArchiveError("the file is not UTF-8 (UTF-16, it seems), which an archive is")
    if not start.strip():
        raise ArchiveError("the file is empty")


def outline(file: IO[bytes]) -> Outline:
    """Read an archive once: is it one, whole, and what has to be known beforehand? Raises ArchiveError."""
    file.seek(0)
    first = file.readline()
    try:
        header = _header(first)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError(_NO_ARCHIVE) from None
    if header.openai2 != "archive":
        raise ArchiveError(_NO_ARCHIVE)
    if header.format > FORMAT:
        raise ArchiveError(
            "the archive was written by a newer openai2 (its format is {found}, this one knows {known}): "
            "update openai2",
            found=header.format,
            known=FORMAT,
        )
    if header.format != FORMAT or first != msgspec.json.encode(header) + b"\n":
        raise ArchiveError("the archive's first line was changed")
    found = Outline(header, {}, {}, {}, {}, {})
    count, last, current = 0, first, ""
    where = file.tell()
    for raw in file:
        last = raw
        if raw.startswith(b'{"heads":'):
            break
        count += 1
        record = record_of(raw, count + 1)
        if record.conversation != current:
            current = record.conversation
            found.starts.setdefault(current, where)
        _outline_event(found, record, count + 1)
        where += len(raw)
    else:
        raise ArchiveError(
            "the archive is cut off: its end is missing after {events} of {all} events",
            events=count,
            all=header.events,
        )
    rest = file.read(1)
    if rest or not last.endswith(b"\n"):
        raise ArchiveError("the archive does not end where it says that it does")
    try:
        heads = _end(last).heads
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ArchiveError("the archive's last line was changed") from None
    if last != msgspec.json.encode(End(heads), order="deterministic") + b"\n":
        raise ArchiveError("the archive's last line was changed")
    if (count, len(heads)) != (header.events, header.conversations):
        raise ArchiveError(
            "the archive says that it holds {all} events of {conversations} conversations, "
            "and holds {events}",
            all=header.events,
            conversations=header.conversations,
            events=count,
        )
    found.heads.update(heads)
    for fork in found.forked.values():
        found.wanted.setdefault(fork.parent, set()).add(fork.version)
    return found


def _outline_event(found: Outline, record: ev.Recorded, number: int) -> None:
    if record.type not in ("forked", "redacted", "restored") or not record.json:
        return
    event = event_of(record, number)
    name = record.conversation
    if isinstance(event, ev.Forked):
        found.forked[name] = event
    elif isinstance(event, ev.Restored):
        found.wanted.setdefault(name, set()).add(event.version)
    elif isinstance(event, ev.Redacted):
        found.redacted[name, event.version] = event
        if event.version == 1 and (left := _forked(bytes(event.left))):
            found.forked.setdefault(name, left)


def _forked(left: bytes) -> ev.Forked | None:
    try:
        event = ev.decode("forked", left)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, ev.Forked) else None


def record_of(raw: bytes, number: int) -> ev.Recorded:
    """The event of line *number*. Raises ArchiveError."""
    try:
        line = _line(raw)
        data = line.data.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise ArchiveError(
            "line {line} of the archive is no event: it was cut off or changed", line=number
        ) from fault
    if raw != msgspec.json.encode(line) + b"\n":
        raise ArchiveError("line {line} of the archive was changed", line=number)
    return ev.Recorded(line.conversation, line.version, 0, line.batch, line.type, line.time, data, line.hash)


def event_of(record: ev.Recorded, number: int) -> ev.Event:
    """The event as a struct. Raises ArchiveError."""
    try:
        return record.event
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        raise ArchiveError(
            "line {line} of the archive holds an event that cannot be read: {reason}",
            line=number,
            reason=str(fault),
        ) from fault


def records(file: IO[bytes], found: Outline, start: int | None = None) -> Iterator[tuple[int, ev.Recorded]]:
    """The events of an archive that has an outline, with the numbers of their lines; *start* begins there."""
    if start is None:
        file.seek(0)
        file.readline()
        number = 1
    else:
        file.seek(start)
        number = 0
    for raw in iter(file.readline, b""):
        if raw.startswith(b'{"heads":'):
            return
        number += 1
        yield number, record_of(raw, number)
