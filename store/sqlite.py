"""The log in SQLite.

One connection writes, under the writer's lock and BEGIN IMMEDIATE; readers have connections of their
own, so that nobody who reads waits for the disk. A store in memory has one connection for both.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from openai2.errors import (
    BadInput,
    DamagedStore,
    NotAStore,
    Openai2Error,
    Refused,
    StoreError,
    StoreUnavailable,
)
from openai2.store import schema
from openai2.store.group_commit import Ticket, Writer
from openai2.store.reader import Reader

if TYPE_CHECKING:
    from openai2.core import events as ev
    from openai2.store.group_commit import Loop
    from openai2.store.transaction import Transaction

T = TypeVar("T")

#: Seconds that a writer waits for another process before it gives up.
PATIENCE = 60.0
_MOST_IDLE = 4
_NO_TEXT = "{name} is damaged: it holds text that is not UTF-8"
_PATIENT = f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}"
_CHECKPOINT_PATIENCE = 3000  # milliseconds that readers elsewhere get to finish
# Pages in the write-ahead log after which it goes into the file: 16 MB, a thousand turns or so. SQLite's own
# 1000 makes two syncs more each three hundred turns and writes the last pages of table and index as often, an
# eighth of what appending costs with NORMAL. What is found in the log is found as fast: one table of hashes
# covers 4096 pages.
_LOG_PAGES = 4000


class SqliteStore:
    """A log in an SQLite file, or in memory where *path* is None.

    *synchronous* is SQLite's: FULL (what has returned survives power loss) or NORMAL (it survives
    `kill -9`). Raises NotAStore, NewerStore, StoreUnavailable.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, synchronous: str = "FULL") -> None:
        if synchronous.upper() not in ("FULL", "NORMAL", "EXTRA", "OFF"):
            raise BadInput("synchronous is FULL or NORMAL, not {value}", value=synchronous)
        self.path: str | None = None if path is None else os.path.abspath(os.fspath(path))
        self.name: str = "the store in memory" if self.path is None else self.path
        self._plain_errors = _PlainErrors(self.name)
        self.read_only = False
        #: How many share it (see `openai2.store.share`).
        self.users = 0
        #: Counts the commits that failed: whoever keeps state from before must read it again.
        self.epoch = 0
        self._synchronous = synchronous.upper()
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.RLock()
        self._open_files: set[sqlite3.Connection] = set()
        self._closed = False
        self._pid = os.getpid()
        with self._plain_errors:
            first = self._open_or_say()
            if self.path is None:
                self._connection = first
            else:  # it has looked at the file and goes on as a reader
                first.execute("PRAGMA query_only = 1")
                self._idle.append(first)
        self._file = None if self.path is None else _identity(self.path)
        self._writer = Writer(
            begin=self._begin,
            mark=partial(self._execute, "SAVEPOINT job"),
            release=partial(self._execute, "RELEASE job"),
            rewind=self._rewind,
            commit=partial(self._execute, "COMMIT"),
            rollback=self._rollback,
            is_open=lambda: self._connection.in_transaction,
            quick=self.path is None,
        )

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """The connection that writes, opened by the first who does: to open a second one takes as long as
        to find a conversation and read its end."""
        assert self.path is not None
        connection = self._connect(self.path)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        return connection

    @cached_property
    def _transaction(self) -> Transaction:
        from openai2.store.transaction import Transaction  # late: who only reads needs no events for it

        return Transaction(self._connection)

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    # -- reading and writing

    @contextmanager
    def reading(self, still: bool = False) -> Generator[Reader, None, None]:
        """A reader that sees what has been committed; *still*: for all its questions at one moment."""
        self._check_open()
        if self.path is None:
            with self._writer.alone(), self._plain_errors:
                yield Reader(self._connection)
            return
        with self._plain_errors:
            connection = self._borrow()
            try:
                if still:
                    connection.execute("BEGIN")
                yield Reader(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    def transact(self, job: Callable[[Transaction], T]) -> T:
        """Run *job* in a transaction, all or nothing, and return what it returns, once that is durable."""
        self._check_writable()
        try:
            return self._writer.run(lambda: job(self._transaction))
        except _FAULTS as fault:
            raise _plain(fault, self.name) from fault

    def submit(
        self,
        job: Callable[[Transaction], T],
        done: Callable[[Callable[[], T]], None],
        loop: Loop | None = None,
        *,
        short: bool = False,
    ) -> None:
        """The same without waiting: *done* is called in *loop*, or in the store's own thread, with a function
        that gives what `transact` would have returned or raised. A *short* job may run in *loop*, whose
        thread this is."""
        self._check_writable()

        def tell(ticket: Ticket[T]) -> None:
            def outcome() -> T:
                try:
                    return ticket.outcome()
                except _FAULTS as fault:
                    raise _plain(fault, self.name) from fault

            done(outcome)

        self._writer.submit(lambda: job(self._transaction), tell, loop, short)

    def append(
        self, conversation: str, expected_version: int, events: Sequence[ev.Event]
    ) -> list[ev.Recorded]:
        """Append *events* to a stream that is at *expected_version* (0: that is not there yet).

        Atomic, and durable once it returns. Raises VersionConflict, NameTaken, StoreUnavailable.
        """
        return self.transact(lambda tx: tx.append(conversation, expected_version, events))

    def scrub(self) -> bool:
        """Leave nothing in the files of what was removed: no free page, no spare byte, no write-ahead log.

        The file is written anew. False where that could not be done, or not to its end, because another
        process, or another thread, is reading: the next one to call may succeed.
        """
        self._check_writable()
        if self.path is None:
            return True
        with self._writer.alone():
            sql = self._connection
            try:
                sql.execute("VACUUM")
                sql.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_PATIENCE}")
                (busy, _, _) = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:  # no space, or somebody else's transaction
                return False
            finally:
                sql.execute(_PATIENT)
            return not busy

    def is_orphan(self) -> bool:
        """Whether the file that this store has open is no longer the one at its path."""
        return self.path is not None and _identity(self.path) != self._file

    def close(self) -> None:
        """Finish what waits and close the files; closing twice is fine."""
        if self._closed or self._pid != os.getpid():
            return
        self._writer.stop()
        with self._writer.alone():
            self._closed = True
            for connection in list(self._open_files):
                self._shut(connection)
            self._idle.clear()

    # -- connections

    def _open_or_say(self) -> sqlite3.Connection:
        try:
            return self._open()
        except OSError as fault:
            raise StoreUnavailable(
                "{name} cannot be opened: {reason}", name=self.name, reason=fault.strerror or str(fault)
            ) from fault

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            connection = self._connect(":memory:")
            self._prepare(connection)
            return connection
        if not os.path.exists(self.path):
            folder = os.path.dirname(self.path)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # dialogues are nobody else's to read
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        elif os.path.isdir(self.path):
            raise NotAStore("{name} is a folder, not a database", name=self.path)
        connection = self._connect(self.path)
        try:
            self._prepare(connection)
        except BaseException:
            self._shut(connection)
            raise
        return connection

    def _shut(self, connection: sqlite3.Connection) -> None:
        self._open_files.discard(connection)
        connection.close()

    def _connect(self, target: str) -> sqlite3.Connection:
        unchanging = self.path is not None and _unchanging(self.path)
        if unchanging:
            from urllib.parse import quote

            target = f"file:{quote(target)}?immutable=1"
        connection = sqlite3.connect(
            target, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=unchanging
        )
        self._open_files.add(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        ready = schema.check(connection, self.name)
        if self.path is not None:
            self.read_only = not _writable(self.path)
            if not self.read_only:
                _keep_log(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if not ready:
            self._check_writable()
            schema.migrate(connection, self.name)

    def _borrow(self) -> sqlite3.Connection:
        with self._idle_lock:
            if self._idle:
                return self._idle.pop()
        assert self.path is not None
        connection = self._connect(self.path)
        connection.execute("PRAGMA query_only = 1")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._idle_lock:
            if len(self._idle) < _MOST_IDLE and not self._closed:
                self._idle.append(connection)
                return
        self._shut(connection)

    # -- the writer's hands

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def _begin(self, wait: bool) -> bool:
        transaction = self._transaction
        transaction.dirty = False
        if wait:
            self._execute("BEGIN IMMEDIATE")
        elif not self._begin_at_once():
            return False
        transaction.look()
        return True

    def _begin_at_once(self) -> bool:
        self._execute("PRAGMA busy_timeout = 0")
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault):
                raise
            return False
        finally:
            self._execute(_PATIENT)
        return True

    def _rewind(self) -> None:
        self.epoch += self._transaction.dirty
        self._execute("ROLLBACK TO job")
        self._transaction.forget()

    def _rollback(self) -> bool:
        self.epoch += self._transaction.dirty
        self._transaction.forget()
        if not self._connection.in_transaction:
            return False
        self._connection.execute("ROLLBACK")
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("{name} was closed", name=self.name)
        if self._pid != os.getpid():
            raise StoreError(
                "{name} was opened before this process was forked: open it again here", name=self.name
            )

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise StoreUnavailable(
                "{name} cannot be written to: it, or its folder, is read-only", name=self.name
            )


#: What `_plain` knows: SQLite's errors, and that of a file so damaged that SQLite's own message is no text.
_FAULTS = (sqlite3.Error, UnicodeDecodeError)


class _PlainErrors:
    """Raises the error of ours that says what SQLite's means. A class, since a generator takes ten times as
    long to enter and leave."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, _FAULTS):
            raise _plain(fault, self._name) from fault


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unchanging(path: str) -> bool:
    """Whether the file lies where nobody may write, as on read-only media: SQLite reads a file in WAL mode
    there only if told that it does not change. Where a log was left beside it, that would be untrue."""
    if not os.path.exists(path) or _writable(path):
        return False
    log = path + "-wal"
    return not os.path.exists(log) or os.path.getsize(log) == 0


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)


def _keep_log(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, where it stays.

    To change a file's mode, SQLite goes from reading to writing, and there it does not wait for whoever
    writes but fails at once, as two who wait for each other never end. Here nobody waits for the reader.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault) or time.monotonic() > until:
                raise
        time.sleep(0.005)


def _plain(fault: sqlite3.Error | UnicodeDecodeError, name: str) -> Openai2Error:
    """The error of ours that says what SQLite's means."""
    if isinstance(fault, UnicodeDecodeError):
        return DamagedStore(_NO_TEXT, name=name)
    text = str(fault)
    low = text.lower()
    kind: type[Openai2Error]
    if "not a database" in low or "malformed" in low:
        kind, sentence = NotAStore, "{name} is not a database, or is damaged: {reason}"
    elif "no such table" in low or "no such column" in low or "has no column" in low:
        kind, sentence = DamagedStore, "{name} lacks a table ({reason}): run `openai2 rebuild`"
    elif "decode to utf-8" in low:
        kind, sentence = DamagedStore, _NO_TEXT
    elif "append-only" in low:
        kind, sentence = Refused, "{name}: {reason}"
    elif "full" in low:
        kind, sentence = StoreUnavailable, "{name} cannot grow: the disk is full"
    elif "readonly" in low:
        kind, sentence = StoreUnavailable, "{name} cannot be written to: it, or its folder, is read-only"
    elif "locked" in low or "busy" in low:
        kind, sentence = StoreUnavailable, "{name} is in use by another process that does not let go"
    else:
        kind, sentence = StoreUnavailable, "{name} cannot be used: {reason}"
    return kind(sentence, name=name, reason=text)
