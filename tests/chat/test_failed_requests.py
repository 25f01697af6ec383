"""Failed requests: the exception, the view, the record, other keys of a pool; keys stay secret."""

from __future__ import annotations

import contextlib
import socket
import threading
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from openai2 import AKPool, BadInput, Chat, user_msg
from tests.support import servers
from tests.support.chats import KEY, WAYS, Scripted, ask, chat_with, drafts_of, either, event_types, roles
from tests.support.servers import Reply, completion, delta, error, spoken, sse, streamed

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
    assert event_types(chat)[-3:] == ["request_started", "message_added", "request_failed"]
    started, question, failed = [*chat.events()][-3:]
    assert question.data["message"] == {"role": "user", "content": "and this?"}
    assert question.data["request"] == failed.data["request"] == started.version
    assert failed.data["error"] == type(failure).__name__ and issubclass(type(failure), kind)
    assert failed.data.get("status") == getattr(failure, "status_code", None)
    assert failed.data["message"] and KEY not in str(failed.data)
    assert chat.interrupted() == [] and not [*drafts_of(chat)]
    return failed


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", FAILURES)
def test_failure_is_recorded_and_leaves_the_view(kind: str, how: str, scripted: Scripted) -> None:
    reply, expected = FAILURES[kind]
    chat = chat_with(scripted(either("first"), reply, either("third")))
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
def test_failed_stream_is_recorded_and_leaves_the_view(kind: str, how: str, scripted: Scripted) -> None:
    reply, expected, came = STREAM_FAILURES[kind]
    server = scripted(either("first"), reply, either("third"))
    chat = chat_with(server, AKPool([KEY, "sk-fake-second-0123456789"]))
    ask(chat, how, "hi")
    before = chat.fetch_messages()
    with pytest.raises(expected) as failure:
        ask(chat, how, "and this?")
    failed = _check_failed(chat, before, failure.value, expected)
    if came:  # a request is not sent again once the caller has a piece
        assert failed.data["partial"] == {"role": "assistant", "content": came}
        assert len(server.asked) == 2
    else:
        assert "partial" not in failed.data


def test_unreachable_server_raises_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    chat = Chat(KEY, base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        chat.request("hi")
    assert event_types(chat) == ["created", "request_started", "message_added", "request_failed"]


def test_slow_server_raises_timeout_error(scripted: Scripted) -> None:
    never = threading.Event()
    server = scripted(streamed([never]), Reply(200, [never]))
    chat = chat_with(server, timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        list(chat.stream_request("hi"))
    with pytest.raises(openai.APITimeoutError):
        chat.request("hi")
    never.set()
    assert chat.fetch_messages() == []


def test_max_retries_retries_with_a_single_key(scripted: Scripted) -> None:
    server = scripted(error(500, "once", Retry_After_Ms="1"), completion("yes"))
    assert chat_with(server, max_retries=1).request("hi") == "yes"
    assert len(server.asked) == 2


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("status", [401, 403, 429])
def test_pool_tries_its_other_keys(status: int, how: str, scripted: Scripted) -> None:
    good = "sk-fake-good-0123456789"

    def script(asked: servers.Asked) -> Reply:
        paid = asked.headers["authorization"]
        return either("yes")(asked) if paid == f"Bearer {good}" else error(status, "no")

    server = scripted(script)
    bad = [f"sk-fake-bad-{number}-0123456789" for number in range(3)]
    chat = chat_with(server, AKPool([*bad, good]), max_retries=5)
    assert ask(chat, how, "hi") == "yes"
    assert len(server.asked) == 4
    answer = [*chat.events()][-1].data["answer"]
    assert [attempt["status"] for attempt in answer["attempts"]] == [status] * 3


def _traces(error: BaseException) -> Iterator[str]:
    """Yield everything that a logger or a debugger could print of an exception."""
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
def test_key_is_in_no_exception_event_or_file(
    kind: str, pooled: bool, how: str, scripted: Scripted, tmp_path: Path
) -> None:
    split = len(KEY) // 2
    echo = [delta(content="your key is "), delta(content=KEY[:split]), delta(content=KEY[split:])]
    replies = {
        "401": error(401, f"Incorrect API key provided: {KEY}.", KEY, X_Echo=KEY),
        "echo": either(f"your key is {KEY}"),
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
    except Exception as failure:  # noqa: BLE001 - every exception is searched
        seen += _traces(failure)
    seen += [repr(chat.fetch_messages()), repr([*chat.events()])]
    chat.close()
    assert KEY not in "".join(seen)
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("key", ["sk-line\n", " sk-space", "sk-sch\u00f6n", "sk-\x00", "", 5])
def test_invalid_key_is_refused_and_not_shown(key: Any, tmp_path: Path) -> None:
    with pytest.raises((BadInput, TypeError)) as failure:
        Chat(key, db=tmp_path / "a.db")
    if isinstance(key, str) and key:
        assert "".join(_traces(failure.value)).count(key) == 0
