"""The log in SQLite.

One connection writes, under the writer's lock and BEGIN IMMEDIATE; readers have connections of their
own, so that nobody who reads waits for the disk. A store in memory has one connection for both.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from openai2 import events as ev
from openai2.errors import (
    BadInput,
    DamagedStore,
    NameTaken,
    NotAStore,
    Openai2Error,
    Refused,
    StoreError,
    StoreUnavailable,
    VersionConflict,
)
from openai2.projection import free_name
from openai2.store import codec, schema
from openai2.store.writer import Ticket, Writer

T = TypeVar("T")
Head = tuple[int, bytes]

#: Seconds that a writer waits for another process before it gives up.
PATIENCE = 60.0
_MOST_IDLE = 4
_NO_TEXT = "{name} is damaged: it holds text that is not UTF-8"
_CHECKPOINT_PATIENCE = 3000  # milliseconds that readers elsewhere get to finish


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as the list shows it. *asked* is the position of its last question."""

    id: str
    name: str | None
    parent: str | None
    parent_version: int | None
    base: int
    archived: bool
    created: str
    updated: str
    version: int
    messages: int
    asked: int


_LISTED = "id, name, parent, parent_version, base, archived, created, updated, version, messages, asked"


def _listed(row: tuple[object, ...]) -> Listed:
    fields = dict(zip(_LISTED.split(", "), row, strict=True)) | {"archived": bool(row[5])}
    return msgspec.convert(fields, Listed)


