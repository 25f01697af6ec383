"""What a pool counts and shows of its keys, and how threads share it."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from openai2.errors import BadInput
from openai2.keys.classify import Outcome, Verdict
from openai2.keys.pool import AKPool, KeyStatus, fingerprint, mask
from tests.support.keys import DENIED, OK, SERVER, A, B, C, limited, names, pool_of, status_of


def test_status_counts_requests_failures_and_tokens() -> None:
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
def test_implausible_token_counts_are_ignored(tokens: Any) -> None:
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


def test_emptied_pool_is_true_and_returns_none() -> None:
    pool = pool_of(A)
    pool.remove(A)
    assert pool.checkout() is None
    assert pool.wakes_in() is None
    assert pool.status() == []
    assert len(pool) == 0
    assert bool(pool)


def test_pool_shows_no_key() -> None:
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
def test_pool_cannot_be_pickled_or_copied(way: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        way(pool_of(A))
    assert A not in str(caught.value)


def test_threads_share_a_pool_evenly() -> None:
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


def test_threads_can_fail_add_and_remove_at_once() -> None:
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


def test_report_from_the_garbage_collector_does_not_deadlock() -> None:
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
