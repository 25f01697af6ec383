"""The exception and the cause that each fault of the network leads to, in threads and over aiohttp alike."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import openai
import pytest

from openai2 import Chat
from tests.support.chats import WAYS, ask
from tests.support.misbehaving_server import (
    Misbehaving,
    Reset,
    Script,
    Sleep,
    chunked,
    completion,
    event,
    head,
)

KEY = "sk-made-up-0123456789abcdef"


CHUNKS = head("200 OK", "Transfer-Encoding: chunked")
STREAM = head("200 OK", "Transfer-Encoding: chunked", kind="text/event-stream")
FAULTS: dict[str, tuple[Script, type[httpx2.TransportError]]] = {
    "reset before the head": ([Reset()], httpx2.TransportError),
    "closed before the head": ([], httpx2.RemoteProtocolError),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], httpx2.RemoteProtocolError),
    "reset in the body": (
        [head("200 OK", "Content-Length: 999") + completion()[:50], Sleep(0.05), Reset()],
        httpx2.TransportError,
    ),
    "closed in the body": (
        [head("200 OK", "Content-Length: 999") + completion()[:50]],
        httpx2.RemoteProtocolError,
    ),
    "bad chunk": ([CHUNKS + b"zz\r\nwhat\r\n"], httpx2.RemoteProtocolError),
    "missing chunk": ([CHUNKS + chunked(completion(), end=False)], httpx2.RemoteProtocolError),
    "reset in a stream": (
        [STREAM, chunked(event(content="half"), end=False), Sleep(0.05), Reset()],
        httpx2.TransportError,
    ),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", FAULTS)
def test_broken_connection_is_a_connection_error(how: str, kind: str) -> None:
    script, cause = FAULTS[kind]
    with (
        Misbehaving(script) as server,
        Chat(KEY, "m", base_url=server.base_url, max_retries=0) as chat,
        pytest.raises(openai.APIConnectionError) as caught,
    ):
        ask(chat, how, "a question")
    assert type(caught.value) is openai.APIConnectionError
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("how", WAYS)
def test_refused_connection_is_a_connection_error(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(Chat(KEY, "m", base_url=address, max_retries=0), how, "a question")
    assert type(caught.value) is openai.APIConnectionError
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("read", [0.2, None], ids=["read timeout", "deadline"])
def test_silent_server_is_a_timeout(how: str, read: float | None) -> None:
    timeout = httpx2.Timeout(20, read=read) if read else 0.2
    with (
        Misbehaving([Sleep(60)]) as server,
        Chat(KEY, "m", base_url=server.base_url, max_retries=0, timeout=timeout) as chat,
        pytest.raises(openai.APITimeoutError) as caught,
    ):
        ask(chat, how, "a question")
    assert isinstance(caught.value.__cause__, (httpx2.TimeoutException, TimeoutError))


def test_cancelled_request_is_recorded_and_raised() -> None:
    async def main() -> None:
        asked = asyncio.ensure_future(chat.async_request("a question"))
        await asyncio.wait([asked], timeout=0.5)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    with Misbehaving([Sleep(60)]) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        asyncio.run(main())
        assert [record.type for record in chat.events()][-1] == "request_stopped"
