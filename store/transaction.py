"""What a job can do to the log inside a write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core.ids import free_name
from openai2.errors import DamagedStore, NameTaken, VersionConflict
from openai2.store import codec, schema
from openai2.store.reader import Draft, Head, Reader

#: Events that start, name or hide a conversation.
LISTED_TYPES = ("created", "forked", "renamed", "archived", "unarchived", "deleted")
_LISTED = frozenset(LISTED_TYPES)
_MAX_HEADS = 1024  # cached heads, about 300 bytes each
_bytes = bytes.fromhex

_INSERT = (
    "INSERT INTO events (position, conversation, version, batch, type, data, time, hash)"
    " VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)"
)


class Transaction(Reader):
    """The write side of the log. *is_dirty*: the transaction that is open has appended events."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.is_dirty = False
        # Heads read under the write lock stay true until another connection writes, which `data_version`
        # shows. The cache spares two SELECTs, 4 of an append's 60 µs.
        self._heads: dict[str, Head] = {}
        self._position: int | None = None
        self._data_version: int | None = None

    def start(self) -> None:
        """Begin a transaction: drop the cached heads if another connection has written."""
        self.is_dirty = False
        (data_version,) = self.sql.execute("PRAGMA data_version").fetchone()
        if data_version != self._data_version:
            self.forget()
            self._data_version = data_version

    def forget(self) -> None:
        """Drop the cached heads, as after a roll-back."""
        self._heads.clear()
        self._position = None

    def head(self, conversation: str) -> Head:
        known = self._heads.get(conversation)
        if known is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
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

        A first event that is `forked` chains on its parent. *time* is now if None. Raises VersionConflict if
        the stream is at another version, NameTaken if another conversation has the name.
        """
        head = self.head(conversation)
        if head[0] != expected_version:
            raise VersionConflict(
                "conversation {conversation} is at version {version}, expected {expected}: read it again",
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
            if record.type in _LISTED:
                self.enlist(record, event)
        return records

    def _insert(self, records: Sequence[ev.Recorded]) -> None:
        rows = [
            (r.position, r.conversation, r.version, r.batch, r.type, r.json, r.time, _bytes(r.hash))
            for r in records
        ]
        self.is_dirty = True
        try:
            self.sql.executemany(_INSERT, rows)
        except BaseException:
            self.forget()  # the rows before the refused one are inserted
            raise
        position, conversation, version, *_, link = rows[-1]
        self._heads[conversation] = version, link
        self._position = position

    def append_recorded(
        self,
        conversation: str,
        records: Sequence[ev.Recorded],
        digest_of: Callable[[ev.Recorded], bytes],
    ) -> None:
        """Append events recorded in another store, unchanged but for their positions.

        *digest_of* returns the digest of an event's data, redacted or not. If a name is taken here, the list
        shows it with a number. Raises DamagedStore if an event does not fit the chain; roll back then.
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
                    "version {version} of conversation {conversation} does not continue the stream here",
                    conversation=conversation,
                    version=record.version,
                )
            placed.append(msgspec.structs.replace(record, conversation=conversation, position=position))
        self._insert(placed)
        for record in placed:
            if record.type in _LISTED:
                self.enlist(record, record.event, clash=True)

    def enlist(self, record: ev.Recorded, event: ev.Event, clash: bool = False) -> None:
        """Update the list of conversations for an event that starts, names or hides one.

        If another conversation has the name, raise NameTaken, or with *clash* list it under a free name.
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
                name = free_name(name, lambda free: self._name_taken(free, record.conversation))
            if isinstance(event, ev.Renamed):
                self._rename(record.conversation, name)
            else:
                self._add_to_list(record, event, name)
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

    def _add_to_list(self, record: ev.Recorded, event: ev.Created | ev.Forked, name: str | None) -> None:
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
        """Set the listed name of every conversation to what *name_of* returns for its id."""
        rows = self.sql.execute("SELECT id, name FROM conversations").fetchall()
        changed = [(name_of(id_), id_) for id_, name in rows if name_of(id_) != name]
        self.sql.executemany("UPDATE conversations SET name = NULL WHERE id = ?", [(i,) for _, i in changed])
        self.sql.executemany("UPDATE conversations SET name = ? WHERE id = ?", changed)

    def recreate_derived(self) -> None:
        """Drop the derived tables and make them again, empty; keep the drafts if their table is sound."""
        schema.recreate_derived(self.sql)

    def put_snapshot(self, conversation: str, version: int, packed: bytes) -> None:
        """Save a packed view, as a cache."""
        self.sql.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, CAST(? AS TEXT))",
            (conversation, version, packed),
        )

    def put_draft(self, draft: Draft) -> None:
        """Save the draft of a request that starts."""
        self.sql.execute(
            "INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, CAST(? AS TEXT))",
            (draft.conversation, draft.request, draft.writer, draft.lease, draft.partial),
        )

    def renew_draft(self, draft: Draft) -> None:
        """Update lease and partial answer of a draft; do nothing if it was dropped."""
        self.sql.execute(
            "UPDATE drafts SET lease = ?, partial = CAST(? AS TEXT) WHERE conversation = ? AND request = ?",
            (draft.lease, draft.partial, draft.conversation, draft.request),
        )

    def drop_draft(self, conversation: str, request: int) -> bool:
        """Delete a draft; return False if it does not exist."""
        cursor = self.sql.execute(
            "DELETE FROM drafts WHERE conversation = ? AND request = ?", (conversation, request)
        )
        return cursor.rowcount > 0

    def put_cursor(self, name: str, position: int) -> None:
        """Save the position up to which the derived table *name* has read the log."""
        self.sql.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, position))

    def put_listed(self, conversation: str, version: int, updated: str, asked: int, messages: int) -> None:
        """Update a conversation's row in the list; *asked* 0 leaves the position of its last question."""
        self.sql.execute(
            "UPDATE conversations SET version = ?, updated = max(updated, ?), messages = ?,"
            " asked = max(asked, ?) WHERE id = ?",
            (version, updated, messages, asked, conversation),
        )
