"""Threads, tasks and chats that share a conversation, a store or a client."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openai2 import Chat, Engine
from openai2.offline import OfflineServer
from tests.support.chats import KEY, WAYS, Scripted, ask, chat_with, either
from tests.support.servers import completion


def _rounds_are_whole(messages: list[dict[str, Any]], asked: int) -> None:
    assert len(messages) == 2 * asked
    for question, answer in zip(messages[::2], messages[1::2], strict=True):
        assert question["role"] == "user" and answer["role"] == "assistant"
        assert question["content"] in answer["content"]


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_threads_on_one_chat_keep_rounds_whole(kept: str, offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline, db=tmp_path / "a.db" if kept == "file" else None)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [chat] * 32, WAYS[:2] * 16, [f"echo {n}" for n in range(32)]))
    _rounds_are_whole(chat.fetch_messages(), 32)
    assert len({m["content"] for m in chat.fetch_messages()[::2]}) == 32


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_tasks_on_one_chat_keep_rounds_whole(kept: str, offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline, db=tmp_path / "a.db" if kept == "file" else None)

    async def main() -> None:
        async def stream(n: int) -> None:
            async for _ in chat.async_stream_request(f"echo {n}"):
                pass

        await asyncio.gather(
            *(chat.async_request(f"echo {n}") for n in range(25)), *map(stream, range(25, 50))
        )

    asyncio.run(main())
    _rounds_are_whole(chat.fetch_messages(), 50)
    assert any("seen" in r.data.get("answer", {}) for r in chat.events())


def test_chats_on_one_conversation_agree(offline: OfflineServer, tmp_path: Path) -> None:
    chats = [chat_with(offline, db=tmp_path / "a.db", conversation="c") for _ in range(4)]
    stores = [Engine(tmp_path / "a.db", synchronous="NORMAL") for _ in range(2)]  # separate connections
    chats += [Chat(KEY, "m", base_url=offline.base_url, db=engine, conversation="c") for engine in stores]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Chat.request, chats * 6, [f"echo {n}" for n in range(36)]))
    views = [chat.fetch_messages() for chat in chats]
    assert all(view == views[0] for view in views)
    _rounds_are_whole(views[0], 36)
    versions = [record.version for record in chats[0].events()]
    assert versions == list(range(1, len(versions) + 1))
    for chat in chats:
        chat.close()
    for engine in stores:
        engine.close()


def test_each_event_loop_has_one_client(scripted: Scripted) -> None:
    server = scripted(either("yes"))
    one, same = chat_with(server), chat_with(server)

    async def main() -> None:
        for chat in (one, same, one):
            await chat.async_request("hi")
            async for _ in chat.async_stream_request("hi"):
                pass

    asyncio.run(main())
    assert server.connections == 1
    asyncio.run(main())
    assert server.connections == 2


def test_http_client_of_the_caller_stays_open() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        whole = b"".join(piece for piece in completion("hi").pieces if isinstance(piece, bytes))
        return httpx2.Response(200, content=whole)

    own = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    chat = Chat(KEY, "m", base_url="http://there.invalid/v1", http_client=own)
    assert asyncio.run(chat.async_request("hello")) == "hi"
    assert not own.is_closed
    asyncio.run(own.aclose())
