"""Threads, event loops and processes that use one store at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openai2 import Conversation, Engine, user_msg
from openai2.core import events as ev
from openai2.drivers import run_in_store
from openai2.errors import Refused
from openai2.store import SqliteStore, Transaction
from openai2.store.group_commit import Ticket
from tests.support.stores import added, check_chain, python, stream

# pyright: reportPrivateUsage=false


# -- Threads and loops ---------------------------------------------------------------------------------


def test_threads_share_commits(file: SqliteStore) -> None:
    commits: list[str] = []
    file.transact(lambda tx: tx.sql.set_trace_callback(commits.append))

    def write(number: int) -> None:
        for version in range(20):
            file.append(f"c{number}", version, [ev.Created() if not version else added(str(version))])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    file.transact(lambda tx: tx.sql.set_trace_callback(None))
    for number in range(16):
        assert len(stream(file, f"c{number}")) == 20
        check_chain(file, f"c{number}")
    assert 1 <= commits.count("COMMIT") <= 16 * 20 + 1
    assert commits.count("BEGIN IMMEDIATE") >= commits.count("COMMIT") - 1


def test_readers_do_not_wait_for_the_writer(file: SqliteStore) -> None:
    before = file.append("c", 0, [ev.Created()])
    writing, read = threading.Event(), threading.Event()

    def job(tx: Transaction) -> None:
        tx.append("c", 1, [added("not yet")])
        writing.set()
        assert read.wait(30)

    writer = threading.Thread(target=file.transact, args=(job,))
    writer.start()
    assert writing.wait(30)
    assert stream(file) == before  # neither waits, nor sees what is not committed
    read.set()
    writer.join(30)
    assert len(stream(file)) == 2


def test_conversation_hides_uncommitted_events(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        conversation = engine.create()
        appended, read = threading.Event(), threading.Event()

        def job(tx: Transaction) -> None:
            conversation.commit_job(lambda state: [added("not yet")])(tx)
            appended.set()
            assert read.wait(30)
            raise KeyError("it comes to nothing")

        def write() -> None:
            with pytest.raises(KeyError):
                engine.store.transact(job)

        writer = threading.Thread(target=write)
        writer.start()
        assert appended.wait(30)
        assert (conversation.version, conversation.messages()) == (1, [])
        read.set()
        writer.join(30)
        assert (conversation.version, conversation.messages()) == (1, [])
        conversation.add([user_msg("now")])
        assert conversation.messages() == [user_msg("now")]


def test_loop_runs_on_while_another_process_writes(file: SqliteStore) -> None:
    conversation = Engine(file).create()
    assert file.path is not None
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:

        async def main() -> None:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(run_in_store(file, conversation.add_job([user_msg("a")])))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not adding.done()
            other.execute("ROLLBACK")
            await adding

        asyncio.run(main())
    assert conversation.messages() == [user_msg("a")]


def test_cancelled_task_waits_for_its_commit(file: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Engine(file).create()
    reached, go_on = threading.Event(), threading.Event()
    commit = file._writer._steps.commit

    def slow() -> None:
        reached.set()
        assert go_on.wait(30)
        commit()

    monkeypatch.setattr(file._writer._steps, "commit", slow)

    async def main() -> None:
        adding = asyncio.create_task(run_in_store(file, conversation.add_job([user_msg("a")])))
        await asyncio.to_thread(reached.wait, 30)
        for _ in range(3):
            adding.cancel()
            await asyncio.sleep(0)
        assert not adding.done() and conversation.messages() == []
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert conversation.messages() == [user_msg("a")]

    asyncio.run(main())


def test_loops_and_threads_write_to_one_store(store: SqliteStore) -> None:
    engine = Engine(store)
    shared = engine.create("shared")

    def plain(name: str) -> None:
        own = engine.create(name)
        for number in range(40):
            shared.add([user_msg(f"{name} {number}")])
            own.add([user_msg(str(number))])

    def looping(name: str) -> None:
        async def task(own: Conversation, who: str) -> None:
            for number in range(10):
                await run_in_store(engine.store, shared.add_job([user_msg(f"{who} {number}")]))
                await run_in_store(engine.store, own.add_job([user_msg(str(number))]))

        async def main() -> None:
            names = [f"{name}{task}" for task in range(8)]
            await asyncio.gather(*(task(engine.create(who), who) for who in names))

        asyncio.run(main())

    threads = [threading.Thread(target=plain, args=(name,)) for name in "xy"]
    threads += [threading.Thread(target=looping, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    said = [str(message["content"]).split() for message in shared.messages()]
    assert len(said) == 2 * 40 + 2 * 8 * 10
    for name in {name for name, _ in said}:
        numbers = [int(number) for who, number in said if who == name]
        assert numbers == list(range(len(numbers)))
        assert engine.open(name).messages() == [user_msg(str(number)) for number in numbers]
    assert engine.verify().ok


def test_close_finishes_submitted_jobs_and_ends_the_thread(store: SqliteStore) -> None:
    """Any object with `call_soon_threadsafe` serves as a loop."""

    class Loop:
        def call_soon_threadsafe(self, callback: Callable[..., Any], /, *args: Any) -> None:
            callback(*args)

    def fail(tx: Transaction) -> None:
        tx.append("e", 0, [ev.Created()])
        raise KeyError("mine")

    heard = threading.Semaphore(0)
    tickets: list[Ticket[Any]] = [
        store.submit(lambda tx: tx.append("c", 0, [ev.Created()]), heard.release, Loop()),
        store.submit(fail, heard.release, Loop()),
        store.submit(lambda tx: tx.append("d", 0, [ev.Created()]), heard.release, Loop()),
        store.submit(lambda tx: tx.sql.execute("DELETE FROM events"), heard.release, Loop()),
    ]
    store.close()
    assert all(ticket.is_done for ticket in tickets)
    assert store.is_durable == heard.acquire(blocking=False)
    assert [len(tickets[n].outcome()) for n in (0, 2)] == [1, 1]
    for number, error in ((1, KeyError), (3, Refused)):
        with pytest.raises(error):
            tickets[number].outcome()
    assert not [thread for thread in threading.enumerate() if thread.name == "openai2-writer"]


# -- Processes -----------------------------------------------------------------------------------------

WRITER = """
import sys
from openai2 import Engine, user_msg
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = Engine(path, synchronous="OFF")
print("ready", flush=True)
sys.stdin.readline()
conversation = engine.open_or_create("shared")
for number in range(count):
    conversation.add([user_msg(f"{who} {number}"), user_msg(f"{who} {number}")])
