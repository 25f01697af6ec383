"""What a chat hands out outlives it, and every request that began has an end on record."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, Conversation, Engine, GroupChat, user_msg
from openai2.core.events import Recorded
from openai2.errors import StoreError
from tests.support.chats import KEY, Scripted, chat_with, either, event_types
from tests.support.lifetimes import (
    HALF,
    aread_half,
    check_nothing_left,
    check_stopped,
    half,
    read_half,
    wait_until,
)
from tests.support.misbehaving_server import Misbehaving, Sleep, Step
from tests.support.servers import spoken

# -- What is handed out keeps what it needs

HANDED_OUT: dict[str, Callable[[Chat], Callable[[], Any]]] = {
    "stream": lambda chat: partial("".join, chat.stream_request("q")),
    "fork's stream": lambda chat: partial("".join, chat.fork().stream_request("q")),
    "retry": lambda chat: partial("".join, chat.stream_retry()),
    "fork of a fork": lambda chat: partial(chat.fork().fork().request, "q"),
    "copy": lambda chat: partial(copy.copy(chat).request, "q"),
    "events": lambda chat: partial(last_text, chat.events()),
    "conversation": lambda chat: partial(view_text, chat.conversation),
    "fork's conversation": lambda chat: partial(view_text, chat.fork().conversation),
    "engine": lambda chat: partial(current_text, chat.engine),
    "replay": lambda chat: partial(view_text, chat.replay().conversation),
    "follow": lambda chat: partial(last_text, itertools.islice(chat.engine.follow(after=0), 4)),
    "method": lambda chat: partial(chat.request, "q"),
    "async stream": lambda chat: partial(run, joined(chat.async_stream_request("q"))),
    "async retry": lambda chat: partial(run, joined(chat.async_stream_retry())),
    "coroutine": lambda chat: partial(run, chat.async_request("q")),
}


def last_text(events: Iterable[Recorded]) -> str:
    return str([*events][-1].data["message"]["content"])


def view_text(conversation: Conversation) -> str:
    return str(conversation.messages()[-1]["content"])


def current_text(engine: Engine) -> str:
    conversation = engine.current()
    assert conversation is not None
    return view_text(conversation)


def run(coroutine: Coroutine[Any, Any, str]) -> str:
    return asyncio.run(coroutine)


async def joined(stream: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in stream])


async def awaited(coroutine: Any) -> Any:
    return await coroutine


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("what", HANDED_OUT)
def test_what_is_handed_out_outlives_its_chat(
    what: str, where: str, scripted: Scripted, tmp_path: Path
) -> None:
    server = scripted(either("six"))

    def hand_out() -> Callable[[], Any]:
        chat = chat_with(server, db=None if where == "memory" else tmp_path / "a.db")
        chat.request("q")
        return HANDED_OUT[what](chat)

    use = hand_out()
    gc.collect()
    assert use() == "six"
    del use
    check_nothing_left(tmp_path)


def test_group_chat_stream_outlives_it(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(either("six"))

    def ask() -> Iterator[str]:
        group = GroupChat(KEY, "m", base_url=server.base_url, db=tmp_path / "a.db")
        group.roles["Ann"] = "is kind"
        return group.stream_request([("Ann", ["Bob"])])

    assert "".join(ask()) == "six"
    check_nothing_left(tmp_path)


def test_chats_on_one_file_close_apart(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(either("six"))
    stream = chat_with(server, db=tmp_path / "a.db").stream_request("q")
    with chat_with(server, db=tmp_path / "a.db") as other:
        fork = other.fork()
    assert next(stream) == "s"
    assert "".join(stream) == "ix"
    assert fork.request("q") == "six"
    with pytest.raises(StoreError, match="closed"):
        other.request("q")
    fork.close()
    del stream
    check_nothing_left(tmp_path)


# -- Ends


def by_close(chat: Chat, stream: Any) -> None:
    chat.close()


def by_copy(chat: Chat, stream: Any) -> None:
    copy.copy(chat).close()


def by_engine(chat: Chat, stream: Any) -> None:
    chat.engine.close()


def by_with(chat: Chat, stream: Any) -> None:
    with chat:
        pass


def by_other_thread(chat: Chat, stream: Any) -> None:
    thread = threading.Thread(target=chat.close)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


CLOSERS = [by_close, by_copy, by_engine, by_with, by_other_thread]


@pytest.mark.parametrize("close", CLOSERS)
def test_close_records_what_came_of_an_open_stream(
    close: Callable[[Chat, Any], None], scripted: Scripted, tmp_path: Path
) -> None:
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    stream = read_half(chat.stream_request("q"))
    close(chat, stream)
    check_stopped(tmp_path / "a.db")
    with pytest.raises(StoreError, match="what had arrived is on record"):
        next(stream)
    assert [*stream] == []
    check_nothing_left(tmp_path)


@pytest.mark.parametrize("close", CLOSERS)
def test_close_records_what_came_of_an_open_async_stream(
    close: Callable[[Chat, Any], None], scripted: Scripted, tmp_path: Path
) -> None:
    async def main() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        stream = await aread_half(chat.async_stream_request("q"))
        close(chat, stream)
        check_stopped(tmp_path / "a.db")
        with pytest.raises(StoreError, match="what had arrived is on record"):
            await anext(stream)
        assert [piece async for piece in stream] == []

    asyncio.run(main())
    check_nothing_left(tmp_path)


def test_chat_on_an_engine_stops_its_own_streams_only(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(half())
    with Engine(tmp_path / "a.db") as engine:
        chats = [chat_with(server, db=engine, conversation=name) for name in "ab"]
        a, b = (read_half(chat.stream_request("q")) for chat in chats)
        chats[0].close()
        assert [len(chat.fetch_messages()) for chat in chats] == [2, 0]
        with pytest.raises(StoreError):
            next(a)
    with pytest.raises(StoreError):
        next(b)
    with Engine(tmp_path / "a.db") as engine:
        assert engine.open("b").messages() == [user_msg("q"), HALF]


def test_async_with_and_aclose_stop_streams(scripted: Scripted, tmp_path: Path) -> None:
    async def main() -> None:
        async with chat_with(scripted(half()), db=tmp_path / "a.db") as chat:
            stream = await aread_half(chat.async_stream_request("q"))
        check_stopped(tmp_path / "a.db")
        del stream

    asyncio.run(main())
    check_nothing_left(tmp_path)


@pytest.mark.parametrize("is_cycle", [False, True])
def test_dropped_chat_and_stream_record_what_came(is_cycle: bool, scripted: Scripted, tmp_path: Path) -> None:
    def ask() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        holder: list[Any] = []
        holder.append(read_half(chat.stream_request("q", on_reasoning=holder.append)))
        if is_cycle:
            holder.append(holder)
            holder.append(chat)
        else:
            holder.clear()

    ask()
    gc.collect()
    check_nothing_left(tmp_path)
    check_stopped(tmp_path / "a.db")


def test_async_stream_left_by_break_is_recorded_at_once(scripted: Scripted, tmp_path: Path) -> None:
    async def main() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        async for piece in chat.async_stream_request("q"):
            if piece == "f":
                break
        assert chat.fetch_messages() == [user_msg("q"), HALF]
        chat.close()
        check_stopped(tmp_path / "a.db")

    asyncio.run(main())
    check_nothing_left(tmp_path)


def test_end_of_event_loop_records_what_came(scripted: Scripted, tmp_path: Path) -> None:
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    stream = asyncio.run(aread_half(chat.async_stream_request("q")))
    assert chat.fetch_messages() == [user_msg("q"), HALF]
    with pytest.raises(StoreError):
        asyncio.run(awaited(anext(stream)))
    chat.close()
    check_stopped(tmp_path / "a.db")


# aiohttp leaves the connections of a closed loop to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("end", ["drop", "close", "collect"])
def test_loop_closed_without_its_generators_loses_nothing(
    end: str, scripted: Scripted, tmp_path: Path
) -> None:
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(aread_half(chat.async_stream_request("q")))
    loop.close()
    if end == "close":
        chat.close()
    elif end == "collect":
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del cycle
    del stream
    del chat
    gc.collect()
    check_stopped(tmp_path / "a.db")
    check_nothing_left(tmp_path)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loop_closed_with_a_pending_task_loses_nothing(scripted: Scripted, tmp_path: Path) -> None:
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    loop = asyncio.new_event_loop()
    has_half = asyncio.Event()

    async def read() -> None:
        async for piece in chat.async_stream_request("q"):
            if piece == "f":
                has_half.set()

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(read())
        await has_half.wait()
        return task

    task = loop.run_until_complete(main())
    loop.close()
    setattr(task, "_log_destroy_pending", False)  # noqa: B010 - asyncio would log it
    chat.close()
    check_stopped(tmp_path / "a.db")
    del task


# -- A reader that waits for the server


@pytest.mark.parametrize("streams", [True, False])
def test_close_ends_a_request_of_another_thread(streams: bool, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = b"".join(spoken("half", None, done=False)) if streams else b'{"id":'
    kind = b"text/event-stream" if streams else b"application/json"
    script: list[Step] = [head % kind, b"%x\r\n%b\r\n" % (len(event), event), Sleep(60)]
    errors: list[BaseException] = []
    came: list[str] = []

    def ask() -> None:
        try:
            came.extend(chat.stream_request("q") if streams else [chat.request("q")])
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    with Misbehaving(script) as server:
        chat = Chat(KEY, "m", base_url=server.base_url, db=tmp_path / "a.db")
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: server.asked == 1 and (len(came) == 4 or not streams))
        time.sleep(0.1)
        chat.close()
        with Engine(tmp_path / "a.db") as engine:
            (last,) = [*engine.open(chat.conversation.id).events()][-1:]
            assert last.type == "request_stopped" and last.data.get("kept", False) == streams
        thread.join(10)
        assert not thread.is_alive(), "the thread still waits for the server"
    assert [type(error) for error in errors] == [StoreError]


def test_close_ends_the_wait_of_a_task(scripted: Scripted, tmp_path: Path) -> None:
    async def main() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        stream = await aread_half(chat.async_stream_request("q"))
        waiting = asyncio.ensure_future(awaited(anext(stream)))
        await asyncio.sleep(0.05)
        await chat.aclose()
        with pytest.raises(StoreError, match="on record"):
            await asyncio.wait_for(waiting, 10)
        check_stopped(tmp_path / "a.db")

    asyncio.run(main())


def test_cancelled_and_closed_at_once_is_cancelled(scripted: Scripted, tmp_path: Path) -> None:
    async def main() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        stream = await aread_half(chat.async_stream_request("q"))
        waiting = asyncio.ensure_future(awaited(anext(stream)))
        await asyncio.sleep(0.05)
        chat.close()
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, StoreError)):
            await asyncio.wait_for(waiting, 10)
        check_stopped(tmp_path / "a.db")

    asyncio.run(main())


def test_one_stream_has_one_reader(scripted: Scripted) -> None:
    gate = threading.Event()
    chat = chat_with(scripted(half(gate)))
    stream = read_half(chat.stream_request("q"))
    thread = threading.Thread(target=list, args=(stream,))
    thread.start()
    time.sleep(0.05)
    with pytest.raises(ValueError, match="another thread"):
        next(stream)
    gate.set()
    thread.join(10)
    assert event_types(chat)[-1] != "request_started"


# -- The end of the program

PROGRAM = """
import asyncio, atexit, sys, threading
from openai2 import Chat
chat = Chat({key!r}, "m", base_url={url!r}, db={db!r})

async def ask():
    global stream
    stream = chat.async_stream_request("q")
    for _ in range(4):
        await anext(stream)

def sync():
    global stream
    stream = chat.stream_request("q")
    for _ in range(4):
        next(stream)

{body}
"""
BODIES = {
    "sync": "sync(); sys.exit()",
    "async": "asyncio.run(ask())",
    "late": "atexit.register(sync)",
    "thread": "threading.Thread(target=sync).start()",
}


@pytest.mark.parametrize("body", BODIES)
def test_end_of_program_records_what_came(body: str, scripted: Scripted, tmp_path: Path) -> None:
    db = tmp_path / "a.db"
    code = PROGRAM.format(key=KEY, url=scripted(half()).base_url, db=str(db), body=BODIES[body])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr
    check_stopped(db)


def test_forked_child_leaves_the_parents_streams_alone(scripted: Scripted, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    stream = read_half(chat.stream_request("q"))
    child = os.fork()
    if not child:
        try:
            del stream
            chat.close()
            del chat
            gc.collect()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert event_types(chat)[-1] != "request_stopped"
    chat.close()
    check_stopped(tmp_path / "a.db")
    del stream
