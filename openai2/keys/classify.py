"""What a failed try means for the key that paid for it: pure policy.

Rules:

- No I/O, no clock, no randomness of its own; the time comes in as an argument.
- Nothing that a server sent is kept. A `Verdict` holds numbers and words of ours, so that no key which
  a server echoes can travel in one.
- Nothing that a server sends raises or rests a key for more than `MAX_REST`. A hint that cannot be
  read, that is not positive, lies in the past or more than a month ahead counts as not given.

What a failure means, first match first:

| what came | verdict |
| --- | --- |
| no answer; 5xx, 408, 409 | the server's fault: the same again after `backoff`, the key stays in service |
| a billing code in any 4xx; 402 | `quota`: the key rests long, another is tried at once |
| 401; a code that calls the key bad, in any 4xx | `unauthorized`: the key is out, another is tried |
| 403 for where the caller is | `region`: final, for no key of the pool would fare better |
| 403 for what was asked (moderation) | `request`: final |
| 403 for the model, or from a gateway's HTML page | `refused`: another key may be allowed, this one stays |
| 403 otherwise | `forbidden`: the key is out of service, another is tried |
| 429 for a request larger than the whole limit | `refused`: no waiting helps, another key's limit may |
| 429 otherwise | `rate_limit`: the key rests until the provider's own reset, another is tried |
| anything else: 400, 404, 422 … | `request`: final |

An error inside a body or stream that began with 200 is judged by its code, where that says a status.
The `x-should-retry` header, which OpenAI's own client obeys, can make a server's fault final (`false`)
and a final failure worth another try (`true`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Literal

import msgspec

__all__ = ["MAX_REST", "Outcome", "Reason", "Verdict", "backoff_seconds", "classify_failure"]

MAX_REST = 24 * 3600.0
"""Seconds; no key rests longer without being tried again, whatever a server says."""

FIRST_BACKOFF = 0.5
"""Seconds before the first retry of a server's fault; OpenAI's own client starts there too."""

_BELIEVABLE = 31 * 24 * 3600.0  # seconds; monthly quotas exist, what lies further off is nonsense
_READ = 4000  # characters of a message that are looked at; the rest of a 5 MB page says no more

Reason = Literal[
    "connection", "server", "rate_limit", "quota", "unauthorized", "forbidden", "refused", "region", "request"
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one try. On its own: it was answered; as a `Verdict`: it failed.

    *prompt_tokens* and *completion_tokens* are what the server says was used, 0 where it says nothing.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Verdict(Outcome, frozen=True, kw_only=True):
    """A failed try, and what to do about it.

    - *reason*: one word for people and for the record;
    - *another*: try another key at once, within the same request;
    - *retry*: the server's fault; ask the same again, a bounded number of times, after *backoff* seconds or
      more (the provider's own word where it gave one);
    - *out*: the key is out of service;
    - *rest*: the provider's own reset, in seconds from now, None where it gave none (then the pool
      decides); it only counts where the verdict `rests` the key.
    """

    reason: Reason
    another: bool = False
    retry: bool = False
    backoff: float = 0.0
    out: bool = False
    rest: float | None = None

    @property
    def rests(self) -> bool:
        """Whether the key rests for a while."""
        return self.reason in ("rate_limit", "quota")

    @property
    def final(self) -> bool:
        """Whether neither another key nor another try can help."""
        return not (self.another or self.retry)


def backoff_seconds(
    attempt: int, *, random: Callable[[], float], first: float = FIRST_BACKOFF, most: float = 8.0
) -> float:
    """The pause before try number *attempt* + 1 of something that failed, in seconds.

    *first* seconds for attempt 0, then doubling, never over *most*; jitter takes up to half of it away,
    so that many callers do not come back in step. *random* gives numbers from 0 up to 1.
    """
    grown = first * 2.0 ** min(max(attempt, 0), 60)  # 2**1024 is no float
    return min(grown, most) * (1.0 - 0.5 * random())


# Codes and types, in lower case. Providers agree on few; each line is one family of them.
_NO_MONEY = frozenset(
    (
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),  # OpenAI
        *("exceeded_current_quota_error", "invoice_unpaid_error"),  # Moonshot; DeepSeek has a bare 402
        *("arrearage", "allocationquota.freetieronly", "accountoverdueerror", "1113"),  # Qwen, Ark, Zhipu
        *("insufficient_user_quota", "pre_consume_token_quota_failed"),  # one-api and its children
        *("insufficient_balance", "insufficient_credits", "billing_error", "payment_required"),
    )
)
_NO_MONEY_WORDS = (
    "insufficient_quota",
    "insufficient balance",
    "insufficient credit",
    "credit balance is too low",
    "余额不足",
)
_BAD_KEY = frozenset(
    (
        *("invalid_api_key", "api_key_invalid", "invalid_authentication", "invalid_authentication_error"),
        *("authentication_error", "account_deactivated", "access_terminated"),
    )
)
_REGION = frozenset(("unsupported_country_region_territory", "unsupported_country", "unsupported_region"))
_CONTENT = frozenset(
    (
        *("content_filter", "content_policy_violation", "moderation_blocked", "moderation"),
        *("data_inspection_failed", "datainspectionfailed", "invalid_prompt"),
    )
)
_MODEL = frozenset(
    (
        *("model_not_found", "model_not_available", "model_not_allowed", "model_not_supported"),
        *("model_access_denied", "model.accessdenied", "model_permission_denied", "model.forbidden"),
    )
)
# For errors that come in a body or a stream which began with 200.
_STATUS_OF = {
    **dict.fromkeys(_NO_MONEY, 402),
    **dict.fromkeys(_BAD_KEY, 401),
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "rate_limit_reached"), 429),
    **dict.fromkeys(("permission_error", *_REGION, *_MODEL), 403),
    **dict.fromkeys(("invalid_request_error", "context_length_exceeded", *_CONTENT), 400),
}


def classify_failure(
    *,
    status: int | None,
    code: str | None,
    type: str | None,
    headers: Mapping[str, str],
    message: str,
    wall_now: float,
) -> Verdict:
    """What one failed try means.

    *status* is the HTTP status, None where no answer came (connection error, timeout) or where the error
    came inside a stream; *code*, *type* and *message* are those of the error's body, *headers* those of the
    answer, in any case of letters; *wall_now* is the time in seconds since 1970. Raises nothing.
    """
    known = {name.lower(): text for name, text in headers.items()}
    words = (_word(code), _word(type))
    said = message[:_READ].lower()
    if status is None or status < 300:
        began, status = status, _status_said(words)
        if status is None:
            return _servers_fault("connection" if began is None else "server", known, wall_now)
    if status >= 500 or status in (408, 409):
        if known.get("x-should-retry", "").strip().lower() == "false":
            return Verdict(reason="server")
        return _servers_fault("server", known, wall_now)
    if (
        status == 402
        or not _NO_MONEY.isdisjoint(words)
        or (status in (403, 429) and any(word in said for word in _NO_MONEY_WORDS))
    ):
        return Verdict(reason="quota", another=True, rest=_retry_after(known, wall_now))
    if status == 401 or not _BAD_KEY.isdisjoint(words):
        return Verdict(reason="unauthorized", another=True, out=True)
    if status == 403:
        return _forbidden(known, words)
    if status == 429:
        if said.startswith("request too large"):
            return Verdict(reason="refused", another=True)
        return Verdict(reason="rate_limit", another=True, rest=_reset(known, words, said, wall_now))
    if known.get("x-should-retry", "").strip().lower() == "true":
        return _servers_fault("server", known, wall_now)
    return Verdict(reason="request")


def _forbidden(headers: Mapping[str, str], words: tuple[str, str]) -> Verdict:
    if not _REGION.isdisjoint(words):
        return Verdict(reason="region")
    if not _CONTENT.isdisjoint(words):
        return Verdict(reason="request")
    # A firewall's page says nothing about the key: to take every key out of service for it would
    # leave a pool dead after the firewall has calmed down.
    page = "html" in headers.get("content-type", "").lower() and words == ("", "")
    if page or not _MODEL.isdisjoint(words):
        return Verdict(reason="refused", another=True)
    return Verdict(reason="forbidden", another=True, out=True)


def _servers_fault(
    reason: Literal["connection", "server"], headers: Mapping[str, str], now: float
) -> Verdict:
    hint = _retry_after(headers, now)
    return Verdict(reason=reason, retry=True, backoff=FIRST_BACKOFF if hint is None else hint)


def _word(text: object) -> str:
    # Some servers send a number for a code, and the SDK hands it on as it came.
    return str(text).strip().lower() if isinstance(text, (str, int)) else ""


def _status_said(words: tuple[str, str]) -> int | None:
    for word in words:
        if re.fullmatch("[45][0-9][0-9]", word):
            return int(word)
        if word in _STATUS_OF:
            return _STATUS_OF[word]
    return None


# --- when: the provider's own reset, in seconds from now ---

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
_EPOCH = 1e9  # as a span this is 31 years, as a time the year 2001: a larger number is a time
_EPOCH_MS = 1e11


def _reset(headers: Mapping[str, str], words: tuple[str, str], said: str, now: float) -> float | None:
    """Seconds until the limit that was hit lets this key in again; None where nothing says so."""
    return (
        _retry_after(headers, now)
        or _limits_reset(headers, words, now)
        or _said_in_words(said)
        or _seconds_until(headers.get("x-ratelimit-reset"), now)
        or _seconds_until(headers.get("ratelimit-reset"), now)
    )


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that the server asks for, whatever it was that failed. A 0 is no wait and not given."""
    by_ms = _believable(_number(headers.get("retry-after-ms")), 1e-3)
    return by_ms or _seconds_until(headers.get("retry-after"), now)


