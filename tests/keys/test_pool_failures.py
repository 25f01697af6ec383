"""Which keys rest or go out of service after failures, and how long a caller waits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.errors import NoKey
from openai2.keys.classify import MAX_REST, Outcome, Verdict
from openai2.keys.pool import AKPool
from tests.support.keys import (
    BROKE,
    DENIED,
    FINAL,
    LIMITED,
    OK,
    REFUSED,
    SERVER,
    A,
    B,
    C,
    Clock,
    limited,
    names,
    pool_of,
    status_of,
    take,
)


def test_checkout_skips_tried_resting_and_out_keys() -> None:
    pool = pool_of(*names(4))
    zero, one, two, three = names(4)
    pool.report(zero, DENIED)
    pool.report(one, limited(5.0))
    assert pool.checkout([two]) == three
    assert pool.checkout({two, three}) is None
    assert take(pool, 2) == [two, three]


def test_status_follows_the_reports() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    assert (status_of(pool, A).state, status_of(pool, A).reason) == ("ready", "")
    pool.report(A, limited(5.0))
    clock.now += 2.0
    status = status_of(pool, A)
    assert (status.state, status.until, status.reason) == ("resting", 3.0, "rate_limit")
    clock.now += 3.0
    assert (status_of(pool, A).state, status_of(pool, A).until) == ("ready", None)
    pool.report(A, DENIED)
    status = status_of(pool, A)
    assert (status.state, status.until, status.reason) == ("out", None, "unauthorized")
    pool.report(A, OK)
    assert status_of(pool, A).state == "ready"


@pytest.mark.parametrize("harmless", [SERVER, FINAL, REFUSED, Verdict(reason="region")])
def test_failures_not_caused_by_the_key_keep_it_ready(harmless: Verdict) -> None:
    pool = pool_of(A)
    for _ in range(100):
        pool.report(A, harmless)
    assert status_of(pool, A).state == "ready"
    assert status_of(pool, A).failures == 100


@pytest.mark.parametrize(
    ("failure", "pause", "rests"),
    [
        (LIMITED, 60.0, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * 2000]),
        (BROKE, MAX_REST, [3600.0 * hours for hours in (1, 2, 4, 8, 16, 24, 24)]),
        (limited(0.001), 10.0, [0.001, 0.001, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]),
    ],
    ids=["no reset", "quota", "reset too early"],
)
def test_rest_doubles_up_to_a_limit(failure: Verdict, pause: float, rests: list[float]) -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    for rest in rests:
        pool.report(A, failure)
        status = status_of(pool, A)
        assert status.until == pytest.approx(rest) and status.reason == failure.reason
        clock.now += pause
    pool.report(A, OK)
    pool.report(A, failure)
    assert status_of(pool, A).until == pytest.approx(rests[0])


def test_short_retry_after_does_not_shorten_a_quota_rest() -> None:
    pool = pool_of(A)
    pool.report(A, Verdict(reason="quota", another=True, rest=1.0))
    assert status_of(pool, A).until == 3600.0
    pool.report(A, limited(2.0))
    assert (status_of(pool, A).until, status_of(pool, A).reason) == (3600.0, "quota")


def test_failures_in_flight_together_count_once() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    for _ in range(50):
        pool.report(A, LIMITED)
    assert status_of(pool, A).until == 1.0
    clock.now += 1.0
    pool.report(A, LIMITED)
    assert status_of(pool, A).until == 2.0


@given(st.floats() | st.none(), st.floats(0, 1, exclude_max=True), st.integers(1, 5))
@settings(deadline=None)
def test_no_rest_is_longer_than_max_rest(seconds: float | None, chance: float, times: int) -> None:
    clock = Clock()
    pool = AKPool([A], clock=clock, random=lambda: chance)
    for reason in ("rate_limit", "quota"):
        for _ in range(times):
            pool.report(A, Verdict(reason=reason, another=True, rest=seconds))
            until = status_of(pool, A).until
            assert until is None or 0.0 < until <= MAX_REST  # None: shorter than the clock can tell
            clock.now += until or 0.0


def test_wakes_in_returns_the_shortest_rest() -> None:
    clock = Clock()
    pool = pool_of(A, B, C, clock=clock)
    assert pool.wakes_in() is None
    pool.report(A, limited(9.0))
    pool.report(B, limited(5.0))
    pool.report(C, DENIED)
    assert pool.wakes_in() == 5.0
    clock.now += 5.0
    assert pool.wakes_in() == 0.0
    assert pool.checkout({A, B, C}) == B


def test_wakes_in_is_none_if_all_keys_are_out_or_refused() -> None:
    pool = pool_of(A, B)
    pool.report(A, DENIED)
    pool.report(B, REFUSED)
    assert pool.checkout({A, B}) is None
    assert pool.wakes_in({A, B}) is None
    assert pool.wakes_in({A}) == 0.0
    assert pool.wakes_in() is None


def test_rested_key_comes_back_within_a_request() -> None:
    clock = Clock()
    pool = pool_of(A, B, clock=clock)
    pool.report(A, REFUSED)
    pool.report(B, limited(3.0))
    assert pool.wakes_in({A, B}) == 3.0
    clock.now += 3.0
    assert pool.checkout({A, B}) == B
    pool.report(B, SERVER)
    assert pool.checkout({A, B}) is None


def test_late_failure_does_not_end_a_rest() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    pool.report(A, limited(3.0))
    pool.report(A, SERVER)
    clock.now += pool.wakes_in({A}) or 0.0
    assert pool.checkout({A}) == A


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([OK, DENIED, LIMITED, limited(4.0), BROKE, REFUSED, SERVER])
        ),
        max_size=30,
    ),
    st.sets(st.integers(0, 3)),
)
@settings(deadline=None)
def test_checkout_returns_a_key_after_the_wait(steps: list[tuple[int, Outcome]], numbers: set[int]) -> None:
    clock, keys = Clock(), names(4)
    pool = pool_of(*keys, clock=clock)
    tried = {keys[number] for number in numbers}
    for number, outcome in steps:
        pool.report(keys[number], outcome)
        clock.now += 0.5
    waits = pool.wakes_in(tried)
    if waits is None:
        assert pool.checkout(tried) is None
        clock.now += 1e9
        assert pool.checkout(tried) is None
    else:
        assert (pool.checkout(tried) is not None) == (waits == 0.0)
        clock.now += waits
        assert pool.checkout(tried) is not None


@pytest.mark.parametrize("good", range(4))
def test_one_good_key_is_enough(good: int) -> None:
    keys = names(4)
    pool = pool_of(*keys)
    failing = dict(zip([key for key in keys if key != keys[good]], [DENIED, LIMITED, BROKE], strict=True))
    for _ in range(20):
        tried: set[str] = set()
        while True:
            key = pool.checkout(tried)
            assert key is not None
            pool.report(key, failing.get(key, OK))
            if key not in failing:
                break
            tried.add(key)
    assert status_of(pool, keys[good]).requests == 20
    assert sum(status.failures for status in pool.status()) == 3


def test_fetch_key_returns_a_key_in_every_state() -> None:
    pool = pool_of(A, B, C)
    pool.report(A, limited(9.0))
    assert [pool.fetch_key() for _ in range(4)] == [B, C, B, C]
    pool.report(B, limited(5.0))
    pool.report(C, DENIED)
    assert [pool.fetch_key() for _ in range(2)] == [B, B]
    pool.report(A, DENIED)
    pool.report(B, DENIED)
    assert {pool.fetch_key() for _ in range(3)} == {A, B, C}
    for key in (A, B, C):
        pool.remove(key)
    with pytest.raises(NoKey):
        pool.fetch_key()
