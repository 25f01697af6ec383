"""What a model thinks before it answers."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from openai2 import Chat
from openai2.core import events as ev
from tests.support.misbehaving_server import (
    DONE,
    EVENTS,
    Misbehaving,
    Script,
    completion,
    event,
    stream,
    whole,
)

KEY = "sk-made-up-0123456789abcdef"
CREATE = pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])
NAMES = pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])


class Noting(Misbehaving):
    """Notes the messages that it is sent."""

    def __init__(self, *scripts: Script) -> None:
        self.sent: list[Any] = []
        super().__init__(*(functools.partial(self._noting, script) for script in scripts))

    def _noting(self, script: Script, head: bytes, body: bytes) -> Script:
        self.sent.append(json.loads(body)["messages"])
        return script


def _chat(server: Misbehaving, **options: Any) -> Chat:
    return Chat(KEY, "m", base_url=server.base_url, max_retries=0, **options)


def _thinking(name: str) -> Script:
    thoughts = [event(**{name: piece}) for piece in ("let me ", "see")]
    return [EVENTS, *thoughts, event(content="4", **{name: None}), stream()]


@CREATE
@NAMES
def test_reasoning_is_separate_from_the_text(name: str, use_create: bool) -> None:
    plain = [whole(completion("4", **{name: "let me see"}))]
    with Noting(_thinking(name), plain, _thinking(name), plain) as server:
        chat = _chat(server, use_create=use_create)
        heard: list[str] = []
        assert list(chat.stream_request("2+2?", on_reasoning=heard.append)) == ["4"]
        assert heard == ["let me ", "see"]
        assert chat.request("again", on_reasoning=heard.append) == "4"
        assert heard[2:] == ["let me see"]

        async def main() -> AsyncIterator[str]:
            async for piece in chat.async_stream_request("again", on_reasoning=heard.append):
                yield piece

        async def collect() -> list[str]:
            return [piece async for piece in main()]

        assert asyncio.run(collect()) == ["4"]
        assert heard[3:] == ["let me ", "see"]
        answers = [record.event.answer for record in chat.events()
                   if isinstance(record.event, ev.MessageAdded) and record.event.answer]  # fmt: skip
        assert [answer.reasoning for answer in answers] == ["let me see"] * 3
        chat.request("more")
        assert "reasoning" not in json.dumps([chat.fetch_messages(), server.sent])


@NAMES
def test_reasoning_is_sent_back_with_send_reasoning(name: str) -> None:
    with Noting(_thinking(name), [whole(completion())]) as server:
        chat = _chat(server, send_reasoning=True)
        list(chat.stream_request("2+2?"))
        chat.request("more")
        assert server.sent[1][1] == {"role": "assistant", "content": "4", name: "let me see"}


def test_equal_reasoning_under_two_names_is_reported_once() -> None:
    twice = [event(reasoning=piece, reasoning_content=piece) for piece in ("let me ", "see")]
    with Misbehaving([EVENTS, *twice, stream("4")]) as server:
        chat = _chat(server)
        heard: list[str] = []
        assert "".join(chat.stream_request("2+2?", on_reasoning=heard.append)) == "4"
        assert "".join(heard) == "let me see"


def test_stopped_answer_records_its_reasoning() -> None:
    with Misbehaving(_thinking("reasoning")) as server:
        chat = _chat(server)
        for _ in chat.stream_request("2+2?"):
            break
        added = next(record.event for record in chat.events() if "answer" in record.data)
        assert isinstance(added, ev.MessageAdded) and added.answer is not None
        assert added.answer.stopped and added.answer.reasoning == "let me see"
        assert chat.fetch_messages()[1] == {"role": "assistant", "content": "4"}


def test_stop_during_reasoning_leaves_the_view() -> None:
    class Enough(BaseException):
        pass

    def enough(thought: str) -> None:
        raise Enough

    with Misbehaving(_thinking("reasoning")) as server:
        chat = _chat(server)
        with pytest.raises(Enough):
            list(chat.stream_request("2+2?", on_reasoning=enough))
        stopped = [*chat.events()][-1].event
        assert isinstance(stopped, ev.RequestStopped)
        assert stopped.reasoning == "let me " and not stopped.kept
        assert chat.fetch_messages() == []


def test_failed_answer_records_its_reasoning() -> None:
    with Misbehaving([EVENTS, event(reasoning="let me "), DONE.replace(b"[DONE]", b"{oops")]) as server:
        chat = _chat(server)
        with pytest.raises(openai.APIConnectionError):
            list(chat.stream_request("2+2?"))
        failed = [*chat.events()][-1].event
        assert isinstance(failed, ev.RequestFailed) and failed.partial is not None
        assert json.loads(bytes(failed.partial))["reasoning"] == "let me "


def test_on_reasoning_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="on_reasoning"):
        Chat(KEY).request("hi", on_reasoning="print")
