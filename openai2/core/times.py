"""Moments: a time as a person writes it, as the log writes times.

A day, a minute or a second means its end, so that a time which a log shows leads to the state after that
line. It is local time unless it says otherwise.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from openai2.errors import BadInput

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,6})?)?\s*(Z|[+-]\d{2}:?\d{2})?", re.IGNORECASE
)


def stamp(moment: datetime) -> str:
    """A moment as the log writes it: `2026-11-22T10:05:00.000000Z`."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> str:
    """The last moment of the time that *text* names, as the log writes it. Raises BadInput."""
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
            "{text} is no time: write it as {example}", text=text or "{}", example="2026-11-22T10:05"
        ) from None
    if fraction:
        length = timedelta(microseconds=1)
    elif second:
        length = timedelta(seconds=1)
    else:
        length = timedelta(minutes=1) if minute else timedelta(days=1)
    return stamp(start + length - timedelta(microseconds=1))


def _offset(zone: str | None) -> str:
    if not zone:
        return ""
    if zone in "Zz":
        return "+00:00"
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
