"""One writer at a time, and one sync of the disk for all who wait for it.

A job is what runs inside a transaction. Whoever comes first takes the lock and runs every job that is
waiting, each behind a savepoint, then commits once: jobs that wait for the same sync of the disk share
it. Threads that have to wait do so for a lock; tasks are told by a callback, and never wait at all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import queue

T = TypeVar("T")


class Ticket(Generic[T]):
    """A job in the queue, and what became of it."""

    __slots__ = ("done", "error", "job", "notify", "result")

    def __init__(self, job: Callable[[], T], notify: Callable[[Ticket[T]], None] | None) -> None:
        self.job = job
        self.notify = notify
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def outcome(self) -> T:
        """What the job returned; what it raised is raised."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a done ticket without error has its result


class Writer:
    """Runs jobs in transactions.

    *begin*, *commit* and *rollback* are the transaction's; *mark* sets a savepoint, which *release*
    lets go and *rewind* returns to. *commit* may raise: then every job fails with what it raised.
    *rollback* says whether there was anything left to roll back.
    """

    #: Jobs in one transaction, so that those at its front do not wait for ever.
    MOST = 256

    def __init__(
        self,
        begin: Callable[[], None],
        mark: Callable[[], None],
        release: Callable[[], None],
        rewind: Callable[[], None],
        commit: Callable[[], None],
        rollback: Callable[[], bool],
    ) -> None:
        self._begin = begin
        self._mark = mark
        self._release = release
        self._rewind = rewind
        self._commit = commit
        self._rollback = rollback
        self.lock = threading.RLock()
        self._leader: int | None = None
        self._waiting: deque[Ticket[Any]] = deque()
        self._wake: queue.SimpleQueue[bool] | None = None
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.RLock()

    def run(self, job: Callable[[], T]) -> T:
        """Run *job* in a transaction, perhaps together with others'; return what it returns."""
        ticket: Ticket[T] = Ticket(job, None)
        self._waiting.append(ticket)
        if self._leader == threading.get_ident():
            # The garbage collector closed somebody's dropped stream in the middle of our transaction.
            # Its end goes on record right after; there is nobody who waits for what it returns.
            self._wake_thread()
            return ticket.outcome()
        try:
            with self.lock:
                while not ticket.done:
                    self._drain()
        except BaseException:
            ticket.job = _nothing  # Ctrl-C before its turn came: it is not to run behind our back
            raise
        return ticket.outcome()

    def submit(self, job: Callable[[], T], notify: Callable[[Ticket[T]], None]) -> None:
        """Run *job* in the writer's own thread; *notify* is called there when it is done."""
        self._waiting.append(Ticket(job, notify))
        self._wake_thread()

    def _wake_thread(self) -> None:
        with self._thread_lock:
            if self._wake is None:
                import queue

                self._wake = queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._wake,), name="openai2-writer", daemon=True
                )
                self._thread.start()
            self._wake.put(True)

    def stop(self) -> None:
        """Finish what waits and end the thread."""
        with self._thread_lock:
            thread, wake = self._thread, self._wake
            self._thread = self._wake = None
        if wake is not None:
            wake.put(False)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _serve(self, wake: queue.SimpleQueue[bool]) -> None:
        while True:
            go_on = wake.get()
            if self._waiting:
                with self.lock:
                    self._drain()
            if not go_on:
                return

    def _drain(self) -> None:
        tickets: list[Ticket[Any]] = []
        while self._waiting and len(tickets) < self.MOST:
            tickets.append(self._waiting.popleft())  # nobody else takes any: we hold the lock
        if not tickets:
            return
        self._leader = threading.get_ident()
        try:
            self._transaction(tickets)
        except Exception as fault:  # noqa: BLE001 - it is raised where the jobs came from
            for ticket in tickets:
                ticket.error = fault
                ticket.result = None
        except BaseException:
            self._interrupted(tickets)
            raise
        finally:
            self._leader = None
        self._finish(tickets)

    def _interrupted(self, tickets: list[Ticket[Any]]) -> None:
        """Ctrl-C in the thread that leads: that is no reason for the others' jobs to fail."""
        again = [ticket for ticket in tickets if not ticket.done]
        for ticket in again:
            ticket.result = ticket.error = None
        self._waiting.extendleft(reversed(again))
        if self._wake is not None:
            self._wake.put(True)

    def _transaction(self, tickets: list[Ticket[Any]]) -> None:
        committing = False
        try:
            self._begin()
            if len(tickets) == 1:  # nobody to be kept apart from: the transaction is the savepoint
                tickets[0].result = tickets[0].job()
            else:
                for ticket in tickets:
                    self._run_apart(ticket)
            committing = True
            self._commit()
        except BaseException as fault:
            undone = self._rollback()
            if committing and not undone and not isinstance(fault, Exception):
                self._finish(tickets)  # Ctrl-C struck between the commit and this line
            raise

    def _run_apart(self, ticket: Ticket[Any]) -> None:
        self._mark()
        try:
            ticket.result = ticket.job()
        except Exception as fault:  # noqa: BLE001 - it is raised where the job came from
            try:
                self._rewind()
            except Exception:  # noqa: BLE001 - a full disk, say, has undone the whole transaction
                raise fault from None
            ticket.error = fault
        self._release()

    @staticmethod
    def _finish(tickets: list[Ticket[Any]]) -> None:
        for ticket in tickets:
            if ticket.done:
                continue
            ticket.done = True
            if ticket.notify is not None:
                ticket.notify(ticket)


def _nothing() -> Any:
    """A job that does nothing."""
