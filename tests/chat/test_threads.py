"""Threads end with what they serve, finalizers wait for no lock, and a system without threads is survived."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2 import Chat, Engine, user_msg
from openai2.drivers import run_in_store
from openai2.errors import Openai2Error, StoreUnavailable
from openai2.handle import StoreHandle
from tests.support.chats import WAYS, Scripted, ask, chat_with, either, event_types
from tests.support.lifetimes import (
    HALF,
    aread_half,
    check_nothing_left,
    check_stopped,
    half,
    our_threads,
    read_half,
)
from tests.support.servers import ScriptedServer

# pyright: reportPrivateUsage=false


# -- Threads end with what they serve


@pytest.mark.parametrize("closes", [True, False])
def test_chats_one_after_another_leave_no_thread(closes: bool, scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(either("six"))

    async def main(number: int) -> None:
        chat = chat_with(server, db=tmp_path / f"{number}.db")
        assert await chat.async_request("q") == "six"
        if closes:
            await chat.aclose()

    for number in range(40):
        chat = chat_with(server, db=None if number % 4 else tmp_path / "a.db")
        assert chat.request("q") == "six"
        if closes:
            chat.close()
        del chat
        if not number % 4:
            asyncio.run(main(number))
        assert len(our_threads()) <= 3
    check_nothing_left(tmp_path)


def test_engine_dropped_open_ends_its_threads(tmp_path: Path) -> None:
    async def main() -> None:
        engine = Engine(tmp_path / "a.db")
        await run_in_store(engine.store, engine.create().add_job([user_msg("a")]))

    asyncio.run(main())
    check_nothing_left(tmp_path)


# -- Where no thread can be started


def _no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("way", WAYS)
def test_without_threads_a_request_fails_at_once_and_works_later(
    way: str, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted(either("six"))
    chat = chat_with(server, db=tmp_path / "a.db")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(
            StoreUnavailable, match=r"^no thread can be started for the store: can't start new"
        ):
            ask(chat, way, "q")
        assert event_types(chat) == [] and not server.asked
        chat.add_dialogs(user_msg("by itself"))
    assert ask(chat, way, "q") == "six"
    chat.close()
    check_nothing_left(tmp_path)


def test_without_threads_a_cancelled_request_ends(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        chat = chat_with(scripted(half()), db=tmp_path / "a.db")
        stream = await aread_half(chat.async_stream_request("q"))
        chat.engine.store._writer.stop()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setattr(threading.Thread, "start", _no_thread)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        assert event_types(chat)[-2:] == ["message_added", "request_stopped"]
        with pytest.raises(StoreUnavailable, match="no thread"):
            await asyncio.wait_for(chat.async_request("again"), 10)
        await chat.aclose()
        monkeypatch.undo()

    asyncio.run(main())
    check_stopped(tmp_path / "a.db")
    check_nothing_left(tmp_path)


def test_without_threads_jobs_that_wait_for_another_run_in_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path / "a.db")
    conversation = engine.create()
    began, go_on = threading.Event(), threading.Event()

    def slow(tx: Any) -> None:
        began.set()
        assert go_on.wait(30)

    holders = [threading.Thread(target=engine.store.transact, args=(slow,))]
    holders[0].start()
    assert began.wait(30)
    adding = threading.Thread(target=conversation.add, args=([user_msg("a")],))
    adding.start()
    monkeypatch.setattr(threading.Thread, "start", _no_thread)
    go_on.set()
    adding.join(30)
    assert conversation.messages() == [user_msg("a")]
    engine.close()


# -- Finalizers wait for no lock


def _garbage(stream: Iterator[str]) -> None:
    cycle: list[Any] = [stream]
    cycle.append(cycle)


def test_finalizer_under_a_conversations_lock_does_not_wait(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector drops a stream in a thread that holds a lock which a job of the writer needs."""
    chat = chat_with(scripted(half()), db=tmp_path / "a.db")
    other = chat.fork().conversation
    gc.disable()
    try:
        _garbage(read_half(chat.stream_request("q")))
        began = threading.Event()
        writing: list[threading.Thread] = []
        view = other._stream.view

        def collect(reader: Any) -> Any:
            if not writing:
                writing.append(threading.Thread(target=add))
                writing[0].start()
                assert began.wait(30)
                gc.collect()
            return view(reader)

        def add() -> None:
            def job(tx: Any) -> None:
                began.set()
                other.add_job([user_msg("a")])(tx)

            other.store.transact(job)

        monkeypatch.setattr(other._stream, "view", collect)
        reader = threading.Thread(target=other.messages, daemon=True)
        reader.start()
        reader.join(20)
        assert not reader.is_alive(), "the finalizer waits for the writer, which waits for its thread"
        writing[0].join(20)
    finally:
        gc.enable()
    chat.close()
    with Engine(tmp_path / "a.db") as engine:
        assert engine.open(chat.conversation.id).messages() == [user_msg("q"), HALF]


