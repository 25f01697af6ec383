"""The writer, step by step, on a transaction in memory that can be made to fail."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import FrameType
from typing import Any

import pytest

from openai2.store.group_commit import Ticket, Writer

# pyright: reportPrivateUsage=false

TIMEOUT = 30


class Loop:
    """An event loop that is not asyncio's, turned by hand."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []
        self.called = threading.Semaphore(0)
        self.is_closed = False

    def call_soon_threadsafe(self, callback: Callable[..., Any], /, *args: Any) -> None:
        if self.is_closed:
            raise RuntimeError("Event loop is closed")
        self.calls.append(partial(callback, *args))
        self.called.release()

    def turn(self) -> None:
        """Wait for a callback and run it."""
        assert self.called.acquire(timeout=TIMEOUT)
        self.calls.pop(0)()


class Disk:
    """The steps of a transaction, noted in a log; each can be made to fail."""

    def __init__(self, *, runs_at_once: bool = False) -> None:
        self.log: list[str] = []
        self.has_transaction = False
        self.faults: dict[str, BaseException] = {}  # by the step that they follow
        self.writer = Writer(self, runs_at_once=runs_at_once)
        self.loop = Loop()
        self.heard: list[Any] = []

    def _step(self, name: str) -> None:
        self.log.append(name)
        fault = self.faults.pop(name, None)
        if fault is not None:
            raise fault

    def begin(self) -> None:
        assert not self.has_transaction
        if "begin" not in self.faults:
            self.has_transaction = True
        self._step("begin")

    def savepoint(self) -> None:
        self._step("savepoint")

    def rollback_to_savepoint(self) -> None:
        self._step("undo")

    def release_savepoint(self) -> None:
        self._step("release")

    def commit(self) -> None:
        self.has_transaction = False
        self._step("commit")

    def rollback(self) -> None:
        if "rollback" not in self.faults:
            self.has_transaction = False
        self._step("rollback")

    def is_open(self) -> bool:
        return self.has_transaction

    def job(self, name: str, fault: BaseException | None = None) -> Callable[[], str]:
        """Return a job that goes into the log as *name*, and raises *fault*, if any."""

        def job() -> str:
            assert self.has_transaction
            self.log.append(name)
            if fault is not None:
                raise fault
            return name

        return job

    def submit(self, name: str, fault: BaseException | None = None, loop: Loop | None = None) -> Ticket[str]:
        """Submit such a job, whose outcome goes into `heard`."""
        tickets: list[Ticket[str]] = []

        def notify() -> None:
            for ticket in tickets:  # none if Ctrl-C has interrupted `submit`
                assert ticket.is_done and not self.has_transaction
                self.heard.append(ticket.error or ticket.result)

        tickets.append(self.writer.submit(self.job(name, fault), notify, loop or self.loop))
        return tickets[0]

    def finish(self) -> None:
        """Run what waits, and turn the loop for what was announced."""
        self.writer.stop()
        while self.loop.calls:
            self.loop.turn()


@pytest.fixture
def disk() -> Generator[Disk, None, None]:
    disk = Disk()
    yield disk
    disk.writer.stop()
    assert not disk.has_transaction


@contextmanager
def busy(writer: Writer) -> Generator[None, None, None]:
    """Another thread has the writer, so that jobs wait."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with writer.exclusive():
            taken.set()
            assert done.wait(TIMEOUT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(TIMEOUT)
    try:
        yield
    finally:
        done.set()
        thread.join(TIMEOUT)


@contextmanager
def running(work: Callable[[], Any]) -> Generator[None, None, None]:
    """Run *work* in another thread, which must end within the block or soon after."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def _queued(disk: Disk, number: int) -> None:
    """Wait until so many jobs are in the queue."""
    while len(disk.writer._waiting) < number:
        pass


