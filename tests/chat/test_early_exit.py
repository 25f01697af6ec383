"""Callers that leave: dropped iterators and cancelled tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, Engine, user_msg
from openai2.offline import OfflineServer
from tests.support.chats import Scripted, chat_with, drafts_of, either, event_types
from tests.support.servers import spoken, streamed


def test_dropped_stream_keeps_the_received_text(scripted: Scripted) -> None:
    gate = threading.Event()
    server = scripted(streamed([*spoken("half", None, done=False), gate, *spoken("more")]), either("next"))
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
    assert not [*drafts_of(chat)]
    assert chat.request("go on") == "next"
    assert chat.retry() == "next"


def test_stream_closed_before_start_records_nothing(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    stream = chat.stream_request("hi")
    del stream
    assert chat.version == 0  # never started
    chat.stream_request("hi").close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert chat.version == 0


@pytest.mark.parametrize("is_referenced", [False, True])
def test_async_stream_left_at_the_end_of_its_loop_keeps_the_text(is_referenced: bool) -> None:
    kept: list[object] = []

    async def leave(chat: Chat) -> None:
        pieces = chat.async_stream_request("世界上最大的海洋是哪个?")
        if is_referenced:
            kept.append(pieces)
        async for _ in pieces:
            break

    with OfflineServer(delay=0.02) as server, chat_with(server) as chat:
        asyncio.run(leave(chat))
        assert chat.fetch_messages()[-1] == {"role": "assistant", "content": "世"}
        assert event_types(chat)[-1] == "request_stopped" and not [*drafts_of(chat)]


class CancelledAt:
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
def test_task_cancelled_at_any_await_leaves_no_open_request(
    streams: bool, scripted: Scripted, tmp_path: Path
) -> None:
    server = scripted(either("six"))
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
            await CancelledAt(consume(chat, came), at)

        try:
            await asyncio.get_running_loop().create_task(walk())
            finished = True
        except asyncio.CancelledError:
            finished = False
        assert not [*drafts_of(chat)], f"cancelled at {at}: a request is left open"
        messages = chat.fetch_messages()
        last = event_types(chat)[-1:]
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
