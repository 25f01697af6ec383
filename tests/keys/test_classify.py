"""What a failure means for a key."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.keys.classify import MAX_REST, backoff_seconds
from tests.support.keys import A, verdict


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason", "does"),
    [
        # the server's fault
        *[(status, None, None, "server", "retry") for status in (500, 502, 503, 504, 408, 409, 529, 999)],
        (500, "insufficient_quota", None, "server", "retry"),
        (None, None, None, "connection", "retry"),
        # the key's
        (401, "invalid_api_key", "invalid_request_error", "unauthorized", "out"),
        (401, None, None, "unauthorized", "out"),
        (400, "API_KEY_INVALID", None, "unauthorized", "out"),
        (403, "account_deactivated", None, "unauthorized", "out"),
        (403, None, None, "forbidden", "out"),
        (403, "ip_not_allowed", "permission_error", "forbidden", "out"),
        # the key's for this model only
        (403, "model_not_found", "invalid_request_error", "refused", "another"),
        # the limit's
        (429, None, None, "rate_limit", "another"),
        (429, "rate_limit_exceeded", "tokens", "rate_limit", "another"),
        (429, "429", None, "rate_limit", "another"),
        # the account's
        (429, "insufficient_quota", "insufficient_quota", "quota", "another"),
        (429, None, "insufficient_quota", "quota", "another"),
        (429, "billing_not_active", None, "quota", "another"),
        (402, None, None, "quota", "another"),
        (402, "invalid_request_error", "unknown_error", "quota", "another"),
        (403, "insufficient_user_quota", "new_api_error", "quota", "another"),
        (400, "billing_hard_limit_reached", None, "quota", "another"),
        (400, "Arrearage", "Arrearage", "quota", "another"),
        (401, "insufficient_quota", None, "quota", "another"),
        # the request's
        (403, "unsupported_country_region_territory", "request_forbidden", "region", "final"),
        (403, "content_policy_violation", None, "request", "final"),
        *[(status, None, None, "request", "final") for status in (300, 400, 404, 405, 413, 415, 418, 422)],
        (404, "model_not_found", None, "request", "final"),
        (400, "context_length_exceeded", "invalid_request_error", "request", "final"),
        # inside a stream, or a body that began with 200
        (None, "rate_limit_exceeded", None, "rate_limit", "another"),
        (None, "insufficient_quota", None, "quota", "another"),
        (None, "invalid_api_key", "invalid_request_error", "unauthorized", "out"),
        (None, None, "invalid_request_error", "request", "final"),
        (200, "429", None, "rate_limit", "another"),
        (200, "502", None, "server", "retry"),
        (200, None, "server_error", "server", "retry"),
        (200, None, None, "server", "retry"),
    ],
)
def test_classify_failure(
    status: int | None, code: str | None, kind: str | None, reason: str, does: str
) -> None:
    meant = verdict(status, code=code, type=kind)
    assert meant.reason == reason
    assert meant.retry == (does == "retry")
    assert meant.another == (does in ("another", "out"))
    assert meant.out == (does == "out")
    assert meant.final == (does == "final")
    assert meant.rests == (reason in ("rate_limit", "quota"))
    assert meant.rest is None
    assert meant.backoff == (0.5 if does == "retry" else 0.0)


def test_classify_accepts_a_numeric_code() -> None:
    number: Any = 429
    assert verdict(None, code=number).reason == "rate_limit"


def test_html_page_of_a_firewall_keeps_the_key() -> None:
    page = verdict(403, headers={"Content-Type": "text/html; charset=UTF-8"}, message="<!DOCTYPE html>")
    assert (page.reason, page.another, page.out) == ("refused", True, False)


def test_request_over_the_whole_limit_does_not_rest_the_key() -> None:
    large = verdict(
        code="rate_limit_exceeded",
        type="tokens",
        message="Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 20000.",
    )
    assert (large.reason, large.another, large.rests) == ("refused", True, False)


@pytest.mark.parametrize("message", ["Insufficient Balance", "账户余额不足，请充值", "insufficient credits"])
def test_quota_is_recognized_by_the_message(message: str) -> None:
    assert verdict(429, message=message).reason == "quota"


def test_rate_limit_of_gemini_is_not_a_quota() -> None:
    meant = verdict(
        429, code="429", message="You exceeded your current quota. Please retry in 39.837s.", type=None
    )
    assert meant.reason == "rate_limit"
    assert meant.rest == pytest.approx(39.837)


def test_x_should_retry_is_obeyed() -> None:
    assert verdict(500, headers={"X-Should-Retry": "false"}).final
    assert verdict(404, headers={"X-Should-Retry": "true"}).retry
    assert verdict(401, headers={"X-Should-Retry": "true"}).out


def test_backoff_follows_retry_after_only() -> None:
    assert verdict(503, headers={"Retry-After": "7"}).backoff == 7.0
    usual = {"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"}
    assert verdict(500, headers=usual).backoff == 0.5


def test_verdict_contains_nothing_from_the_server() -> None:
    for status in (None, 200, 400, 401, 402, 403, 404, 408, 429, 500):
        echo = verdict(status, code=A, type=A, message=A, headers={"retry-after": A, A: A})
        assert A not in repr(echo)


@given(st.integers(-5, 5000), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_backoff_is_bounded_and_jittered(attempt: int, chance: float) -> None:
    pause = backoff_seconds(attempt, random=lambda: chance)
    full = min(8.0, 0.5 * 2.0 ** min(max(attempt, 0), 60))
    assert full / 2 <= pause <= full


hostile = st.one_of(
    st.text(),
    st.text("0123456789.-+eEnaif:hmsdTZ, "),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,5})?(ms|s|m|h|d)?", fullmatch=True),
    st.datetimes(timezones=st.just(timezone.utc)).map(lambda moment: format_datetime(moment, usegmt=True)),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.floats().map(str),
    st.integers().map(str),
)
header_names = st.sampled_from(
    [
        *("retry-after", "Retry-After-Ms", "x-ratelimit-reset", "ratelimit-reset", "content-type"),
        *("x-should-retry", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
        *("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-"),
    ]
)
words = st.none() | st.text(max_size=20) | st.sampled_from(["insufficient_quota", "429", "tokens"])


@given(
    status=st.none() | st.integers(-1, 1000),
    code=words,
    kind=words,
    headers=st.dictionaries(header_names, hostile),
    message=st.text() | hostile.map(lambda text: f"Please try again in {text}"),
    now=st.floats(0, 4e9),
)
@settings(deadline=None, max_examples=500)
def test_classify_survives_hostile_answers(
    status: int | None, code: str | None, kind: str | None, headers: dict[str, str], message: str, now: float
) -> None:
    meant = verdict(status, code=code, type=kind, headers=headers, message=message, now=now)
    assert meant.rest is None or 0.0 < meant.rest <= MAX_REST
    assert 0.0 <= meant.backoff <= MAX_REST
    assert meant.another + meant.retry + meant.final == 1
    assert not (meant.out and meant.rests)
