"""The writer: what becomes of a transaction, step by step, with a disk and loops that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

from openai2 import Chat, Conversation, Engine, user_msg
from openai2.drivers import run_in_store
from openai2.history.stream_cache import StreamCache
from openai2.offline import OfflineServer
from openai2.store import SqliteStore, Transaction, open_store
from openai2.store.group_commit import Ticket, Writer

# pyright: reportPrivateUsage=false

KEY = "sk-writer-0000000000"


# -- Threads ---------------------------------------------------------------------------------------


def _pass() -> None:
    pass


class Disk:
    """Begins and commits in memory, and can be made to fail."""

    def __init__(self, quick: bool = False) -> None:
        self.log: list[str] = []
        self.open = False
        self.busy = False  # another process writes to the file
        self.strike_after_commit: BaseException | None = None
        self.committing: Callable[[], object] = _pass
        self.writer = Writer(
            begin=self.begin,
            mark=lambda: self.log.append("mark"),
            release=lambda: self.log.append("release"),
            rewind=self.rewind,
            commit=self.commit,
            rollback=self.rollback,
            is_open=lambda: self.open,
            quick=quick,
        )

    def begin(self, wait: bool) -> bool:
        assert not self.open
        if self.busy and not wait:
            return False
        self.open = True
        self.log.append("begin")
        return True

    def commit(self) -> None:
        self.committing()
        self.open = False
        self.log.append("commit")
        if self.strike_after_commit is not None:
            strike, self.strike_after_commit = self.strike_after_commit, None
            raise strike

    def rewind(self) -> None:
        if not self.open:
            raise RuntimeError("no such savepoint")
        self.log.append("rewind")

    def rollback(self) -> bool:
        was, self.open = self.open, False
        self.log.append("rollback")
        return was

    def queue(self, *jobs: Any) -> list[Ticket[Any]]:
        """Jobs of other threads, that wait for this one to commit for them."""
        tickets = [Ticket(job, None) for job in jobs]
        self.writer._waiting.extend(tickets)
        return tickets


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_a_job_is_nobody_elses() -> None:
    disk = Disk()
    others = disk.queue(lambda: "one", lambda: "two")
    with pytest.raises(KeyboardInterrupt):
        disk.writer.run(_interrupt)
    assert disk.log[-1] == "rollback" and not any(ticket.done for ticket in others)
    assert disk.writer.run(lambda: "mine") == "mine"
    assert [ticket.outcome() for ticket in others] == ["one", "two"]
    assert disk.log[-1] == "commit" and not disk.open


def test_ctrl_c_right_after_the_commit() -> None:
    disk = Disk()
    (other,) = disk.queue(lambda: "one")
    disk.strike_after_commit = KeyboardInterrupt()
    ran: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        disk.writer.run(lambda: ran.append("mine"))
    assert other.done and other.outcome() == "one"
    disk.writer.run(lambda: None)
    assert ran == ["mine"]  # what is committed is not done again


def test_a_commit_that_fails_fails_all() -> None:
    disk = Disk()
    (other,) = disk.queue(lambda: "one")
    disk.strike_after_commit = OSError("disk full")
    with pytest.raises(OSError, match="full"):
        disk.writer.run(lambda: "mine")
    with pytest.raises(OSError, match="full"):
        other.outcome()
    assert disk.writer.run(lambda: "again") == "again"


def test_a_job_that_undoes_the_whole_transaction_says_why() -> None:
    disk = Disk()

    def full() -> None:
        disk.open = False  # SQLite rolls back by itself where the disk is full
        raise OSError("disk full")

    (other,) = disk.queue(lambda: "one")
    with pytest.raises(OSError, match="disk full"):
        disk.writer.run(full)
    with pytest.raises(OSError, match="disk full"):
        other.outcome()
    assert disk.writer.run(lambda: "again") == "again"


def test_a_job_that_comes_in_the_middle_of_ones_own_transaction() -> None:
    """As when the garbage collector closes somebody's dropped stream there."""
    disk = Disk()
    late = threading.Event()

    def job() -> str:
        disk.writer.run(late.set)
        assert not late.is_set()
        return "mine"

    assert disk.writer.run(job) == "mine"
    assert late.wait(30)
    disk.writer.stop()
    assert disk.log == ["begin", "commit"] * 2


# -- Tasks: their jobs in their loop, the commit in the writer's thread --------------------------------


