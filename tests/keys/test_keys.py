"""The pool shares the load evenly, keeps the book of every key, and lets none be seen."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import pickle
import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.errors import BadInput, NoKey
from openai2.keys.classify import MAX_REST, Outcome, Verdict, backoff_seconds, classify_failure
from openai2.keys.pool import AKPool, KeyStatus, check_key, fingerprint, mask

NOW = 1_700_000_000.0  # a Tuesday in November 2023
A, B, C = "sk-test-0001-aaaaaaaa", "sk-test-0002-bbbbbbbb", "sk-test-0003-cccccccc"

OK = Outcome(prompt_tokens=3, completion_tokens=4)
DENIED = Verdict(reason="unauthorized", another=True, out=True)
LIMITED = Verdict(reason="rate_limit", another=True)
BROKE = Verdict(reason="quota", another=True)
REFUSED = Verdict(reason="refused", another=True)
SERVER = Verdict(reason="server", retry=True, backoff=0.5)
FINAL = Verdict(reason="request")


def limited(seconds: float) -> Verdict:
    return Verdict(reason="rate_limit", another=True, rest=seconds)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def names(count: int) -> list[str]:
    return [f"sk-test-{number:04}" for number in range(count)]


def pool_of(*keys: str, clock: Clock | None = None, **options: Any) -> AKPool:
    """A pool without jitter (`random` always gives 0) on a clock that stands still."""
    return AKPool(keys, clock=clock or Clock(), random=lambda: 0.0, **options)


def take(pool: AKPool, count: int, tried: tuple[str, ...] = ()) -> list[str]:
    keys = [pool.checkout(tried) for _ in range(count)]
    assert None not in keys
    return [key for key in keys if key is not None]


def status_of(pool: AKPool, key: str) -> KeyStatus:
    return next(status for status in pool.status() if status.fingerprint == fingerprint(key))


def verdict(
    status: int | None = 429,
    *,
    code: str | None = None,
    type: str | None = None,
    message: str = "",
    headers: Mapping[str, str] | None = None,
    now: float = NOW,
) -> Verdict:
    return classify_failure(
        status=status, code=code, type=type, headers=headers or {}, message=message, wall_now=now
    )


def rest(**headers: str) -> float | None:
    return verdict(headers={name.replace("_", "-"): text for name, text in headers.items()}).rest


# --- keys ---


def test_a_fingerprint_is_stable_short_and_no_part_of_the_key() -> None:
    assert fingerprint("sk-test-0001") == "1ac93f6ee838"
    assert fingerprint(A) == fingerprint(A) != fingerprint(B)
    assert set(fingerprint(A)) <= set("0123456789abcdef")
    assert len(fingerprint("\ud800")) == 12


def test_a_mask_shows_the_ends_of_long_keys_only() -> None:
    assert mask("sk-test-00000001") == "sk-…0001"
    assert mask("sk-test-0000001") == "*" * 15
    assert mask("") == ""
    assert mask("\x1b[31m-test-0000\r\n") == "?[3…00??"


@pytest.mark.parametrize("key", ["api_key", "sk-mf40...", "...", "!", "~" * 5000, A])
def test_what_can_be_sent_is_a_key(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "empty"),
        ("sk-test-0001\n", "a line end at character 13 of 13"),
        ("sk-test-0001\r\n", "a line end"),
        ("\u2028sk-test-0001", "a line end"),
        (" sk-test-0001", "a space at character 1 of 13"),
        ("sk-test-0001\u3000", "a space"),
        ("sk-test\t0001", "a space"),
        ("sk-test-0001\x00", "a control character"),
        ("sk-test-0001\x7f", "a control character"),
        ("sk-test-000１", "not ASCII"),
        ("sk-test-0001é", "not ASCII"),
        ("\ud800sk-test-0001", "not ASCII"),
        (None, "NoneType"),
        (b"sk-test-0001", "bytes"),
        (["sk-test-0001"], "list"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence_without_the_key(key: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        check_key(key)
    assert isinstance(caught.value, BadInput)
    seen = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.facts)
    assert "sk-test" not in seen
    assert "\n" not in str(caught.value)


@given(st.text())
@settings(deadline=None)
def test_a_key_is_visible_ascii_or_refused_and_comes_back_as_it_was(key: str) -> None:
    legal = bool(key) and all(0x21 <= ord(char) <= 0x7E for char in key)
    try:
        assert check_key(key) == key
        assert legal
    except BadInput:
        assert not legal


# --- making a pool ---


@pytest.mark.parametrize("keys", [[], (), [...], iter([])])
def test_a_pool_of_nothing_is_refused(keys: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        AKPool(keys)


def test_a_bad_key_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match="key 2 of the pool has a line end") as caught:
        AKPool([A, B + "\n"])
    assert B not in str(caught.value)
    with pytest.raises(ValueError, match="a list of keys"):
        AKPool(A)


def test_the_tutorials_and_so_on_is_passed_over() -> None:
    pool = AKPool(["sk-mf40...", "sk-m6g7...", ...])
    assert [pool.fetch_key() for _ in range(3)] == ["sk-mf40...", "sk-m6g7...", "sk-mf40..."]


def test_the_same_key_twice_counts_once_with_its_first_weight() -> None:
    pool = pool_of(A, B, A, weights=[1, 2, 5])
    assert len(pool) == 2
    assert [status.weight for status in pool.status()] == [1.0, 2.0]


@pytest.mark.parametrize(
    "weights",
    [
        *([1], [1, 2, 3], [], {A: 0}, {A: "sk-test-0001"}, {C: 1.0}),
        *([1, weight] for weight in (0, -1, math.nan, math.inf, "2", None, True, 10**400)),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: Any) -> None:
    with pytest.raises(ValueError, match="weight") as caught:
        pool_of(A, B, weights=weights)
    assert "sk-test" not in str(caught.value)


def test_weights_by_key() -> None:
    pool = pool_of(A, B, weights={B: 3})
    assert Counter(take(pool, 40)) == {A: 10, B: 30}


# --- rotation ---


@given(st.integers(1, 12), st.integers(0, 60))
@settings(deadline=None)
def test_equal_weights_are_a_plain_rotation(count: int, turns: int) -> None:
    keys = names(count)
    assert take(pool_of(*keys), turns) == list(itertools.islice(itertools.cycle(keys), turns))


weights_of = st.lists(
    st.integers(1, 300) | st.floats(0.01, 100) | st.sampled_from([1, 1, 20, 100, 1e300, 1e-300, 5e-324]),
    min_size=1,
    max_size=10,
)


@given(weights_of)
@settings(deadline=None)
def test_no_key_is_ever_a_whole_turn_off_its_exact_share(weights: list[float]) -> None:
    pool = pool_of(*names(len(weights)), weights=weights)
    whole = sum(weight / max(weights) for weight in weights)
    shares = dict(
        zip(names(len(weights)), (weight / max(weights) / whole for weight in weights), strict=True)
    )
    counts: Counter[str] = Counter()
    for turn in range(1, 200):
        counts.update(take(pool, 1))
        assert all(abs(counts[key] - turn * share) < 1 + 1e-6 for key, share in shares.items())


def test_weights_that_plain_smooth_round_robin_gets_wrong() -> None:
    weights = [1, 1, 1, 1, 100, 20, 100, 20]
    pool = pool_of(*names(8), weights=weights)
    counts: Counter[str] = Counter()
    for turn in range(1, 245):
        counts.update(take(pool, 1))
        for key, weight in zip(names(8), weights, strict=True):
            assert abs(counts[key] - turn * weight / 244) < 1
    assert [counts[key] for key in names(8)] == weights


def test_heavy_keys_do_not_have_all_their_turns_in_a_row() -> None:
    keys = take(pool_of("sk-a", "sk-b", "sk-c", weights=[4, 2, 1]), 70)
    assert "".join(key[3] for key in keys) == "abaacba" * 10


def test_a_million_turns_do_not_drift() -> None:
    pool = pool_of(*names(3), weights=[0.1, 0.2, 0.7])
    counts = Counter(take(pool, 100_000))
    assert [counts[key] for key in names(3)] == [10_000, 20_000, 70_000]


moves = st.lists(
    st.tuples(
        st.sampled_from(["take"] * 6 + ["rest", "out", "add", "remove", "wait", "answer"]), st.integers(0, 7)
    ),
    max_size=120,
)


@given(moves)
@settings(deadline=None, max_examples=200)
def test_the_load_is_even_among_the_ready_while_keys_come_and_go(steps: list[tuple[str, int]]) -> None:
    """As long as the same keys are ready, counts differ by at most 1, and nobody else is handed out."""
    clock, keys = Clock(), names(8)
    pool = pool_of(*keys[:4], clock=clock)
    counts: Counter[str] = Counter()
    before: set[str] = set()
    for what, number in steps:
        key = keys[number]
        if what == "rest":
            pool.report(key, limited(number + 1.0))
        elif what == "out":
            pool.report(key, DENIED)
        elif what == "answer":
            pool.report(key, OK)
        elif what == "add":
            pool.add(key)
        elif what == "remove" and key in pool:
            pool.remove(key)
        elif what == "wait":
            clock.now += number
        ready = {key for key in keys if key in pool and status_of(pool, key).state == "ready"}
        if ready != before:
            counts, before = Counter(dict.fromkeys(ready, 0)), ready
        if what == "take":
            taken = pool.checkout()
            assert (taken in ready) if ready else taken is None
            if taken is not None:
                counts[taken] += 1
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1


@given(moves, st.lists(st.integers(1, 50), min_size=8, max_size=8))
@settings(deadline=None)
def test_weights_hold_after_keys_came_and_went(steps: list[tuple[str, int]], weights: list[int]) -> None:
    clock, keys = Clock(), names(8)
    pool = pool_of(*keys, weights=weights, clock=clock)
    for what, number in steps:
        if what == "take":
            pool.checkout()
        elif what == "rest":
            pool.report(keys[number], limited(number + 1.0))
        elif what == "wait":
            clock.now += number
    clock.now += 100.0
    whole = sum(weights)
    counts = Counter(take(pool, whole))
    for key, weight in zip(keys, weights, strict=True):
        assert abs(counts[key] - weight) <= 2


def test_a_key_that_comes_back_makes_up_for_nothing() -> None:
    clock = Clock()
    pool = pool_of(A, B, C, clock=clock)
    pool.report(A, limited(60.0))
    assert set(take(pool, 20)) == {B, C}
    clock.now += 60.0
    assert Counter(take(pool, 9)) == {A: 3, B: 3, C: 3}


def test_a_key_kept_from_its_turns_by_requests_that_tried_it_has_no_burst() -> None:
    pool = pool_of(A, B)
    assert set(take(pool, 50, (A,))) == {B}
    assert Counter(take(pool, 12))[A] <= 8


# --- failures ---


def test_checkout_skips_the_tried_the_resting_and_the_dead() -> None:
    pool = pool_of(*names(4))
    zero, one, two, three = names(4)
    pool.report(zero, DENIED)
    pool.report(one, limited(5.0))
    assert pool.checkout([two]) == three
    assert pool.checkout({two, three}) is None
    assert take(pool, 2) == [two, three]


def test_the_states_of_a_key() -> None:
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
def test_what_is_not_the_keys_fault_leaves_it_in_service(harmless: Verdict) -> None:
    pool = pool_of(A)
    for _ in range(100):
        pool.report(A, harmless)
    assert status_of(pool, A).state == "ready"
    assert status_of(pool, A).failures == 100


def test_rests_without_a_reset_double_up_to_a_minute_and_success_forgets() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    rests: list[float | None] = []
    for _ in range(2000):
        pool.report(A, LIMITED)
        rests.append(status_of(pool, A).until)
        clock.now += 60.0
    assert rests[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert rests[-1] == 60.0
    pool.report(A, OK)
    pool.report(A, LIMITED)
    assert status_of(pool, A).until == 1.0


def test_quota_rests_an_hour_doubling_to_a_day() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    hours: list[float] = []
    for _ in range(7):
        pool.report(A, BROKE)
        status = status_of(pool, A)
        assert status.reason == "quota"
        hours.append((status.until or 0.0) / 3600)
        clock.now += MAX_REST
    assert hours == [1, 2, 4, 8, 16, 24, 24]


def test_a_short_retry_after_does_not_shorten_an_empty_accounts_rest() -> None:
    pool = pool_of(A)
    pool.report(A, Verdict(reason="quota", another=True, rest=1.0))
    assert status_of(pool, A).until == 3600.0
    pool.report(A, limited(2.0))
    assert (status_of(pool, A).until, status_of(pool, A).reason) == (3600.0, "quota")


def test_requests_that_fail_together_are_one_failure() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    for _ in range(50):
        pool.report(A, LIMITED)
    assert status_of(pool, A).until == 1.0
    clock.now += 1.0
    pool.report(A, LIMITED)
    assert status_of(pool, A).until == 2.0


def test_a_reset_that_is_obeyed_and_does_not_help_is_not_hammered() -> None:
    clock = Clock()
    pool = pool_of(A, clock=clock)
    rests: list[float] = []
    for _ in range(8):
        pool.report(A, limited(0.001))
        rests.append(round(status_of(pool, A).until or 0.0, 3))
        clock.now += 10.0
    assert rests == [0.001, 0.001, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@given(st.floats() | st.none(), st.floats(0, 1, exclude_max=True), st.integers(1, 5))
@settings(deadline=None)
def test_no_rest_is_longer_than_the_stated_most(seconds: float | None, chance: float, times: int) -> None:
    clock = Clock()
    pool = AKPool([A], clock=clock, random=lambda: chance)
    for reason in ("rate_limit", "quota"):
        for _ in range(times):
            pool.report(A, Verdict(reason=reason, another=True, rest=seconds))
            until = status_of(pool, A).until
            assert until is None or 0.0 < until <= MAX_REST  # None: shorter than the clock can tell
            clock.now += until or 0.0


@given(st.integers(-5, 5000), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_backoff_is_bounded_and_jittered(attempt: int, chance: float) -> None:
    pause = backoff_seconds(attempt, random=lambda: chance)
    full = min(8.0, 0.5 * 2.0 ** min(max(attempt, 0), 60))
    assert full / 2 <= pause <= full


# --- waiting ---


def test_wakes_in_is_the_first_that_wakes() -> None:
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


def test_wakes_in_is_none_where_all_are_dead_or_refused() -> None:
    pool = pool_of(A, B)
    pool.report(A, DENIED)
    pool.report(B, REFUSED)
    assert pool.checkout({A, B}) is None
    assert pool.wakes_in({A, B}) is None
    assert pool.wakes_in({A}) == 0.0
    assert pool.wakes_in() is None


def test_a_refused_key_does_not_come_back_within_the_request_and_a_rested_one_does() -> None:
    clock = Clock()
    pool = pool_of(A, B, clock=clock)
    pool.report(A, REFUSED)
    pool.report(B, limited(3.0))
    assert pool.wakes_in({A, B}) == 3.0
    clock.now += 3.0
    assert pool.checkout({A, B}) == B
    pool.report(B, SERVER)
    assert pool.checkout({A, B}) is None


def test_a_late_failure_of_another_request_does_not_lose_a_waiters_key() -> None:
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
def test_after_the_wait_there_is_a_key(steps: list[tuple[int, Outcome]], numbers: set[int]) -> None:
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
def test_with_one_good_key_a_request_meets_no_failure(good: int) -> None:
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


def test_fetch_key_gives_a_key_whatever_the_state() -> None:
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


# --- the book ---


def test_status_counts() -> None:
    pool = pool_of(A, B)
    for outcome in (OK, OK, SERVER, Verdict(reason="server", prompt_tokens=5)):
        pool.checkout({B})
        pool.report(A, outcome)
    pool.fetch_key()
    a, b = pool.status()
    assert a == KeyStatus(
        fingerprint=fingerprint(A),
        masked=mask(A),
        state="ready",
        until=None,
        reason="",
        requests=4,
        failures=2,
        prompt_tokens=11,
        completion_tokens=8,
        weight=1.0,
    )
    assert (b.requests, b.failures) == (1, 0)


@pytest.mark.parametrize("tokens", [None, -1, 1.5, True, "7", 10**30, math.nan])
def test_counts_that_are_none_count_nothing(tokens: Any) -> None:
    pool = pool_of(A)
    pool.report(A, Outcome(prompt_tokens=tokens, completion_tokens=tokens))
    assert (status_of(pool, A).prompt_tokens, status_of(pool, A).completion_tokens) == (0, 0)


def test_add_and_remove() -> None:
    pool = pool_of(A)
    pool.add(B, 2.0)
    assert (len(pool), B in pool, C in pool, 7 in pool) == (2, True, False, False)
    pool.report(A, DENIED)
    pool.add(A)
    assert status_of(pool, A).state == "ready"
    assert status_of(pool, A).failures == 1
    pool.remove(A)
    pool.report(A, OK)
    assert [status.fingerprint for status in pool.status()] == [fingerprint(B)]
    with pytest.raises(ValueError, match=fingerprint(A)) as caught:
        pool.remove(A)
    assert A not in str(caught.value)
    for bad in ("", "sk-test 0001"):
        with pytest.raises(ValueError, match="API key"):
            pool.add(bad)
    with pytest.raises(ValueError, match="weight"):
        pool.add(C, math.nan)
    assert C not in pool


def test_an_emptied_pool_gives_none_and_is_still_a_pool() -> None:
    pool = pool_of(A)
    pool.remove(A)
    assert pool.checkout() is None
    assert pool.wakes_in() is None
    assert pool.status() == []
    assert len(pool) == 0
    assert bool(pool)


# --- secrecy ---


def test_a_pool_shows_no_key_anywhere() -> None:
    pool = pool_of(A, B)
    pool.checkout()
    pool.report(A, limited(5.0))
    inside = [getattr(pool, name) for name in AKPool.__slots__ if name != "__weakref__"]
    seen = " ".join(map(repr, [pool, str(pool), pool.status(), *inside, msgspec.json.encode(pool.status())]))
    assert not any(key in seen for key in (A, B))
    assert repr(pool) == "<AKPool of 2 keys>"
    assert not hasattr(pool, "__dict__")
    assert iter_fails(pool)


def iter_fails(pool: Any) -> bool:
    with pytest.raises(TypeError):
        iter(pool)
    return True


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode])
def test_a_pool_is_not_pickled_or_copied(way: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        way(pool_of(A))
    assert A not in str(caught.value)


def test_a_verdict_keeps_nothing_that_a_server_said() -> None:
    for status in (None, 200, 400, 401, 402, 403, 404, 408, 429, 500):
        echo = verdict(status, code=A, type=A, message=A, headers={"retry-after": A, A: A})
        assert A not in repr(echo)


# --- threads ---


def test_threads_share_a_pool_evenly_and_lose_no_count() -> None:
    pool = AKPool(names(5))
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(250):
            key = pool.checkout()
            assert key is not None
            pool.report(key, OK)
            pool.status()
            pool.wakes_in()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work) for _ in range(8)]:
            done.result()
    assert [status.requests for status in pool.status()] == [400] * 5
    assert [status.prompt_tokens for status in pool.status()] == [1200] * 5


def test_threads_that_fail_add_and_remove_do_no_harm() -> None:
    pool = AKPool(names(6))

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(300):
            key = dice.choice(names(6))
            what = dice.randrange(6)
            if what == 0:
                pool.add(key, dice.random() + 0.1)
            elif what == 1:
                with suppress(BadInput):  # another thread was faster
                    pool.remove(key)
            else:
                taken = pool.checkout(dice.sample(names(6), 2))
                if taken is not None:
                    pool.report(taken, dice.choice([OK, DENIED, limited(0.001), SERVER]))
            pool.status()

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, seed) for seed in range(6)]:
            done.result()


def test_a_dropped_stream_that_reports_from_the_garbage_collector_does_not_lock_up() -> None:
    def stream() -> Any:
        try:
            yield "half an ans"
        finally:
            pool.report(A, SERVER)

    def clock() -> float:  # runs under the pool's lock
        ring: list[Any] = [stream()]
        next(ring[0])
        ring.append(ring)
        del ring
        gc.collect()
        return 0.0

    pool = AKPool([A], clock=clock)
    done = threading.Thread(target=pool.checkout, daemon=True)
    done.start()
    done.join(5.0)
    assert not done.is_alive()
    assert pool.status()[0].failures >= 1


# --- the policy ---


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
def test_what_a_failure_means(
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


def test_a_numeric_code_is_a_code() -> None:
    number: Any = 429
    assert verdict(None, code=number).reason == "rate_limit"


def test_a_firewalls_page_takes_no_key_out() -> None:
    page = verdict(403, headers={"Content-Type": "text/html; charset=UTF-8"}, message="<!DOCTYPE html>")
    assert (page.reason, page.another, page.out) == ("refused", True, False)


def test_a_request_larger_than_the_limit_is_not_waited_for() -> None:
    large = verdict(
        code="rate_limit_exceeded",
        type="tokens",
        message="Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 20000.",
    )
    assert (large.reason, large.another, large.rests) == ("refused", True, False)


@pytest.mark.parametrize("message", ["Insufficient Balance", "账户余额不足，请充值", "insufficient credits"])
def test_an_empty_account_without_a_code(message: str) -> None:
    assert verdict(429, message=message).reason == "quota"


def test_a_limit_of_gemini_is_not_taken_for_an_empty_account() -> None:
    meant = verdict(
        429, code="429", message="You exceeded your current quota. Please retry in 39.837s.", type=None
    )
    assert meant.reason == "rate_limit"
    assert meant.rest == pytest.approx(39.837)


def test_the_servers_word_on_retrying() -> None:
    assert verdict(500, headers={"X-Should-Retry": "false"}).final
    assert verdict(404, headers={"X-Should-Retry": "true"}).retry
    assert verdict(401, headers={"X-Should-Retry": "true"}).out


def test_the_servers_fault_waits_for_retry_after_only() -> None:
    assert verdict(503, headers={"Retry-After": "7"}).backoff == 7.0
    usual = {"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"}
    assert verdict(500, headers=usual).backoff == 0.5


# --- when ---


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
def test_the_forms_of_a_reset(text: str, seconds: float) -> None:
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
def test_nonsense_counts_as_not_given(text: str) -> None:
    assert rest(Retry_After=text) is None
    assert rest(Retry_After_Ms=text) is None or text.isdigit()
    assert rest(x_ratelimit_reset_tokens=text, x_ratelimit_remaining_tokens=text) is None
    assert rest(Retry_After=text, x_ratelimit_reset="3s") == 3.0


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
def test_nothing_that_a_server_sends_breaks_the_policy(
    status: int | None, code: str | None, kind: str | None, headers: dict[str, str], message: str, now: float
) -> None:
    meant = verdict(status, code=code, type=kind, headers=headers, message=message, now=now)
    assert meant.rest is None or 0.0 < meant.rest <= MAX_REST
    assert 0.0 <= meant.backoff <= MAX_REST
    assert meant.another + meant.retry + meant.final == 1
    assert not (meant.out and meant.rests)


@given(st.floats(0.001, MAX_REST - 1))
@settings(deadline=None)
def test_durations_dates_and_times_since_1970_agree(seconds: float) -> None:
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
def test_of_several_limits_the_one_that_was_hit_counts(
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
def test_a_wait_in_words_is_the_last_resort(message: str, seconds: float | None) -> None:
    assert verdict(message=message).rest == (None if seconds is None else pytest.approx(seconds))
    assert verdict(message=message, headers={"retry-after": "2"}).rest == 2.0