class Reader:
    """What can be asked of the log. Every method is one SELECT, or says so."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sql = connection

    def head(self, conversation: str) -> Head:
        """Version and hash of the stream's last event; (0, zero bytes) for a stream that is not there."""
        row: Head | None = self.sql.execute(
            "SELECT version, hash FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1",
            (conversation,),
        ).fetchone()
        return row or (0, codec.NO_HASH)

    def hash_at(self, conversation: str, version: int) -> bytes:
        """The hash of an event that others descend from. Raises DamagedStore where it is not there."""
        row = self.sql.execute(
            "SELECT hash FROM events WHERE conversation = ? AND version = ?", (conversation, version)
        ).fetchone()
        if row is None:
            raise DamagedStore(
                "conversation {conversation} has no version {version} to fork from",
                conversation=conversation,
                version=version,
            )
        return bytes(row[0])

    def links(self, conversation: str) -> Iterator[bytes]:
        """The hashes of a stream, in order."""
        rows = self.sql.execute(
            "SELECT hash FROM events WHERE conversation = ? ORDER BY version", (conversation,)
        )
        return (bytes(row[0]) for row in rows)

    def heads(self) -> dict[str, str]:
        """The hash of each stream's last event, in hex."""
        rows = self.sql.execute(
            "SELECT e.conversation, e.hash FROM"
            " (SELECT conversation, max(version) AS version FROM events GROUP BY conversation) AS last"
            " CROSS JOIN events AS e ON e.conversation = last.conversation AND e.version = last.version"
        )
        return {conversation: link.hex() for conversation, link in rows}

    def events(
        self,
        conversation: str,
        after: int = 0,
        upto: int | None = None,
        types: Sequence[str] | None = None,
        newest_first: bool = False,
        limit: int = -1,
    ) -> Iterator[ev.Recorded]:
        """The stream's events with after < version <= upto, in order, of these *types* only."""
        where = "conversation = ? AND version > ?"
        values: list[object] = [conversation, after]
        if upto is not None:
            where += " AND version <= ?"
            values.append(upto)
        if types is not None:
            where += f" AND type IN ({', '.join('?' * len(types))})"
            values.extend(types)
        order = "DESC" if newest_first else "ASC"
        cursor = self.sql.execute(
            f"SELECT {codec.COLUMNS} FROM events WHERE {where} ORDER BY version {order} LIMIT ?",
            (*values, limit),
        )
        return self._recorded(cursor)

    def every_event(self, after: int = 0) -> Iterator[ev.Recorded]:
        """All events of the store with position > *after*, in the order of their commit."""
        cursor = self.sql.execute(
            f"SELECT {codec.COLUMNS} FROM events WHERE position > ? ORDER BY position", (after,)
        )
        return self._recorded(cursor)

    def events_of_types(self, types: Sequence[str]) -> Iterator[ev.Recorded]:
        """All events of these types, in the order of their commit."""
        cursor = self.sql.execute(
            f"SELECT {codec.COLUMNS} FROM events WHERE type IN ({', '.join('?' * len(types))})"
            " ORDER BY position",
            tuple(types),
        )
        return self._recorded(cursor)

    def _recorded(self, rows: sqlite3.Cursor) -> Iterator[ev.Recorded]:
        """The events of these rows; those whose data was redacted with what is left of it."""
        left: dict[str, dict[int, ev.Redacted]] = {}
        for row in rows:
            record = codec.recorded(row)
            if not record.json:
                known = left.get(record.conversation)
                if known is None:
                    known = left[record.conversation] = self.redactions(record.conversation)
                record = msgspec.structs.replace(record, left=_left(known, record))
            yield record

    def data(self, conversation: str, versions: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
        """(version, type, data) of those events of the stream."""
        if not versions:
            return iter(())
        first, last = min(versions), max(versions)
        if last - first < 4 * len(versions):  # dense enough that one sweep is cheaper than look-ups
            wanted = set(versions)
            cursor = self.sql.execute(
                "SELECT version, type, CAST(data AS BLOB) FROM events"
                " WHERE conversation = ? AND version BETWEEN ? AND ?",
                (conversation, first, last),
            )
            return (row for row in cursor if row[0] in wanted)
        return iter(
            self.sql.execute(
                "SELECT e.version, e.type, CAST(e.data AS BLOB)"
                " FROM json_each(?) AS wanted CROSS JOIN events AS e"
                " ON e.conversation = ? AND e.version = wanted.value",
                (f"[{','.join(map(str, versions))}]", conversation),
            )
        )

    def redactions(self, conversation: str) -> dict[int, ev.Redacted]:
        """The stream's redactions, by the version whose data they took."""
        found: dict[int, ev.Redacted] = {}
        rows = self.sql.execute(
            "SELECT CAST(data AS BLOB) FROM events WHERE conversation = ? AND type = 'redacted'"
            " ORDER BY version",
            (conversation,),
        )
        for (data,) in rows:
            event = ev.decode("redacted", data)
            assert isinstance(event, ev.Redacted)
            found[event.version] = event
        return found

    def holding(self, text: str) -> list[tuple[str, int]]:
        """(conversation, version) of every event in whose data this stands, as it stands there."""
        rows = self.sql.execute(
            "SELECT conversation, version FROM events WHERE instr(data, ?) > 0 ORDER BY position", (text,)
        )
        return rows.fetchall()

    def is_deleted(self, conversation: str) -> bool:
        """Whether the stream has ended for good."""
        row = self.sql.execute(
            "SELECT type FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1", (conversation,)
        ).fetchone()
        return row is not None and row[0] == "deleted"

    def last_position(self) -> int:
        """The position of the store's last event, 0 where there is none."""
        (position,) = self.sql.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()
        return int(position)

    def version_at(self, conversation: str, time: str) -> int:
        """The stream's last version at that time; 0 where it had none yet."""
        (version,) = self.sql.execute(
            "SELECT ifnull(max(version), 0) FROM events WHERE conversation = ? AND time <= ?",
            (conversation, time),
        ).fetchone()
        return int(version)

    def snapshot(self, conversation: str, upto: int) -> tuple[int, bytes] | None:
        """The newest snapshot of the stream at or before version *upto*, packed."""
        row: tuple[int, bytes] | None = self.sql.execute(
            "SELECT version, CAST(view AS BLOB) FROM snapshots WHERE conversation = ? AND version <= ?"
            " ORDER BY version DESC LIMIT 1",
            (conversation, upto),
        ).fetchone()
        return row

    # -- conversations

    def conversation(self, conversation: str) -> Listed | None:
        """The conversation with that id."""
        row = self.sql.execute(
            f"SELECT {_LISTED} FROM conversations WHERE id = ?", (conversation,)
        ).fetchone()
        return row and _listed(row)

    def named(self, name: str) -> Listed | None:
        """The conversation with exactly that name."""
        row = self.sql.execute(f"SELECT {_LISTED} FROM conversations WHERE name = ?", (name,)).fetchone()
        return row and _listed(row)

    def starting_with(self, prefix: str, limit: int = 20) -> list[Listed]:
        """Conversations whose id or name starts with *prefix*."""
        end = prefix + "\U0010ffff"
        rows = self.sql.execute(
            f"SELECT {_LISTED} FROM conversations WHERE id >= ?1 AND id < ?2"
            f" UNION SELECT {_LISTED} FROM conversations WHERE name >= ?1 AND name < ?2 LIMIT ?3",
            (prefix, end, limit),
        )
        return [_listed(row) for row in rows]

    def listed(self, archived: bool | None = False, limit: int = -1) -> list[Listed]:
        """Conversations, those that changed last first. *archived* None means all."""
        where = "" if archived is None else "WHERE archived = ?"
        values = () if archived is None else (int(archived),)
        rows = self.sql.execute(
            f"SELECT {_LISTED} FROM conversations {where} ORDER BY updated DESC, id LIMIT ?",
            (*values, limit),
        )
        return [_listed(row) for row in rows]

    def last_asked(self) -> Listed | None:
        """The conversation with the latest question, archived ones aside."""
        row = self.sql.execute(
            f"SELECT {_LISTED} FROM conversations WHERE asked > 0 AND archived = 0"
            " ORDER BY asked DESC LIMIT 1"
        ).fetchone()
        return row and _listed(row)

    def children(self, conversation: str) -> list[Listed]:
        """The forks of a conversation."""
        rows = self.sql.execute(
            f"SELECT {_LISTED} FROM conversations WHERE parent = ? ORDER BY created, id",
            (conversation,),
        )
        return [_listed(row) for row in rows]

    def cursor(self, name: str) -> int:
        """How far the derived table *name* has read the log, as a position."""
        row = self.sql.execute("SELECT position FROM cursors WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def changed_since(self, position: int) -> list[tuple[str, int, str, int]]:
        """(conversation, version, time, position of the last question) where events came later."""
        return self.sql.execute(
            "SELECT conversation, max(version), max(time),"
            " ifnull(max(CASE WHEN type = 'request_started' THEN position END), 0)"
            " FROM events WHERE position > ? GROUP BY conversation",
            (position,),
        ).fetchall()

    # -- drafts

    def drafts(self, conversation: str | None = None) -> list[Draft]:
        """Answers that are under way or were cut off."""
        where, values = ("", ()) if conversation is None else ("WHERE conversation = ?", (conversation,))
        rows = self.sql.execute(
            f"SELECT conversation, request, writer, lease, CAST(partial AS BLOB) FROM drafts {where}"
            " ORDER BY conversation, request",
            values,
        )
        return [Draft(*row) for row in rows]


def _left(redactions: dict[int, ev.Redacted], record: ev.Recorded) -> bytes:
    redacted = redactions.get(record.version)
    if redacted is None:
        raise DamagedStore(
            "conversation {conversation} has lost the content of version {version}",
            conversation=record.conversation,
            version=record.version,
        )
    return bytes(redacted.left)


class Draft(msgspec.Struct, frozen=True):
    """A request that is open: who writes it, until when (epoch seconds) it counts as alive without word
    from them, and what has come of the answer, as a message in JSON."""

    conversation: str
    request: int
    writer: str
    lease: float
    partial: bytes | None


class Transaction(Reader):
    """What can be done to the log; one that is open. *dirty*: it has appended something."""

    dirty = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.forget()

    def forget(self) -> None:
        """Read heads anew: a transaction has begun, or went back to a savepoint."""
        # What was read under the write lock stays true until we append ourselves, so a head is looked up
        # once a transaction, not by each who asks: two SELECTs fewer a commit, 8 of 75 µs.
        self._heads: dict[str, Head] = {}
        self._position: int | None = None

    def head(self, conversation: str) -> Head:
        known = self._heads.get(conversation)
        if known is None:
            known = self._heads[conversation] = super().head(conversation)
        return known

    def last_position(self) -> int:
        if self._position is None:
            self._position = super().last_position()
        return self._position

    def append(
        self,
        conversation: str,
        expected_version: int,
        events: Sequence[ev.Event],
        time: str | None = None,
    ) -> list[ev.Recorded]:
        """Append *events* after *expected_version* and return them as recorded.

        A first event that is `forked` chains on its parent. Raises VersionConflict where the stream
        is at another version, NameTaken where a name is another conversation's.
        """
        head = self.head(conversation)
        if head[0] != expected_version:
            raise VersionConflict(
                "conversation {conversation} is at version {version}, not at {expected}: it went on",
                conversation=conversation,
                version=head[0],
                expected=expected_version,
            )
        if not events:
            return []
        first = events[0]
        if expected_version == 0 and isinstance(first, ev.Forked):
            head = (0, self.hash_at(first.parent, first.version))
        when = time or codec.timestamp()
        records = codec.chain(conversation, head, self.last_position(), list(events), when)
        self._insert(records)
        for record, event in zip(records, events, strict=True):
            self.enlist(record, event)
        return records

    def _insert(self, records: Sequence[ev.Recorded]) -> None:
        self.sql.executemany(
            "INSERT INTO events (position, conversation, version, batch, type, data, time, hash)"
            " VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)",
            [
                (r.position, r.conversation, r.version, r.batch, r.type, r.json, r.time, link)
                for r, link in zip(records, (bytes.fromhex(r.hash) for r in records), strict=True)
            ],
        )
        self.dirty = True
        last = records[-1]
        self._heads[last.conversation] = last.version, bytes.fromhex(last.hash)
        self._position = last.position

    def append_recorded(
        self,
        conversation: str,
        records: Sequence[ev.Recorded],
        digest_of: Callable[[ev.Recorded], bytes],
    ) -> None:
        """Append events that were recorded elsewhere, as they are, at the end of their stream.

        They get new positions, and must fit the chain: *digest_of* gives the digest of an event's data,
        be that there or redacted. A name that is taken here is shown with a number behind it. Raises
        DamagedStore where one does not fit; nothing is to be kept then.
        """
        version, previous = self.head(conversation)
        position = self.last_position()
        placed: list[ev.Recorded] = []
        for record in records:
            if record.version == 1 and record.type == "forked":
                fork = record.event
                assert isinstance(fork, ev.Forked)
                previous = self.hash_at(fork.parent, fork.version)
            version, position = version + 1, position + 1
            fields = (conversation, version, record.batch, record.type, record.time)
            previous = codec.link(previous, digest_of(record), *fields)
            if (record.version, record.hash) != (version, previous.hex()):
                raise DamagedStore(
                    "version {version} of conversation {conversation} does not fit what is here",
                    conversation=conversation,
                    version=record.version,
                )
            placed.append(msgspec.structs.replace(record, conversation=conversation, position=position))
        self._insert(placed)
        for record in placed:
            if record.type in ("created", "forked", "renamed", "archived", "unarchived", "deleted"):
                self.enlist(record, record.event, clash=True)

    def enlist(self, record: ev.Recorded, event: ev.Event, clash: bool = False) -> None:
        """Keep the list of conversations for the few events that found, name or hide one.

        A name that is another conversation's raises NameTaken; with *clash* the list shows a free one.
        """
        if isinstance(event, (ev.Created, ev.Forked, ev.Renamed)):
            name = event.name
            if name is not None and self._name_taken(name, record.conversation):
                if not clash:
                    raise NameTaken(
                        "there is a conversation named {name} already",
                        name=name,
                        conversation=record.conversation,
                    )
                name = free_name(name, lambda shown: self._name_taken(shown, record.conversation))
            if isinstance(event, ev.Renamed):
                self._rename(record.conversation, name)
            else:
                self._found(record, event, name)
        elif isinstance(event, (ev.Archived, ev.Unarchived)):
            self.sql.execute(
                "UPDATE conversations SET archived = ? WHERE id = ?",
                (isinstance(event, ev.Archived), record.conversation),
            )
        elif isinstance(event, ev.Deleted):
            self.sql.execute("DELETE FROM conversations WHERE id = ?", (record.conversation,))

    def _name_taken(self, name: str, conversation: str) -> bool:
        row = self.sql.execute(
            "SELECT 1 FROM conversations WHERE name = ? AND id <> ?", (name, conversation)
        ).fetchone()
        return row is not None

    def _rename(self, conversation: str, name: str | None) -> None:
        self.sql.execute("UPDATE conversations SET name = ? WHERE id = ?", (name, conversation))

    def _found(self, record: ev.Recorded, event: ev.Created | ev.Forked, name: str | None) -> None:
        fork = event if isinstance(event, ev.Forked) else None
        self.sql.execute(
            "INSERT INTO conversations (id, name, parent, parent_version, base, created, updated,"
            " version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.conversation,
                name,
                fork and fork.parent,
                fork and fork.version,
                fork.base if fork else 0,
                record.time,
                record.time,
                record.version,
            ),
        )

    def rename_all(self, name_of: Callable[[str], str | None]) -> None:
        """Show every conversation in the list under the name that *name_of* gives for its id."""
        rows = self.sql.execute("SELECT id, name FROM conversations").fetchall()
        changed = [(name_of(id_), id_) for id_, name in rows if name_of(id_) != name]
        self.sql.executemany("UPDATE conversations SET name = NULL WHERE id = ?", [(i,) for _, i in changed])
        self.sql.executemany("UPDATE conversations SET name = ? WHERE id = ?", changed)

    def recreate_derived(self) -> None:
        """Drop what is derived and make it anew, empty; drafts stay where they are sound."""
        schema.recreate_derived(self.sql)

    def put_snapshot(self, conversation: str, version: int, packed: bytes) -> None:
        """Save a view; a cache, never an answer of its own."""
        self.sql.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, CAST(? AS TEXT))",
            (conversation, version, packed),
        )

    def put_draft(self, draft: Draft) -> None:
        """Note that a request is under way."""
        self.sql.execute(
            "INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, CAST(? AS TEXT))",
            (draft.conversation, draft.request, draft.writer, draft.lease, draft.partial),
        )

    def renew_draft(self, draft: Draft) -> None:
        """Save what is under way again; a draft that was closed meanwhile stays closed."""
        self.sql.execute(
            "UPDATE drafts SET lease = ?, partial = CAST(? AS TEXT) WHERE conversation = ? AND request = ?",
            (draft.lease, draft.partial, draft.conversation, draft.request),
        )

    def drop_draft(self, conversation: str, request: int) -> bool:
        """Forget a draft; whether there was one."""
        cursor = self.sql.execute(
            "DELETE FROM drafts WHERE conversation = ? AND request = ?", (conversation, request)
        )
        return cursor.rowcount > 0

    def put_cursor(self, name: str, position: int) -> None:
        """Note how far the derived table *name* has read."""
        self.sql.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, position))

    def put_listed(self, conversation: str, version: int, updated: str, asked: int, messages: int) -> None:
        """Bring a conversation's line in the list up to date; *asked* 0 leaves it as it is."""
        self.sql.execute(
            "UPDATE conversations SET version = ?, updated = max(updated, ?), messages = ?,"
            " asked = max(asked, ?) WHERE id = ?",
            (version, updated, messages, asked, conversation),
        )


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
        with self._plain_errors():
            self._connection = self._open()
        self._begin_writing()

    def _begin_writing(self) -> None:
        sql = self._connection
        self._writer = Writer(
            begin=self._begin,
            mark=lambda: self._execute("SAVEPOINT job"),
            release=lambda: self._execute("RELEASE job"),
            rewind=self._rewind,
            commit=lambda: self._execute("COMMIT"),
            rollback=self._rollback,
        )
        self._transaction = Transaction(sql)

    def __repr__(self) -> str:
        return f"<SqliteStore {self.name}>"

    # -- reading and writing

    @contextmanager
    def reading(self, still: bool = False) -> Generator[Reader, None, None]:
        """A reader that sees what has been committed; *still*: for all its questions at one moment."""
        self._check_open()
        if self.path is None:
            with self._writer.lock, self._plain_errors():
                yield Reader(self._connection)
            return
        with self._plain_errors():
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
        with self._plain_errors():
            return self._writer.run(lambda: job(self._transaction))

    def submit(self, job: Callable[[Transaction], T], done: Callable[[Callable[[], T]], None]) -> None:
        """The same in the store's own thread: *done* is called there with a function that gives what
        `transact` would have returned or raised."""
        self._check_writable()

        def tell(ticket: Ticket[T]) -> None:
            def outcome() -> T:
                with self._plain_errors():
                    return ticket.outcome()

            done(outcome)

        self._writer.submit(lambda: job(self._transaction), tell)

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
        with self._writer.lock:
            sql = self._connection
            try:
                sql.execute("VACUUM")
                sql.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_PATIENCE}")
                (busy, _, _) = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:  # no space, or somebody else's transaction
                return False
            finally:
                sql.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
            return not busy

    def close(self) -> None:
        """Finish what waits and close the files; closing twice is fine."""
        if self._closed or self._pid != os.getpid():
            return
        self._writer.stop()
        with self._writer.lock:
            self._closed = True
            for connection in list(self._open_files):
                self._shut(connection)
            self._idle.clear()

    # -- connections

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            connection = self._connect(":memory:")
            self._prepare(connection)
            return connection
        if not os.path.exists(self.path):
            folder = os.path.dirname(self.path)
            os.makedirs(folder, mode=0o700, exist_ok=True)
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
        connection = sqlite3.connect(target, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        self._open_files.add(connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        ready = schema.check(connection, self.name)
        if self.path is not None:
            self.read_only = not _writable(self.path)
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
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

    def _begin(self) -> None:
        self._transaction.dirty = False
        self._transaction.forget()
        self._execute("BEGIN IMMEDIATE")

    def _rewind(self) -> None:
        self.epoch += self._transaction.dirty
        self._execute("ROLLBACK TO job")
        self._transaction.forget()

    def _rollback(self) -> bool:
        self.epoch += self._transaction.dirty
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

    @contextmanager
    def _plain_errors(self) -> Generator[None, None, None]:
        try:
            yield
        except sqlite3.Error as fault:
            raise _plain(fault, self.name) from fault
        except UnicodeDecodeError as fault:  # so damaged that SQLite's own message is no text
            raise DamagedStore(_NO_TEXT, name=self.name) from fault
        except OSError as fault:
            raise StoreUnavailable(
                "{name} cannot be opened: {reason}", name=self.name, reason=fault.strerror or str(fault)
            ) from fault


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)


def _plain(fault: sqlite3.Error, name: str) -> Openai2Error:
    """The error of ours that says what SQLite's means."""
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
