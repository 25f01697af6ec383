"""Chats that talk to a scripted or an offline server, in each of the four ways to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from openai2 import Chat, GroupChat
from openai2.offline import OfflineServer
from tests.support import servers
from tests.support.misbehaving_server import Misbehaving
from tests.support.servers import Reply, ScriptedServer, completion, spoken, streamed

KEY = "sk-fake-0123456789abcdefXYZ"
#: The four ways to ask.
WAYS = ("request", "stream", "async", "async stream")
#: Starts a server with these replies.
Scripted = Callable[..., ScriptedServer]


def chat_with(server: ScriptedServer | OfflineServer | Misbehaving, key: Any = KEY, **options: Any) -> Chat:
    options.setdefault("max_retries", 0)
    return Chat(key, "m", base_url=server.base_url, **options)


def ask(chat: Chat | GroupChat, how: str, *args: Any, method: str = "request", **options: Any) -> str:
    """Call `request` or another method of a chat in one of the four ways."""
    prefix = {"request": "", "stream": "stream_", "async": "async_", "async stream": "async_stream_"}[how]
    call = getattr(chat, prefix + method)
    if how == "request":
        return str(call(*args, **options))
    if how == "stream":
        return "".join(call(*args, **options))
    if how == "async":
        return asyncio.run(awaited(call(*args, **options)))

    async def join() -> str:
        return "".join([piece async for piece in call(*args, **options)])

    return asyncio.run(join())


async def awaited(coroutine: Coroutine[Any, Any, str]) -> str:
    return await coroutine


def event_types(chat: Chat) -> list[str]:
    return [record.type for record in chat.events()]


def roles(chat: Chat) -> str:
    return "".join(message["role"][0] for message in chat.fetch_messages())


def either(text: str) -> Callable[[servers.Asked], Reply]:
    """Reply with the text, streamed if the request asks for a stream."""
    return lambda asked: streamed(spoken(text)) if asked.body.get("stream") else completion(text)


def drafts_of(chat: Chat) -> Iterator[Any]:
    with chat.engine.store.reading() as reader:
        yield from reader.drafts()
