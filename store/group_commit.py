"""One writer at a time, and one sync of the disk for all who wait for it.

A job is what runs inside a transaction, behind a savepoint where it is not alone there. Threads wait for a
lock: whoever gets it runs every job that is waiting and commits, so that all of them share a sync. Who finds
nobody waiting needs no queue.

Tasks wait neither for a lock nor for the disk. Their jobs are short, and run in the event loop's own thread:
in another one, the two would hand the interpreter to each other at every statement. Only the commit is left
to the writer's thread. So the transaction is always one of these:

    closed   No job is in it.
    open     Jobs of tasks have run in it. The lock is free, the writer's thread is on its way to commit.
    led      Somebody has the lock, and runs jobs in it, commits it, or rolls it back.

Whoever gets the lock and finds it open goes on with it: a loop puts more jobs in, a thread does so and
commits. What comes while the writer's thread commits is run by its loop right after. Where a loop does not
get the lock, or another process writes to the file, or a job is a long one, the writer's thread runs what
waits. Nobody is told anything before the commit.

Short jobs do without savepoints, which would be a twentieth of their time. Where one fails among others, all
of them are undone, and the writer's thread does them again, each behind one.

Ctrl-C strikes the main thread between any two calls, and is no business of the others whose jobs are here. So
a ticket goes from one place to the next within one call of C, whoever has the lock next goes by what SQLite
says of the transaction, and who is told is told at least once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import queue

T = TypeVar("T")


class Loop(Protocol):
    """What is asked of an event loop."""

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> Any: ...
    def call_soon_threadsafe(self, callback: Callable[..., Any], /, *args: Any) -> Any: ...


class Ticket(Generic[T]):
    """A job in the queue, and what became of it. *loop* is where *notify* is called, None for the thread
    that commits; *short* says that the job may run there, and may be run again."""

    __slots__ = ("done", "error", "job", "loop", "notify", "result", "short")

    def __init__(
        self,
        job: Callable[[], T],
        notify: Callable[[Ticket[T]], None] | None = None,
        loop: Loop | None = None,
        short: bool = False,
    ) -> None:
        self.job = job
        self.notify = notify
        self.loop = loop
        self.short = short
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        """Call whoever wants to be, once; again only where Ctrl-C struck in the middle of it."""
        if self.notify is not None:
            self.notify(self)
            self.notify = None

    def outcome(self) -> T:
        """What the job returned; what it raised is raised."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # a done ticket without error has its result


