"""Run jobs in write transactions; jobs that wait at the same time share one commit.

A caller that finds the queue empty runs its job in its own thread. Every other job goes into the queue, and
the writer thread runs all that wait: one transaction, a savepoint per job, one COMMIT.

Invariants:
- No caller learns of success before the commit.
- A job that fails undoes only itself. A commit that fails, fails every job of its transaction.
- Ctrl-C hits the main thread, and so never a job of the writer thread. What the main thread interrupts is its
  own job only: that one is either undone or committed as a whole.
- A finalizer may run a job while its thread is inside another: its own job runs after that one.
- The writer thread never waits for a job.
- If no thread can be started, a submitted job is refused and not run; `run` runs its job in its own thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

from openai2.errors import StoreUnavailable

T = TypeVar("T")


class NoThread(StoreUnavailable):
    """The system starts no more threads."""


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread. Raises NoThread."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise no_thread(error) from error
    return thread


def no_thread(error: RuntimeError) -> NoThread:
    """Return the exception for *error*, which a thread that did not start raised."""
    return NoThread("no thread can be started for the store: {reason}", reason=str(error))


class Loop(Protocol):
    """What the writer needs of an event loop. The method raises RuntimeError if the loop is closed."""

    def call_soon_threadsafe(self, callback: Callable[..., Any], /, *args: Any) -> Any: ...


class Steps(Protocol):
    """The steps of a transaction on the writing connection; each may raise, except `is_open`."""

    def begin(self) -> None: ...
    def savepoint(self) -> None: ...
    def rollback_to_savepoint(self) -> None: ...
    def release_savepoint(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def is_open(self) -> bool: ...


class Ticket(Generic[T]):
    """A submitted job and its outcome. *loop*, or the writer thread if None, calls *notify* at the end."""

    __slots__ = ("error", "is_done", "job", "loop", "notify", "result")

    def __init__(self, job: Callable[[], T], notify: Callable[[], object], loop: Loop | None = None) -> None:
        self.job = job
        self.notify = notify
        self.loop = loop
        self.is_done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def outcome(self) -> T:
        """Return what the job returned, or raise what the job or its commit raised."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a done ticket without error has its result


