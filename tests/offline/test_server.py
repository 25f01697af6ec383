"""The offline server with the client of the SDK: completions, streams, tools, images, refusals, HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.offline import OfflineServer, answer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
    from openai.types.chat.chat_completion import Choice


@pytest.fixture(scope="module")
def client(offline: OfflineServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-any", base_url=offline.base_url, max_retries=0) as client:
        yield client


def messages_of(*texts: str) -> list[ChatCompletionMessageParam]:
    """Return alternating user and assistant messages."""
    return [
        {"role": "assistant", "content": text} if place % 2 else {"role": "user", "content": text}
        for place, text in enumerate(texts)
    ]


def test_completion_has_all_fields(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="any-name", messages=messages_of("自然数50的后面是几?"), n=2, temperature=0.3, top_p=1, seed=7
    )
    assert done.model == "any-name" and done.object == "chat.completion"
    assert done.id.startswith("chatcmpl-")
    assert [(c.index, c.message.content, c.finish_reason) for c in done.choices] == [
        (0, "51", "stop"),
        (1, "51", "stop"),
    ]
    assert done.choices[0].message.role == "assistant"
    assert done.usage is not None
    # 27 bytes of UTF-8 and 4 for the message; 2 bytes in each of two choices.
    counted = (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens)
    assert counted == (9 + 4, 1 + 1, 15)


def test_stream_has_one_character_a_chunk(client: openai.OpenAI) -> None:
    messages = messages_of("世界上最大的海洋是哪个?")
    with client.chat.completions.create(
        model="offline", messages=messages, stream=True, n=2, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    *body, usage = chunks
    assert usage.choices == [] and usage.usage is not None and usage.usage.completion_tokens == 26
    assert all(chunk.usage is None for chunk in body)
    assert len({chunk.id for chunk in chunks}) == 1
    for index in range(2):
        deltas = [chunk.choices[0] for chunk in body if chunk.choices[0].index == index]
        assert deltas[0].delta.role == "assistant" and deltas[0].delta.content == ""
        assert [d.delta.content for d in deltas[1:-1]] == list("世界上最大的海洋是太平洋。")
        assert [d.finish_reason for d in deltas] == [None] * (len(deltas) - 1) + ["stop"]


def test_stream_has_no_usage_unless_asked(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="offline", messages=messages_of("你好"), stream=True) as stream:
        chunks = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8")))
def test_stream_completion_and_rules_agree(client: openai.OpenAI, text: str) -> None:
    messages = messages_of(text)
    whole = client.chat.completions.create(model="offline", messages=messages).choices[0].message.content
    with client.chat.completions.create(model="offline", messages=messages, stream=True) as stream:
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert whole == streamed == answer([{"role": "user", "content": text}])


def test_async_client(offline: OfflineServer) -> None:
    async def talk() -> tuple[list[str | None], str]:
        async with openai.AsyncOpenAI(api_key="k", base_url=offline.base_url, max_retries=0) as client:
            create = client.chat.completions.create
            asking = [create(model="m", messages=messages_of(f"自然数{n}的后面是几?")) for n in range(8)]
            answers = [done.choices[0].message.content for done in await asyncio.gather(*asking)]
            async with await create(
                model="m", messages=messages_of("法国的首都叫什么？"), stream=True
            ) as stream:
                return answers, "".join([c.choices[0].delta.content or "" async for c in stream])

    assert asyncio.run(talk()) == ([str(n + 1) for n in range(8)], "巴黎")


def test_threads_get_their_own_answers(client: openai.OpenAI) -> None:
    def count(start: int) -> list[str]:
        texts = [f"自然数{start}的后面是几?"]
        for _ in range(5):
            done = client.chat.completions.create(model="m", messages=messages_of(*texts))
            texts += [done.choices[0].message.content or "", "再往后呢?"]
        return texts[1::2]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(count, range(0, 800, 100))) == [
            [str(start + step) for step in range(1, 6)] for start in range(0, 800, 100)
        ]


def tool(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def calls_of(choice: Choice) -> list[tuple[str, str]]:
    calls = choice.message.tool_calls or []
    return [(c.function.name, c.function.arguments) for c in calls if c.type == "function"]


@pytest.mark.parametrize(
    ("text", "options", "calls"),
    [
        ("请调用get_weather看看", {}, [("get_weather", "{}")]),
        ('get_weather {"城市": "北京"}', {}, [("get_weather", '{"城市": "北京"}')]),
        ('with {not json} {"a": 1} call now, now', {}, [("now", '{"a": 1}')]),
        ('get_weather {"a": 1}, now {"b": 2}', {}, [("get_weather", '{"a": 1}'), ("now", '{"b": 2}')]),
        ("get_weather, now", {"parallel_tool_calls": False}, [("get_weather", "{}")]),
        ("anything", {"tool_choice": "required"}, [("get_weather", "{}")]),
        ("get_weather", {"tool_choice": {"type": "function", "function": {"name": "now"}}}, [("now", "{}")]),
        ("get_weather_now", {}, []),
        ("get_weather", {"tool_choice": "none"}, []),
    ],
)
def test_tools_in_the_text_are_called(
    client: openai.OpenAI, text: str, options: Any, calls: list[tuple[str, str]]
) -> None:
    request: Any = {
        "model": "m",
        "messages": messages_of(text),
        "tools": [tool("get_weather"), tool("now")],
        **options,
    }
    create: Any = client.chat.completions.create
    done: ChatCompletion = create(**request)
    choice = done.choices[0]
    assert calls_of(choice) == calls
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    assert (choice.message.content is None) == bool(calls)
    with client.chat.completions.stream(**request) as stream:
        last: Choice = stream.get_final_completion().choices[0]
    assert calls_of(last) == calls and last.finish_reason == choice.finish_reason


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [OfflineServer.MODEL] == ["offline"]
    assert client.models.retrieve("any/name").id == "any/name"


def test_images(client: openai.OpenAI) -> None:
    done = client.images.generate(prompt="一只猫", n=2)
    pngs = [base64.b64decode(image.b64_json or "") for image in done.data or ()]
    assert len(set(pngs)) == 2
    width, height = struct.unpack(">II", pngs[0][16:24])
    pixels = zlib.decompress(pngs[0][pngs[0].index(b"IDAT") + 4 : -16])
    assert pngs[0].startswith(b"\x89PNG\r\n\x1a\n") and len(pixels) == height * (1 + 3 * width)
    linked = (client.images.generate(prompt="一只猫", response_format="url").data or [])[0]
    with urllib.request.urlopen(linked.url or "") as response:  # noqa: S310
        assert response.headers["Content-Type"] == "image/png" and response.read() == pngs[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": None}, "messages"),
        ({"model": "m", "messages": "hi"}, "messages"),
        ({"model": "m", "messages": [{"content": "hi"}]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"model": 5, "messages": [{"role": "user", "content": "hi"}]}, "model"),
        ({"messages": [{"role": "user", "content": "hi"}], "n": 0}, "n"),
        ({"messages": [{"role": "user"}], "tool_choice": {"function": {"name": "f"}}}, "tool_choice"),
        ([], None),
        (b"{broken", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_invalid_request_names_the_parameter(offline: OfflineServer, body: Any, param: str | None) -> None:
    status, error = post(offline, "/chat/completions", body)
    assert status == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
    assert error["message"]


def post(offline: OfflineServer, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": "Bearer sk-any", **headers}
    request = urllib.request.Request(offline.base_url + path, data, headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request):  # noqa: S310
        pass
    with caught.value as response:
        assert response.headers["Content-Type"] == "application/json"
        return caught.value.code, json.loads(response.read())["error"]


def test_unknown_path_no_key_and_bad_image_request(offline: OfflineServer, client: openai.OpenAI) -> None:
    hi = {"messages": [{"role": "user", "content": "hi"}]}
    assert post(offline, "/nowhere", hi)[0] == 404
    assert post(offline, "/nowhere", hi)[1]["message"] == "Invalid URL (POST /v1/nowhere)"
    for header in ("", "Bearer", "Bearer  ", "Basic abc"):
        status, error = post(offline, "/chat/completions", hi, Authorization=header)
        assert (status, error["code"]) == (401, "invalid_api_key")
    assert post(offline, "/images/generations", {})[1]["param"] == "prompt"
    assert post(offline, "/images/generations", {"prompt": "x", "response_format": "?"})[1]["param"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[])
    assert caught.value.param == "messages"


def raw(offline: OfflineServer, request: bytes) -> socket.socket:
    _, _, port = offline.base_url.removesuffix("/v1").rpartition(":")
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.sendall(request)
    return connection


def chat_bytes(text: str, version: str = "1.1", **options: object) -> bytes:
    body = json.dumps({"messages": messages_of(text), **options}).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nAuthorization: Bearer sk\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_all(connection: socket.socket) -> bytes:
    with connection, connection.makefile("rb") as file:
        return file.read()


def test_http_responses_to_the_byte(offline: OfflineServer) -> None:
    question = "美国的首都是什么？"
    with raw(offline, chat_bytes(question) * 2) as connection, connection.makefile("rb") as file:
        for _ in range(2):  # on one connection
            headers = {line.partition(b":")[0]: line for line in iter(file.readline, b"\r\n")}
            assert b"HTTP/1.1 200 OK\r\n" in headers
            body = file.read(int(headers[b"Content-Length"].split()[1]))
            assert "华盛顿".encode() in body and b"\\u" not in body
    streamed = read_all(raw(offline, chat_bytes(question, "1.0", stream=True)))
    assert streamed.startswith(b"HTTP/1.1 200 OK\r\n") and streamed.endswith(b"}\n\ndata: [DONE]\n\n")
    assert b"Transfer-Encoding" not in streamed and b'{"content":"' + "华".encode() in streamed


def test_chunked_body_is_read_and_invalid_http_refused(offline: OfflineServer) -> None:
    head, _, rest = chat_bytes("美国的首都是什么？").partition(b"Content-Length")
    body = rest.partition(b"\r\n\r\n")[2]
    chunks = b"".join(b"%X;x=y\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:]))
    framing = b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert "华盛顿".encode() in read_all(raw(offline, head + framing + chunks + b"0\r\nA: b\r\n\r\n"))
    for invalid in (
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nlong\r\n",
        b"nonsense\r\n\r\n",
        b"BREW /v1/models HTTP/1.1\r\n\r\n",
    ):
        refused = read_all(raw(offline, invalid))
        assert b"\r\nConnection: close\r\n" in refused and b'{"error":{' in refused


def test_stored_requests_have_no_keys() -> None:
    with OfflineServer(keep=2) as offline:
        with openai.OpenAI(api_key="sk-secret", base_url=offline.base_url, max_retries=0) as client:
            for text in ("一", "二"):
                client.chat.completions.create(model="m", messages=messages_of(text))
            assert [r.body["messages"][0]["content"] for r in offline.requests] == ["一", "二"]
            assert {r.path for r in offline.requests} == {"/v1/chat/completions"}
            post(offline, "/chat/completions", b"{broken")
            client.models.list(extra_query={"key": "sk-secret"})
        assert offline.requests == [("/v1/chat/completions", "{broken"), ("/v1/models", None)]
        assert "sk-secret" not in repr(offline.requests)


def test_disconnected_clients_log_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    text = "好" * 20_000  # larger than the socket buffers
    with OfflineServer() as offline:
        with raw(offline, chat_bytes(text, stream=True)) as connection:
            assert connection.recv(100)
            reset = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        raw(offline, chat_bytes("你好")[:-5]).close()
        raw(offline, b"").close()
        with openai.OpenAI(api_key="k", base_url=offline.base_url, max_retries=0) as client:
            with client.chat.completions.create(model="m", messages=messages_of(text), stream=True) as stream:
                next(iter(stream))
            assert client.chat.completions.create(model="m", messages=messages_of("你好")).choices
    assert capfd.readouterr() == ("", "")


def test_close_cuts_open_streams() -> None:
    offline = OfflineServer(delay=3600).start()
    with openai.OpenAI(api_key="k", base_url=offline.base_url, max_retries=0) as client:
        with client.chat.completions.create(model="m", messages=messages_of("你好"), stream=True) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"
            offline.close()
            with pytest.raises(openai.APIConnectionError):
                list(stream)
        with pytest.raises(openai.APIConnectionError):
            client.models.list()


def test_start_and_close_are_idempotent() -> None:
    offline = OfflineServer()
    offline.close()
    with pytest.raises(RuntimeError):
        _ = offline.base_url
    assert offline.start() is offline.start()
    with offline:
        url = offline.base_url
    offline.close()
    assert offline.base_url == url
    with offline, openai.OpenAI(api_key="k", base_url=offline.base_url, max_retries=0) as client:
        assert client.models.list().data


def test_import_loads_no_client() -> None:
    code = (
        "import sys, openai2.offline; print([m for m in ('openai', 'httpx2', 'sqlite3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
