"""Follow a log: every event arrives once and in order, and the iteration ends cleanly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from openai2 import BadInput, Engine, UnknownConversation, user_msg

WRITER = """
import sys
from openai2 import Engine, user_msg
engine = Engine(sys.argv[1])
conversation = engine.open_or_create(sys.argv[2])
for number in range(int(sys.argv[3])):
    conversation.add([user_msg(f"{sys.argv[2]} {number}")])
"""


def _writer(db: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(db), name, str(count)], cwd=Path.cwd())


def test_events_of_other_processes_arrive_in_order(tmp_path: Path) -> None:
    db = tmp_path / "log.db"
    with Engine(db) as engine:
        writers = [_writer(db, name, 60) for name in "ab"]
        positions: list[int] = []
        with engine.follow(after=0) as following:
            for record in following:
                positions.append(record.position)
                if len(positions) == 2 * 61:
                    break
        assert positions == list(range(1, 2 * 61 + 1))
        assert all(writer.wait() == 0 for writer in writers)


@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "memory"])
def test_follow_one_conversation_from_now_on(tmp_path: Path, in_memory: bool) -> None:
    with Engine(None if in_memory else tmp_path / "log.db") as engine:
        mine, other = engine.create("mine"), engine.create("other")
        mine.add([user_msg("before")])
        following = engine.follow("mine", poll=0.01)
        mine.add([user_msg("one"), user_msg("two")])
        other.add([user_msg("not asked for")])
        mine.add([user_msg("three")])
        seen = [next(following) for _ in range(3)]
        assert [record.version for record in seen] == [3, 4, 5]
        following.stop()
        assert list(following) == []


def test_follow_reads_several_pages_of_old_events(engine: Engine) -> None:
    conversation = engine.create()
    conversation.add([user_msg(str(number)) for number in range(1000)])
    with engine.follow(conversation, after=1) as following:
        versions = [next(following).version for _ in range(1000)]
    assert versions == list(range(2, 1002))


def test_stop_ends_waiting_after_found_events(engine: Engine) -> None:
    following = engine.follow(poll=5.0)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(record.position for record in following))
    thread.start()
    engine.create()
    deadline = time.monotonic() + 10
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    following.stop()
    thread.join(timeout=10)
    assert not thread.is_alive() and time.monotonic() - started < 2
    assert seen == [1]


def test_following_keeps_the_store_open(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "log.db")
    engine.create()
    following = engine.follow(after=0)
    engine.close()
    assert next(following).type == "created"
    following.stop()
    assert next(following, None) is None


def test_async_follow_yields_every_event(tmp_path: Path) -> None:
    async def main() -> list[str]:
        db = tmp_path / "log.db"
        with Engine(db) as engine:
            seen: list[str] = []
            async with engine.follow(poll=0.01) as following:
                writer = await asyncio.to_thread(_writer, db, "a", 20)
                async for record in following:
                    seen.append(record.type)
                    if len(seen) == 21:
                        following.stop()
            assert await asyncio.to_thread(writer.wait) == 0
            return seen

    assert asyncio.run(main()) == ["created"] + ["message_added"] * 20


def test_async_follow_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        with Engine(tmp_path / "log.db") as engine:
            task = asyncio.ensure_future(anext(engine.follow()))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_idle_follow_uses_little_cpu(engine: Engine) -> None:
    following = engine.follow()
    threading.Timer(0.6, following.stop).start()
    before = time.thread_time()
    assert list(following) == []
    assert time.thread_time() - before < 0.06


def test_follow_refuses_bad_options(engine: Engine) -> None:
    with pytest.raises(UnknownConversation):
        engine.follow("no such name")
    with pytest.raises(BadInput, match="expected the number of an event"):
        engine.follow(after=-1)
    with pytest.raises(BadInput, match="more than 0 seconds"):
        engine.follow(poll=0)
