"""Chat beyond the tutorial: options, shapes of answers, failures, early leaving, concurrency, bad input."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
import pytest

from openai2 import (
    AKPool,
    BadInput,
    Chat,
    Engine,
    GroupChat,
    Multimodal_Part,
    NewerStore,
    NoIndex,
    NoKey,
    NoRoom,
    NotAMessage,
    NotAStore,
    Openai2Error,
    Refused,
    StoreError,
    StoreUnavailable,
    UnknownConversation,
    UnknownVersion,
    system_msg,
    user_msg,
)
from openai2.api import options
from openai2.core import decisions
from openai2.core.request_events import RequestSpec
from openai2.offline import OfflineServer
from openai2.request.effects import Open
from tests.support import servers
from tests.support.servers import Reply, ScriptedServer, completion, delta, error, spoken, sse, streamed

KEY = "sk-fake-0123456789abcdefXYZ"
WAYS = ("request", "stream", "async", "async stream")


@pytest.fixture(scope="module")
def offline() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    """Scripted servers that are closed at the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda *replies: stack.enter_context(ScriptedServer(*replies))


def chat_with(server: ScriptedServer | OfflineServer, key: Any = KEY, **options: Any) -> Chat:
    options.setdefault("max_retries", 0)
    return Chat(key, "m", base_url=server.base_url, **options)


def ask(chat: Chat, how: str, *args: Any, **options: Any) -> str:
    """One request, in any of the four ways."""
    if how == "request":
        return chat.request(*args, **options)
    if how == "stream":
        return "".join(chat.stream_request(*args, **options))
    if how == "async":
        return asyncio.run(_awaited(chat.async_request(*args, **options)))

    async def join() -> str:
        return "".join([piece async for piece in chat.async_stream_request(*args, **options)])

    return asyncio.run(join())


async def _awaited(coroutine: Coroutine[Any, Any, str]) -> str:
    return await coroutine


def types(chat: Chat) -> list[str]:
    return [record.type for record in chat.events()]


def roles(chat: Chat) -> str:
    return "".join(message["role"][0] for message in chat.fetch_messages())


# -- Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_options_of_the_chat_and_of_the_call_reach_the_server(
    how: str, scripted: Callable[..., ScriptedServer]
) -> None:
    server = scripted(_either("yes"))
    chat = chat_with(
        server,
        default_headers={"X-Chat": "c"},
        default_query={"q": "1"},
        organization="org-1",
        temperature=0.5,
        seed=1,
        user="chat",
    )
    ask(
        *(chat, how, "hi"),
        seed=2,
        model="other",
        top_p=0.1,
        extra_headers={"X-Call": "d"},
        extra_query={"r": "2"},
        extra_body={"unheard": [1]},
        timeout=20.0,
    )
    ask(chat, how, "ho")
    first, second = (asked.body for asked in server.asked)
    assert (first["seed"], first["model"], first["top_p"], first["temperature"]) == (2, "other", 0.1, 0.5)
    assert (first["user"], first["unheard"]) == ("chat", [1])
    assert (second["seed"], second["model"], second.get("top_p")) == (1, "m", None)
    assert first.get("stream", False) == ("stream" in how)
    headers = server.asked[0].headers
    assert (headers["x-chat"], headers["x-call"]) == ("c", "d")
    assert headers["authorization"] == f"Bearer {KEY}" and headers["openai-organization"] == "org-1"
    assert server.asked[0].path == "/v1/chat/completions?q=1&r=2"
    assert "x-call" not in server.asked[1].headers
    options = [record.data["options"] for record in chat.events() if record.type == "request_started"]
    assert options[0] == {**options[1], "seed": 2, "top_p": 0.1, "extra_body": {"unheard": [1]}}
    assert not any(word in str(options) for word in ("X-Call", "timeout", KEY))


def _either(text: str) -> Callable[[servers.Asked], Reply]:
    """The text, streamed or whole, as it was asked for."""
    return lambda asked: streamed(spoken(text)) if asked.body.get("stream") else completion(text)


def test_api_base_is_base_url(offline: OfflineServer) -> None:
    chat = Chat(KEY, api_base=offline.base_url)
    assert chat.request("自然数1的后面是几?") == "2"


