"""The ways of a request to its server: kept connections, TLS, proxies, patches, and what breaks."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpcore2
import httpx2
import openai
import pytest

from openai2 import Chat
from openai2.api import clients
from openai2.api.async_transport import AsyncDirect
from openai2.api.transport import Direct
from tests.support.misbehaving_server import (
    EVENTS,
    Misbehaving,
    Sleep,
    chunked,
    completion,
    event,
    head,
    whole,
)
from tests.support.servers import Asked, Reply, ScriptedServer, streamed
from tests.support.servers import completion as reply

KEY = "sk-made-up-0123456789abcdef"
#: A certificate for localhost that signs itself, for a hundred years.
TLS = Path(__file__).parents[1] / "support" / "tls"
#: An answer after which the connection stays.
KEPT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

RequestSpec = Callable[..., list[str]]


def _asked(chat: Chat, *questions: str) -> list[str]:
    return [chat.request(question) for question in questions]


def _awaited(chat: Chat, *questions: str) -> list[str]:
    async def main() -> list[str]:
        return [await chat.async_request(question) for question in questions]

    return asyncio.run(main())


ASK = pytest.mark.parametrize("ask", [pytest.param(_asked, id="sync"), pytest.param(_awaited, id="async")])


def _kept(text: str) -> bytes:
    body = completion(text)
    return KEPT % len(body) + body


# -- What is sent, and over which connection ---------------------------------------------------------


@ASK
def test_a_second_request_says_what_a_first_one_would(ask: RequestSpec) -> None:
    with ScriptedServer(reply("first"), reply("second"), reply("third")) as server:
        with Chat(KEY, "m", base_url=server.base_url) as chat:
            assert ask(chat, "one", "and a longer one, 中文") == ["first", "second"]
        with Chat(KEY, "m", base_url=server.base_url, timeout=7.0) as chat:
            assert ask(chat, "one") == ["third"]
    one, two, three = server.asked
    assert list(one.headers) == list(two.headers) == list(three.headers)
    varying = {"content-length", "x-stainless-read-timeout"}
    for other in (two, three):
        assert {name for name in one.headers if one.headers[name] != other.headers[name]} <= varying
    assert three.headers["x-stainless-read-timeout"] == "7.0" != one.headers["x-stainless-read-timeout"]
    assert two.body["messages"][-1] == {"role": "user", "content": "and a longer one, 中文"}
    assert one.connection == two.connection


@ASK
def test_headers_of_one_request_are_not_those_of_the_next(ask: RequestSpec) -> None:
    with ScriptedServer(reply("yes")) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        ask(chat, "one")
        with Chat(KEY, "m", base_url=server.base_url, extra_headers={"X-Mine": "1"}) as other:
            ask(other, "two")
        ask(chat, "three")
    assert [asked.headers.get("x-mine") for asked in server.asked] == [None, "1", None]


@ASK
def test_a_cookie_goes_back_to_where_it_came_from(ask: RequestSpec) -> None:
    baked = reply("yes")._replace(headers={"Set-Cookie": "biscuit=1; Path=/"})
    with ScriptedServer(baked, reply("yes")) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        ask(chat, "one", "two", "three")
    assert [asked.headers.get("cookie") for asked in server.asked] == [None, "biscuit=1", "biscuit=1"]


@ASK
def test_a_connection_that_the_server_closed_is_not_used_again(ask: RequestSpec) -> None:
    def patient(chat: Chat, *questions: str) -> list[str]:
        said: list[str] = []
        for question in questions:
            said.append(chat.request(question))
            time.sleep(0.05)  # for the end of the connection to arrive
        return said

    def apatient(chat: Chat, *questions: str) -> list[str]:
        async def main() -> list[str]:
            said: list[str] = []
            for question in questions:
                said.append(await chat.async_request(question))
                await asyncio.sleep(0.05)
            return said

        return asyncio.run(main())

    with Misbehaving([_kept("yes")]) as server:
        chat = Chat(KEY, "m", base_url=server.base_url, max_retries=0)
        assert (patient if ask is _asked else apatient)(chat, "one", "two", "three") == ["yes"] * 3
    assert server.asked == 3


def test_connections_that_nobody_needs_any_more_are_closed() -> None:
    all_there = threading.Barrier(5, timeout=30)

    def answer(asked: Asked) -> Reply:
        if asked.body["messages"][-1]["content"] == "together":
            all_there.wait()
        return reply("yes")

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=0.5)
    with ScriptedServer(answer) as server, closing(Direct(limits)) as way:

        def ask(content: str) -> None:
            asked = {"messages": [{"content": content}]}
            answer = way.handle_request(httpx2.Request("POST", server.base_url, json=asked))
            assert answer.status_code == 200
            answer.read()
            answer.close()

        threads = [threading.Thread(target=ask, args=("together",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _until(lambda: server.open == 4)  # one is more than are to be kept
        ask("one")
        assert server.connections == 5
        time.sleep(0.6)
        ask("one more")
        assert server.connections == 6
        _until(lambda: server.open == 1)
    _until(lambda: server.open == 0)


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@ASK
def test_what_a_server_says_beforehand_is_not_its_answer(ask: RequestSpec) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    with Misbehaving([hints + whole(completion("after all"))]) as server:
        assert ask(Chat(KEY, "m", base_url=server.base_url), "a question") == ["after all"]


@ASK
@pytest.mark.parametrize(
    "first",
    [
        _kept("first") + _kept("second, unasked"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunked(completion("first"))
        + _kept("second, unasked"),
    ],
    ids=["by its length", "in chunks"],
)
def test_what_a_server_says_unasked_is_nobodys_answer(ask: RequestSpec, first: bytes) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _answering(listener, first) as heads,
        Chat(KEY, "m", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as chat,
    ):
        try:
            assert ask(chat, "one", "two") == ["first", "first"]
            assert len(heads) == 2
        except openai.APIConnectionError:
            assert ask is _awaited  # aiohttp takes none of it


@ASK
@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nX Odd: 1\r\nContent-Length: 7\r\n\r\nnothing",
        b"HTTP/1.1 200 OK\r\n folded: 1\r\nContent-Length: 7\r\n\r\nnothing",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["a header that is none", "folded before the first", "another protocol"],
)
def test_what_is_no_answer_is_not_taken_for_one(ask: RequestSpec, broken: bytes) -> None:
    with Misbehaving([broken]) as server, pytest.raises(openai.OpenAIError) as caught:
        ask(Chat(KEY, "m", base_url=server.base_url, max_retries=0), "a question")
    if ask is _asked:
        assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)


@ASK
def test_an_answer_is_read_to_its_end_however_long_its_headers_are(ask: RequestSpec) -> None:
    long = whole(completion("yes"), "200 OK", "X-Long: " + "x" * 50_000, "X-Latin: caf\xe9")
    with Misbehaving([long]) as server:
        assert ask(Chat(KEY, "m", base_url=server.base_url), "a question") == ["yes"]


@ASK
def test_a_header_that_would_be_two_is_not_sent(ask: RequestSpec) -> None:
    for name, value in (("X-Mine", "a\r\nX-Other: b"), ("X Mine", "a"), ("X-Mine", "a\0b")):
        with ScriptedServer(reply("yes")) as server:
            chat = Chat(KEY, "m", base_url=server.base_url, extra_headers={name: value}, max_retries=0)
            with pytest.raises(openai.APIConnectionError) as caught:
                ask(chat, "a question")
        assert isinstance(caught.value.__cause__, httpx2.LocalProtocolError)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert not server.asked


@ASK
def test_a_name_in_the_address_is_who_asks(ask: RequestSpec) -> None:
    with ScriptedServer(reply("yes")) as server:
        address = server.base_url.replace("//", "//me:secret@")
        assert ask(Chat(KEY, "m", base_url=address), "a question") == ["yes"]
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.asked[0].headers["authorization"].startswith("Basic ")


@ASK
def test_nobody_there(ask: RequestSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/v1", "http://nobody.invalid/v1"):
        with pytest.raises(openai.APIConnectionError) as caught:
            ask(Chat(KEY, "m", base_url=address, max_retries=0), "a question")
        assert not isinstance(caught.value, openai.APITimeoutError)
        assert isinstance(caught.value.__cause__, httpx2.ConnectError)
        assert str(caught.value.__cause__).startswith("[Errno ")  # the system's words, either way


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine speaks no IPv6")
@ASK
def test_ipv6(ask: RequestSpec) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no loopback of IPv6")
    with listener, _answering(listener, _kept("yes")) as heads:
        chat = Chat(KEY, "m", base_url=f"http://[::1]:{listener.getsockname()[1]}/v1")
        assert ask(chat, "a question") == ["yes"]
    assert b"Host: [::1]:" in heads[0]


# -- Broken in the middle ----------------------------------------------------------------------------


@pytest.mark.parametrize("framed", [True, False], ids=["in chunks", "until the end"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_slow_reader_gets_all_that_came_before_a_connection_broke(way: str, framed: bool) -> None:
    said = [f"{number} " for number in range(200)]
    events = [event(content=word) for word in said]
    opening = head("200 OK", "Transfer-Encoding: chunked", kind="text/event-stream") if framed else EVENTS
    rest = chunked(*events, end=False) if framed else b"".join(events)
    got: list[str] = []
    with Misbehaving([opening, rest]) as server:
        chat = Chat(KEY, "m", base_url=server.base_url, max_retries=0)

        def read() -> None:
            for piece in chat.stream_request("a question"):
                got.append(piece)
                time.sleep(0.1 if len(got) == 1 else 0)

        async def aread() -> None:
            async for piece in chat.async_stream_request("a question"):
                got.append(piece)
                await asyncio.sleep(0.1 if len(got) == 1 else 0)

        with pytest.raises(openai.APIConnectionError):
            read() if way == "sync" else asyncio.run(aread())
    assert "".join(got) == "".join(said)


@ASK
def test_a_server_that_refuses_before_it_has_read_all_is_understood(ask: RequestSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(whole(b'{"error": {"message": "too long"}}', "413 Payload Too Large"))
                connection.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    while connection.recv(1 << 20):
                        pass

        threading.Thread(target=refuse, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(openai.APIStatusError) as caught:
            ask(Chat(KEY, "m", base_url=address, max_retries=0), "x" * 5_000_000)
    assert caught.value.status_code == 413


def test_a_client_that_is_closed_ends_the_streams_that_it_carries() -> None:
    async def main() -> None:
        with Misbehaving([EVENTS, event(content="half"), Sleep(30)]) as server:
            way = AsyncDirect(openai.DEFAULT_CONNECTION_LIMITS)
            answer = await way.handle_async_request(httpx2.Request("POST", server.base_url, content=b"{}"))
            pieces = answer.aiter_bytes()
            assert b"half" in await anext(pieces)
            waiting = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            await way.aclose()
            with pytest.raises(httpx2.TransportError):
                await asyncio.wait_for(waiting, 20)
            await answer.aclose()

    asyncio.run(main())


def test_a_client_that_makes_room_for_others_carries_its_stream_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "MOST_CLIENTS", 1)
    more = threading.Event()

    async def main() -> str:
        stream = [b"data: [DONE]\n\n"]
        first = streamed([event(content="half"), more, event(finish="stop", content=" and half"), *stream])
        with ScriptedServer(first, reply("yes")) as server:
            chat = Chat(KEY, "m", base_url=server.base_url)
            pieces = chat.async_stream_request("a question")
            got = [await anext(pieces)]
            for number in range(3):
                await Chat(f"{KEY}{number}", "m", base_url=server.base_url).async_request("another")
            gc.collect()
            await asyncio.sleep(0)
            more.set()
            return "".join(got + [piece async for piece in pieces])

    assert asyncio.run(main()).startswith("half")


# -- TLS ---------------------------------------------------------------------------------------------


@contextmanager
def _answering(listener: socket.socket, answer: bytes) -> Generator[list[bytes]]:
    """Answers each request on each connection to *listener*; the heads that came are in the list."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            got = b""
            while more := connection.recv(65536):
                got += more
                start, end, body = got.partition(b"\r\n\r\n")
                size = re.search(rb"content-length: *(\d+)", start, re.IGNORECASE)
                if end and size and len(body) >= int(size[1]):
                    heads.append(start)
                    got = b""
                    connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except ssl.SSLError:
                continue  # it did not trust us
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield heads


