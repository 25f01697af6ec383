"""How a request gets to its server: headers, kept connections, TLS, proxies, and connections that break."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import openai
import pytest

from openai2 import Chat
from openai2.api import clients
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
from tests.support.servers import ScriptedServer, streamed
from tests.support.servers import completion as reply

KEY = "sk-made-up-0123456789abcdef"
#: A certificate for localhost that signs itself, for a hundred years.
TLS = Path(__file__).parents[1] / "support" / "tls"
#: The head of a response that keeps the connection open.
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


# -- Headers and kept connections ---------------------------------------------------------


@ASK
def test_requests_of_a_client_have_the_same_headers(ask: RequestSpec) -> None:
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
    assert 6 < float(three.headers["x-stainless-read-timeout"]) <= 7
    assert two.body["messages"][-1] == {"role": "user", "content": "and a longer one, 中文"}
    assert one.connection == two.connection


def test_chats_share_one_client_per_key(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    original: Any = clients._make  # pyright: ignore[reportPrivateUsage]

    def counted(kind: object, key: str, options: object) -> Any:
        made.append(key)
        return original(kind, key, options)

    monkeypatch.setattr(clients, "_make", counted)
    keys = [f"sk-counting-{number}00000000" for number in range(3)]
    with ScriptedServer(reply("yes")) as server:
        for key in keys * 4:
            Chat(key, "m", base_url=server.base_url).request("a question")
    assert made == keys


@ASK
def test_extra_headers_are_sent_with_their_request_only(ask: RequestSpec) -> None:
    with ScriptedServer(reply("yes")) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        ask(chat, "one")
        with Chat(KEY, "m", base_url=server.base_url, extra_headers={"X-Mine": "1"}) as other:
            ask(other, "two")
        ask(chat, "three")
    assert [asked.headers.get("x-mine") for asked in server.asked] == [None, "1", None]


@ASK
def test_cookies_are_sent_back(ask: RequestSpec) -> None:
    baked = reply("yes")._replace(headers={"Set-Cookie": "biscuit=1; Path=/"})
    with ScriptedServer(baked, reply("yes")) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        ask(chat, "one", "two", "three")
    assert [asked.headers.get("cookie") for asked in server.asked] == [None, "biscuit=1", "biscuit=1"]


@ASK
def test_connection_closed_by_server_is_not_reused(ask: RequestSpec) -> None:
    def patient(chat: Chat, *questions: str) -> list[str]:
        answers: list[str] = []
        for question in questions:
            answers.append(chat.request(question))
            time.sleep(0.05)  # for the end of the connection to arrive
        return answers

    def apatient(chat: Chat, *questions: str) -> list[str]:
        async def main() -> list[str]:
            answers: list[str] = []
            for question in questions:
                answers.append(await chat.async_request(question))
                await asyncio.sleep(0.05)
            return answers

        return asyncio.run(main())

    with Misbehaving([_kept("yes")]) as server:
        chat = Chat(KEY, "m", base_url=server.base_url, max_retries=0)
        assert (patient if ask is _asked else apatient)(chat, "one", "two", "three") == ["yes"] * 3
    assert server.asked == 3


@ASK
def test_informational_responses_are_skipped(ask: RequestSpec) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    with Misbehaving([hints + whole(completion("after all"))]) as server:
        assert ask(Chat(KEY, "m", base_url=server.base_url), "a question") == ["after all"]


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
def test_invalid_response_head_raises(ask: RequestSpec, broken: bytes) -> None:
    with Misbehaving([broken]) as server, pytest.raises(openai.OpenAIError) as caught:
        ask(Chat(KEY, "m", base_url=server.base_url, max_retries=0), "a question")
    if ask is _asked:
        assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)


@ASK
def test_long_response_headers_are_read(ask: RequestSpec) -> None:
    long = whole(completion("yes"), "200 OK", "X-Long: " + "x" * 5_000, "X-Latin: caf\xe9")
    with Misbehaving([long]) as server:
        assert ask(Chat(KEY, "m", base_url=server.base_url), "a question") == ["yes"]


@ASK
def test_header_with_line_end_is_refused(ask: RequestSpec) -> None:
    for name, value in (("X-Mine", "a\r\nX-Other: b"), ("X-Mine", "a\0b")):
        with ScriptedServer(reply("yes")) as server:
            chat = Chat(KEY, "m", base_url=server.base_url, extra_headers={name: value}, max_retries=0)
            with pytest.raises(openai.APIConnectionError) as caught:
                ask(chat, "a question")
        assert isinstance(caught.value.__cause__, httpx2.LocalProtocolError)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert not server.asked


@ASK
def test_user_name_in_base_url_is_sent_as_basic_auth(ask: RequestSpec) -> None:
    with ScriptedServer(reply("yes")) as server:
        address = server.base_url.replace("//", "//me:secret@")
        assert ask(Chat(KEY, "m", base_url=address), "a question") == ["yes"]
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.asked[0].headers["authorization"].startswith("Basic ")


@ASK
def test_unreachable_server_raises_connection_error(ask: RequestSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/v1", "http://nobody.invalid/v1"):
        with pytest.raises(openai.APIConnectionError) as caught:
            ask(Chat(KEY, "m", base_url=address, max_retries=0), "a question")
        assert not isinstance(caught.value, openai.APITimeoutError)
        assert isinstance(caught.value.__cause__, httpx2.ConnectError)
        assert str(caught.value.__cause__).startswith("[Errno ")  # the text of the operating system


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine speaks no IPv6")
@ASK
def test_ipv6_address_is_reached(ask: RequestSpec) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no loopback of IPv6")
    with listener, _answering(listener, _kept("yes")) as heads:
        chat = Chat(KEY, "m", base_url=f"http://[::1]:{listener.getsockname()[1]}/v1")
        assert ask(chat, "a question") == ["yes"]
    assert b"host: [::1]:" in heads[0].lower()


# -- Interrupted connections ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "framed"), [("sync", True), ("sync", False), ("async", False)]
)  # aiohttp drops what it has buffered when the framing breaks
def test_slow_reader_gets_all_text_before_the_cut(way: str, framed: bool) -> None:
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
def test_refusal_before_the_body_is_read_is_raised(ask: RequestSpec) -> None:
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


def test_client_with_open_stream_is_not_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Answer each request on each connection to *listener*; yield the list of received heads."""
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
                continue  # the client rejected the certificate
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
def test_trusted_tls_server_answers(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "cert.pem"))
    with _secure() as (address, heads):
        assert ask(Chat(KEY, "m", base_url=address), "one", "two") == ["in private"] * 2
    assert len(heads) == 2


@ASK
def test_untrusted_tls_server_gets_nothing(ask: RequestSpec) -> None:
    with _secure() as (address, heads), pytest.raises(openai.APIConnectionError) as caught:
        ask(Chat(KEY, "m", base_url=address, max_retries=0), "a question")
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    assert str(caught.value).startswith("Connection error: certificate verify failed: ")
    assert not heads


# -- Proxies and patches -------------------------------------------------------------------------------------


@ASK
def test_proxy_of_the_environment_is_used(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with Misbehaving([whole(completion("by way of a proxy"))]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        assert ask(Chat(KEY, "m", base_url="http://there.invalid/v1"), "a question") == ["by way of a proxy"]
    assert proxy.heads[0].startswith(b"POST http://there.invalid/v1/chat/completions HTTP/1.1")


@ASK
def test_stalled_proxy_times_out(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with Misbehaving([b"HTTP/1.1 200 OK\r\nX-", Sleep(30)]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        with pytest.raises(openai.APITimeoutError):
            ask(Chat(KEY, "m", base_url="http://there.invalid/v1", timeout=0.3, max_retries=0), "a question")


@ASK
def test_patched_transport_sees_every_request(ask: RequestSpec, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_patched_connection_pool_sees_every_request(
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
