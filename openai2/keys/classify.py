"""What a failed attempt means for the key that was used.

Invariants:
- No I/O, no clock; the time and the randomness are arguments.
- A `Verdict` holds only numbers and our own words, so that a key which a server echoes is never in one.
- Nothing that a server sends raises. Waits are read by `retry_after`.

The first row that matches counts:

| failure | verdict |
| --- | --- |
| no response; 5xx, 408, 409 | server error: retry after `backoff`, the key stays in service |
| a billing code in any 4xx; 402 | `quota`: the key rests long, try another at once |
| 401; a code that names the key invalid, in any 4xx | `unauthorized`: the key is out, try another |
| 403 for the caller's country | `region`: final, since no key would help |
| 403 for the content (moderation) | `request`: final |
| 403 for the model, or an HTML page of a gateway | `refused`: the key stays, another may be allowed |
| 403 otherwise | `forbidden`: the key is out of service, try another |
| 429 for a request larger than the whole limit | `refused`: waiting does not help, another key's limit may |
| 429 otherwise | `rate_limit`: the key rests until the limit is reset, try another |
| anything else: 400, 404, 422 … | `request`: final |

An error inside a body or stream that began with 200 is classified by its code, if that implies a status.
The `x-should-retry` header, which OpenAI's own client obeys, makes a server error final (`false`) and a final
failure worth another attempt (`true`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from openai2.keys.retry_after import MAX_REST, limit_reset, retry_after

__all__ = ["MAX_REST", "Outcome", "Reason", "Verdict", "backoff_seconds", "classify_failure"]

FIRST_BACKOFF = 0.5
"""Seconds before the first retry of a server error, as in OpenAI's own client."""

_READ = 4000  # characters of a message that are read

Reason = Literal[
    "connection", "server", "rate_limit", "quota", "unauthorized", "forbidden", "refused", "region", "request"
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt: answered, or, as a `Verdict`, failed.

    *prompt_tokens* and *completion_tokens* are the server's counts, 0 if it sends none.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Verdict(Outcome, frozen=True, kw_only=True):
    """A failed attempt, and what to do about it.

    - *reason*: one word for people and for the log;
    - *another*: try another key at once, within the same request;
    - *retry*: a server error: retry a bounded number of times, after *backoff* seconds or more;
    - *out*: the key is out of service;
    - *rest*: the seconds until the provider resets the limit; None if it does not say, then the pool decides.
      It only counts if the verdict `rests` the key.
    """

    reason: Reason
    another: bool = False
    retry: bool = False
    backoff: float = 0.0
    out: bool = False
    rest: float | None = None

    @property
    def rests(self) -> bool:
        """True if the key rests for a while."""
        return self.reason in ("rate_limit", "quota")

    @property
    def final(self) -> bool:
        """True if neither another key nor a retry can help."""
        return not (self.another or self.retry)


def backoff_seconds(
    attempt: int, *, random: Callable[[], float], first: float = FIRST_BACKOFF, most: float = 8.0
) -> float:
    """Return the pause in seconds after the failure of attempt number *attempt*, counted from 0.

    It is *first* for attempt 0, doubles with each further one up to *most*, and is shortened at random by up
    to half, so that many callers do not retry at once. *random* returns numbers from 0 up to 1.
    """
    pause = first * 2.0 ** min(max(attempt, 0), 60)  # 2**1024 overflows a float
    return min(pause, most) * (1.0 - 0.5 * random())


# Codes and types of errors, in lower case; each line is one family of providers.
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
# The status that a code implies, for errors inside a body or stream that began with 200.
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
    """Return what a failed attempt means.

    - *status*: the HTTP status; None without a response (connection error, timeout) or for an error in a
      stream;
    - *code*, *type*, *message*: those of the error's body;
    - *headers*: those of the response, with names in any case;
    - *wall_now*: the time in seconds since 1970.
    """
    known = {name.lower(): text for name, text in headers.items()}
    words = (_word(code), _word(type))
    text = message[:_READ].lower()
    if status is None or status < 300:
        http_status, status = status, _implied_status(words)
        if status is None:
            return _server_error("connection" if http_status is None else "server", known, wall_now)
    if status >= 500 or status in (408, 409):
        if known.get("x-should-retry", "").strip().lower() == "false":
            return Verdict(reason="server")
        return _server_error("server", known, wall_now)
    if (
        status == 402
        or not _NO_MONEY.isdisjoint(words)
        or (status in (403, 429) and any(word in text for word in _NO_MONEY_WORDS))
    ):
        return Verdict(reason="quota", another=True, rest=retry_after(known, wall_now))
    if status == 401 or not _BAD_KEY.isdisjoint(words):
        return Verdict(reason="unauthorized", another=True, out=True)
    if status == 403:
        return _forbidden(known, words)
    if status == 429:
        if text.startswith("request too large"):
            return Verdict(reason="refused", another=True)
        return Verdict(reason="rate_limit", another=True, rest=limit_reset(known, words, text, wall_now))
    if known.get("x-should-retry", "").strip().lower() == "true":
        return _server_error("server", known, wall_now)
    return Verdict(reason="request")


def _forbidden(headers: Mapping[str, str], words: tuple[str, str]) -> Verdict:
    if not _REGION.isdisjoint(words):
        return Verdict(reason="region")
    if not _CONTENT.isdisjoint(words):
        return Verdict(reason="request")
    # A firewall's page is not about the key. Taking keys out for it would empty the pool.
    is_page = "html" in headers.get("content-type", "").lower() and words == ("", "")
    if is_page or not _MODEL.isdisjoint(words):
        return Verdict(reason="refused", another=True)
    return Verdict(reason="forbidden", another=True, out=True)


def _server_error(reason: Literal["connection", "server"], headers: Mapping[str, str], now: float) -> Verdict:
    wait = retry_after(headers, now)
    return Verdict(reason=reason, retry=True, backoff=FIRST_BACKOFF if wait is None else wait)


def _word(text: object) -> str:
    # Some servers send a number as code.
    return str(text).strip().lower() if isinstance(text, (str, int)) else ""


def _implied_status(words: tuple[str, str]) -> int | None:
    for word in words:
        if re.fullmatch("[45][0-9][0-9]", word):
            return int(word)
        if word in _STATUS_OF:
            return _STATUS_OF[word]
    return None