def test_finalizer_without_a_thread_runs_with_the_next_handle(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = read_half(chat_with(scripted(half()), db=tmp_path / "a.db").stream_request("q"))
    monkeypatch.setattr("openai2.handle._may_hold_locks", lambda: True)
    monkeypatch.setattr(threading.Thread, "start", _no_thread)
    del stream
    gc.collect()
    monkeypatch.undo()
    with Engine() as engine:
        assert isinstance(engine.handle, StoreHandle)
    check_stopped(tmp_path / "a.db")
    check_nothing_left(tmp_path)


# -- Any drop at any moment

STEPS = (
    "ask", "aask", "fork", "next", "anext", "drop stream", "drop chat", "close chat", "copy",
    "collect", "cycle", "new loop", "close stream", "engine",
)  # fmt: skip


@pytest.mark.parametrize("where", ["memory", "file"])
@settings(max_examples=settings().max_examples // 5)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=14))
def test_every_beginning_has_an_end_whatever_is_dropped(
    where: str, steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("drops")
    kept = Engine() if where == "memory" else None
    reply = either("six")
    with ScriptedServer(reply) as server:
        runner = Runner(server, folder / "a.db" if kept is None else kept)
        try:
            for step, number in steps:
                runner.step(step, number)
        finally:
            runner.end()
    gc.collect()
    with kept or Engine(folder / "a.db") as engine:
        for listed in engine.conversations(archived=None):
            records = [*engine.open(listed.id).events()]
            types = [record.type for record in records]
            ends = sum(types.count(end) for end in ("request_stopped", "request_failed"))
            answers = [r.data.get("answer") for r in records if r.type == "message_added"]
            answered = sum(answer is not None and not answer.get("stopped") for answer in answers)
            assert types.count("request_started") == ends + answered
        with engine.store.reading() as reader:
            assert not reader.drafts()
        assert engine.verify().ok
    del engine, kept
    check_nothing_left(folder)


class Runner:
    """Chats and streams that are made and dropped by steps."""

    def __init__(self, server: ScriptedServer, db: Any) -> None:
        self.server = server
        self.db = db
        self.loop = asyncio.new_event_loop()
        self.chats: list[Chat] = []
        self.streams: list[Any] = []
        self.engines: list[Engine] = []

    def step(self, step: str, number: int) -> None:
        chats, streams = self.chats, self.streams
        if not chats:
            chats.append(chat_with(self.server, db=self.db))
        chat = chats[number % len(chats)]
        stream = streams[number % len(streams)] if streams else None
        actions: dict[str, Callable[[], Any]] = {
            "ask": lambda: self.read(chat.stream_request("q")),
            "aask": lambda: self.read(chat.async_stream_request("q")),
            "fork": lambda: chats.append(chat.fork()),
            "next": lambda: self.read(stream),
            "anext": lambda: self.read(stream),
            "drop stream": lambda: streams.remove(stream) if streams else None,
            "drop chat": lambda: chats.remove(chat),
            "close chat": chat.close,
            "copy": lambda: chats.append(copy.copy(chat)),
            "collect": gc.collect,
            "cycle": lambda: _garbage([chats.pop(), *streams]) if len(chats) > 1 else None,  # type: ignore[arg-type]
            "new loop": self.new_loop,
            "close stream": lambda: self.close(stream),
            "engine": lambda: self.engines.append(chat.engine),
        }
        with suppress(Openai2Error):
            actions[step]()

    def read(self, stream: Any) -> None:
        if stream is None:
            return
        if stream not in self.streams:
            self.streams.append(stream)
        try:
            if hasattr(stream, "__anext__"):
                self.loop.run_until_complete(stream.__anext__())
            else:
                next(stream)
        except (StopIteration, StopAsyncIteration):
            pass

    def close(self, stream: Any) -> None:
        if hasattr(stream, "aclose"):
            self.loop.run_until_complete(stream.aclose())
        elif stream is not None:
            stream.close()

    def new_loop(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.loop = asyncio.new_event_loop()

    def end(self) -> None:
        for chat in self.chats:
            chat.close()
        self.chats.clear()
        self.streams.clear()
        self.engines.clear()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.new_loop()
        self.loop.close()
