"""A pool with dead, limited and exhausted keys: no caller notices, and the good ones share the load."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from openai2 import AKPool, BadInput, Chat, Engine
from openai2.core import events as ev
from openai2.keys.pool import fingerprint
from tests.support.misbehaving_server import (
    EVENTS,
    Misbehaving,
    Reset,
    Script,
    completion,
    error,
    event,
    stream,
    whole,
)

GOOD = [f"sk-made-up-good-{number:04}" for number in range(3)]
DEAD, BANNED, LIMITED, BROKE = (f"sk-made-up-{what}-0001" for what in ("dead", "banned", "limited", "broke"))
ALL = [DEAD, GOOD[0], BANNED, LIMITED, GOOD[1], BROKE, GOOD[2]]


class Provider(Misbehaving):
    """Answers each key as it deserves, and counts."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self._counting = threading.Lock()
        super().__init__(self._answer)

    def _answer(self, head: bytes, body: bytes) -> Script:
        key = next(
            line.rpartition(b" ")[2].decode()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"authorization:")
        )
        with self._counting:
            self.used[key] += 1
        if key == DEAD:
            return [whole(error(f"Incorrect API key provided: {key}", "invalid_api_key"), "401 Unauthorized")]
        if key == BANNED:
            return [whole(error("not allowed", key), "403 Forbidden")]
        if key == LIMITED:
            return [whole(error("slow down", "rate_limit_exceeded"), "429 Limited", "Retry-After: 3600")]
        if key == BROKE:
            return [whole(error("no money", "insufficient_quota", "insufficient_quota"), "429 Broke")]
        if json.loads(body).get("stream"):
            return [EVENTS, stream("an ", "answer")]
        return [whole(completion())]


def _chat(server: Misbehaving, keys: Any, **options: Any) -> Chat:
    chosen: dict[str, Any] = {"timeout": 20.0, **options}
    return Chat(keys, "m", base_url=server.base_url, **chosen)


def _check(server: Provider, pool: AKPool, requests: int) -> None:
    assert sum(server.used[key] for key in GOOD) == requests
    counts = [server.used[key] for key in GOOD]
    assert max(counts) - min(counts) <= 2 + len(ALL), counts
    for bad in (DEAD, BANNED, LIMITED, BROKE):
        assert 1 <= server.used[bad] <= 16, "a key that is known to be bad was asked again and again"
    states = {status.fingerprint: (status.state, status.reason) for status in pool.status()}
    assert states[fingerprint(DEAD)] == ("out", "unauthorized")
    assert states[fingerprint(BANNED)] == ("out", "forbidden")
    assert states[fingerprint(LIMITED)] == ("resting", "rate_limit")
    assert states[fingerprint(BROKE)] == ("resting", "quota")
    assert all(states[fingerprint(key)] == ("ready", "") for key in GOOD)


def test_threads_with_one_good_key_see_no_failure() -> None:
    pool = AKPool(ALL)
    with Provider() as server, Engine() as engine:
        chats = [Chat(pool, "m", base_url=server.base_url, db=engine, timeout=30.0) for _ in range(8)]

        def work(chat: Chat) -> None:
            for number in range(15):
                if number % 2:
                    assert chat.request("hi") == "an answer"
                else:
                    assert "".join(chat.stream_request("hi")) == "an answer"

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, chats))
        _check(server, pool, 120)
        assert all(len(chat.fetch_messages()) == 30 for chat in chats)
        by_key = {line.name: line for line in engine.stats("key")}
        for key in ALL:
            assert by_key[fingerprint(key)].requests == server.used[key]
        assert sum(line.requests - line.failures for line in by_key.values()) == 120
        (model,) = engine.stats("model")
        assert (model.name, model.requests, model.failures) == ("m", 120, 0)
        assert (model.prompt_tokens, model.completion_tokens) == (8 * 7 * 3, 8 * 7 * 2)  # streams told none
        assert model.seconds > 0
        assert sum(line.requests for line in engine.stats("day")) == 120
        with pytest.raises(BadInput):
            engine.stats("hour")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_tasks_with_one_good_key_see_no_failure() -> None:
    pool = AKPool(ALL)
    with Provider() as server, Engine() as engine:

        async def work() -> None:
            chat = Chat(pool, "m", base_url=server.base_url, db=engine, timeout=30.0)
            for _ in range(4):
                assert await chat.async_request("hi") == "an answer"

        async def main() -> None:
            await asyncio.gather(*(work() for _ in range(16)))

        asyncio.run(main())
        _check(server, pool, 64)