class Writer:
    """Runs jobs in transactions.

    *begin* opens one; told not to wait, it says whether it could. *mark* sets a savepoint, which *release*
    lets go and *rewind* returns to. *commit* may raise: then every job fails with what it raised.
    *rollback* says whether there was anything left to roll back, *is_open* whether there is. Where *quick*, a
    commit waits for no disk.
    """

    #: Jobs in one transaction, so that those at its front do not wait for ever, nor a loop for its others.
    MOST = 256

    def __init__(
        self,
        begin: Callable[[bool], bool],
        mark: Callable[[], None],
        release: Callable[[], None],
        rewind: Callable[[], None],
        commit: Callable[[], None],
        rollback: Callable[[], bool],
        is_open: Callable[[], bool],
        quick: bool = False,
    ) -> None:
        self._begin = begin
        self._mark = mark
        self._release = release
        self._rewind = rewind
        self._commit = commit
        self._rollback = rollback
        self._is_open = is_open
        self._quick = quick
        self._lock = threading.RLock()
        self._leader: int | None = None
        self._waiting: deque[Ticket[Any]] = deque()
        self._open: list[Ticket[Any]] = []  # whose jobs are in the transaction
        self._news: dict[Ticket[Any], None] = {}  # who is to be told, in order
        self._coming = False  # the writer's thread: it will see to what waits when it is done
        self._wake: queue.SimpleQueue[bool] | None = None
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.RLock()

    def run(self, job: Callable[[], T]) -> T:
        """Run *job* in a transaction, perhaps together with others'; return what it returns."""
        if self._leader is None and not (self._waiting or self._open):
            with self._lock:
                if not (self._waiting or self._open):
                    return self._run_alone(job)
        ticket: Ticket[T] = Ticket(job)
        try:
            self._waiting.append(ticket)
            if self._leader == threading.get_ident():
                # The garbage collector closed somebody's dropped stream in the middle of our transaction.
                # Its end goes on record right after; there is nobody who waits for what it returns.
                self._wake_thread()
                return ticket.outcome()
            with self._lock:
                while not ticket.done:
                    self._drain()
        except BaseException:
            ticket.job = _nothing  # Ctrl-C before its turn came: it is not to run behind our back
            raise
        return ticket.outcome()

    def submit(
        self,
        job: Callable[[], T],
        notify: Callable[[Ticket[T]], None],
        loop: Loop | None = None,
        short: bool = False,
    ) -> None:
        """Run *job* without making the caller wait. *notify* is called when it is done: in *loop*, or in the
        writer's thread where that is None. A *short* job may run in *loop*, whose thread this is."""
        self._waiting.append(Ticket(job, notify, loop, short))
        if short and loop is not None:
            loop.call_soon(self._collect)  # not now: whoever asks in the same round shares the commit
        else:
            self._wake_thread()

    @contextmanager
    def alone(self) -> Generator[None, None, None]:
        """Nobody else's transaction is open, and nobody opens one."""
        with self._lock:
            if self._open and self._leader is None:
                self._drain(most=0)
            yield

    def stop(self) -> None:
        """Finish what waits and end the thread."""
        with self._lock:
            while self._leader is None and (self._waiting or self._open):
                self._drain()
        with self._thread_lock:
            thread, wake = self._thread, self._wake
            self._thread = self._wake = None
        if wake is not None:
            wake.put(False)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._coming = False

    # -- in a loop's thread

    def _collect(self) -> None:
        """Run the short jobs that wait, and leave the commit to the writer's thread."""
        if not self._waiting:
            return
        taken: list[bool] = []
        try:
            # In one call of C, so that Ctrl-C cannot come between having it and knowing it.
            taken.extend(map(self._lock.acquire, (False,)))
            if taken[0]:
                self._run_short()
            elif not self._coming:
                self._wake_thread()
        except BaseException:
            self._wake_thread()
            raise
        finally:
            if taken and taken[0]:
                self._lock.release()
        self._tell()

    def _run_short(self) -> None:
        if self._waiting and self._waiting[0].short:
            self._lead(short=True, commit=self._quick, wait=False)
        elif not self._coming:
            self._wake_thread()
        if self._open and not self._coming:
            self._wake_thread()
            self._coming = True  # it cannot have come yet: we have the lock

    def _told(self, tickets: list[Ticket[Any]]) -> None:
        try:
            for ticket in tickets:
                ticket.tell()
        except BaseException:
            self._news.update(zip(tickets, repeat(None)))
            self._wake_thread()
            raise
        self._collect()

    # -- in the writer's thread

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

    def _serve(self, wake: queue.SimpleQueue[bool]) -> None:
        while wake.get():
            with self._lock:
                self._coming = True
                if self._open or self._waiting:  # where it is open, what waits is better run by its loop
                    self._lead(most=0 if self._open else self.MOST)
                self._coming = False  # from here on, whoever does not get the lock has to wake us
            self._nudge(self._tell())

    def _nudge(self, told: Collection[Loop]) -> None:
        """Let the loops whose jobs wait run them now; those *told* come by themselves."""
        for loop in {ticket.loop for ticket in list(self._waiting)}.difference(told):
            if loop is not None and not _call(loop, self._collect):
                self._wake_thread()

    # -- by whoever has the lock

    def _drain(self, most: int = MOST) -> None:
        """Run up to *most* of the jobs that wait, commit, and tell."""
        try:
            if self._open or self._waiting:
                self._lead(most=most)
            self._tell()
        except BaseException:
            self._wake_thread()  # nobody is to wait for what was cut off
            raise

    def _run_alone(self, job: Callable[[], T]) -> T:
        """Run *job* in a transaction of its own, and commit it."""
        self._leader = threading.get_ident()
        try:
            if self._is_open():  # whoever had the lock was cut off while he tidied up
                self._rollback()
            self._begin(True)
            result = job()
            self._commit()
        except BaseException:
            self._rollback()
            raise
        finally:
            self._leader = None
        return result

    def _lead(self, *, most: int = MOST, short: bool = False, commit: bool = True, wait: bool = True) -> None:
        """Run up to *most* jobs that wait, or the *short* ones in front, in the transaction that is open or
        in a new one, and *commit* it. Where not to *wait* for another process, they may go on waiting."""
        self._leader = threading.get_ident()
        try:
            if bool(self._open) != self._is_open():  # whoever had the lock was cut off while he tidied up
                self._rollback()
                self._wait_again()
            self._transaction(most, short, commit, wait)
        except _FailedAmongOthers:
            for ticket in self._open:
                ticket.short = False
            self._wait_again()
        except Exception as fault:  # noqa: BLE001 - it is raised where the jobs came from
            for ticket in self._open:
                ticket.error = fault
                ticket.result = None
            self._settle()
        except BaseException:
            self._wait_again()  # Ctrl-C in the thread that leads: no reason for the others' jobs to fail
            raise
        finally:
            self._leader = None

    def _transaction(self, most: int, short: bool, commit: bool, wait: bool) -> None:
        committing = False
        try:
            tickets = self._open
            ran = len(tickets)
            few = min(most, self.MOST - ran, len(self._waiting))  # nobody else takes any: we hold the lock
            if short:
                few = self._short_in_front(few)
            tickets.extend(islice(iter(self._waiting.popleft, None), few))
            if not tickets:
                return
            if not ran and not self._begin(wait):
                self._wait_again()
                return
            if len(tickets) == 1 and not ran:  # nobody else: the transaction is the savepoint
                tickets[0].result = tickets[0].job()
            else:
                self._run_others(tickets[ran:], short)
            if commit:
                committing = True
                self._commit()
                self._settle()
        except BaseException as fault:
            undone = self._rollback()
            if committing and not undone and not isinstance(fault, Exception):
                self._settle()  # Ctrl-C struck between the commit and the line behind it
            raise

    def _short_in_front(self, most: int) -> int:
        number = 0
        while number < most and self._waiting[number].short:
            number += 1
        return number

    def _run_others(self, tickets: list[Ticket[Any]], short: bool) -> None:
        if not short:
            for ticket in tickets:
                self._run_apart(ticket)
            return
        try:
            for ticket in tickets:
                ticket.result = ticket.job()
        except Exception as fault:
            raise _FailedAmongOthers from fault

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

    def _wait_again(self) -> None:
        """Nothing came of the transaction: whose jobs were in it wait as before."""
        tasks = any(ticket.notify is not None for ticket in self._open)
        for ticket in self._open:
            ticket.result = ticket.error = None
            ticket.done = False
        self._waiting.extendleft(map(self._open.pop, repeat(-1, len(self._open))))
        if tasks:
            self._wake_thread()  # threads come by themselves

    def _settle(self) -> None:
        """The transaction is closed, and whose jobs were in it can be told."""
        for ticket in self._open:
            ticket.done = True
        self._news.update(zip(map(self._open.pop, repeat(0, len(self._open))), repeat(None)))

    def _tell(self) -> Collection[Loop]:
        """Tell those who are not told yet; in which loops some are."""
        told = list(self._news)
        if not told:
            return ()
        there: dict[Loop, list[Ticket[Any]]] = {}
        for ticket in told:
            if ticket.loop is None:
                ticket.tell()
            else:
                there.setdefault(ticket.loop, []).append(ticket)
        # A loop that was closed has nobody left to be told.
        loops = [loop for loop, tickets in there.items() if _call(loop, self._told, tickets)]
        for ticket in told:
            self._news.pop(ticket, None)  # another thread may have told them too
        return loops


class _FailedAmongOthers(Exception):
    """A job without a savepoint failed in a transaction where others' are."""


def _call(loop: Loop, callback: Callable[..., Any], *args: Any) -> bool:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:  # it was closed
        return False
    return True


def _nothing() -> Any:
    """A job that does nothing."""
