"""Programs that watch or replace the SDK's `create`, as tracing tools do."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import openai
import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.types.chat import ChatCompletion

from openai2 import Chat
from openai2.api import via_create
from tests.support.chats import chat_with
from tests.support.misbehaving_server import EVENTS, Misbehaving, Script, completion, stream, whole

KEY = "sk-made-up-0123456789abcdef"

Watch = Callable[[pytest.MonkeyPatch, type, Callable[[str], None]], None]


def _watched(kind: Any, note: Callable[[str], None]) -> Callable[..., Any]:
    create = kind.create

    @functools.wraps(create)
    def watched(self: Any, *args: Any, **options: Any) -> Any:
        note(options["messages"][-1]["content"])
        return create(self, *args, **options)

    return watched


def _watch_with_wraps(patch: pytest.MonkeyPatch, kind: Any, note: Callable[[str], None]) -> None:
    patch.setattr(kind, "create", _watched(kind, note))


def _watch_with_mock(patch: pytest.MonkeyPatch, kind: Any, note: Callable[[str], None]) -> None:
    patch.setattr(kind, "create", mock.create_autospec(kind.create, side_effect=_watched(kind, note)))


def _watch_with_wrapt(patch: pytest.MonkeyPatch, kind: Any, note: Callable[[str], None]) -> None:
    """Wrap as the instrumentations of OpenTelemetry and Langfuse do."""

    def watched(create: Any, instance: Any, args: Any, options: Any) -> Any:
        note(options["messages"][-1]["content"])
        return create(*args, **options)

    wrapt = pytest.importorskip("wrapt")
    patch.setattr(kind, "create", wrapt.FunctionWrapper(kind.create, watched))


@pytest.mark.parametrize("watch", [_watch_with_wraps, _watch_with_wrapt, _watch_with_mock])
def test_watched_create_is_called(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    scripts: list[Script] = [[whole(completion())], [EVENTS, stream("an ", "answer")]]
    with Misbehaving(*scripts, *scripts, *scripts) as server:
        chat = chat_with(server)
        chat.request("not watched")
        "".join(chat.stream_request("not watched"))
        watch(monkeypatch, Completions, seen.append)
        watch(monkeypatch, AsyncCompletions, seen.append)
        assert chat.request("one") == "an answer"
        assert "".join(chat.stream_request("two")) == "an answer"

        async def main() -> None:
            assert await chat.async_request("three") == "an answer"
            pieces = [piece async for piece in chat.async_stream_request("four")]
            assert pieces == ["an ", "answer"]

        asyncio.run(main())
    assert seen == ["one", "two", "three", "four"]


def test_replaced_create_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(self: Any, **options: Any) -> Any:
        return ChatCompletion.model_validate_json(completion(options["messages"][-1]["content"].upper()))

    monkeypatch.setattr(Completions, "create", replaced)
    assert Chat(KEY, base_url="http://127.0.0.1:9/v1").request("hi") == "HI"


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_patch_of_one_client_is_seen(kind: Any) -> None:
    client = kind(api_key=KEY)
    completions = client.chat.completions
    assert not via_create.is_patched(completions.create)
    completions.create = functools.partial(completions.create)
    assert via_create.is_patched(client.chat.completions.create)
    assert not via_create.is_patched(kind(api_key=KEY).chat.completions.create)
    if kind is openai.OpenAI:
        client.close()


def test_both_ways_send_the_same_and_record_the_same() -> None:
    bodies: list[Any] = []

    def noting(head: bytes, body: bytes) -> Script:
        bodies.append(json.loads(body))
        return [EVENTS, stream("an answer")] if "stream" in bodies[-1] else [whole(completion())]

    kept: list[Any] = []
    for use_create in (False, True):
        with Misbehaving(noting) as server:
            chat = chat_with(server, use_create=use_create, temperature=0.5)
            chat.request("hi", extra_body={"top_k": 3}, stop=["x"])
            list(chat.stream_request("hi", extra_headers={"X-A": "b"}))
            assert b"X-A: b" in server.heads[1] or b"x-a: b" in server.heads[1].lower()
            kept.append([(record.type, _timeless(record.data)) for record in chat.events()])
    assert bodies[:2] == bodies[2:]
    assert kept[0] == kept[1]


def _timeless(data: dict[str, Any]) -> dict[str, Any]:
    data.get("answer", {}).pop("seconds", None)
    return data
