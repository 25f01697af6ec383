"""An answer is bounded as it unpacks: a small response cannot fill the memory."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Callable

import openai
import pytest

from openai2 import Chat
from openai2.api import exchange
from tests.support.servers import Reply, ScriptedServer, completion

KEY = "sk-made-up-0123456789abcdef"
LIMIT = 2 << 20


def _request(chat: Chat) -> str:
    return chat.request("hi")


def _async_request(chat: Chat) -> str:
    return asyncio.run(chat.async_request("hi"))


def _stream(chat: Chat) -> str:
    return "".join(chat.stream_request("hi"))


def _async_stream(chat: Chat) -> str:
    async def main() -> str:
        return "".join([piece async for piece in chat.async_stream_request("hi")])

    return asyncio.run(main())


@pytest.mark.parametrize("ask", [_request, _async_request, _stream, _async_stream])
def test_answer_that_unpacks_to_too_much_is_a_failure(
    ask: Callable[[Chat], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MOST_BYTES", LIMIT)
    packed = gzip.compress(bytes(100 << 20), 9)
    kind = "text/event-stream" if "stream" in ask.__name__ else "application/json"
    bomb = Reply(200, [packed], {"Content-Encoding": "gzip", "Content-Type": kind})
    with ScriptedServer(bomb) as server, Chat(KEY, "m", base_url=server.base_url, max_retries=0) as chat:
        tracemalloc.start()
        with pytest.raises(openai.APIConnectionError, match="longer than"):
            ask(chat)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [record.type for record in chat.events()][-1] == "request_failed"
    assert peak < 10 * LIMIT


@pytest.mark.parametrize("ask", [_request, _async_request])
def test_long_answer_below_the_limit_is_kept(ask: Callable[[Chat], str]) -> None:
    text = "long " * 400_000
    with ScriptedServer(completion(text)) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        assert ask(chat) == text