def test_answer_event_lists_failed_attempts() -> None:
    with Provider() as server, _chat(server, AKPool([DEAD, BANNED, LIMITED, BROKE, GOOD[0]])) as chat:
        assert chat.request("hi") == "an answer"
        record = [*chat.events()][-1]
        added = record.event
        assert isinstance(added, ev.MessageAdded) and added.answer is not None
        assert added.answer.key == fingerprint(GOOD[0])
        told = [(a["key"], a["reason"], a["status"]) for a in added.answer.attempts]
        assert told == [
            (fingerprint(DEAD), "unauthorized", 401),
            (fingerprint(BANNED), "forbidden", 403),
            (fingerprint(LIMITED), "rate_limit", 429),
            (fingerprint(BROKE), "quota", 429),
        ]
        for key in ALL:  # one of them was echoed as a code
            assert key.encode() not in record.json


def test_request_waits_for_the_shortest_rest() -> None:
    limited = [whole(error("slow", "rate_limit_exceeded"), "429 Limited", "Retry-After-Ms: 150")]
    with Misbehaving(limited, limited, [whole(completion())]) as server:
        assert _chat(server, AKPool(GOOD[:2])).request("hi") == "an answer"
        assert server.asked == 3


def test_request_does_not_begin_a_wait_past_its_timeout() -> None:
    limited = [whole(error("slow", "rate_limit_exceeded"), "429 Limited", "Retry-After: 900")]
    with Misbehaving(limited) as server, _chat(server, AKPool(GOOD)) as chat:
        with pytest.raises(openai.RateLimitError):
            chat.request("hi")
        assert server.asked == 3
        failed = [*chat.events()][-1].event
        assert isinstance(failed, ev.RequestFailed) and len(failed.attempts) == 2
        with pytest.raises(openai.RateLimitError):  # all rest: the provider says it best
            chat.request("hi")
        assert server.asked == 4


def test_all_keys_out_raises_the_last_exception() -> None:
    with Provider() as server, _chat(server, AKPool([DEAD, BANNED])) as chat:
        with pytest.raises(openai.PermissionDeniedError):
            chat.request("hi")
        assert chat.fetch_messages() == []


def test_retries_of_a_server_error_are_bounded() -> None:
    with Misbehaving([whole(error(), "500 No", "Retry-After: 0.01")]) as server:
        with pytest.raises(openai.InternalServerError):
            _chat(server, AKPool(GOOD), max_retries=1).request("hi")
        assert server.asked == 2
        with pytest.raises(openai.InternalServerError):
            _chat(server, AKPool(GOOD), max_retries=0).request("hi")
        assert server.asked == 3


def test_invalid_request_is_not_tried_with_another_key() -> None:
    with Misbehaving([whole(error("too long", "context_length_exceeded"), "400 Bad")]) as server:
        with pytest.raises(openai.BadRequestError):
            _chat(server, AKPool(GOOD)).request("hi")
        assert server.asked == 1


def test_no_other_key_is_tried_after_the_first_piece() -> None:
    script: Script = [
        EVENTS,
        event(content="half"),
        b"data: " + error("out", "insufficient_quota") + b"\n\n",
        Reset(),
    ]
    with Misbehaving(script) as server, _chat(server, AKPool(GOOD)) as chat:
        with pytest.raises(openai.APIError):
            list(chat.stream_request("hi"))
        assert server.asked == 1
        script_before: Script = [EVENTS, b"data: " + error("out", "insufficient_quota") + b"\n\n"]
    after: Script = [EVENTS, stream("an answer")]
    with Misbehaving(script_before, after) as server, _chat(server, AKPool(GOOD)) as chat:
        assert "".join(chat.stream_request("hi")) == "an answer"