@contextmanager
def _secure() -> Generator[tuple[str, list[bytes]]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        context.wrap_socket(plain, server_side=True) as listener,
        _answering(listener, _kept("in private")) as heads,
    ):
        yield f"https://localhost:{listener.getsockname()[1]}/v1", heads


@ASK
def test_tls(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "cert.pem"))
    with _secure() as (address, heads):
        assert ask(Chat(KEY, "m", base_url=address), "one", "two") == ["in private"] * 2
    assert len(heads) == 2


@ASK
def test_a_server_that_nobody_vouches_for_is_told_nothing(ask: RequestSpec) -> None:
    with _secure() as (address, heads), pytest.raises(openai.APIConnectionError) as caught:
        ask(Chat(KEY, "m", base_url=address, max_retries=0), "a question")
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    assert "certificate" in str(caught.value.__cause__).lower()
    assert not heads


# -- Ways around -------------------------------------------------------------------------------------


@ASK
def test_a_proxy_is_asked_where_one_is_set(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with Misbehaving([whole(completion("by way of a proxy"))]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        assert ask(Chat(KEY, "m", base_url="http://there.invalid/v1"), "a question") == ["by way of a proxy"]
    assert proxy.heads[0].startswith(b"POST http://there.invalid/v1/chat/completions HTTP/1.1")


@ASK
def test_a_proxy_that_dribbles_is_given_up_in_time(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with Misbehaving([b"HTTP/1.1 200 OK\r\nX-", Sleep(30)]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        with pytest.raises(openai.APITimeoutError):
            ask(Chat(KEY, "m", base_url="http://there.invalid/v1", timeout=0.3, max_retries=0), "a question")


@ASK
def test_who_patched_the_transport_sees_every_request(
    ask: RequestSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def answer(transport: object, request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        return httpx2.Response(200, content=completion("from a patch"))

    async def aanswer(transport: object, request: httpx2.Request) -> httpx2.Response:
        return answer(transport, request)

    with ScriptedServer(reply("from the server")) as server:
        chat = Chat(KEY, "m", base_url=server.base_url)
        assert ask(chat, "one") == ["from the server"]
        with monkeypatch.context() as patched:
            patched.setattr(httpx2.HTTPTransport, "handle_request", answer)
            patched.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", aanswer)
            assert ask(chat, "two") == ["from a patch"]
        assert ask(chat, "three") == ["from the server"]
    assert seen == ["/v1/chat/completions"]


@ASK
def test_who_patched_the_pool_of_connections_sees_every_request(
    ask: RequestSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pool: object, request: object) -> None:
        raise httpcore2.ConnectError("not here")

    monkeypatch.setattr(httpcore2.ConnectionPool, "handle_request", refuse)
    monkeypatch.setattr(httpcore2.AsyncConnectionPool, "handle_async_request", refuse)
    with ScriptedServer(reply("yes")) as server:
        with pytest.raises(openai.APIConnectionError):
            ask(Chat(KEY, "m", base_url=server.base_url, max_retries=0), "a question")
        assert not server.asked


# -- Ends --------------------------------------------------------------------------------------------

LOOPS = {
    "asyncio.run": "asyncio.run(main())",
    "a loop that is only closed": (
        "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close(); del loop"
    ),
    "one client after the other": (
        "clients.MOST_CLIENTS = 1; loop = asyncio.new_event_loop(); loop.run_until_complete(main());"
        " clients.MOST_CLIENTS = 0; loop.run_until_complete(main()); loop.close(); del loop"
    ),
}


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_a_loop_ends_without_a_word(run: str) -> None:
    program = f"""
import asyncio, gc, sys
from openai2 import Chat
from openai2.api import clients
from openai2.api.transport import Direct

async def main():
    chat = Chat({KEY!r}, "m", base_url=sys.argv[1])
    print(await chat.async_request("one"), await chat.async_request("two"))

{run}
gc.collect()
"""
    with ScriptedServer(reply("yes")) as server:
        ran = subprocess.run(
            [sys.executable, "-W", "always", "-c", program, server.base_url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.stdout in ("yes yes\n", "yes yes\n" * 2)
    assert ran.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_connections_of_its_own() -> None:
    program = f"""
import os, sys, threading
from openai2 import Chat
from openai2.api import clients
from openai2.api.transport import Direct

with Chat({KEY!r}, "m", base_url=sys.argv[1]) as chat:
    chat.request("before")
    (known,) = clients._sync_clients.values()
    busy = threading.Thread(target=lambda: known._client._transport._lock.acquire())
    busy.start(); busy.join()  # it holds the lock, and is not there in the child
    child = os.fork()
    if not child:
        with Chat({KEY!r}, "m", base_url=sys.argv[1]) as own:
            own.request("in the child")
        os._exit(0)
    os.waitpid(child, 0)
"""
    with ScriptedServer(reply("yes")) as server:
        subprocess.run([sys.executable, "-c", program, server.base_url], timeout=60, check=True)
    assert [asked.connection for asked in server.asked] == [1, 2]
