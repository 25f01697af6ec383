"""Parsing of waits: the seconds after which a provider says that a key or a server can be tried again.

Invariants: no I/O, no clock. Nothing that a server sends raises. A wait that cannot be read, is not positive,
or is more than a month long counts as not given; no wait is longer than `MAX_REST`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_REST = 24 * 3600.0
"""Seconds; no key rests longer without being tried again, whatever a server sends."""

_LONGEST = 31 * 24 * 3600.0  # seconds; monthly quotas exist, a longer wait is an error
_EPOCH = 1e9  # a larger number is a time since 1970, not a duration
_EPOCH_MS = 1e11  # a larger number is such a time in milliseconds

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS["d"] = 86400.0
_NUMBER = r"(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})"
_STEP = rf"{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h|d)"
_DURATION = re.compile(rf"(?:{_STEP}){{1,8}}")
_STEPS = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h|d)")
_IN_WORDS = re.compile(
    r"(?:try again|retry|wait)(?: in| after)? "
    rf"((?:{_STEP}){{1,8}}(?![a-z])|{_NUMBER} ?(?:millisecond|second|minute|hour))"
)
# Before Python 3.11, fromisoformat reads neither Z, nor +0530, nor a fraction of any length.
_ISO_TIME = re.compile(r"([0-9-]{10}[t ][0-9:]{5,8})(\.[0-9]{1,12})?(?:z|([+-][0-9]{2}):?([0-9]{2}))?")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds of `Retry-After-Ms` or `Retry-After`; None if there are none, or 0.

    *headers* have lower-case names; *now* is the time in seconds since 1970.
    """
    milliseconds = _bounded(_number(headers.get("retry-after-ms")), 1e-3)
    return milliseconds or _seconds_until(headers.get("retry-after"), now)


def limit_reset(headers: Mapping[str, str], words: tuple[str, str], message: str, now: float) -> float | None:
    """Return the seconds until the exceeded rate limit is reset; None if the answer does not say.

    *words* are the code and the type of the error, *message* its text, all in lower case.
    """
    return (
        retry_after(headers, now)
        or _exceeded_limit_reset(headers, words, now)
        or _wait_in_words(message)
        or _seconds_until(headers.get("x-ratelimit-reset"), now)
        or _seconds_until(headers.get("ratelimit-reset"), now)
    )


def _exceeded_limit_reset(headers: Mapping[str, str], words: tuple[str, str], now: float) -> float | None:
    """Return the latest reset of the limits that may have been exceeded (`x-ratelimit-reset-tokens` …).

    A limit was exceeded if nothing of it remains, or if the error names it. If that fits none, any of them
    may have been, except a limit of requests with some remaining: a request can need more tokens than remain.
    """
    resets: dict[str, float] = {}
    for name, text in headers.items():
        if name.startswith("x-ratelimit-reset-"):
            seconds = _seconds_until(text, now)
            if seconds is not None:
                resets[name.removeprefix("x-ratelimit-reset-")] = seconds
    remaining = {limit: _number(headers.get(f"x-ratelimit-remaining-{limit}")) for limit in resets}
    exceeded = [limit for limit in resets if remaining[limit] == 0.0 or limit in words]
    if not exceeded:
        exceeded = [limit for limit in resets if remaining[limit] is None or not limit.startswith("requests")]
    return max((resets[limit] for limit in exceeded), default=None)


def _wait_in_words(message: str) -> float | None:
    """Return the wait that a message names, as in `Please try again in 6m0s.`"""
    found = _IN_WORDS.search(message)
    if found is None:
        return None
    text = found[1]
    for word, unit in (("millisecond", "ms"), ("second", "s"), ("minute", "m"), ("hour", "h")):
        text = text.replace(word, unit)
    return _duration(text.replace(" ", ""))


def _seconds_until(text: str | None, now: float) -> float | None:
    """Return the seconds from *now*, from a number, a duration, a date, or a time since 1970."""
    if text is None or len(text) > 100:
        return None
    text = text.strip()
    number = _number(text)
    if number is None:
        duration = _duration(text.lower())
        return duration if duration is not None else _bounded(_timestamp(text), 1.0, now)
    if number < _EPOCH:
        return _bounded(number, 1.0)
    return _bounded(number, 1.0 if number < _EPOCH_MS else 1e-3, now)


def _number(text: str | None) -> float | None:
    # float() would also accept nan, inf, 1e99, 1_000 and the digits of other scripts.
    if text is None or re.fullmatch(_NUMBER, text.strip()) is None:
        return None
    return float(text)


def _duration(text: str) -> float | None:
    if _DURATION.fullmatch(text) is None:
        return None
    return _bounded(sum(float(number) * _UNITS[unit] for number, unit in _STEPS.findall(text)), 1.0)


def _timestamp(text: str) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 time or an HTTP date; UTC if it names no zone."""
    fraction = 0.0
    try:
        if iso := _ISO_TIME.fullmatch(text.lower()):
            whole, part, hours, minutes = iso.groups()
            fraction = float(part or 0.0)
            time = datetime.fromisoformat(f"{whole}{hours or '+00'}:{minutes or '00'}")
        else:
            time = parsedate_to_datetime(text)
            time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        return time.timestamp() + fraction
    except (ValueError, TypeError, IndexError, OverflowError):  # the 31st of February, or not a date at all
        return None


def _bounded(value: float | None, unit: float, start: float = 0.0) -> float | None:
    """Return *value* × *unit* − *start*, at most `MAX_REST`; None if it is not a plausible wait."""
    if value is None:
        return None
    seconds = value * unit - start
    return min(seconds, MAX_REST) if 0.0 < seconds < _LONGEST else None
