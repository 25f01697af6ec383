"""What can be read from the log, on any connection.

Invariant: no module that decodes or hashes events is imported before an event is read, so that the list of
conversations costs no more than sqlite3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from openai2.errors import DamagedStore

if TYPE_CHECKING:
    from openai2.core import events as ev

Head = tuple[int, bytes]

#: The previous hash of a stream's first event (see `codec`).
NO_HASH = bytes(32)
#: The first bytes of what is hashed for every event (see `codec`).
TAG = b"openai2 event 1\0"
#: The cursor of the list of conversations.
LIST = "conversations"


# The columns of `_decoded`. Data is read as BLOB: the decoder takes bytes, and str would be a detour.
_EVENT = "conversation, version, position, batch, type, time, CAST(data AS BLOB), hash"


class Listed(NamedTuple):
    """A row of the list of conversations. *asked* is the position of its last question."""

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


def _listed(row: tuple[Any, ...]) -> Listed:
    # `_make` takes a third less time than a call with eleven arguments.
    id_, name, parent, parent_version, base, archived, created, updated, version, messages, asked = row
    return Listed._make(
        (id_, name, parent, parent_version, base, archived == 1, created, updated, version, messages, asked)
    )


class Draft(NamedTuple):
    """An open request: its writer (see `history.drafts`), when its lease expires (epoch seconds), and the
    partial answer, a message in JSON."""

    conversation: str
    request: int
    writer: str
    lease: float
    partial: bytes | None


class Reader:
    """The read side of the log. Every method is one SELECT, unless its docstring says otherwise."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sql = connection

    def head(self, conversation: str) -> Head:
        """Return version and hash of the stream's last event; (0, NO_HASH) if there is no such stream."""
        row: Head | None = self.sql.execute(
            "SELECT version, hash FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1",
            (conversation,),
        ).fetchone()
        if row is None:
            return 0, NO_HASH
        if type(row[0]) is not int or type(row[1]) is not bytes:
            raise _wrong_types(conversation)
        return row

    def hash_at(self, conversation: str, version: int) -> bytes:
        """Return the hash of an event to fork from. Raises DamagedStore if there is no such event."""
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
        """Yield the hashes of a stream, in order."""
        rows = self.sql.execute(
            "SELECT hash FROM events WHERE conversation = ? ORDER BY version", (conversation,)
        )
        return (bytes(row[0]) for row in rows)

    def heads(self) -> dict[str, str]:
        """Return the hash of each stream's last event, in hex, by conversation id."""
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
        """Yield the stream's events with after < version <= upto, of these *types* (None: all)."""
        where = "conversation = ? AND version > ?"
        values: list[object] = [conversation, after]
        if upto is not None:
            where += " AND version <= ?"
            values.append(upto)
        if types is not None:
            where += f" AND type IN ({', '.join('?' * len(types))})"
            values.extend(types)
        order = "DESC" if newest_first else "ASC"
        return self._records(f"{where} ORDER BY version {order} LIMIT ?", (*values, limit))

    def every_event(self, after: int = 0) -> Iterator[ev.Recorded]:
        """Yield all events with position > *after*, in the order of their commit."""
        return self._records("position > ? ORDER BY position", (after,))

    def events_of_types(self, types: Sequence[str]) -> Iterator[ev.Recorded]:
        """Yield all events of these types, in the order of their commit."""
        return self._records(f"type IN ({', '.join('?' * len(types))}) ORDER BY position", tuple(types))

    def _records(self, where: str, values: Sequence[object]) -> Iterator[ev.Recorded]:
        return self._decoded(self.sql.execute(f"SELECT {_EVENT} FROM events WHERE {where}", values))

    def _decoded(self, rows: sqlite3.Cursor) -> Iterator[ev.Recorded]:
        """Yield the events of these rows; a redacted one gets what its redaction left of its data."""
        from openai2.core import events as ev

        left: dict[str, dict[int, ev.Redacted]] = {}
        for conversation, version, position, batch, tag, time, data, link in _readable(rows):
            if (
                type(conversation) is not str
                or type(version) is not int
                or type(tag) is not str
                or type(time) is not str
                or type(link) is not bytes
            ):
                raise _wrong_types(conversation)
            record = ev.Recorded(conversation, version, position, batch, tag, time, data, link.hex())
            if not data:
                from msgspec import structs

                known = left.get(record.conversation)
                if known is None:
                    known = left[record.conversation] = self.redactions(record.conversation)
                record = structs.replace(record, left=left_of(known, conversation, version))
            yield record

    def data(self, conversation: str, versions: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
        """Yield (version, type, data) of these events of the stream."""
        return self._some("e.version, e.type, CAST(e.data AS BLOB)", conversation, versions)

    def added(self, conversation: str, versions: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (version, data) of those of these events that add a message."""
        return self._some(
            "e.version, CAST(e.data AS BLOB)", conversation, versions, " AND e.type = 'message_added'"
        )

    def added_joined(self, conversation: str, first: int, last: int) -> tuple[str, bytes] | None:
        """Return versions and data of the messages added in versions *first* to *last*, joined by commas.

        None if there are no messages, or more bytes than SQLite can join.
        """
        try:
            versions, data = self.sql.execute(
                "SELECT group_concat(version), CAST(group_concat(data) AS BLOB) FROM events"
                " WHERE conversation = ? AND version BETWEEN ? AND ? AND type = 'message_added'",
                (conversation, first, last),
            ).fetchone()
        except sqlite3.DataError:
            return None
        return versions and (versions, data)

    def _some(
        self, columns: str, conversation: str, versions: Sequence[int], only: str = ""
    ) -> Iterator[Any]:
        if not versions:
            return iter(())
        first, last = min(versions), max(versions)
        if last - first < 4 * len(versions):  # dense: one range scan is cheaper than look-ups
            chosen = set(versions)
            cursor = self.sql.execute(
                f"SELECT {columns} FROM events AS e WHERE e.conversation = ?"
                f" AND e.version BETWEEN ? AND ?{only}",
                (conversation, first, last),
            )
            if len(chosen) > last - first:
                return cursor  # every version: spare the filter, a sixth of the time
            return (row for row in cursor if row[0] in chosen)
        return self.sql.execute(
            f"SELECT {columns} FROM json_each(?) AS chosen CROSS JOIN events AS e"
            f" ON e.conversation = ? AND e.version = chosen.value{only}",
            (f"[{','.join(map(str, versions))}]", conversation),
        )

    def backwards(
        self, conversation: str, upto: int, types: Sequence[str]
    ) -> Iterator[tuple[int, str, bytes]]:
        """Yield (version, type, data) of the stream's events of these *types*, from version *upto* down."""
        return self.sql.execute(
            "SELECT version, type, CAST(data AS BLOB) FROM events WHERE conversation = ? AND version <= ?"
            f" AND type IN ({', '.join('?' * len(types))}) ORDER BY version DESC",
            (conversation, upto, *types),
        )

    def redactions(self, conversation: str) -> dict[int, ev.Redacted]:
        """Return the stream's redactions by the version that they emptied."""
        from openai2.core import events as ev

        found: dict[int, ev.Redacted] = {}
        rows = self.sql.execute(
            "SELECT CAST(data AS BLOB) FROM events WHERE conversation = ? AND type = 'redacted'"
            " ORDER BY +version",  # the + makes SQLite use the index of redactions
            (conversation,),
        )
        for (data,) in rows:
            event = ev.decode("redacted", data)
            assert isinstance(event, ev.Redacted)
            found[event.version] = event
        return found

    def is_deleted(self, conversation: str) -> bool:
        """Return True if the conversation was deleted."""
        row = self.sql.execute(
            "SELECT type FROM events WHERE conversation = ? ORDER BY version DESC LIMIT 1", (conversation,)
        ).fetchone()
        return row is not None and row[0] == "deleted"

    def last_position(self) -> int:
        """Return the position of the store's last event; 0 if it is empty."""
        (position,) = self.sql.execute("SELECT ifnull(max(position), 0) FROM events").fetchone()
        return int(position)

    def version_at(self, conversation: str, time: str) -> int:
        """Return the stream's last version at that time; 0 if it had none."""
        (version,) = self.sql.execute(
            "SELECT ifnull(max(version), 0) FROM events WHERE conversation = ? AND time <= ?",
            (conversation, time),
        ).fetchone()
        return int(version)

    def snapshot(self, conversation: str, upto: int) -> tuple[int, bytes] | None:
        """Return (version, packed view) of the newest snapshot at or before version *upto*."""
        row: tuple[int, bytes] | None = self.sql.execute(
            "SELECT version, CAST(view AS BLOB) FROM snapshots WHERE conversation = ? AND version <= ?"
            " ORDER BY version DESC LIMIT 1",
            (conversation, upto),
        ).fetchone()
        return row

    # -- conversations

    def conversation(self, conversation: str) -> Listed | None:
        """Return the conversation with that id."""
        return self._one_listed("WHERE id = ?", (conversation,))

    def named(self, name: str) -> Listed | None:
        """Return the conversation with exactly that name."""
        return self._one_listed("WHERE name = ?", (name,))

    def starting_with(self, prefix: str, limit: int = 20) -> list[Listed]:
        """Return conversations whose id or name starts with *prefix*."""
        end = prefix + "\U0010ffff"
        rows = self._despite_damage(
            f"SELECT {_LISTED} FROM conversations WHERE id >= ?1 AND id < ?2"
            f" UNION SELECT {_LISTED} FROM conversations WHERE name >= ?1 AND name < ?2 LIMIT ?3",
            (prefix, end, limit),
        )
        return [_listed(row) for row in rows]

    def listed(self, archived: bool | None = False, limit: int = -1) -> list[Listed]:
        """Return the conversations, last changed first. *archived* None means all."""
        where = "" if archived is None else "WHERE archived = ?"
        values = () if archived is None else (int(archived),)
        rows = self._despite_damage(
            f"SELECT {_LISTED} FROM conversations {where} ORDER BY updated DESC, id LIMIT ?",
            (*values, limit),
        )
        return [_listed(row) for row in rows]

    def last_asked(self) -> Listed | None:
        """Return the unarchived conversation with the latest question."""
        return self._one_listed("WHERE asked > 0 AND archived = 0 ORDER BY asked DESC LIMIT 1")

    def _one_listed(self, where: str, values: Sequence[object] = ()) -> Listed | None:
        rows = self._despite_damage(f"SELECT {_LISTED} FROM conversations {where}", values)
        return _listed(rows[0]) if rows else None

    def children(self, conversation: str) -> list[Listed]:
        """Return the forks of a conversation, oldest first."""
        rows = self._despite_damage(
            f"SELECT {_LISTED} FROM conversations WHERE parent = ? ORDER BY created, id",
            (conversation,),
        )
        return [_listed(row) for row in rows]

    def cursor(self, name: str) -> int:
        """Return the position up to which the derived table *name* has read the log. Raises DamagedStore."""
        row: tuple[object] | None = self.sql.execute(
            "SELECT iif(typeof(position) = 'integer', position, CAST(position AS BLOB)) FROM cursors"
            " WHERE name = ?",
            (name,),
        ).fetchone()
        position = row[0] if row else 0
        if not isinstance(position, int):
            raise DamagedStore(
                "the cursor of {name} must be a position, not {position}: run `openai2 rebuild`",
                name=name,
                position=str(position),
            )
        return position

    def list_cursor(self) -> int:
        """Return the position up to which the list was read; 0, to read all again, if that is damaged."""
        try:
            return self.cursor(LIST)
        except DamagedStore:
            return 0

    def changed_since(self, position: int) -> list[tuple[str, int, str, int]]:
        """Return (conversation, version, time, last question's position) of streams that changed since."""
        return self._despite_damage(
            "SELECT conversation, max(version), max(time),"
            " ifnull(max(CASE WHEN type = 'request_started' THEN position END), 0)"
            " FROM events WHERE position > ? AND typeof(conversation) = 'text'"
            " AND typeof(version) = 'integer' AND typeof(time) = 'text' GROUP BY conversation",
            (position,),
        )

    def _despite_damage(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return rows of the list, in which one that holds no UTF-8 must not hide the others."""
        try:
            return self.sql.execute(query, values).fetchall()
        except (sqlite3.OperationalError, UnicodeDecodeError) as error:
            if "UTF-8" not in str(error) and not isinstance(error, UnicodeDecodeError):
                raise
        self.sql.text_factory = _decode_text
        try:
            return self.sql.execute(query, values).fetchall()
        finally:
            self.sql.text_factory = str

    # -- drafts

    def drafts(self, conversation: str | None = None) -> list[Draft]:
        """Return the open requests, of one conversation or of all."""
        where, values = ("", ()) if conversation is None else ("WHERE conversation = ?", (conversation,))
        rows = self.sql.execute(
            # A draft with wrong types must not prevent a redaction, so cast them.
            "SELECT conversation, request, CAST(writer AS TEXT), CAST(lease AS REAL), CAST(partial AS BLOB)"
            f" FROM drafts {where} ORDER BY conversation, request",
            values,
        )
        return [Draft(*row) for row in rows]


def _decode_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _readable(rows: sqlite3.Cursor) -> Iterator[Any]:
    """Yield the rows. Raises DamagedStore if a text in them is not UTF-8."""
    try:
        yield from rows
    except sqlite3.OperationalError as error:
        if "decode to utf-8" not in str(error).lower():
            raise
        raise DamagedStore("the log holds text that is not UTF-8") from error


def _wrong_types(conversation: object) -> DamagedStore:
    return DamagedStore(
        "conversation {conversation} has an event with a column of the wrong type",
        conversation=str(conversation),
    )


def left_of(redactions: dict[int, ev.Redacted], conversation: str, version: int) -> bytes:
    """Return what *redactions* left of an event with empty data. Raises DamagedStore if none emptied it."""
    redacted = redactions.get(version)
    if redacted is None:
        raise DamagedStore(
            "conversation {conversation} has lost the content of version {version}",
            conversation=conversation,
            version=version,
        )
    return bytes(redacted.left)
