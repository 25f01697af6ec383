"""A full disk: one clear error, no partial change, and work continues once there is space again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, Conversation, Engine, StoreUnavailable, user_msg
from openai2.offline import OfflineServer
from openai2.store import Transaction


class Limits:
    """A file with a maximum number of pages: SQLite raises the same error as for a full disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, engine: Engine) -> None:
        def job(tx: Transaction) -> None:
            (pages,) = tx.sql.execute("PRAGMA page_count").fetchone()
            tx.sql.execute(f"PRAGMA max_page_count = {pages}")

        engine.store.transact(job)

    def free(self, engine: Engine) -> None:
        engine.store.transact(lambda tx: tx.sql.execute("PRAGMA max_page_count = 1000000"))


class Disk:
    """A real file system of two megabytes, filled by a file of zeros."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.db"
        self.ballast = folder / "ballast"

    def fill(self, engine: Engine) -> None:
        with contextlib.suppress(OSError), self.ballast.open("wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self, engine: Engine) -> None:
        self.ballast.unlink()


@pytest.fixture(params=["limit", "disk"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "limit":
        yield Limits(tmp_path / "a.db")
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.call(mounted, stderr=subprocess.DEVNULL):
        pytest.skip("cannot mount a file system here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as running:
        yield running


def until_full(step: Callable[[int], object]) -> StoreUnavailable:
    """Repeat *step* until the disk is full, and return the error; free pages may allow a few steps."""
    for number in range(2000):
        try:
            step(number)
        except StoreUnavailable as error:
            return error
    pytest.fail("the disk is never full")


def state(conversation: Conversation) -> tuple[str, list[dict[str, Any]], int]:
    return conversation.head, conversation.messages(), conversation.version


def check_error(error: StoreUnavailable) -> None:
    assert "full" in str(error) and len(str(error).splitlines()) == 1
    assert ".db" in str(error)


def test_messages_on_a_full_disk_are_refused_as_a_whole(full: Any) -> None:
    with Engine(full.path) as engine:
        conversation = engine.create("c")
        conversation.add([user_msg("before")])
        full.fill(engine)
        before_step: list[Any] = []

        def step(number: int) -> None:
            before_step[:] = [state(conversation)]
            conversation.add([user_msg(f"{number} a" * 500), user_msg(f"{number} b" * 500)])

        check_error(until_full(step))
        assert state(conversation) == before_step[0]
        assert engine.open("c").messages() == before_step[0][1]
        check_error(until_full(lambda number: engine.create(f"another {number}" + "x" * 150)))
        assert engine.verify().ok  # reading still works
        full.free(engine)
        conversation.add([user_msg("after")])
        assert conversation.messages() == [*before_step[0][1], user_msg("after")]
        assert engine.verify().ok
    with Engine(full.path) as engine:
        assert engine.open("c").messages()[-1] == user_msg("after")


@pytest.mark.parametrize("how", ["request", "stream", "async"])
def test_requests_on_a_full_disk_fail_clearly(how: str, full: Any, server: OfflineServer) -> None:
    with Chat("sk-fake", "m", base_url=server.base_url, db=full.path, conversation="c") as chat:
        chat.request("before")

        def ask(number: int) -> str:
            text = f"{number} " + "long " * 2000
            if how == "request":
                return chat.request(text)
            if how == "stream":
                return next(iter(chat.stream_request(text)))
            return asyncio.run(awaited(text))

        async def awaited(text: str) -> str:
            return await chat.async_request(text)

        full.fill(chat.engine)
        before_step: list[Any] = []

        def step(number: int) -> None:
            before_step[:] = [chat.fetch_messages()]
            ask(number)

        check_error(until_full(step))
        assert chat.fetch_messages() == before_step[0]
        # If it was the end of a request that found no room, the request is still to be closed.
        full.free(chat.engine)
        assert chat.request("自然数1的后面是几?") == "2"
        assert chat.fetch_messages()[:-2] == before_step[0]
        types = [record.type for record in chat.events()]
        asked = types.count("request_started")
        ended = types.count("request_failed") + sum(
            "answer" in record.data for record in chat.events() if record.type == "message_added"
        )
        with chat.engine.store.reading() as reader:
            assert asked - ended == len(reader.drafts())
        assert chat.engine.verify().ok


def test_full_disk_fails_every_job_of_a_commit(full: Any) -> None:
    """Each caller gets the error, and no job is stored in part."""
    with Engine(full.path) as engine:
        conversations = [engine.create(f"c{number}") for number in range(4)]
        full.fill(engine)
        outcomes: list[BaseException | None] = []

        async def many() -> None:
            from openai2.drivers import run_in_store

            def job(conversation: Conversation) -> Callable[[Transaction], Any]:
                return conversation.commit_job(lambda state: decide(conversation.id))

            jobs = [run_in_store(engine.store, job(conversation)) for conversation in conversations]
            outcomes.extend(await asyncio.gather(*jobs, return_exceptions=True))

        def decide(name: str) -> list[Any]:
            from openai2.core import decisions, messages

            return decisions.add(messages.encode_all([user_msg(name * 30_000)]))

        asyncio.run(many())
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert failed and all(isinstance(outcome, StoreUnavailable) for outcome in failed)
        full.free(engine)
        for conversation, outcome in zip(conversations, outcomes, strict=True):
            assert len(conversation.messages()) == (0 if isinstance(outcome, BaseException) else 1)
            conversation.add([user_msg("after")])
        assert engine.verify().ok
