"""A log in an SQLite file, or in memory.

Invariants:
- One connection writes, inside the writer's transactions. A store in memory has no other connection.
- The readers of a file have connections of their own, so that no reader waits for the disk.
- A store is not used in a process that was forked after it was opened.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from openai2.errors import BadInput, NotAStore, StoreError, StoreUnavailable
from openai2.store import schema
from openai2.store.group_commit import Ticket, Writer
from openai2.store.reader import Reader
from openai2.store.sqlite_errors import TranslatedErrors, translate

if TYPE_CHECKING:
    from openai2.core import events as ev
    from openai2.store.group_commit import Loop
    from openai2.store.transaction import Transaction

T = TypeVar("T")

#: Seconds that a writer waits for another process before it gives up.
LOCK_TIMEOUT = 60.0
_BUSY_TIMEOUT = f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}"
_CHECKPOINT_TIMEOUT = 3000  # milliseconds that readers in other processes get to finish
_CLOCK_TICK = 20_000_000  # nanoseconds; the times of files are at most this much behind
_MAX_IDLE = 4  # connections that wait for the next reader
# Pages in the write-ahead log before it goes into the file: 16 MB, about a thousand turns. SQLite's own 1000
# costs an eighth more per append with NORMAL. Reads are as fast: one hash table covers 4096 pages.
_CHECKPOINT_PAGES = 4000


class SqliteStore:
    """A log in an SQLite file, or in memory if *path* is None.

    *synchronous* is SQLite's: FULL (what has returned survives power loss) or NORMAL (it survives
    `kill -9`). Raises NotAStore, NewerStore, StoreUnavailable, BadInput.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, synchronous: str = "FULL") -> None:
        if synchronous.upper() not in ("FULL", "NORMAL", "EXTRA", "OFF"):
            raise BadInput("synchronous: expected FULL or NORMAL, got {value}", value=synchronous)
        self.path: str | None = None if path is None else os.path.abspath(os.fspath(path))
        self.name: str = "the store in memory" if self.path is None else self.path
        self.read_only = False
        self.is_durable = self.path is not None
        #: How many users share it (see `registry.share`).
        self.users = 0
        self._synchronous = synchronous.upper()
        self._translated_errors = TranslatedErrors(self.name)
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.RLock()
        self._connections: set[sqlite3.Connection] = set()
        self._closed = False
        self._closing: list[Callable[[], None]] = []
        self._pid = os.getpid()
        with self._translated_errors:
            first = self._open()
            if self.path is not None:
                first.execute("PRAGMA query_only = 1")
                self._idle.append(first)
        self._file = None if self.path is None else _file_id(self.path)
        # Windows lets no open file be moved, removed or replaced.
        is_checked = not self.read_only and os.name == "posix"
        self._files = _Files(self.path) if self.path is not None and is_checked else None
        _opened.add(self)
        open_writer = (lambda: first) if self.path is None else self._open_writer
        self._steps = _SqliteSteps(open_writer, self.name, self._files)
        self._writer = Writer(self._steps, runs_at_once=self.path is None)

    @property
    def epoch(self) -> int:
        """How many transactions were rolled back: state cached before must be read again."""
        return self._steps.epoch

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    # -- reading and writing

    @contextmanager
    def reading(self, snapshot: bool = False) -> Generator[Reader, None, None]:
        """Give a reader of what is committed; with *snapshot*, all its reads see the same moment."""
        self._check_open()
        if self.path is None:
            with self._writer.exclusive(), self._translated_errors:
                yield Reader(self._steps.connection)
            return
        with self._translated_errors:
            connection = self._borrow()
            try:
                if snapshot:
                    connection.execute("BEGIN")
                yield Reader(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    def transact(self, job: Callable[[Transaction], T]) -> T:
        """Run *job* in a transaction, all or nothing, and return its result once that is durable."""
        self._check_writable()
        return self._writer.run(partial(self._run_job, job))

    def submit(self, job: Callable[[Transaction], T], notify: Callable[[], object], loop: Loop) -> Ticket[T]:
        """Run *job* like `transact`, but return its ticket without waiting.

        If the ticket is not done yet, *loop* calls *notify* when it is, perhaps twice. Its `outcome()` then
        returns or raises what `transact` would.
        """
        self._check_writable()
        return self._writer.submit(partial(self._run_job, job), notify, loop)

    def _run_job(self, job: Callable[[Transaction], T]) -> T:
        with self._translated_errors:
            return job(self._steps.transaction)

    def append(
        self, conversation: str, expected_version: int, events: Sequence[ev.Event]
    ) -> list[ev.Recorded]:
        """Append *events* to a stream that is at *expected_version*; 0 starts a stream.

        Atomic, and durable once it returns. Raises VersionConflict, NameTaken, StoreUnavailable.
        """
        return self.transact(lambda tx: tx.append(conversation, expected_version, events))

    def scrub(self) -> bool:
        """Rewrite the file and truncate the write-ahead log, so that removed content leaves no bytes behind.

        Return False if a reader in this or another process, or a full disk, prevents it; try again later.
        """
        self._check_writable()
        if self.path is None:
            return True
        with self._writer.exclusive():
            sql = self._steps.connection
            try:
                sql.execute("VACUUM")
                sql.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_TIMEOUT}")
                (busy, _, _) = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                return False
            finally:
                sql.execute(_BUSY_TIMEOUT)
            return not busy

    def is_orphan(self) -> bool:
        """Return True if the file that this store has open is no longer the one at its path."""
        return self.path is not None and _file_id(self.path) != self._file

    def file_ids(self) -> set[tuple[int, int] | None]:
        """Return (device, inode) of the files that this store uses."""
        if self.path is None or self._closed:
            return set()
        return {self._file, *(_file_id(self.path + end) for end in ("", *BESIDE))}

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call *callback* before the store closes."""
        self._closing.append(callback)

    def close(self) -> None:
        """Finish the jobs that wait and close the file; closing twice is fine."""
        if self._closed or self._pid != os.getpid():
            return
        while self._closing:
            self._closing.pop()()
        self._writer.stop()
        with self._writer.exclusive():
            self._closed = True
            if self._files is not None:
                self._files.close()
            for connection in list(self._connections):
                self._shut(connection)
            self._idle.clear()

    # -- connections

    def _open(self) -> sqlite3.Connection:
        """Open the first connection, and make or migrate the tables."""
        if self.path is None:
            connection = self._connect(":memory:")
            schema.copy_empty(connection)
            return connection
        try:
            self._make_file(self.path)
        except OSError as error:
            raise StoreUnavailable(
                "{name} cannot be opened: {reason}", name=self.name, reason=error.strerror or str(error)
            ) from error
        connection = self._connect(self.path)
        try:
            self._prepare(connection, self.path)
        except BaseException:
            self._shut(connection)
            raise
        return connection

    def _make_file(self, path: str) -> None:
        if os.path.isdir(path):
            raise NotAStore("{name} is a folder, not a database", name=path)
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # the owner's only

    def _connect(self, target: str) -> sqlite3.Connection:
        immutable = self.path is not None and _is_immutable(self.path)
        if immutable:
            from urllib.parse import quote

            target = f"file:{quote(target)}?immutable=1"
        connection = sqlite3.connect(
            target, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, uri=immutable
        )
        self._connections.add(connection)
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        connection = self._borrow()  # an idle reader has parsed the schema, a fifth of the first write's CPU
        connection.execute("PRAGMA query_only = 0")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return connection

    def _shut(self, connection: sqlite3.Connection) -> None:
        self._connections.discard(connection)
        connection.close()

    def _prepare(self, connection: sqlite3.Connection, path: str) -> None:
        is_ready = schema.check(connection, self.name)
        self.read_only = not _is_writable(path)
        if not self.read_only:
            _set_wal_mode(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if not is_ready:
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
            if len(self._idle) < _MAX_IDLE and not self._closed:
                self._idle.append(connection)
                return
        self._shut(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("{name} is closed", name=self.name)
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


class _Files:
    """The identity of a store's file and its write-ahead log, which exists as long as the store is open.

    A commit looks at the folder only: its times change with every name that comes or goes. Two `os.stat`
    would add a quarter to an append.
    """

    __slots__ = ("_folder", "_found", "_log", "_path", "_settled")

    def __init__(self, path: str) -> None:
        real = os.path.realpath(path)
        self._path = path
        log = f"{real}-wal"
        self._log = (
            log if os.path.exists(log) else path
        )  # a file system may lack what a log in WAL mode needs
        self._found = self._find()
        # A link on the way can change while the folder does not.
        self._folder = os.open(os.path.dirname(real), os.O_RDONLY) if real == path else None
        self._settled: tuple[int, int] | None = None

    def _find(self) -> tuple[int, int, int, int]:
        file, log = os.stat(self._path), os.stat(self._log)
        return file.st_ino, log.st_ino, file.st_dev, log.st_dev

    def are_in_place(self) -> bool:
        """Return True if the paths still name the same files."""
        times: tuple[int, int] | None = None
        if self._folder is not None:
            folder = os.fstat(self._folder)
            times = folder.st_mtime_ns, folder.st_ctime_ns
            if times == self._settled:
                return True
        try:
            if self._find() != self._found:
                return False
        except OSError:
            return False
        if times is not None and time.time_ns() - max(times) > _CLOCK_TICK:
            self._settled = times  # a later change cannot have the same times
        return True

    def close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    def __del__(self) -> None:
        if hasattr(self, "_folder"):
            self.close()


class _SqliteSteps:
    """The steps of a write transaction, on the connection that *connect* opens when it is first needed.

    To open it takes as long as to read a conversation's head, so that a store that is only read does without.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str, files: _Files | None) -> None:
        self._connect = connect
        self._name = name
        self._files = files
        self.epoch = 0

    @cached_property
    def connection(self) -> sqlite3.Connection:
        return self._connect()

    @cached_property
    def transaction(self) -> Transaction:
        from openai2.store.transaction import Transaction  # late: a reader needs no module of events

        return Transaction(self.connection)

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")
        self.transaction.start()

    def savepoint(self) -> None:
        self._execute("SAVEPOINT job")

    def rollback_to_savepoint(self) -> None:
        self._forget()
        self._execute("ROLLBACK TO job")

    def release_savepoint(self) -> None:
        self._execute("RELEASE job")

    def commit(self) -> None:
        if self._files is not None and not self._files.are_in_place():
            raise StoreUnavailable(
                "{name} was moved, removed or replaced while it was open: "
                "nothing was recorded; open it again",
                name=self._name,
            )
        self._execute("COMMIT")

    def rollback(self) -> None:
        self._forget()
        if self.is_open():
            self._execute("ROLLBACK")

    def is_open(self) -> bool:
        return self.connection.in_transaction

    def _execute(self, statement: str) -> None:
        try:  # `with self._errors` takes a microsecond longer
            self.connection.execute(statement)
        except sqlite3.Error as error:
            raise translate(error, self._name) from error

    def _forget(self) -> None:
        self.epoch += self.transaction.is_dirty
        self.transaction.forget()


#: What SQLite keeps beside a database, by the ends of the names.
BESIDE = ("-wal", "-shm", "-journal")

_opened: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def is_open_here(found: os.stat_result) -> bool:
    """Return True if *found* is the status of a file that an open store of this process uses."""
    file = found.st_dev, found.st_ino
    return any(file in store.file_ids() for store in list(_opened))


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_immutable(path: str) -> bool:
    """Return True if no process can write to the file, as on read-only media.

    SQLite opens a file in WAL mode there only as immutable. With a log beside it, that would be wrong.
    """
    if not os.path.exists(path) or _is_writable(path):
        return False
    log = path + "-wal"
    return not os.path.exists(log) or os.path.getsize(log) == 0


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)


def _set_wal_mode(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode for good.

    SQLite's busy timeout does not cover the change of mode, so wait for other writers here.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
