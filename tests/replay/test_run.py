"""How replays stop, resume, and run in parallel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openai2 import BadInput, Chat, NameTaken, Refused, assistant_msg, system_msg, user_msg
from openai2.offline import OfflineServer
from openai2.replay.run import Progress
from tests.support.chats import drafts_of, event_types
from tests.support.replays import KEY, FakeApi, check_store


def test_replay_resumes_after_failure(tmp_path: Path) -> None:
    api = FakeApi()
    with api.chat(tmp_path / "log.db", "source") as chat:
        for text in ("one", "two", "three", "four"):
            chat.request(text)
        api.fails = lambda number: number == 7
        with pytest.raises(openai.InternalServerError):
            chat.replay("new")
        (fork,) = chat.engine.children(chat.conversation.id)
        assert [m["role"] for m in chat.engine.open(fork.id).messages()] == ["user", "assistant"] * 2
        with chat.replay("new") as twin:
            assert twin.conversation.id == fork.id
            assert twin.fetch_messages() == chat.fetch_messages()
        assert api.asked[4:] == ["one", "two", "three", "three", "four"]
        texts = [r.data["message"]["content"] for r in twin.events() if r.type == "message_added"]
        assert texts.count("three") == 1  # the question is on record once
        chat.replay("new").close()
        assert len(api.bodies) == 9  # nothing was missing
        chat.request("five")
        chat.replay("new").close()
        assert api.asked[9:] == ["five", "five"]
        check_store(chat)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_failed_first_request_makes_no_fork(streamed: bool) -> None:
    api = FakeApi()
    with api.chat(conversation="source") as chat:
        chat.add_dialogs(system_msg("s"))
        list(chat.stream_request("one")) if streamed else chat.request("one")
        with pytest.raises(openai.NotFoundError):
            chat.replay("no-such-model")
        assert [listed.name for listed in chat.engine.conversations()] == ["source"]
        version = chat.version
        chat.replay("a-model").close()
        assert chat.version == version
        check_store(chat)


def test_replay_with_other_options_makes_another_fork() -> None:
    api = FakeApi()
    with api.chat(conversation="source") as chat:
        chat.request("one")
        wanted: list[tuple[str, dict[str, Any]]] = [
            *(("a", {}), ("b", {}), ("a", {"system": "s"}), ("a", {"seed": 1})),
            *(("a", {"name": "named"}), ("a", {"name": "named"})),
        ]
        twins = [chat.replay(model, **options) for model, options in wanted]
        ids = {twin.conversation.id for twin in twins}
        assert len(ids) == 5
        with pytest.raises(NameTaken):
            chat.replay("b", name="named")
        with pytest.raises(NameTaken):
            chat.replay("b", name="source")
        assert twins[-1].conversation.name == "named"


def test_replay_refuses_bad_input() -> None:
    with FakeApi().chat() as chat:
        with pytest.raises(Refused, match="no question"):
            chat.replay()
        chat.add_dialogs(user_msg("made up"), assistant_msg("yes"))
        with pytest.raises(Refused, match="no question"):
            chat.replay()
        chat.request("one")
        with pytest.raises(TypeError, match="no_option"):
            chat.replay(no_option=1)
        with pytest.raises(BadInput, match="empty"):
            chat.replay(system=" ")


def test_cancelled_replay_asks_the_stopped_question_again(tmp_path: Path) -> None:
    async def main() -> None:
        db = tmp_path / "log.db"
        with OfflineServer(delay=0.07) as server, Chat(KEY, base_url=server.base_url, db=db) as chat:
            await chat.async_request("自然数1的后面是几?")
            async for _ in chat.async_stream_request("世界上最大的海洋是哪个?"):
                pass
            task = asyncio.create_task(chat.async_replay("new"))
            while not any("世".encode() in (draft.partial or b"") for draft in drafts_of(chat)):
                await asyncio.sleep(0.01)
                assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with await chat.async_replay("new") as twin:
                assert twin.fetch_messages() == chat.fetch_messages()
                assert event_types(twin).count("request_stopped") == 1
                assert event_types(twin).count("forked") == 1
            check_store(chat)

    asyncio.run(main())


KILLED = """
import sys
from openai2 import Chat
chat = Chat("sk-test", base_url=sys.argv[1], db=sys.argv[2], conversation="source")
chat.replay("new", name="twin")
"""


def test_killed_replay_resumes(tmp_path: Path) -> None:
    db = tmp_path / "log.db"
    with OfflineServer(delay=0.03) as server, Chat(KEY, base_url=server.base_url, db=db,
                                                    conversation="source") as chat:  # fmt: skip
        for _ in range(2):
            list(chat.stream_request("世界上最大的海洋是哪个?"))
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.base_url, str(db)], cwd=Path.cwd())
        deadline = time.monotonic() + 30
        while not [*drafts_of(chat)] and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(Refused, match="is running already"):
            chat.replay("new", name="twin")
        process.kill()
        process.wait()
        with chat.replay("new", name="twin") as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert "request_failed" in event_types(twin)
        check_store(chat)


def test_replay_all_runs_conversations_and_models_in_parallel(tmp_path: Path) -> None:
    api = FakeApi(lambda body: body["model"])
    with api.chat(tmp_path / "log.db", "a") as chat:
        for name in "abc":
            with api.chat(chat.engine, name) as one:
                one.request("one")
                one.request("two")
        chat.engine.create("empty")
        steps: list[Progress] = []

        async def run(fails: Callable[[int], bool]) -> list[Any]:
            api.fails = fails
            client = httpx2.AsyncClient(transport=httpx2.MockTransport(api.respond))
            async with Chat(KEY, db=chat.engine, http_client=client, max_retries=0) as template:
                return await template.async_replay_all(
                    models=["x", "no-such-model", "y"], jobs=3, progress=steps.append
                )

        before = len(api.bodies)
        once = [True]
        first = asyncio.run(run(lambda number: number >= before + 8 and bool(once) and once.pop()))
        failed = [one for one in first if one.error is not None]
        assert sum(isinstance(one.error, openai.NotFoundError) for one in failed) == 3
        assert sum(isinstance(one.error, openai.InternalServerError) for one in failed) == 1
        assert all(one.conversation is None for one in failed if one.model == "no-such-model")
        second = asyncio.run(run(lambda number: False))
        assert [one.missing for one in second if one.model != "no-such-model"] == [0] * 6
        asked = sum(one.asked for one in (*first, *second))
        assert asked == 3 * 2 * 2
        assert steps[-1].done == steps[-1].total == 9
        assert len(chat.engine.conversations()) == 4 + 6
        check_store(chat)


def test_replay_reports_progress(tmp_path: Path) -> None:
    api = FakeApi(lambda body: body["model"])
    with api.chat(tmp_path / "log.db", "a") as chat:
        for question in ("one", "two", "three"):
            chat.request(question)
        steps: list[Progress] = []
        chat.replay("x", progress=steps.append).close()

        async def run() -> None:
            client = httpx2.AsyncClient(transport=httpx2.MockTransport(api.respond))
            async with Chat(KEY, db=chat.engine, conversation=chat.conversation, http_client=client) as twin:
                (await twin.async_replay("y", at=chat.version - 2, progress=steps.append)).close()

        asyncio.run(run())
        progress = [(one.latest.model, one.latest.asked, one.latest.missing) for one in steps]
        assert progress == [("x", 1, 2), ("x", 2, 1), ("x", 3, 0), ("y", 1, 0)]
        assert {one.latest.source for one in steps} == {chat.conversation.id}
        assert {(one.done, one.total) for one in steps} == {(0, 1)}


def test_replay_all_refuses_zero_jobs() -> None:
    with FakeApi().chat() as chat, pytest.raises(BadInput, match="1 or more"):
        asyncio.run(chat.async_replay_all(jobs=0))