class Loop:
    """An event loop whose rounds are turned by hand."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self.closed = False

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> None:
        self.calls.put((callback, args))

    def call_soon_threadsafe(self, callback: Callable[..., Any], /, *args: Any) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.call_soon(callback, *args)

    def turn(self) -> None:
        """One round: what was called for before it."""
        for _ in range(self.calls.qsize()):
            callback, args = self.calls.get()
            callback(*args)


class Tasks(Disk):
    """A disk whose writer's thread comes when it is told to, and tasks that ask for jobs."""

    def __init__(self, quick: bool = False) -> None:
        super().__init__(quick)
        self.loop = Loop()
        self.told: list[Any] = []
        self.writer._wake = SimpleQueue()

    def ask(self, name: str, short: bool = True, loop: Loop | None = None, job: Any = None) -> None:
        """A task wants a job done, which goes into the log as *name*."""

        def note() -> str:
            self.log.append(name)
            return name if job is None else job()

        def tell(ticket: Ticket[Any]) -> None:
            self.told.append(name if ticket.error is None else ticket.error)

        self.writer.submit(note, tell, loop or self.loop, short)

    def awaken(self) -> int:
        """Let the writer's thread do what it was woken for; how often it was."""
        wake = self.writer._wake
        assert wake is not None
        times = wake.qsize()
        wake.put(False)
        thread = threading.Thread(target=self.writer._serve, args=(wake,))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        return times

    def finish(self) -> None:
        """Turn all wheels until they stand still."""
        while self.awaken() + self.loop.calls.qsize():
            self.loop.turn()


@contextlib.contextmanager
def elsewhere(lock: Any) -> Generator[None, None, None]:
    """Another thread has the lock."""
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            assert let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(30)
    try:
        yield
    finally:
        let_go.set()
        thread.join(30)


def test_tasks_of_a_round_share_a_transaction_and_hear_of_it_after_the_commit() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.ask("b")
    assert disk.log == []
    disk.loop.turn()
    assert disk.log == ["begin", "a", "b"]
    disk.loop.turn()
    assert disk.told == [] and disk.open
    assert disk.awaken() == 1
    assert disk.log[-1] == "commit" and disk.told == []
    disk.loop.turn()
    assert disk.told == ["a", "b"]


def test_a_task_joins_the_transaction_that_is_open() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    disk.ask("b")
    disk.loop.turn()
    disk.finish()
    assert disk.log == ["begin", "a", "b", "commit"] and disk.told == ["a", "b"]


def test_what_comes_during_a_commit_is_run_by_its_loop_right_after() -> None:
    disk = Tasks()
    threads: list[int] = []
    another = Loop()

    def both() -> None:
        disk.loop.turn()
        another.turn()

    def commit() -> None:
        disk.committing = _pass
        disk.ask("b", job=lambda: threads.append(threading.get_ident()))
        disk.ask("c", loop=another)
        here = threading.Thread(target=both)  # the lock is not theirs
        here.start()
        here.join(30)

    disk.committing = commit
    disk.ask("a")
    disk.loop.turn()
    assert disk.awaken() == 1  # nobody woke it again: it is there
    assert disk.log == ["begin", "a", "commit"]
    disk.loop.turn()
    assert disk.log[3:] == ["begin", "b", "c"]
    assert threads == [threading.get_ident()] and disk.told == ["a"]
    another.turn()
    disk.finish()
    another.turn()
    assert disk.told == ["a", "b", "c"] and disk.log.count("commit") == 2


def test_a_loop_does_not_wait_for_the_lock() -> None:
    disk = Tasks()
    disk.ask("a")
    with elsewhere(disk.writer._lock):
        disk.loop.turn()
    assert disk.log == []
    disk.finish()
    assert disk.log == ["begin", "a", "commit"] and disk.told == ["a"]


def test_a_loop_does_not_wait_for_another_process() -> None:
    disk = Tasks()
    disk.busy = True
    disk.ask("a")
    disk.ask("b")
    disk.loop.turn()
    assert disk.log == []
    disk.finish()
    assert disk.log == ["begin", "mark", "a", "release", "mark", "b", "release", "commit"]
    assert disk.told == ["a", "b"]


def test_a_long_job_is_run_by_the_thread() -> None:
    disk = Tasks()
    threads: list[int] = []
    disk.ask("short")
    disk.ask("long", short=False, job=lambda: threads.append(threading.get_ident()))
    disk.ask("behind it")
    disk.loop.turn()
    assert disk.log == ["begin", "short"]
    disk.finish()
    assert disk.told == ["short", "long", "behind it"] and disk.log.count("commit") == 2
    assert threads and threads[0] != threading.get_ident()


