"""How a pool shares the load among its keys."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.keys.pool import AKPool
from tests.support.keys import DENIED, OK, A, B, C, Clock, limited, names, pool_of, status_of, take


@pytest.mark.parametrize("keys", [[], (), [...], iter([])])
def test_pool_without_keys_raises(keys: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        AKPool(keys)


def test_pool_names_a_bad_key_by_its_place() -> None:
    with pytest.raises(ValueError, match="key 2 of the pool has a line end") as caught:
        AKPool([A, B + "\n"])
    assert B not in str(caught.value)
    with pytest.raises(ValueError, match="a list of keys"):
        AKPool(A)


def test_pool_ignores_an_ellipsis() -> None:
    pool = AKPool(["sk-mf40...", "sk-m6g7...", ...])
    assert [pool.fetch_key() for _ in range(3)] == ["sk-mf40...", "sk-m6g7...", "sk-mf40..."]


def test_repeated_key_counts_once_with_its_first_weight() -> None:
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
def test_invalid_weights_raise(weights: Any) -> None:
    with pytest.raises(ValueError, match="weight") as caught:
        pool_of(A, B, weights=weights)
    assert "sk-test" not in str(caught.value)


def test_weights_can_be_given_by_key() -> None:
    pool = pool_of(A, B, weights={B: 3})
    assert Counter(take(pool, 40)) == {A: 10, B: 30}


@given(st.integers(1, 12), st.integers(0, 60))
@settings(deadline=None)
def test_equal_weights_rotate_in_order(count: int, turns: int) -> None:
    keys = names(count)
    assert take(pool_of(*keys), turns) == list(itertools.islice(itertools.cycle(keys), turns))


weights_of = st.lists(
    st.integers(1, 300) | st.floats(0.01, 100) | st.sampled_from([1, 1, 20, 100, 1e300, 1e-300, 5e-324]),
    min_size=1,
    max_size=10,
)


@given(weights_of)
@settings(deadline=None)
def test_no_key_is_a_whole_turn_off_its_share(weights: list[float]) -> None:
    pool = pool_of(*names(len(weights)), weights=weights)
    whole = sum(weight / max(weights) for weight in weights)
    shares = dict(
        zip(names(len(weights)), (weight / max(weights) / whole for weight in weights), strict=True)
    )
    counts: Counter[str] = Counter()
    for turn in range(1, 200):
        counts.update(take(pool, 1))
        assert all(abs(counts[key] - turn * share) < 1 + 1e-6 for key, share in shares.items())


def test_few_heavy_keys_among_light_ones_get_exact_shares() -> None:
    weights = [1, 1, 1, 1, 100, 20, 100, 20]
    pool = pool_of(*names(8), weights=weights)
    counts: Counter[str] = Counter()
    for turn in range(1, 245):
        counts.update(take(pool, 1))
        for key, weight in zip(names(8), weights, strict=True):
            assert abs(counts[key] - turn * weight / 244) < 1
    assert [counts[key] for key in names(8)] == weights


def test_turns_of_heavy_keys_are_spread() -> None:
    keys = take(pool_of("sk-a", "sk-b", "sk-c", weights=[4, 2, 1]), 70)
    assert "".join(key[3] for key in keys) == "abaacba" * 10


def test_many_turns_do_not_drift() -> None:
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
def test_ready_keys_share_evenly_while_others_come_and_go(steps: list[tuple[str, int]]) -> None:
    """As long as the same keys are ready, counts differ by at most 1, and no other key is returned."""
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
def test_weights_hold_after_rests(steps: list[tuple[str, int]], weights: list[int]) -> None:
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


def test_key_back_from_rest_gets_no_burst() -> None:
    clock = Clock()
    pool = pool_of(A, B, C, clock=clock)
    pool.report(A, limited(60.0))
    assert set(take(pool, 20)) == {B, C}
    clock.now += 60.0
    assert Counter(take(pool, 9)) == {A: 3, B: 3, C: 3}


def test_key_skipped_by_retries_gets_no_burst_later() -> None:
    pool = pool_of(A, B)
    assert set(take(pool, 50, (A,))) == {B}
    assert Counter(take(pool, 12))[A] <= 8