def _error(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001
        return error
    return None


# -- Transactions --------------------------------------------------------------------------------------


def test_a_lone_job_runs_in_its_callers_thread(disk: Disk) -> None:
    assert disk.writer.run(disk.job("a")) == "a"
    assert disk.log == ["begin", "a", "commit"]
    assert disk.writer._thread is None


def test_a_lone_job_that_fails_is_rolled_back(disk: Disk) -> None:
    with pytest.raises(KeyError):
        disk.writer.run(disk.job("a", KeyError()))
    assert disk.log == ["begin", "a", "rollback"]


def test_waiting_jobs_share_one_commit_and_are_announced_after_it(disk: Disk) -> None:
    results: list[str] = []
    with ExitStack() as threads, busy(disk.writer):
        threads.enter_context(running(lambda: results.append(disk.writer.run(disk.job("c")))))
        disk.submit("a")
        disk.submit("b")
        _queued(disk, 3)
        assert disk.log == [] and disk.heard == []
    disk.finish()
    assert disk.log.count("commit") == 1 and disk.log.count("savepoint") == 3
    assert disk.heard == ["a", "b"] and results == ["c"]


def test_a_job_that_fails_undoes_only_itself(disk: Disk) -> None:
    fault = KeyError("mine")
    with busy(disk.writer):
        for name in "abc":
            disk.submit(name, fault if name == "b" else None)
    disk.finish()
    expected = "begin savepoint a release savepoint b undo release savepoint c release commit"
    assert " ".join(disk.log) == expected
    assert disk.heard == ["a", fault, "c"]


@pytest.mark.parametrize("step", ["begin", "commit", "undo"])
def test_a_step_that_fails_fails_every_job_of_the_transaction(disk: Disk, step: str) -> None:
    fault = disk.faults[step] = OSError("disk full")
    errors: list[BaseException | None] = []
    with ExitStack() as threads, busy(disk.writer):
        threads.enter_context(running(lambda: errors.append(_error(partial(disk.writer.run, disk.job("c"))))))
        _queued(disk, 1)
        disk.submit("a")
        disk.submit("b", KeyError())
    disk.finish()
    assert disk.heard == [fault, fault] and errors == [fault]
    assert disk.writer.run(disk.job("next")) == "next"


def test_a_job_that_ends_the_transaction_fails_the_others_with_it(disk: Disk) -> None:
    """As SQLite rolls back everything if the disk is full."""
    fault = OSError("disk full")

    def fill() -> None:
        disk.has_transaction = False
        raise fault

    with busy(disk.writer):
        disk.submit("a")
        full = disk.writer.submit(fill, lambda: None, disk.loop)
    disk.finish()
    assert disk.heard == [fault] and full.error is fault and "commit" not in disk.log


def test_a_rollback_that_fails_is_repeated(disk: Disk) -> None:
    fault = KeyError()
    disk.faults["rollback"] = OSError()
    assert _error(partial(disk.writer.run, disk.job("a", fault))) is fault
    assert disk.writer.run(disk.job("b")) == "b"
    assert disk.log == ["begin", "a", "rollback", "rollback", "begin", "b", "commit"]


def test_a_transaction_holds_a_limited_number_of_jobs(disk: Disk) -> None:
    names = [str(number) for number in range(2 * Writer.MAX_JOBS + 1)]
    with busy(disk.writer):
        for name in names:
            disk.submit(name)
    disk.finish()
    assert disk.heard == names and disk.log.count("commit") == 3


def test_exclusive_waits_for_a_transaction_and_keeps_others_out(disk: Disk) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        assert go_on.wait(TIMEOUT)

    with running(partial(disk.writer.run, slow)):
        assert began.wait(TIMEOUT)
        threading.Timer(0.05, go_on.set).start()
        with disk.writer.exclusive():
            assert disk.log[-1] == "commit"
            ticket = disk.submit("a")
            assert disk.writer.run(disk.job("own")) == "own" and not ticket.is_done
    disk.finish()
    assert disk.heard == ["a"]


# -- Loops ---------------------------------------------------------------------------------------------


def test_each_loop_hears_of_its_jobs_in_one_callback(disk: Disk) -> None:
    another = Loop()
    with busy(disk.writer):
        for name in "abc":
            disk.submit(name)
        disk.submit("d", loop=another)
    disk.writer.stop()
    assert len(disk.loop.calls) == len(another.calls) == 1
    disk.loop.turn()
    assert disk.heard == ["a", "b", "c"]
    another.turn()
    assert disk.heard[3:] == ["d"]


def test_a_closed_loop_disturbs_no_other(disk: Disk) -> None:
    closed = Loop()
    closed.is_closed = True
    with busy(disk.writer):
        lost = disk.submit("a", loop=closed)
        disk.submit("b")
    disk.finish()
    assert disk.heard == ["b"] and lost.outcome() == "a"


def test_ctrl_c_in_a_notification_loses_no_other(disk: Disk) -> None:
    strikes = [KeyboardInterrupt()]

    def strike() -> None:
        if strikes:
            raise strikes.pop()

    with busy(disk.writer):
        disk.writer.submit(disk.job("a"), strike, disk.loop)
        disk.submit("b")
    with pytest.raises(KeyboardInterrupt):
        disk.loop.turn()
    disk.finish()
    assert disk.heard == ["b"]


def test_quick_commits_run_at_once_in_the_submitting_thread() -> None:
    disk = Disk(runs_at_once=True)
    assert disk.submit("a").outcome() == "a"
    failed = disk.submit("b", KeyError())
    assert failed.is_done and isinstance(failed.error, KeyError)
    assert disk.log == ["begin", "a", "commit", "begin", "b", "rollback"] and disk.writer._thread is None
    with busy(disk.writer):
        assert not disk.submit("c").is_done  # the loop does not wait for the other thread
    disk.finish()
    assert disk.heard == ["c"]


# -- The end -------------------------------------------------------------------------------------------


def test_stop_runs_what_waits_and_ends_the_thread(disk: Disk) -> None:
    with busy(disk.writer):
        disk.submit("a")
        thread = disk.writer._thread
        assert thread is not None and thread.is_alive()
    disk.writer.stop()
    assert not thread.is_alive() and disk.log[-1] == "commit"
    disk.writer.stop()
    disk.submit("late")
    disk.finish()
    assert disk.heard == ["a", "late"]


def test_the_writer_thread_can_stop_the_writer(disk: Disk) -> None:
    """As when it drops the last reference to a chat that owns the store."""
    disk.writer.submit(disk.writer.stop, lambda: None, disk.loop)
    disk.loop.turn()


# -- Finalizers: the garbage collector may close a dropped stream at any line ------------------------------


def test_a_job_run_inside_a_job_runs_after_it(disk: Disk) -> None:
    late = threading.Event()

    def outer() -> str:
        assert disk.writer.run(late.set) is None
        assert not late.is_set()
        return "outer"

    assert disk.writer.run(outer) == "outer"
    assert late.wait(TIMEOUT)
    late.clear()
    assert disk.writer.submit(outer, lambda: None, disk.loop) is not None
    assert late.wait(TIMEOUT)


class Strike:
    """Do something at the *nth* place where the interpreter looks for signals, or may collect garbage.

    Such places are the end of each call that the writer makes in this thread, and its functions' begins.
    """

    def __init__(self, nth: int, action: Callable[[], Any]) -> None:
        self.left = nth
        self._action = action

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code.co_filename == Writer.run.__code__.co_filename and event in ("c_return", "call"):
            self.left -= 1
            if not self.left:
                self._action()

    def __enter__(self) -> Strike:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _alone(disk: Disk) -> None:
    disk.writer.run(disk.job("mine"))


def _behind_others(disk: Disk) -> None:
    def slow() -> None:
        disk.log.append("a")
        time.sleep(0.002)

    disk.writer.submit(slow, lambda: None, disk.loop)
    disk.writer.run(disk.job("mine"))


def _submitting(disk: Disk) -> None:
    disk.submit("mine")


CALLERS = [_alone, _behind_others, _submitting]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("runs_at_once", [False, True])
def test_a_finalizer_deadlocks_nowhere(caller: Callable[[Disk], None], runs_at_once: bool) -> None:
    for nth in count(1):
        disk = Disk(runs_at_once=runs_at_once)
        strike = Strike(nth, partial(disk.writer.run, partial(disk.log.append, "finalizer")))
        with strike:
            caller(disk)
        disk.finish()
        assert disk.log.count("mine") == 1, nth
        assert disk.log.count("finalizer") == (strike.left <= 0), nth
        if strike.left > 0:
            break


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("runs_at_once", [False, True])
def test_ctrl_c_anywhere_leaves_each_job_done_once_or_not_at_all(
    caller: Callable[[Disk], None], runs_at_once: bool
) -> None:
    for nth in count(1):
        disk = Disk(runs_at_once=runs_at_once)
        strike = Strike(nth, _interrupt)
        was_struck = False
        try:
            with strike:
                caller(disk)
        except KeyboardInterrupt:
            was_struck = True
        with busy(disk.writer):  # no thread holds the lock for ever
            pass
        assert disk.writer.run(disk.job("next")) == "next"
        disk.finish()
        at = (nth, disk.log)
        kept: list[str] = []
        for step in disk.log:
            if step == "rollback" and "begin" in kept:
                del kept[kept.index("begin") :]
            elif step == "commit":
                kept.remove("begin")
            elif step != "rollback":
                kept.append(step)
        assert kept.count("mine") == 1 or (was_struck and "mine" not in kept), at
        assert kept.count("next") == 1 and disk.log.count("mine") <= 1, at
        assert kept.count("a") == (caller is _behind_others and (not was_struck or "a" in disk.log)), at
        if strike.left > 0:
            assert not was_struck
            break


def test_ctrl_c_withdraws_a_job_that_waits(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    with busy(disk.writer):
        other = disk.submit("other")
        monkeypatch.setattr(disk.writer, "_wake_thread", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            disk.writer.run(disk.job("mine"))
        monkeypatch.undo()
    disk.finish()
    assert other.outcome() == "other" and "mine" not in disk.log
