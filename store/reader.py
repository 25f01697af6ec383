"""Reading the log: what can be asked of it, on whichever connection.

Rule: nothing that decodes or hashes events is imported before somebody asks for one, so that the list of
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

#: What a stream begins with that no event comes before (see `codec`).
NO_HASH = bytes(32)
#: What every link of the chain begins with, before it is hashed: the same.
TAG = b"openai2 event 1\0"
#: The cursor of the list of conversations.
LIST = "conversations"


# An event, as `_recorded` takes it. Data comes as a BLOB: that spares SQLite's bytes the detour through str
# on their way to the decoder.
_EVENT = "conversation, version, position, batch, type, time, CAST(data AS BLOB), hash"


class Listed(NamedTuple):
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


def _listed(row: tuple[Any, ...]) -> Listed:
    # By hand: SQLite has no bool, and this takes a third less time than the class called with eleven.
    id_, name, parent, parent_version, base, archived, created, updated, version, messages, asked = row
    return Listed._make(
        (id_, name, parent, parent_version, base, archived == 1, created, updated, version, messages, asked)
    )


class Draft(NamedTuple):
    """A request that is open: who writes it, until when (epoch seconds) it counts as alive without word
    from them, and what has come of the answer, as a message in JSON."""

    conversation: str
    request: int
    writer: str
    lease: float
    partial: bytes | None


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
        if row is None:
            return 0, NO_HASH
        return row

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
        return self._records(f"{where} ORDER BY version {order} LIMIT ?", (*values, limit))

    def every_event(self, after: int = 0) -> Iterator[ev.Recorded]:
        """All events of the store with position > *after*, in the order of their commit."""
        return self._records("position > ? ORDER BY position", (after,))

    def events_of_types(self, types: Sequence[str]) -> Iterator[ev.Recorded]:
        """All events of these types, in the order of their commit."""
        return self._records(f"type IN ({', '.join('?' * len(types))}) ORDER BY position", tuple(types))

    def _records(self, where: str, values: Sequence[object]) -> Iterator[ev.Recorded]:
        return self._recorded(self.sql.execute(f"SELECT {_EVENT} FROM events WHERE {where}", values))

    def _recorded(self, rows: sqlite3.Cursor) -> Iterator[ev.Recorded]:
        """The events of these rows; those whose data was redacted with what is left of it."""
        from openai2.core import events as ev

        left: dict[str, dict[int, ev.Redacted]] = {}
        for conversation, version, position, batch, tag, time, data, link in rows:
            record = ev.Recorded(conversation, version, position, batch, tag, time, data, link.hex())
            if not data:
                from msgspec import structs

                known = left.get(record.conversation)
                if known is None:
                    known = left[record.conversation] = self.redactions(record.conversation)
                record = structs.replace(record, left=left_of(known, conversation, version))
            yield record

    def data(self, conversation: str, versions: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
        """(version, type, data) of those events of the stream."""
        return self._some("e.version, e.type, CAST(e.data AS BLOB)", conversation, versions)

    def added(self, conversation: str, versions: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """(version, data) of those of them that add a message."""
        return self._some(
            "e.version, CAST(e.data AS BLOB)", conversation, versions, " AND e.type = 'message_added'"
        )

    def added_joined(self, conversation: str, first: int, last: int) -> tuple[str, bytes] | None:
        """Versions and data of the messages added from version *first* to *last*, each joined by commas.

        None where there are none, or more bytes than SQLite joins.
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
        if last - first < 4 * len(versions):  # dense enough that one sweep is cheaper than look-ups
            wanted = set(versions)
            cursor = self.sql.execute(
                f"SELECT {columns} FROM events AS e WHERE e.conversation = ?"
                f" AND e.version BETWEEN ? AND ?{only}",
                (conversation, first, last),
            )
            if len(wanted) > last - first:
                return cursor  # all of them: the filter would take a sixth of the time
            return (row for row in cursor if row[0] in wanted)
        return self.sql.execute(
            f"SELECT {columns} FROM json_each(?) AS wanted CROSS JOIN events AS e"
            f" ON e.conversation = ? AND e.version = wanted.value{only}",
            (f"[{','.join(map(str, versions))}]", conversation),
        )

    def backwards(
        self, conversation: str, upto: int, types: Sequence[str]
    ) -> Iterator[tuple[int, str, bytes]]:
        """(version, type, data) of the stream's events of these *types*, from version *upto* down."""
        return self.sql.execute(
            "SELECT version, type, CAST(data AS BLOB) FROM events WHERE conversation = ? AND version <= ?"
            f" AND type IN ({', '.join('?' * len(types))}) ORDER BY version DESC",
            (conversation, upto, *types),
        )

    def redactions(self, conversation: str) -> dict[int, ev.Redacted]:
        """The stream's redactions, by the version whose data they took."""
        from openai2.core import events as ev

        found: dict[int, ev.Redacted] = {}
        rows = self.sql.execute(
            "SELECT CAST(data AS BLOB) FROM events WHERE conversation = ? AND type = 'redacted'"
            " ORDER BY +version",  # so that it is found in the index of redactions
            (conversation,),
        )
        for (data,) in rows:
            event = ev.decode("redacted", data)
            assert isinstance(event, ev.Redacted)
            found[event.version] = event
        return found

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
        """How far the derived table *name* has read the log, as a position. Raises DamagedStore."""
        row: tuple[object] | None = self.sql.execute(
            "SELECT position FROM cursors WHERE name = ?", (name,)
        ).fetchone()
        position = row[0] if row else 0
        if not isinstance(position, int):
            raise DamagedStore(
                "the table {name} says that it has read up to {position}, which is no position: "
                "run `openai2 rebuild`",
                name=name,
                position=str(position),
            )
        return position

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
            # Who forged a draft is to keep nobody from redacting: its types are made what they should be.
            "SELECT conversation, request, CAST(writer AS TEXT), CAST(lease AS REAL), CAST(partial AS BLOB)"
            f" FROM drafts {where} ORDER BY conversation, request",
            values,
        )
        return [Draft(*row) for row in rows]


def left_of(redactions: dict[int, ev.Redacted], conversation: str, version: int) -> bytes:
    """What these redactions left of an event whose data is empty. Raises DamagedStore where none took it."""
    redacted = redactions.get(version)
    if redacted is None:
        raise DamagedStore(
            "conversation {conversation} has lost the content of version {version}",
            conversation=conversation,
            version=version,
        )
    return bytes(redacted.left)