class Writer:
    """Run jobs in transactions, one transaction at a time.

    *runs_at_once*: commits are quick, so `submit` runs its job in the caller's thread if the writer is idle.
    """

    #: Jobs in one transaction, so that the first of them does not wait for ever.
    MAX_JOBS = 256

    def __init__(self, steps: Steps, *, runs_at_once: bool = False) -> None:
        self._steps = steps
        self._runs_at_once = runs_at_once
        # Reentrant: the garbage collector may run a finalizer, and that a job, at any line below.
        self._lock = threading.RLock()
        self._owner: int | None = None  # the thread that holds `_lock`
        self._waiting: deque[Ticket[Any]] = deque()
        self._wake = threading.Lock()  # a binary semaphore; threading.Event is not reentrant
        self._wake.acquire()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.RLock()

    def run(self, job: Callable[[], T]) -> T:
        """Run *job* in a transaction and return its result after the commit.

        If this thread is inside a job, as in a finalizer, return None at once; the job runs later.
        """
        if self._owner == threading.get_ident():
            if not self._steps.is_open():
                return self._run_alone(job)
            ticket = Ticket(job, _noop)
            self._waiting.append(ticket)
            with suppress(NoThread):  # `stop` runs it
                self._wake_thread()
            return ticket.outcome()
        if self._thread is threading.current_thread() or (self._owner is None and not self._waiting):
            with self._lock:
                if not self._waiting or self._thread is threading.current_thread():
                    return self._run_alone(job)
        finished = threading.Lock()
        finished.acquire()
        ticket = Ticket(job, finished.release)
        try:
            self._waiting.append(ticket)
            self._wake_thread()
            finished.acquire()
        except NoThread:
            if self._withdraw(ticket):
                with self._lock:
                    return self._run_alone(job)
            finished.acquire()
        except BaseException:  # Ctrl-C
            if not self._withdraw(ticket) and not ticket.is_done:  # wait, so that its outcome is known
                finished.acquire()
            raise
        return ticket.outcome()

    def submit(self, job: Callable[[], T], notify: Callable[[], object], loop: Loop) -> Ticket[T]:
        """Return the ticket of *job*. If it is not done yet, *loop* calls *notify* when it is.

        *notify* may be called twice if Ctrl-C interrupts it, and is not called if the loop is closed. Raises
        NoThread.
        """
        ticket = Ticket(job, notify, loop)
        if self._runs_at_once and self._owner is None and not self._waiting:
            try:
                ticket.result = self.run(job)
            except Exception as error:  # noqa: BLE001 - `outcome` raises it
                ticket.error = error
            ticket.is_done = True
        else:
            self._waiting.append(ticket)
            try:
                self._wake_thread()
            except NoThread:
                if self._withdraw(ticket):
                    raise
        return ticket

    def _withdraw(self, ticket: Ticket[Any]) -> bool:
        """Take a ticket out of the queue; return False if the writer thread has it already."""
        try:
            self._waiting.remove(ticket)
        except (ValueError, IndexError):
            return False
        return True

    @contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keep other threads from opening a transaction; wait for the one that is open."""
        with self._lock:
            owner, self._owner = self._owner, threading.get_ident()
            try:
                yield
            finally:
                self._owner = owner

    def stop(self) -> None:
        """Run what waits, and end the writer thread."""
        with self._thread_lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._release_wake()
            if thread is not threading.current_thread() and self._owner != threading.get_ident():
                thread.join()
        if self._owner is None:
            while self._waiting:  # no thread could be started for them
                _announce(self._run_batch())

    # -- in any thread

    def _run_alone(self, job: Callable[[], T]) -> T:
        owner, self._owner = self._owner, threading.get_ident()
        try:
            self._begin()
            result = job()
            self._steps.commit()
        except BaseException:
            self._rollback()
            raise
        finally:
            self._owner = owner
        return result

    def _begin(self) -> None:
        if self._steps.is_open():  # the last roll-back failed, or Ctrl-C interrupted it
            self._steps.rollback()
        self._steps.begin()

    def _rollback(self) -> None:
        with suppress(Exception):  # the caller raises the first error; `_begin` tries again
            self._steps.rollback()

    def _wake_thread(self) -> None:
        if self._thread is None:
            with self._thread_lock:
                if self._thread is None:
                    self._thread = start_thread(self._serve, "openai2-writer")
        self._release_wake()

    def _release_wake(self) -> None:
        with suppress(RuntimeError):  # it is awake already
            self._wake.release()

    # -- in the writer thread

    def _serve(self) -> None:
        while True:
            self._wake.acquire()
            while self._waiting:
                _announce(self._run_batch())
            if self._thread is not threading.current_thread():
                self._release_wake()  # Ctrl-C in `_wake_thread` may have left a second thread
                return

    def _run_batch(self) -> list[Ticket[Any]]:
        """Run the jobs that wait in one transaction and return their tickets, all done."""
        tickets: list[Ticket[Any]] = []
        with self._lock:
            self._owner = threading.get_ident()
            try:
                self._begin()
                for ticket in self._take(tickets):
                    self._run_in_savepoint(ticket)
                self._steps.commit()
            except BaseException as error:  # noqa: BLE001 - `outcome` raises it
                self._rollback()
                for ticket in tickets or self._take(tickets):
                    ticket.error = error
            finally:
                self._owner = None
        for ticket in tickets:
            ticket.is_done = True
        return tickets

    def _take(self, tickets: list[Ticket[Any]]) -> Generator[Ticket[Any], None, None]:
        """Move tickets from the queue to *tickets*, one by one, including those that arrive meanwhile."""
        with suppress(IndexError):
            while len(tickets) < self.MAX_JOBS:
                ticket = self._waiting.popleft()
                tickets.append(ticket)
                yield ticket

    def _run_in_savepoint(self, ticket: Ticket[Any]) -> None:
        self._steps.savepoint()
        try:
            ticket.result = ticket.job()
        except BaseException as error:
            if not self._steps.is_open():  # SQLite rolls everything back if, for example, the disk is full
                raise
            ticket.error = error
            self._steps.rollback_to_savepoint()
        self._steps.release_savepoint()


def _announce(tickets: list[Ticket[Any]]) -> None:
    """Have each loop call `notify` of its tickets, all in one callback."""
    by_loop: dict[Loop | None, list[Ticket[Any]]] = {}
    for ticket in tickets:
        by_loop.setdefault(ticket.loop, []).append(ticket)
    for loop, group in by_loop.items():
        if loop is None:
            for ticket in group:
                ticket.notify()
        else:
            with suppress(RuntimeError):  # the loop is closed, and no task is left in it
                loop.call_soon_threadsafe(_notify, loop, group)


def _notify(loop: Loop, tickets: list[Ticket[Any]]) -> None:
    try:
        for ticket in tickets:
            ticket.notify()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(_notify, loop, tickets)
        raise


def _noop() -> None:
    """Notify no caller."""