def test_a_job_that_fails_in_a_loop_fails_alone() -> None:
    disk = Tasks()
    fault = KeyError("mine")

    def fail() -> None:
        raise fault

    disk.ask("alone", job=fail)
    disk.loop.turn()
    assert disk.log == ["begin", "alone", "rollback"]  # nothing is left open
    disk.loop.turn()
    assert disk.told == [fault] and disk.awaken() == 0
    del disk.log[:], disk.told[:]
    disk.ask("a")
    disk.ask("b", job=fail)
    disk.ask("c")
    disk.loop.turn()
    disk.finish()
    assert disk.told == ["a", fault, "c"]
    undone, again = disk.log[:4], disk.log[4:]
    assert undone == ["begin", "a", "b", "rollback"]
    assert " ".join(again) == "begin mark a release mark b rewind release mark c release commit"


def test_a_job_that_fails_undoes_none_of_an_earlier_round() -> None:
    disk = Tasks()
    faults = [KeyError("only once")]

    def fail_once() -> str:
        if faults:
            raise faults.pop()
        return "b"

    disk.ask("a")
    disk.loop.turn()
    disk.ask("b", job=fail_once)
    disk.loop.turn()
    assert disk.log[-1] == "rollback" and not disk.open
    disk.ask("c")
    disk.finish()
    assert disk.told == ["a", "b", "c"]
    again = " ".join(disk.log[4:])
    assert again == "begin mark a release mark b release mark c release commit"


def test_a_job_of_a_thread_is_never_undone_for_anothers_fault() -> None:
    disk = Tasks()

    def fail() -> None:
        raise KeyError("mine")

    disk.ask("a")
    disk.loop.turn()
    disk.ask("b", job=fail)
    assert disk.writer.run(partial(disk.log.append, "long")) is None
    disk.finish()
    assert disk.log.count("long") == 1 and "rollback" not in disk.log and disk.log.count("commit") == 1


def test_a_commit_that_fails_is_told_to_all_tasks() -> None:
    disk = Tasks()
    fault = disk.strike_after_commit = OSError("disk full")
    disk.ask("a")
    disk.ask("b")
    disk.loop.turn()
    disk.finish()
    assert disk.told == [fault, fault] and not disk.open
    disk.ask("c")
    disk.loop.turn()
    disk.finish()
    assert disk.told[2:] == ["c"]


def test_a_job_that_undoes_the_transaction_of_others_fails_them_with_it() -> None:
    disk = Tasks()
    fault = OSError("disk full")

    def full() -> None:
        disk.open = False
        raise fault

    disk.ask("a")
    disk.loop.turn()
    disk.ask("b", job=full)
    disk.loop.turn()
    disk.finish()
    assert disk.told == [fault, fault] and "commit" not in disk.log


def test_a_thread_goes_on_with_what_tasks_have_begun() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    assert disk.writer.run(lambda: disk.log.append("mine")) is None
    assert disk.log == ["begin", "a", "mark", "mine", "release", "commit"]
    disk.finish()
    assert disk.told == ["a"] and disk.log.count("begin") == 1


def test_who_wants_to_be_alone_ends_what_tasks_have_begun() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    with disk.writer.alone():
        assert not disk.open and disk.log[-1] == "commit"
    disk.loop.turn()
    assert disk.told == ["a"]


def test_ctrl_c_in_a_loop_loses_no_job() -> None:
    disk = Tasks()
    strikes = [_interrupt]
    disk.ask("a")
    disk.loop.turn()
    disk.ask("b", job=lambda: strikes.pop()() if strikes else "b")
    disk.ask("c")
    with pytest.raises(KeyboardInterrupt):
        disk.loop.turn()
    assert disk.log[-1] == "rollback" and not disk.open
    with elsewhere(disk.writer._lock):  # it is not the loop's thread that has it still
        pass
    disk.finish()
    assert disk.told == ["a", "b", "c"] and disk.log.count("a") == 2 and disk.log.count("commit") == 1


def test_ctrl_c_in_a_thread_that_goes_on_with_it_loses_no_job() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    with pytest.raises(KeyboardInterrupt):
        disk.writer.run(_interrupt)
    assert disk.log[-1] == "rollback"
    disk.finish()
    assert disk.told == ["a"] and disk.log.count("a") == 2 and disk.log[-1] == "commit"


def test_ctrl_c_right_after_a_commit_for_tasks_does_nothing_twice() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    disk.strike_after_commit = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        disk.writer.run(lambda: disk.log.append("mine"))
    disk.finish()
    assert disk.told == ["a"]
    assert disk.log == ["begin", "a", "mark", "mine", "release", "commit", "rollback"]