def test_the_environment_names_key_and_address(
    offline: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", offline.base_url)
    assert Chat().request("自然数1的后面是几?") == "2"


def test_each_request_goes_where_the_environment_then_says(
    scripted: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = scripted(completion("one")), scripted(completion("two"))
    monkeypatch.setenv("OPENAI_BASE_URL", first.base_url)
    chat = Chat(KEY)
    assert chat.request("a") == "one"
    monkeypatch.setenv("OPENAI_BASE_URL", second.base_url)
    assert chat.request("b") == "two"
    monkeypatch.setattr(os, "environ", {**os.environ, "OPENAI_BASE_URL": first.base_url})
    assert chat.request("c") == "one"


def test_a_key_can_be_a_function(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(completion("yes"))
    given = iter(["sk-fake-1111111111111111", "sk-fake-2222222222222222"])
    chat = chat_with(server, lambda: next(given))
    chat.request("a")
    chat.request("b")
    assert [asked.headers["authorization"][-4:] for asked in server.asked] == ["1111", "2222"]


def test_an_sdk_not_given_is_not_given(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(completion("yes"))
    chat_with(server, temperature=openai.NOT_GIVEN).request("a", seed=openai.omit)
    assert set(server.asked[0].body) == {"messages", "model"}


def test_msg_max_count_is_the_limit_too(offline: OfflineServer) -> None:
    chat = chat_with(offline, msg_max_count=2)
    for text in ("a", "b", "c"):
        chat.request(text)
    assert len(chat.fetch_messages()) == 2
    assert len(offline.requests[-1].body["messages"]) <= 2


@pytest.mark.parametrize("how", WAYS)
def test_an_option_nobody_knows(how: str, offline: OfflineServer) -> None:
    chat = chat_with(offline)
    before = len(offline.requests)
    with pytest.raises(TypeError, match="temprature"):
        ask(chat, how, "hi", temprature=1)
    with pytest.raises(TypeError, match="stream"):
        ask(chat, how, "hi", stream=True)
    assert chat.version == 0 and len(offline.requests) == before


@pytest.mark.parametrize("options", [{"nosuch": 1}, {"stream": True}, {"messages": []}], ids=str)
def test_an_option_that_no_request_could_take_is_told_at_once(options: Any, tmp_path: Path) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=name):
        Chat(KEY, db=tmp_path / "log.db", **options)
    assert not [*tmp_path.iterdir()]


def test_a_group_is_asked_for_pairs() -> None:
    with GroupChat(KEY) as group:
        with pytest.raises(BadInput, match="got NoneType"):
            group.request(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert group.version == 0


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_names_no_conversation(name: str) -> None:
    with Engine() as engine, pytest.raises(UnknownConversation, match="empty"):
        engine.open(name)


def test_what_is_taken_for_an_option_unasked_is_one() -> None:
    taken = options._COMMON  # pyright: ignore[reportPrivateUsage]
    assert not taken - options._create_names()  # pyright: ignore[reportPrivateUsage]


def test_a_chat_with_options_is_made_without_the_package() -> None:
    made = "import sys, openai2; openai2.Chat('sk-0', temperature=0.5); sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", made], check=False).returncode == 0


# -- What is asked -----------------------------------------------------------------------------------


def test_text_and_images_in_one_request(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("what is this?", Multimodal_Part.jpeg(b"\xff\xd8"), Multimodal_Part.text("and this?"))
    expected = {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8").decode()},
            },
            {"type": "text", "text": "and this?"},
        ],
    }
    assert offline.requests[-1].body["messages"] == [expected]
    assert chat.fetch_messages()[0] == expected
    assert Multimodal_Part.png(b"x")["image_url"]["url"].startswith("data:image/png;base64,")
    with pytest.raises(TypeError, match="bytes"):
        Multimodal_Part.png("a path")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_messages_follow_the_text(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("one", messages=[system_msg("two"), user_msg("three")])
    assert [m["content"] for m in offline.requests[-1].body["messages"]] == ["one", "two", "three"]
    assert roles(chat) == "usua"
    chat.request(messages=[user_msg("four")])
    assert roles(chat) == "usuaua"


@pytest.mark.parametrize("how", WAYS)
def test_tool_calls_go_round(how: str, offline: OfflineServer) -> None:
    chat = chat_with(offline)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert ask(chat, how, 'weather {"city": "Ulm"}', tools=tools) == ""
    called = chat.fetch_messages()[-1]
    assert called["role"] == "assistant" and called["content"] is None
    (call,) = called["tool_calls"]
    assert set(call) == {"id", "type", "function"}
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Ulm"}'}
    chat.add_dialogs({"role": "tool", "tool_call_id": call["id"], "content": "rain"})
    assert "rain" in ask(chat, how, tools=tools)
    assert offline.requests[-1].body["messages"] == chat.fetch_messages()[:-1]
    assert roles(chat) == "uata"


def test_a_request_with_nothing_to_ask(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    with pytest.raises(BadInput, match="nothing to ask"):
        chat.request()
    assert chat.version == 0


# -- What is answered --------------------------------------------------------------------------------

UNUSUAL: dict[str, dict[str, Any]] = {
    "refusal": {"role": "assistant", "content": None, "refusal": "I will not."},
    "null content": {"role": "assistant", "content": None},
    "audio": {"role": "assistant", "content": None, "audio": {"id": "a1", "data": "AAAA", "expires_at": 1}},
    "unknown": {"role": "assistant", "content": "x", "invented": {"deep": [1, 2.5, None, {"a": "b"}]}},
    "parts": {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
    "citations": {"role": "assistant", "content": "x", "annotations": [{"type": "url_citation"}]},
    "other role": {"role": "model", "content": "x"},
    "nul and odd characters": {"role": "assistant", "content": "a\x00b\u2028\U0001f600\x1b[31m"},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_answers_survive_verbatim(
    kind: str, scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    server = scripted(completion(UNUSUAL[kind]), completion("next"))
    chat = chat_with(server, db=tmp_path / "a.db", conversation="c")
    chat.request("hi")
    assert chat.fetch_messages()[-1] == UNUSUAL[kind]
    chat.request("again")
    assert server.asked[-1].body["messages"][1] == UNUSUAL[kind]
    chat.close()
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as later:
        assert later.fetch_messages()[1] == UNUSUAL[kind]


def test_null_fields_are_left_out(scripted: Callable[..., ScriptedServer]) -> None:
    full: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
    }
    chat = chat_with(scripted(completion(full)))
    chat.request("hi")
    assert chat.fetch_messages()[-1] == {"role": "assistant", "content": "x"}


def test_further_choices_are_kept(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(
        completion("one", "two", "three"),
        streamed(
            sse(
                delta(0, content="o"),
                delta(1, content="t"),
                delta(0, content="ne"),
                delta(1, content="wo"),
                delta(0, finish="stop"),
                delta(1, finish="length"),
            )
        ),
    )
    chat = chat_with(server)
    assert chat.request("hi", n=3) == "one"
    assert "".join(chat.stream_request("hi", n=2)) == "one"
    answers = [record.data["answer"] for record in chat.events() if "answer" in record.data]
    assert [choice["message"]["content"] for choice in answers[0]["choices"]] == ["two", "three"]
    assert answers[1]["choices"] == [
        {"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "length"}
    ]
    assert roles(chat) == "uaua"


@pytest.mark.parametrize("how", WAYS)
def test_an_answer_says_what_an_auditor_wants(how: str, offline: OfflineServer) -> None:
    pool = AKPool([KEY])
    chat = chat_with(offline, pool)
    ask(chat, how, "自然数1的后面是几?")
    answer = [*chat.events()][-1].data["answer"]
    assert answer["model"] == "m" and answer["finish_reason"] == "stop"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["key"] == pool.status()[0].fingerprint
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    assert answer["seconds"] > 0
    assert pool.status()[0].completion_tokens == answer["usage"]["completion_tokens"]


def test_reasoning_is_on_record_and_not_sent_back(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(
        completion({"role": "assistant", "content": "4", "reasoning_content": "2+2"}),
        streamed(sse(delta(reasoning_content="2+"), delta(reasoning_content="3"), delta(content="5"))),
        completion("done"),
    )
    chat = chat_with(server)
    chat.request("two and two?")
    assert list(chat.stream_request("two and three?")) == ["5"]
    assert [r.data["answer"]["reasoning"] for r in chat.events() if "answer" in r.data] == ["2+2", "2+3"]
    chat.request("more")
    sent = json.dumps(server.asked[-1].body)
    assert "2+" not in sent and "reasoning" not in sent


# -- Clients -----------------------------------------------------------------------------------------


def test_one_client_per_key_and_options(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(_either("yes"))
    one, same = chat_with(server), chat_with(server)
    for chat in (one, same, one):
        chat.request("hi")
        list(chat.stream_request("hi"))
    assert server.connections == 1
    chat_with(server, "sk-fake-another-0123456789").request("hi")
    assert server.connections == 2
    chat_with(server, timeout=17.0).request("hi")
    assert server.connections == 3
    one.close()
    same.request("hi")  # closing a chat closes nobody else's client
    assert server.connections == 3


def test_one_async_client_per_loop(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(_either("yes"))
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


# -- Failures ----------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Reply, type[openai.OpenAIError]]] = {
    "400": (error(400, "no such model", "model_not_found"), openai.BadRequestError),
    "401": (error(401, f"Incorrect API key provided: {KEY}."), openai.AuthenticationError),
    "403": (error(403, "not here"), openai.PermissionDeniedError),
    "404": (error(404, "gone"), openai.NotFoundError),
    "409": (error(409, "busy"), openai.ConflictError),
    "422": (error(422, "odd"), openai.UnprocessableEntityError),
    "429": (error(429, "slow down", "rate_limit_exceeded"), openai.RateLimitError),
    "500": (error(500, "oops"), openai.InternalServerError),
    "503 page": (
        Reply(503, [b"<html>busy</html>"], {"Content-Type": "text/html"}),
        openai.InternalServerError,
    ),
    "broken JSON": (Reply(200, [b'{"choices": [']), openai.APIConnectionError),
    "no JSON": (Reply(200, [b"<html>"], {"Content-Type": "text/html"}), openai.APIConnectionError),
    "bad UTF-8": (Reply(200, [b'{"choices": "\xff"}']), openai.APIConnectionError),
    "empty": (Reply(200, []), openai.APIConnectionError),
    "no choices": (servers.body({"choices": []}), openai.APIConnectionError),
    "error in 200": (servers.body({"error": {"message": "over capacity"}}), openai.APIError),
    "cut": (Reply(200, [b'{"choices": [{"mess'], cut=True), openai.APIConnectionError),
    "deep": (Reply(200, [b"[" * 100_000]), openai.APIConnectionError),
}
STREAM_FAILURES: dict[str, tuple[Reply, type[openai.OpenAIError], str]] = {
    "no end": (streamed(spoken("half", None, done=False)), openai.APIConnectionError, "half"),
    "cut": (streamed(spoken("half", None, done=False), cut=True), openai.APIConnectionError, "half"),
    "error inside": (
        streamed(
            [*spoken("half", None, done=False), *sse({"error": {"message": "overloaded", "code": 500}})]
        ),
        openai.APIError,
        "half",
    ),
    "broken JSON": (
        streamed([*spoken("half", None, done=False), b"data: {nonsense\n\n"]),
        openai.APIConnectionError,
        "half",
    ),
    "bad UTF-8": (
        streamed(
            [
                *spoken("half", None, done=False),
                b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
            ]
        ),
        openai.APIConnectionError,
        "half",
    ),
    "nothing": (streamed([]), openai.APIConnectionError, ""),
    "only done": (streamed(sse()), openai.APIConnectionError, ""),
}


def _check_failed(chat: Chat, before: list[Any], failure: Any, kind: type[openai.OpenAIError]) -> Any:
    assert chat.fetch_messages() == before
    assert types(chat)[-3:] == ["request_started", "message_added", "request_failed"]
    started, question, failed = [*chat.events()][-3:]
    assert question.data["message"] == {"role": "user", "content": "and this?"}
    assert question.data["request"] == failed.data["request"] == started.version
    assert failed.data["error"] == type(failure).__name__ and issubclass(type(failure), kind)
    assert failed.data.get("status") == getattr(failure, "status_code", None)
    assert failed.data["message"] and KEY not in str(failed.data)
    assert chat.interrupted() == [] and not [*_drafts(chat)]
    return failed


def _drafts(chat: Chat) -> Iterator[Any]:
    with chat.engine.store.reading() as reader:
        yield from reader.drafts()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_leaves_the_view_and_is_on_record(
    kind: str, how: str, scripted: Callable[..., ScriptedServer]
) -> None:
    reply, expected = FAILURES[kind]
    chat = chat_with(scripted(_either("first"), reply, _either("third")))
    ask(chat, how, "hi")
    before = chat.fetch_messages()
    with pytest.raises(expected) as failure:
        ask(chat, how, "and this?")
    _check_failed(chat, before, failure.value, expected)
    if how == "request":
        assert chat.retry() == "third"
        assert chat.fetch_messages()[2:] == [user_msg("and this?"), {"role": "assistant", "content": "third"}]
    else:
        assert ask(chat, how, "go on") == "third"
        assert roles(chat) == "uaua"


@pytest.mark.parametrize("how", ["stream", "async stream"])
@pytest.mark.parametrize("kind", STREAM_FAILURES)
def test_a_stream_that_fails_leaves_the_view(
    kind: str, how: str, scripted: Callable[..., ScriptedServer]
) -> None:
    reply, expected, came = STREAM_FAILURES[kind]
    server = scripted(_either("first"), reply, _either("third"))
    chat = chat_with(server, AKPool([KEY, "sk-fake-second-0123456789"]))
    ask(chat, how, "hi")
    before = chat.fetch_messages()
    with pytest.raises(expected) as failure:
        ask(chat, how, "and this?")
    failed = _check_failed(chat, before, failure.value, expected)
    if came:  # nothing is asked again once a piece was handed out
        assert failed.data["partial"] == {"role": "assistant", "content": came}
        assert len(server.asked) == 2
    else:
        assert "partial" not in failed.data


def test_an_unreachable_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    chat = Chat(KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        chat.request("hi")
    assert types(chat) == ["created", "request_started", "message_added", "request_failed"]


def test_a_slow_server(scripted: Callable[..., ScriptedServer]) -> None:
    never = threading.Event()
    server = scripted(streamed([never]), Reply(200, [never]))
    chat = chat_with(server, timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        list(chat.stream_request("hi"))
    with pytest.raises(openai.APITimeoutError):
        chat.request("hi")
    never.set()
    assert chat.fetch_messages() == []


def test_the_clients_own_retries_serve_a_single_key(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(error(500, "once", Retry_After_Ms="1"), completion("yes"))
    assert chat_with(server, max_retries=1).request("hi") == "yes"
    assert len(server.asked) == 2


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_pool_tries_its_other_keys(status: int, how: str, scripted: Callable[..., ScriptedServer]) -> None:
    good = "sk-fake-good-0123456789"

    def script(asked: servers.Asked) -> Reply:
        paid = asked.headers["authorization"]
        return _either("yes")(asked) if paid == f"Bearer {good}" else error(status, "no")

    server = scripted(script)
    bad = [f"sk-fake-bad-{number}-0123456789" for number in range(3)]
    chat = chat_with(server, AKPool([*bad, good]), max_retries=5)
    assert ask(chat, how, "hi") == "yes"
    assert len(server.asked) == 4
    answer = [*chat.events()][-1].data["answer"]
    assert [attempt["status"] for attempt in answer["attempts"]] == [status] * 3


def test_no_key(offline: OfflineServer) -> None:
    chat = Chat(base_url=offline.base_url)
    with pytest.raises(NoKey, match="OPENAI_API_KEY"):
        chat.request("hi")
    assert chat.version == 0
    chat.reset_api_key(KEY)
    chat.request("hi")


# -- Keys stay out of everything ---------------------------------------------------------------------


def _traces(error: BaseException) -> Iterator[str]:
    """All that a logger, a debugger or a curious person would print of an exception."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        value = todo.pop()
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        yield repr(value)
        if isinstance(value, BaseException):
            yield str(value)
            yield "".join(traceback.format_exception(value))
            todo += [value.__cause__, value.__context__, *value.args, *vars(value).values()]
        for name in ("headers", "content", "text", "url", "request", "response", "body"):
            with contextlib.suppress(Exception):
                todo.append(getattr(value, name, None))
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value
        elif callable(pairs := getattr(value, "multi_items", None)):
            todo.append(list(cast(Iterable[Any], pairs())))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", ["401", "echo", "stream echo", "error inside", "broken", "headers"])
def test_no_key_anywhere(
    kind: str, pooled: bool, how: str, scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    split = len(KEY) // 2
    echo = [delta(content="your key is "), delta(content=KEY[:split]), delta(content=KEY[split:])]
    replies = {
        "401": error(401, f"Incorrect API key provided: {KEY}.", KEY, X_Echo=KEY),
        "echo": _either(f"your key is {KEY}"),
        "stream echo": streamed(sse(*echo, delta(finish="stop"))),
        "error inside": streamed(
            sse(*echo, {"error": {"message": f"bad {KEY}", "code": KEY, "param": [KEY]}})
        ),
        "broken": Reply(200, [f"<p>{KEY}".encode()]),
        "headers": Reply(500, [b"no"], {"Set-Cookie": f"key={KEY}", "X-Echo": KEY}),
    }
    server = scripted(replies[kind])
    chat = chat_with(server, AKPool([KEY]) if pooled else KEY, db=tmp_path / "a.db")
    seen: list[str] = [repr(chat), repr(chat.__dict__)]
    try:
        ask(chat, how, "hi")
    except Exception as failure:  # noqa: BLE001 - each of them is looked through
        seen += _traces(failure)
    seen += [repr(chat.fetch_messages()), repr([*chat.events()])]
    chat.close()
    assert KEY not in "".join(seen)
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("key", ["sk-line\n", " sk-space", "sk-sch\u00f6n", "sk-\x00", "", 5])
def test_a_key_that_cannot_be_sent(key: Any, tmp_path: Path) -> None:
    with pytest.raises((BadInput, TypeError)) as failure:
        Chat(key, db=tmp_path / "a.db")
    if isinstance(key, str) and key:
        assert "".join(_traces(failure.value)).count(key) == 0


# -- Leaving early -----------------------------------------------------------------------------------


def test_a_stream_left_early_keeps_what_came(scripted: Callable[..., ScriptedServer]) -> None:
    gate = threading.Event()
    server = scripted(streamed([*spoken("half", None, done=False), gate, *spoken("more")]), _either("next"))
    chat = chat_with(server)
    came = ""
    for piece in chat.stream_request("hi"):
        came += piece
        if came == "half":
            break
    gate.set()
    gc.collect()
    assert chat.fetch_messages() == [user_msg("hi"), {"role": "assistant", "content": "half"}]
    added, stopped = [*chat.events()][-2:]
    assert added.data["answer"]["stopped"] is True
    assert stopped.type == "request_stopped" and stopped.data["kept"] is True
    assert not [*_drafts(chat)]
    assert chat.request("go on") == "next"
    assert chat.retry() == "next"


def test_a_stream_left_before_anything_came(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    stream = chat.stream_request("hi")
    del stream
    assert chat.version == 0  # it never began
    chat.stream_request("hi").close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert chat.version == 0


class Walked:
    """A coroutine that is cancelled at its n-th suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int) -> None:
        self._coroutine = coroutine
        self._at = at

    def __await__(self) -> Generator[Any, None, Any]:
        inner = self._coroutine.__await__()
        place = 0
        error: BaseException | None = None
        while True:
            try:
                waiting = inner.send(None) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            if place == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            place += 1
            error = None
            try:
                yield waiting
            except BaseException as thrown:  # noqa: BLE001 - handed on to the coroutine
                error = thrown


@pytest.mark.parametrize("streams", [False, True])
def test_a_task_cancelled_at_every_await(
    streams: bool, scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    server = scripted(_either("six"))
    db = tmp_path / "a.db"
    ends: set[str] = set()

    async def consume(chat: Chat, came: list[str]) -> None:
        if not streams:
            came.append(await chat.async_request("hi"))
            return
        async for piece in chat.async_stream_request("hi"):
            came.append(piece)  # noqa: PERF401 - what came before the cancellation counts

    async def main(at: int) -> bool:
        chat = chat_with(server, db=db)
        came: list[str] = []

        async def walk() -> None:
            await Walked(consume(chat, came), at)

        try:
            await asyncio.get_running_loop().create_task(walk())
            finished = True
        except asyncio.CancelledError:
            finished = False
        assert not [*_drafts(chat)], f"cancelled at {at}: a request is left open"
        messages = chat.fetch_messages()
        last = types(chat)[-1:]
        ends.update(last)
        if messages:
            assert messages[0] == user_msg("hi") and len(messages) == 2
            assert messages[1]["content"].startswith("".join(came))
        else:
            assert last in ([], ["created"], ["request_stopped"])
            assert came == []
        if finished:
            assert "".join(came) == "six" == messages[1]["content"]
        assert await chat.async_request("again") == "six"
        await chat.aclose()
        return finished

    finished = [asyncio.run(main(at)) for at in range(12)]
    assert {"request_stopped", "message_added"} <= ends
    assert not all(finished)
    with Engine(db) as engine:
        assert all(line.messages >= 2 for line in engine.conversations())


# -- Closing -----------------------------------------------------------------------------------------


def test_with_and_async_with(offline: OfflineServer, tmp_path: Path) -> None:
    with chat_with(offline, db=tmp_path / "a.db") as chat:
        chat.request("hi")
        store = chat.engine.store
    with pytest.raises(StoreError, match="closed"):
        store.append("x", 0, [])
    chat.close()  # twice is fine

    async def main() -> Chat:
        async with chat_with(offline, db=tmp_path / "a.db") as other:
            await other.async_request("hi")
        return other

    other = asyncio.run(main())
    with pytest.raises(StoreError, match="closed"):
        other.request("hi")
    assert not (tmp_path / "a.db-wal").exists()  # the last to close tidies up


def test_a_chat_that_is_forgotten_lets_go_of_its_store(offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline, db=tmp_path / "a.db")
    chat.request("hi")
    store = chat.engine.store
    del chat
    gc.collect()
    with pytest.raises(StoreError, match="closed"):
        store.append("x", 0, [])


def test_chats_on_one_file_share_a_store(offline: OfflineServer, tmp_path: Path) -> None:
    one = chat_with(offline, db=tmp_path / "a.db", conversation="c")
    two = chat_with(offline, db=f"sqlite:///{tmp_path / 'a.db'}", conversation="c")
    assert one.engine.store is two.engine.store
    fork = one.fork() if one.version else None
    one.request("hi")
    assert two.fetch_messages() == one.fetch_messages() != []
    fork = one.fork("f")
    one.close()
    two.close()
    fork.request("more")
    fork.close()


# -- Threads and tasks -------------------------------------------------------------------------------


def _rounds_are_whole(messages: list[dict[str, Any]], asked: int) -> None:
    assert len(messages) == 2 * asked
    for question, answer in zip(messages[::2], messages[1::2], strict=True):
        assert question["role"] == "user" and answer["role"] == "assistant"
        assert question["content"] in answer["content"]


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_threads_on_one_chat(kept: str, offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline, db=tmp_path / "a.db" if kept == "file" else None)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [chat] * 32, WAYS[:2] * 16, [f"echo {n}" for n in range(32)]))
    _rounds_are_whole(chat.fetch_messages(), 32)
    assert len({m["content"] for m in chat.fetch_messages()[::2]}) == 32


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_tasks_on_one_chat(kept: str, offline: OfflineServer, tmp_path: Path) -> None:
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


def test_several_chats_on_one_conversation(offline: OfflineServer, tmp_path: Path) -> None:
    chats = [chat_with(offline, db=tmp_path / "a.db", conversation="c") for _ in range(4)]
    stores = [Engine(tmp_path / "a.db", synchronous="NORMAL") for _ in range(2)]  # files of their own
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


def test_a_round_answered_on_an_older_view_says_so(scripted: Callable[..., ScriptedServer]) -> None:
    chat: Chat

    def meanwhile(asked: servers.Asked) -> Reply:
        chat.add_dialogs(user_msg("meanwhile"))
        return completion("yes")

    chat = chat_with(scripted(meanwhile))
    chat.add_dialogs(user_msg("before"))
    chat.request("hi")
    assert [m["content"] for m in chat.fetch_messages()] == ["before", "meanwhile", "hi", "yes"]
    answered = [*chat.events()][-1]
    assert answered.data["answer"]["seen"] == 2


# -- Retry, versions, forks --------------------------------------------------------------------------


def test_retry(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(completion("one"), completion("two"), error(500, "no"), completion("three"))
    chat = chat_with(server)
    with pytest.raises(Refused, match="no question"):
        chat.retry()
    assert chat.version <= 1
    chat.request("hi")
    assert chat.retry() == "two"
    assert server.asked[-1].body["messages"] == [user_msg("hi")]
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "two"]
    with pytest.raises(openai.InternalServerError):
        chat.retry()
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "two"]
    assert chat.retry() == "three"
    assert [m["content"] for m in chat.fetch_messages()] == ["hi", "three"]
    answers = [r.data["message"]["content"] for r in chat.events() if "answer" in r.data]
    assert answers == ["one", "two", "three"]


def test_group_retry_after_failure_uses_the_remarks_of_the_question(
    scripted: Callable[..., ScriptedServer],
) -> None:
    server = scripted(error(500, "no"), completion("[]"))
    with GroupChat(KEY, "m", base_url=server.base_url, max_retries=0) as group:
        group.add_dialog("Ann", ["Bob"], "hello")
        with pytest.raises(openai.InternalServerError):
            group.request([("Bob", ["Ann"])])
        group.add_dialog("Ann", ["Bob"], "are you there?")
        assert group.retry() == "[]"
        assert "hello" in server.asked[-1].body["messages"][0]["content"]
        assert [each.remark for each in group.pending_remarks()] == ["are you there?"]


def test_retry_of_a_failed_request_on_a_tools_result(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(error(500, "no"), completion("sunny"))
    chat = chat_with(server)
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    chat.add_dialogs(
        user_msg("weather?"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    )
    with pytest.raises(openai.InternalServerError):
        chat.request()
    assert chat.retry() == "sunny"
    assert len(server.asked[-1].body["messages"]) == 3
    assert roles(chat) == "uata"


def test_a_retry_that_was_cut_replaces_what_is_left_of_the_old_answer() -> None:
    with Engine() as engine:
        conversation = engine.create()
        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        conversation.add(
            [
                user_msg("weather?"),
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "1", "content": "sun"},
                {"role": "assistant", "content": "old"},
            ]
        )
        conversation.pin(0)
        opening = Open(RequestSpec(question=[], model="m", retry=True), lambda: None)
        conversation.store.transact(conversation.begin_job(opening))
        # Meanwhile the limit takes the call, with which the old answer began.
        conversation.commit(lambda state: decisions.truncated(state.view, 2))
        with engine.store.reading() as reader:
            (draft,) = reader.drafts()
        partial = b'{"role":"assistant","content":"new"}'
        conversation.keep(draft._replace(partial=partial))
        assert [m["content"] for m in conversation.messages()] == ["weather?", "new"]


def test_versions_and_forks(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.request("自然数1的后面是几?")
    first = chat.version
    chat.request("再往后呢?")
    fork = chat.fork("f", at=first)
    assert fork.request("自然数7的后面是几?") == "8"
    assert [m["content"] for m in fork.fetch_messages()] == [
        "自然数1的后面是几?",
        "2",
        "自然数7的后面是几?",
        "8",
    ]
    chat.restore(first)
    assert chat.request("再往后呢?") == "3"
    assert chat.at(first) == chat.fetch_messages()[:2]
    for bad in (0, -1, chat.version + 1, True, 1.0):
        with pytest.raises(UnknownVersion):
            chat.at(bad)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert len(chat.head) == 64 and chat.head != fork.head
    assert types(fork)[0] == "forked"


def test_a_limit_and_pins(offline: OfflineServer) -> None:
    chat = chat_with(offline, MsgMaxCount=3)
    chat.add_dialogs(system_msg("a"), system_msg("b"), system_msg("c"))
    chat.pin_messages(0, 1, 2)
    before, sent = chat.version, len(offline.requests)
    for how in WAYS:
        with pytest.raises(NoRoom):
            ask(chat, how, "hi")
    assert chat.version == before and len(offline.requests) == sent
    chat.unpin_messages(1)
    chat.request("hi")
    assert [m["content"] for m in offline.requests[-1].body["messages"]] == ["a", "c", "hi"]
    assert len(chat.fetch_messages()) == 3


# -- The original's other names ----------------------------------------------------------------------


def test_old_names(offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline)
    assert asyncio.run(_awaited(chat.asy_request("自然数1的后面是几?"))) == "2"
    chat.forge(user_msg("自然数7的后面是几?"))
    chat.pin(0)
    assert [held.pinned for held in chat.conversation.view_messages()] == [True, False, False]
    chat.unpin(0)
    assert not any(held.pinned for held in chat.conversation.view_messages())
    assert chat.dump(tmp_path / "d.json") is True
    other = chat_with(offline)
    assert other.load(tmp_path / "d.json") is True
    assert other.fetch_messages() == chat.fetch_messages()


def test_pictures(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    assert chat.dalle(prompt="a cat", n=2).data

    async def main() -> Any:
        return await chat.async_dalle(prompt="a cat")

    assert asyncio.run(main()).data
    with pytest.raises(openai.BadRequestError):
        chat.dalle(prompt="")


# -- Bad input: one clear sentence, and nothing changed ----------------------------------------------


@pytest.fixture
def standing(offline: OfflineServer) -> Iterator[Chat]:
    """A chat of one round; whatever the test does, nothing is to change in it."""
    chat = chat_with(offline)
    chat.request("自然数1的后面是几?")
    before, asked = chat.head, len(offline.requests)
    yield chat
    assert chat.head == before and len(offline.requests) == asked


@pytest.mark.parametrize("index", [2, -3, 10**30])
def test_pins_out_of_range(index: int, standing: Chat) -> None:
    for change in (standing.pin_messages, standing.unpin_messages):
        with pytest.raises(IndexError, match=str(index)) as refusal:
            change(0, index)
        assert isinstance(refusal.value, NoIndex)


@pytest.mark.parametrize("index", [True, "0", 0.0, None])
def test_pins_that_are_no_index(index: Any, standing: Chat) -> None:
    with pytest.raises(BadInput):
        standing.pin_messages(index)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "1", None])
def test_rollback_of_nothing(n: Any, standing: Chat) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        standing.rollback(n)


def test_rollback_of_more_than_there_is(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.add_dialogs(system_msg("be brief"))
    chat.request("hi")
    last = chat.rollback(99)
    assert repr(last) == "" and list(last) == []
    assert chat.fetch_messages() == [system_msg("be brief")]
    before = chat.version
    chat.rollback()
    assert chat.version == before


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "6"])
@pytest.mark.parametrize("name", ["MsgMaxCount", "msg_max_count"])
def test_a_limit_below_one(limit: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MsgMaxCount"):
        Chat(KEY, db=tmp_path / "a.db", **{name: limit})
    assert not list(tmp_path.iterdir())


NO_MESSAGES: list[Any] = [
    *("text", None, 5, [], {}, {"role": "user"}, {"content": "x"}, {"role": 5, "content": "x"}),
    *({"role": "", "content": "x"}, {"role": "user", "content": 5}, {"role": "user", "content": None}),
    *({"role": "user", "content": [5]}, {"role": "user", "content": b"x"}, ["role", "content"]),
    *({"role": "user", "content": "x", 5: 6}, {"role": "user", "content": "x", "y": float("nan")}),
    *({"role": "user", "content": "x", "y": {1, 2}}, {"role": "user", "content": "x", "y": object()}),
    {"role": "user", "content": "lone \ud800 surrogate"},
    {"role": "user", "content": [{"type": "text", "text": "\udfff"}]},
]


@pytest.mark.parametrize("bad", NO_MESSAGES, ids=range(len(NO_MESSAGES)))
def test_what_is_no_message_is_named_by_its_place(bad: Any, standing: Chat) -> None:
    with pytest.raises(NotAMessage, match="message 2"):
        standing.add_dialogs(user_msg("fine"), user_msg("fine"), bad)
    with pytest.raises(NotAMessage, match="message 1"):
        standing.request("hi", messages=[user_msg("fine"), bad])


def test_a_message_nested_too_deeply(standing: Chat) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotAMessage):
        standing.add_dialogs({"role": "user", "content": "x", "deep": deep})
    while deep:  # let go of it step by step: some Pythons would recurse
        deep = deep[0]


def test_messages_that_contain_themselves(standing: Chat) -> None:
    loop: dict[str, Any] = {"role": "user", "content": "x"}
    loop["self"] = loop
    with pytest.raises(NotAMessage):
        standing.add_dialogs(loop)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("prompt", ["", "  \n", "lone \ud800", 5, b"x"])
def test_prompts_that_are_none(prompt: Any, how: str, standing: Chat) -> None:
    with pytest.raises(BadInput) as refusal:
        ask(standing, how, prompt)
    assert len(str(refusal.value).splitlines()) == 1


def test_an_option_that_cannot_be_sent(standing: Chat) -> None:
    with pytest.raises(BadInput):
        standing.request("hi", user="\ud800")
    with pytest.raises((BadInput, TypeError)):
        standing.request("hi", user=object())


@pytest.mark.parametrize("model", [5, True, [], b"m", "\ud800"])
def test_a_model_that_is_no_name(model: Any, standing: Chat) -> None:
    version = standing.version
    with pytest.raises(BadInput, match="the model"):
        standing.request("hi", model=model)
    standing.model = model
    with pytest.raises(BadInput, match="the model"):
        standing.request("hi")
    assert standing.version == version


def test_no_model_is_left_to_the_server(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted(completion("hi"))
    assert Chat(KEY, None, base_url=server.base_url).request("hello") == "hi"
    assert server.asked[-1].body == {"messages": [user_msg("hello")]}


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "6"])
def test_a_limit_that_is_set_later_is_checked_when_it_counts(limit: Any, standing: Chat) -> None:
    version = standing.version
    standing.MsgMaxCount = limit
    with pytest.raises(BadInput, match="MsgMaxCount"):
        standing.request("hi")
    assert standing.version == version


def test_odd_characters_are_kept_exactly(offline: OfflineServer, tmp_path: Path) -> None:
    text = "a\x00b\r\n\u2028\ufeff\U0010ffff\x1b[0m\x7f"
    with chat_with(offline, db=tmp_path / "a.db", conversation="c") as chat:
        chat.request(text)
        assert offline.requests[-1].body["messages"][-1] == user_msg(text)
    with chat_with(offline, db=tmp_path / "a.db", conversation="c") as again:
        assert again.fetch_messages()[0] == user_msg(text)


@pytest.mark.parametrize("name", ["", " a", "a@b", "a\nb", "x" * 201, "\ud800", 5])
def test_names_that_are_none(name: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        Chat(KEY, db=tmp_path / "a.db", conversation=name)


# -- Stores that cannot be used ----------------------------------------------------------------------


def _one_line(refusal: pytest.ExceptionInfo[Openai2Error]) -> str:
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello, " * 1000)
    with pytest.raises(NotAStore) as refusal:
        Chat(KEY, db=path)
    assert str(path) in _one_line(refusal)
    assert path.read_text() == "hello, " * 1000 and len(list(tmp_path.iterdir())) == 1


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE t (x)")
        theirs.commit()
    before = path.read_bytes()
    with pytest.raises(NotAStore) as refusal:
        Chat(KEY, db=path)
    assert "another program" in _one_line(refusal)
    assert path.read_bytes() == before


def test_a_newer_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Chat(KEY, db=path) as chat:
        chat.add_dialogs(user_msg("hi"))
    with contextlib.closing(sqlite3.connect(path)) as file:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        file.execute(f"PRAGMA user_version = {version + 1}")
    before = path.read_bytes()
    with pytest.raises(NewerStore) as refusal:
        Chat(KEY, db=path)
    assert "newer openai2" in _one_line(refusal)
    assert path.read_bytes() == before


def test_a_folder_as_database(tmp_path: Path) -> None:
    with pytest.raises(NotAStore) as refusal:
        Chat(KEY, db=tmp_path)
    assert "folder" in _one_line(refusal)


def test_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable) as refusal:
        Chat(KEY, db=tmp_path / "file" / "a.db")
    assert str(tmp_path) in _one_line(refusal)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with Chat(KEY, db=closed / "a.db", conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))
    closed.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailable):
            Chat(KEY, db=closed / "new.db")
        with Chat(KEY, db=closed / "a.db", conversation="c") as chat:
            assert chat.fetch_messages() == [user_msg("hi")]
            with pytest.raises(StoreUnavailable, match="read-only"):
                chat.add_dialogs(user_msg("more"))
    finally:
        closed.chmod(0o700)


def test_a_store_marked_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for machines where the tests run as root."""
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))

    def access(path: object, mode: int) -> bool:
        return not mode & os.W_OK

    monkeypatch.setattr("os.access", access)
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as chat:
        assert chat.fetch_messages() == [user_msg("hi")]
        with pytest.raises(StoreUnavailable, match="read-only"):
            chat.add_dialogs(user_msg("more"))
        with pytest.raises(StoreUnavailable, match="read-only"):
            asyncio.run(_awaited(chat.async_request("more")))


@pytest.mark.parametrize("url", ["postgres://u:secret@h/db", "http://x/y", "sqlite://host/x", "://"])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(BadInput) as refusal:
        Chat(KEY, db=url)
    assert "secret" not in _one_line(refusal)


def test_ways_to_name_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "new folder" / "a#b?.db"
    with Chat(KEY, db=path, conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))
    quoted = str(path).replace(" ", "%20").replace("#", "%23").replace("?", "%3F")
    names: tuple[Any, ...] = (
        *(str(path), os.path.relpath(path), f"sqlite:///{quoted}", "~/new folder/a#b?.db"),
        f"sqlite:///{os.path.relpath(quoted)}",
    )
    for name in names:
        with Chat(KEY, db=name, conversation="c") as chat:
            assert chat.fetch_messages() == [user_msg("hi")], name
    for memory in (None, ":memory:", "sqlite://", "sqlite:///:memory:"):
        with Chat(KEY, db=memory) as chat:
            assert chat.fetch_messages() == []
    assert [path.name for path in tmp_path.iterdir()] == ["new folder"]


def test_a_callers_own_http_client_outlives_the_loop() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        whole = b"".join(piece for piece in completion("hi").pieces if isinstance(piece, bytes))
        return httpx2.Response(200, content=whole)

    own = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    chat = Chat(KEY, "m", base_url="http://there.invalid/v1", http_client=own)
    assert asyncio.run(chat.async_request("hello")) == "hi"
    assert not own.is_closed
    asyncio.run(own.aclose())


def test_a_failed_retry_that_is_asked_again_is_still_a_retry() -> None:
    """Its question was rolled back meanwhile: the rest of the view is no question."""
    with ScriptedServer(error(400, "no")) as server:
        chat = Chat(KEY, "m", base_url=server.base_url)
        chat.add_dialogs(system_msg("be brief"), user_msg("hello"))
        with pytest.raises(openai.BadRequestError):
            chat.retry()
        chat.rollback()
        with pytest.raises(Refused):
            chat.retry()
        assert chat.fetch_messages() == [system_msg("be brief")]
