"""Times: from the form that people write to the form of the log.

Invariants: a day, a minute or a second means its end, so that a time shown by `log` leads to the state after
that event. A time without a zone is local time.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from openai2.errors import BadInput

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,6})?)?\s*(Z|[+-]\d{2}:?\d{2})?", re.IGNORECASE
)


def stamp(moment: datetime) -> str:
    """Return *moment* in the form of the log: `2026-11-22T10:05:00.000000Z`."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> str:
    """Return the last microsecond of the time in *text*, in the form of the log. Raises BadInput."""
    match = _TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        day, minute, second, fraction, zone = match.groups()
        start = datetime.fromisoformat(
            f"{day}T{minute or '00:00'}{second or ':00'}{(fraction or '.0').ljust(7, '0')}{_offset(zone)}"
        )
    except ValueError:
        raise BadInput(
            "cannot parse {text} as a time: write it as {example}",
            text=text or "{}",
            example="2026-11-22T10:05",
        ) from None
    if fraction:
        length = timedelta(microseconds=1)
    elif second:
        length = timedelta(seconds=1)
    else:
        length = timedelta(minutes=1) if minute else timedelta(days=1)
    return stamp(start + length - timedelta(microseconds=1))


def is_stamp(text: str) -> bool:
    """Return True if *text* is a time as `stamp` writes it."""
    if _STAMP.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:-1])
    except ValueError:
        return False
    return True


def _offset(zone: str | None) -> str:
    if not zone:
        return ""
    if zone in "Zz":
        return "+00:00"
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
