"""Which waits are read from headers and messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.keys.classify import MAX_REST
from tests.support.keys import NOW, rest, verdict


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        ("0.5", 0.5),
        (" 20 ", 20.0),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("1d", 86400.0),
        ("150µs", 0.00015),
        ("7M", 420.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-14T22:13:50.5+00:00", 30.5),
        ("2023-11-14T22:13:50.123456789Z", 30.123457),
        ("2023-11-15 03:43:50+0530", 30.0),
        ("2023-11-14T18:13:50-04:00", 30.0),
        ("2023-11-14T22:14", 40.0),
        ("14 Nov 2023 22:13:50 +0000", 30.0),
        ("1700000030", 30.0),
        ("1700000030.25", 30.25),
        ("1700000030250", 30.25),
        ("90000", MAX_REST),
        ("Wed, 15 Nov 2023 23:13:50 GMT", MAX_REST),
        ("30h", MAX_REST),
    ],
)
def test_reset_is_read_in_every_form(text: str, seconds: float) -> None:
    assert rest(Retry_After=text) == pytest.approx(seconds)
    assert rest(X_RateLimit_Reset_Requests=text) == pytest.approx(seconds)
    assert rest(x_ratelimit_reset=text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "0", "0s", "-1", "-5s", "nan", "inf", "-inf", "Infinity", "1e99", "1_000", "١٢", "soon"),
        *("1s1", "s", ",", "5, 6", "\x00", "GMT", "9" * 30, "9" * 200, "1." + "0" * 5000, "1" * 39 + "h"),
        *("99999999s", "99999999999d", "1600000000", "4102444800", "1699999999000", "9999-12-31"),
        *("Tue, 14 Nov 2023 22:13:10 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "0001-01-01T00:00:00Z"),
        *("Fri, 31 Dec 2099 23:59:59 GMT", "Tue, 14 Nov 99999 22:13:50 GMT", "2023-11-14T22:13:50 nonsense"),
        *(
            "Tue, 99 Nov 2023 99:99:99 +9999",
            "Tue, 31 Feb 2024 22:13:50 GMT",
            "Tue, 14 Foo 2023 22:13:50 GMT",
        ),
        *(
            "2023-13-14T22:13:50Z",
            "----------T::::::::Z",
            "2023-11-14T22:13:50+99:99",
            "0000-01-01T00:00:00Z",
        ),
    ],
)
def test_unreadable_reset_is_ignored(text: str) -> None:
    assert rest(Retry_After=text) is None
    assert rest(Retry_After_Ms=text) is None or text.isdigit()
    assert rest(x_ratelimit_reset_tokens=text, x_ratelimit_remaining_tokens=text) is None
    assert rest(Retry_After=text, x_ratelimit_reset="3s") == 3.0


@given(st.floats(0.001, MAX_REST - 1))
@settings(deadline=None)
def test_durations_dates_and_timestamps_agree(seconds: float) -> None:
    def part(number: float, unit: str) -> str:
        return f"{number}{unit}" if number else ""

    minutes, rest_of = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    said = part(hours, "h") + part(minutes, "m") + f"{rest_of:.3f}s"
    moment = datetime.fromtimestamp(NOW, timezone.utc) + timedelta(seconds=seconds)
    assert rest(retry_after=said) == pytest.approx(seconds, abs=1e-3)
    assert rest(retry_after=f"{seconds:.3f}") == pytest.approx(seconds, abs=1e-3)
    assert rest(retry_after_ms=f"{seconds * 1000:.3f}") == pytest.approx(seconds, abs=1e-3)
    assert rest(x_ratelimit_reset=f"{NOW + seconds:.3f}") == pytest.approx(seconds, abs=2e-3)
    assert rest(x_ratelimit_reset=f"{(NOW + seconds) * 1000:.0f}") == pytest.approx(seconds, abs=2e-3)
    assert rest(x_ratelimit_reset=moment.isoformat()) == pytest.approx(seconds, abs=2e-3)


def limits(requests: tuple[str, str], tokens: tuple[str, str]) -> dict[str, str]:
    return {
        "x-ratelimit-remaining-requests": requests[0],
        "x-ratelimit-reset-requests": requests[1],
        "x-ratelimit-remaining-tokens": tokens[0],
        "x-ratelimit-reset-tokens": tokens[1],
    }


@pytest.mark.parametrize(
    ("headers", "kind", "seconds"),
    [
        (limits(("0", "1s"), ("149984", "6m0s")), None, 1.0),
        (limits(("59", "1s"), ("0", "6m0s")), None, 360.0),
        (limits(("59", "9m"), ("12", "20ms")), None, 0.02),  # the request was larger than 12 tokens
        (limits(("0", "1s"), ("0", "6m0s")), None, 360.0),
        (limits(("", "1s"), ("", "6m0s")), None, 360.0),
        (limits(("", "1s"), ("", "6m0s")), "requests", 1.0),
        (limits(("0", "8.64s"), ("100", "1m")), "tokens", 60.0),
        (limits(("0", "garbage"), ("5", "2s")), None, 2.0),
        ({"x-ratelimit-reset-requests": "3s"}, None, 3.0),
        ({"x-ratelimit-reset-tokens-minute": "3s", "x-ratelimit-remaining-tokens-minute": "0"}, None, 3.0),
    ],
)
def test_reset_is_that_of_the_exceeded_limit(
    headers: dict[str, str], kind: str | None, seconds: float
) -> None:
    assert verdict(headers=headers, type=kind).rest == pytest.approx(seconds)
    assert verdict(headers={**headers, "Retry-After": "11"}, type=kind).rest == 11.0
    assert verdict(headers={**headers, "Retry-After": "11", "Retry-After-Ms": "250"}, type=kind).rest == 0.25


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached for gpt-4. Limit: 3 / min. Please try again in 20s. Contact us.", 20.0),
        ("Rate limit reached. Please try again in 6m0s.", 360.0),
        ("Please try again in 86ms.", 0.086),
        ("Please retry after 26 seconds.", 26.0),
        ("Please wait 1 minute", 60.0),
        ("Please try again in 500 milliseconds", 0.5),
        ("Please try again in a while", None),
        ("Please try again in 5 days", None),
        ("", None),
        ("try again in " * 500_000, None),
    ],
)
def test_wait_in_the_message_is_the_last_resort(message: str, seconds: float | None) -> None:
    assert verdict(message=message).rest == (None if seconds is None else pytest.approx(seconds))
    assert verdict(message=message, headers={"retry-after": "2"}).rest == 2.0