def test_ctrl_c_before_tasks_are_told_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Tasks()
    disk.ask("a")
    with monkeypatch.context() as patch:
        patch.setattr(disk.writer, "_tell", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            disk.writer.run(lambda: None)
    disk.finish()
    assert disk.told == ["a"] and disk.log.count("commit") == 1


class Strike:
    """Ctrl-C at the end of the *nth* call that the writer's code makes, or as a function of its begins:
    there, and at a jump back, is where the interpreter looks for signals.

    Not where a loop's callback begins: of that, asyncio itself remembers nothing, which is why its `run`
    takes Ctrl-C in hand.
    """

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        here = frame.f_code
        if here.co_filename != Writer.run.__code__.co_filename or here.co_name == "<genexpr>":
            return
        if event == "c_return" or (event == "call" and here.co_name not in ("_collect", "_told")):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    def __enter__(self) -> Strike:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def _in_a_thread(disk: Tasks) -> None:
    disk.writer.run(lambda: disk.log.append("mine"))


def _in_a_loop(disk: Tasks) -> None:
    disk.loop.turn()
    disk.awaken()
    disk.loop.turn()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("struck", [_in_a_thread, _in_a_loop])
def test_wherever_ctrl_c_strikes_each_job_is_done_once_and_told(
    struck: Callable[[Tasks], None], begun: bool, quick: bool
) -> None:
    nth = 0
    for nth in count(1):
        disk = Tasks(quick)
        for name in "ab":
            disk.ask(name)
            if begun:
                disk.loop.turn()
        waiting = disk.queue(partial(disk.log.append, "thread"))
        strike = Strike(nth)
        with contextlib.suppress(KeyboardInterrupt), strike:
            struck(disk)
        with elsewhere(disk.writer._lock):  # nobody has it
            pass
        disk.finish()
        disk.writer.run(lambda: None)  # that other thread, when its turn comes
        disk.finish()
        at = f"struck at {nth}"
        assert sorted({*disk.told}) == ["a", "b"] and waiting[0].done, at
        assert not disk.open, at
        kept: list[str] = []
        for step in disk.log:  # what was rolled back was done again
            kept = kept[: kept.index("begin")] if step == "rollback" and "begin" in kept else [*kept, step]
            if step == "commit":
                kept.remove("begin")
        assert [kept.count(name) for name in ("a", "b", "thread")] == [1, 1, 1], (at, disk.log)
        assert kept.count("mine") <= 1, at
        if strike.left > 0:
            break
    assert nth > 1


def test_wherever_ctrl_c_strikes_one_who_is_alone_nothing_is_left_open() -> None:
    nth = 0
    for nth in count(1):
        disk = Tasks()
        strike = Strike(nth)
        with contextlib.suppress(KeyboardInterrupt), strike:
            _in_a_thread(disk)
        with elsewhere(disk.writer._lock):  # nobody has it
            pass
        disk.writer.run(partial(disk.log.append, "next"))
        at = (f"struck at {nth}", disk.log)
        assert not disk.open, at
        assert disk.log[-3:] == ["begin", "next", "commit"], at
        before = disk.log[:-3]
        assert before.count("mine") <= 1 and before.count("begin") <= 1, at
        if strike.left > 0:
            assert before == ["begin", "mine", "commit"]
            break
        assert not before or before[-1] in ("commit", "rollback"), at
    assert nth > 1


def test_a_loop_hears_that_it_can_run_what_came_during_anothers_commit() -> None:
    disk = Tasks()
    another = Loop()

    def commit() -> None:
        disk.committing = _pass
        disk.ask("b", loop=another)
        here = threading.Thread(target=another.turn)
        here.start()
        here.join(30)

    disk.committing = commit
    disk.ask("a")
    disk.loop.turn()
    disk.awaken()
    assert "b" not in disk.log
    another.turn()
    assert disk.log == ["begin", "a", "commit", "begin", "b"]
    disk.finish()


def test_a_loop_that_was_closed_stops_nobody() -> None:
    disk = Tasks()
    gone = Loop()

    def commit() -> None:
        disk.committing = _pass
        disk.ask("b", loop=gone)  # its loop never comes round to it
        gone.closed = True

    disk.committing = commit
    disk.ask("a", loop=gone)
    gone.turn()
    disk.finish()
    assert disk.told == [] and disk.log == ["begin", "a", "commit", "begin", "b", "commit"]
    disk.ask("c")
    disk.loop.turn()
    disk.finish()
    assert disk.told == ["c"]


def test_no_more_than_so_many_share_a_commit() -> None:
    disk = Tasks()
    for number in range(2 * Writer.MOST + 1):
        disk.ask(str(number))
    disk.loop.turn()
    disk.loop.turn()
    assert len(disk.log) == 1 + Writer.MOST
    disk.finish()
    assert disk.told == [str(number) for number in range(2 * Writer.MOST + 1)]
    assert disk.log.count("commit") == 3


def test_to_stop_is_to_finish() -> None:
    disk = Tasks()
    disk.ask("a")
    disk.loop.turn()
    disk.ask("b")
    disk.ask("c", short=False)
    disk.writer.stop()
    assert disk.log[-1] == "commit" and not disk.open
    disk.loop.turn()
    assert disk.told == ["a", "b", "c"]


def test_without_a_disk_to_wait_for_the_loop_commits() -> None:
    disk = Tasks(quick=True)
    disk.ask("a")
    disk.loop.turn()
    assert disk.log == ["begin", "a", "commit"]
    disk.loop.turn()
    assert disk.told == ["a"] and disk.awaken() == 0


# -- The same on a file ------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(open_store(tmp_path / "a.db")) as store:
        yield store


@pytest.fixture
def engine(store: SqliteStore) -> Engine:
    return Engine(store)


def test_readers_do_not_see_what_is_open(store: SqliteStore, engine: Engine) -> None:
    conversation = engine.create()
    writer = store._writer
    writer._wake = SimpleQueue()  # no thread comes to commit
    loop, told = Loop(), list[Any]()
    engine.store.submit(conversation.add_job([user_msg("a")]), told.append, loop, short=True)
    loop.turn()
    assert writer._open and not told
    assert conversation.messages() == [] and conversation.version == 1
    with writer.alone():
        assert conversation.messages() == [user_msg("a")]
    loop.turn()
    assert [len(outcome()) for outcome in told] == [1]


def test_a_loop_goes_on_while_another_process_writes(store: SqliteStore, engine: Engine) -> None:
    conversation = engine.create()
    assert store.path is not None
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:

        async def main() -> None:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(run_in_store(engine.store, conversation.add_job([user_msg("a")])))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not adding.done()
            other.execute("ROLLBACK")
            await adding

        asyncio.run(main())
    assert conversation.messages() == [user_msg("a")]


def test_who_is_cancelled_waits_for_the_disk(store: SqliteStore, engine: Engine) -> None:
    conversation = engine.create()
    writer = store._writer
    commit, reached, go_on = writer._commit, threading.Event(), threading.Event()

    def slow() -> None:
        reached.set()
        assert go_on.wait(30)
        commit()

    writer._commit = slow

    async def main() -> None:
        adding = asyncio.create_task(run_in_store(engine.store, conversation.add_job([user_msg("a")])))
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


def test_loops_and_threads_write_to_one_store(engine: Engine) -> None:
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
                await run_in_store(engine.store, own.add_job([user_msg(str(number))]), short=number % 3 > 0)

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


def test_a_job_that_reads_a_past_is_not_run_in_the_loop(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.create("old").add([user_msg("a")])
    threads: list[int] = []
    commit: Any = StreamCache.commit

    def noted(self: StreamCache, tx: Transaction, decide: Any) -> Any:
        threads.append(threading.get_ident())
        return commit(self, tx, decide)

    monkeypatch.setattr(StreamCache, "commit", noted)
    here = threading.get_ident()
    with OfflineServer() as server:

        async def ask(chat: Chat, **options: Any) -> list[bool]:
            del threads[:]
            await chat.async_request(**options)
            return [thread == here for thread in threads]

        async def main() -> None:
            old = Chat(KEY, "offline", base_url=server.base_url, db=engine, conversation="old")
            assert await ask(old, text="first") == [False, True]
            assert await ask(old, text="again") == [True, True]
            assert await ask(old, text="long " * 20_000) == [False, True]
            new = Chat(KEY, "offline", base_url=server.base_url, db=engine)
            assert await ask(new, text="first") == [True, True]

        asyncio.run(main())


def test_what_is_at_hand(engine: Engine) -> None:
    conversation = engine.new()
    assert conversation.is_cached
    conversation.add([user_msg("a")])
    assert conversation.is_cached
    opened = engine.open(conversation.id)
    assert not opened.is_cached
    opened.messages()
    assert opened.is_cached

    def fail(tx: Transaction) -> None:
        conversation.add_job([user_msg("b")])(tx)
        raise KeyError("undone")

    with pytest.raises(KeyError):
        engine.store.transact(fail)
    assert not opened.is_cached  # it may have seen what was undone