def _limits_reset(headers: Mapping[str, str], words: tuple[str, str], now: float) -> float | None:
    """The reset of the limit that was hit, of several (`x-ratelimit-reset-requests`, `-tokens` …).

    Those that apply have nothing remaining, or are the ones that the error's type or code names. Where
    neither tells, all may apply, less those for requests with some remaining: a request is one request,
    but it can ask for more tokens than remain. The last of those that apply counts.
    """
    resets: dict[str, float] = {}
    for name, text in headers.items():
        if name.startswith("x-ratelimit-reset-"):
            seconds = _seconds_until(text, now)
            if seconds is not None:
                resets[name.removeprefix("x-ratelimit-reset-")] = seconds
    left = {what: _number(headers.get(f"x-ratelimit-remaining-{what}")) for what in resets}
    hit = [what for what in resets if left[what] == 0.0 or what in words]
    if not hit:
        hit = [what for what in resets if left[what] is None or not what.startswith("requests")]
    return max((resets[what] for what in hit), default=None)


def _said_in_words(said: str) -> float | None:
    """The wait that a message names, as in `Please try again in 6m0s.`"""
    found = _IN_WORDS.search(said)
    if found is None:
        return None
    text = found[1]
    for word, unit in (("millisecond", "ms"), ("second", "s"), ("minute", "m"), ("hour", "h")):
        text = text.replace(word, unit)
    return _duration(text.replace(" ", ""))