engine.close()
"""


def test_processes_write_to_one_conversation(tmp_path: Path) -> None:
    writers = [python(WRITER, tmp_path / "a.db", who, 25) for who in "abc"]
    for writer in writers:  # one made the tables, the others waited
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Engine(tmp_path / "a.db") as engine:
        texts = [message["content"] for message in engine.open("shared").messages()]
        assert texts[::2] == texts[1::2]  # messages added in one call are neighbours
        for who in "abc":
            assert [t for t in texts[::2] if t[0] == who] == [f"{who} {n}" for n in range(25)]
        assert engine.verify().ok


def test_opening_waits_for_another_programs_transaction(tmp_path: Path) -> None:
    """SQLite's busy timeout does not cover the change to WAL mode."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        with Engine(path) as engine:
            release.join()
            engine.open_or_create("a").add([user_msg("here")])
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


MAKER = """
import sys, time
from openai2 import Engine
folder, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(count):
    while time.time() < start + 0.03 * number:
        pass
    Engine(f"{folder}/{number}.db", synchronous="OFF").close()
"""


def test_processes_create_the_same_files_at_once(tmp_path: Path) -> None:
    makers = [python(MAKER, tmp_path, 20) for _ in range(3)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    start = time.time() + 0.1
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write(f"{start}\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=60)
    assert [maker.returncode for maker in makers] == [0, 0, 0]