def _seconds_until(text: str | None, now: float) -> float | None:
    """Seconds from *now* that *text* means: a number, a duration, a date, or a time since 1970."""
    if text is None or len(text) > 100:
        return None
    text = text.strip()
    number = _number(text)
    if number is None:
        lasts = _duration(text.lower())
        return lasts if lasts is not None else _believable(_date(text), 1.0, now)
    if number < _EPOCH:
        return _believable(number, 1.0)
    return _believable(number, 1.0 if number < _EPOCH_MS else 1e-3, now)


def _number(text: str | None) -> float | None:
    # float() would also take nan, inf, 1e99, 1_000 and the digits of other scripts.
    if text is None or re.fullmatch(_NUMBER, text.strip()) is None:
        return None
    return float(text)


def _duration(text: str) -> float | None:
    if _DURATION.fullmatch(text) is None:
        return None
    return _believable(sum(float(number) * _UNITS[unit] for number, unit in _STEPS.findall(text)), 1.0)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# `Tue, 14 Nov 2023 22:13:50 GMT`, the one form of an HTTP date that is not obsolete. strptime would
# want the month in the language of the machine.
_HTTP_DATE = re.compile(
    r"(?:[a-z]{3}, )?([0-9]{1,2}) ([a-z]{3}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:gmt|utc|[+-]0000)"
)
# `2023-11-14T22:13:50.5Z`. Before Python 3.11, fromisoformat reads neither a Z nor a fraction of any length.
_ISO_DATE = re.compile(r"([0-9-]{10}[t ][0-9:]{5,8})(\.[0-9]{1,12})?(z|[+-][0-9]{2}:?[0-9]{2})?")


def _date(text: str) -> float | None:
    """An HTTP date or an ISO 8601 time, in seconds since 1970."""
    text = text.lower()
    fraction = 0.0
    try:
        if found := _HTTP_DATE.fullmatch(text):
            day, month, year, hour, minute, second = found.groups()
            moment = datetime(
                *(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second)),
                tzinfo=timezone.utc,
            )
        elif found := _ISO_DATE.fullmatch(text):
            whole, part, zone = found.groups()
            fraction = float(part or 0.0)
            moment = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc)
            if zone is not None and zone != "z":
                ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
                fraction -= ahead.total_seconds() if zone[0] == "+" else -ahead.total_seconds()
        else:
            return None
    except ValueError:  # the 31st of February
        return None
    return moment.timestamp() + fraction


def _believable(value: float | None, unit: float, start: float = 0.0) -> float | None:
    """*value* × *unit* − *start*, at most `MAX_REST`; None where that is no wait to believe in."""
    if value is None:
        return None
    seconds = value * unit - start
    return min(seconds, MAX_REST) if 0.0 < seconds < _BELIEVABLE else None
