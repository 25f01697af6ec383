"""Tables, guards and views, and the migrations of a file.

Invariants:
- `events` holds the truth. All other tables are derived: `rebuild` makes them again, except the drafts.
- A file of another program, or of a newer openai2, is refused before a byte of it changes.
- Migrations run under the write lock, so that processes can start together.
- sqlite-utils takes 0.1 s to import, and is imported only for a migration.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading

from openai2.errors import NewerStore, NotAStore

#: "oai2" in ASCII, as PRAGMA application_id: `file` and SQLite's tools show it.
APPLICATION_ID = 0x6F616932
#: PRAGMA user_version: the number of migrations applied to the file.
SCHEMA_VERSION = 1

DERIVED = ("conversations", "snapshots", "cursors", "drafts")

EVENTS = """
CREATE TABLE events (
  position INTEGER PRIMARY KEY CHECK (position > 0),
  conversation TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version > 0),
  batch INTEGER NOT NULL,
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  time TEXT NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  UNIQUE (conversation, version)
);
"""

# REPLACE deletes rows without firing DELETE triggers on a plain connection, so one guard checks inserts.
# Another names every column, so that ALTER TABLE cannot drop one. The index holds redactions only, by the
# start of their data, which names the emptied version: deleting a conversation looks up each event.
GUARDS = """
CREATE INDEX events_redacted ON events (conversation, substr(data, 1, instr(data, ',')))
WHERE type = 'redacted';
CREATE TRIGGER events_are_added_at_the_end BEFORE INSERT ON events
WHEN NEW.version IS NOT 1 + ifnull(
       (SELECT max(version) FROM events WHERE conversation = NEW.conversation), 0)
  OR NEW.position NOT IN (-1, 1 + ifnull((SELECT max(position) FROM events), 0))
BEGIN
  SELECT RAISE(ABORT, 'events are append-only: an event goes to the end of its stream');
END;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
WHEN NEW.data IS NOT ''
  OR OLD.data IS ''
  OR OLD.type IS 'redacted'
  OR NEW.position IS NOT OLD.position
  OR NEW.conversation IS NOT OLD.conversation
  OR NEW.version IS NOT OLD.version
  OR NEW.batch IS NOT OLD.batch
  OR NEW.type IS NOT OLD.type
  OR NEW.time IS NOT OLD.time
  OR NEW.hash IS NOT OLD.hash
  OR NOT EXISTS (
       SELECT 1 FROM events AS record
       WHERE record.type = 'redacted' AND record.conversation = OLD.conversation
         AND substr(record.data, 1, instr(record.data, ',')) = '{"version":' || OLD.version || ','
         AND +record.version > OLD.version)
BEGIN
  SELECT RAISE(ABORT, 'events are append-only: an event never changes');
END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN
  SELECT RAISE(ABORT, 'events are append-only: an event is never removed');
END;
"""

CONVERSATIONS = """
CREATE TABLE conversations (
  id TEXT PRIMARY KEY,
  name TEXT UNIQUE,
  parent TEXT,
  parent_version INTEGER,
  base INTEGER NOT NULL DEFAULT 0,
  archived INTEGER NOT NULL DEFAULT 0,
  created TEXT NOT NULL,
  updated TEXT NOT NULL,
  version INTEGER NOT NULL,
  messages INTEGER NOT NULL DEFAULT 0,
  asked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX conversations_by_update ON conversations (archived, updated DESC, id);
CREATE INDEX conversations_by_question ON conversations (asked);
CREATE INDEX conversations_by_parent ON conversations (parent) WHERE parent IS NOT NULL;
"""

SNAPSHOTS = """
CREATE TABLE snapshots (
  conversation TEXT NOT NULL,
  version INTEGER NOT NULL,
  view TEXT NOT NULL,
  PRIMARY KEY (conversation, version)
) WITHOUT ROWID;
"""

CURSORS = """
CREATE TABLE cursors (
  name TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) WITHOUT ROWID;
"""

DRAFTS = """
CREATE TABLE drafts (
  conversation TEXT NOT NULL,
  request INTEGER NOT NULL,
  writer TEXT NOT NULL,
  lease REAL NOT NULL,
  partial TEXT,
  PRIMARY KEY (conversation, request)
) WITHOUT ROWID;
"""

# Made by the first search, not by a migration (see `fulltext`). It stores no text.
SEARCH = """
CREATE VIRTUAL TABLE search USING fts5 (text, content = '', tokenize = 'unicode61 remove_diacritics 2')
"""

VIEWS = """
CREATE VIEW messages AS
  SELECT e.position, e.conversation, c.name, e.version, e.time,
         json_extract(e.data, '$.message.role') AS role,
         json_extract(e.data, '$.message.content') AS content,
         json_extract(e.data, '$.answer.model') AS model
  FROM events AS e LEFT JOIN conversations AS c ON c.id = e.conversation
  WHERE e.type = 'message_added' AND e.data <> '';
CREATE VIEW answers AS
  SELECT e.position, e.conversation, c.name, e.version, e.time,
         json_extract(e.data, '$.answer.model') AS model,
         json_extract(e.data, '$.answer.key') AS key,
         json_extract(e.data, '$.answer.finish_reason') AS finish_reason,
         json_extract(e.data, '$.answer.usage.prompt_tokens') AS prompt_tokens,
         json_extract(e.data, '$.answer.usage.completion_tokens') AS completion_tokens,
         json_extract(e.data, '$.answer.seconds') AS seconds,
         json_extract(e.data, '$.message.content') AS content
  FROM events AS e LEFT JOIN conversations AS c ON c.id = e.conversation
  WHERE e.type = 'message_added' AND e.data <> '' AND json_extract(e.data, '$.answer') IS NOT NULL;
CREATE VIEW failures AS
  SELECT e.position, e.conversation, c.name, e.version, e.time,
         json_extract(e.data, '$.error') AS error,
         json_extract(e.data, '$.status') AS status,
         json_extract(e.data, '$.message') AS message,
         json_extract(e.data, '$.key') AS key
  FROM events AS e LEFT JOIN conversations AS c ON c.id = e.conversation
  WHERE e.type = 'request_failed' AND e.data <> '';
"""


def check(connection: sqlite3.Connection, name: str) -> bool:
    """Return True if the open file is a store that needs no migration. Reads only.

    Raises NotAStore, NewerStore.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise NewerStore(
                "{name} was written by a newer openai2 (format {found}, this one knows {known}): "
                "update openai2",
                name=name,
                found=version,
                known=SCHEMA_VERSION,
            )
        return bool(version == SCHEMA_VERSION)
    # Another process may be making the store: one statement sees one moment.
    row = connection.execute(
        "SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if any(row) and row[0] != APPLICATION_ID:
        raise NotAStore("{name} is a database of another program, not of openai2", name=name)
    return bool(row[:2] == (APPLICATION_ID, SCHEMA_VERSION))


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the open file to the current schema, all or nothing; several processes may do so at once."""
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations("openai2")

    @migrations()
    def first(db: Database) -> None:
        for part in (EVENTS, GUARDS, CONVERSATIONS, SNAPSHOTS, CURSORS, DRAFTS, VIEWS):
            run(db.conn, part)

    connection.execute("BEGIN IMMEDIATE")
    try:
        if not check(connection, name):
            migrations.apply(Database(connection, execute_plugins=False, recursive_triggers=False))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def copy_empty(connection: sqlite3.Connection) -> None:
    """Make the open, empty database a store, as `migrate` does: a copy takes 0.08 ms instead of 3."""
    with _template_lock:
        pid, template = _template.get("empty", (0, None))
        if template is None or pid != os.getpid():  # SQLite forbids the use of a connection after a fork
            template = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            migrate(template, "the store in memory")
            _template["empty"] = os.getpid(), template
        template.backup(connection)


_template: dict[str, tuple[int, sqlite3.Connection]] = {}
_template_lock = threading.RLock()


def recreate_derived(connection: sqlite3.Connection) -> None:
    """Drop the derived tables and make them again, empty; restore missing guards.

    Drafts are kept if their table is as we make it. Anything else with one of our names is dropped.
    """
    for script in (CONVERSATIONS, SNAPSHOTS, CURSORS, VIEWS, GUARDS, DRAFTS):
        names: list[str] = re.findall(r"^CREATE \w+ (\w+)", script, re.MULTILINE)
        if script is DRAFTS and _definition(connection, names[0]) == script.split():
            _drop_triggers(connection, names[0])
            continue
        for name in names:
            _drop(connection, name)
        run(connection, script)
    drop_search(connection)


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Return True if this SQLite has FTS5; asked once per process."""
    if not _fts5:
        row = connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone()
        _fts5.append(row is not None)
    return _fts5[0]


_fts5: list[bool] = []


def drop_search(connection: sqlite3.Connection) -> None:
    """Drop the full-text index, if there is one; the next search makes it again.

    An SQLite without FTS5 cannot drop it. It then stays without a cursor, and so is not used.
    """
    if not has_fts5(connection):
        return
    try:
        connection.execute("DROP TABLE IF EXISTS search")
    except sqlite3.DatabaseError:
        # FTS5 drops only an index that it can open: give it the tables of an empty one.
        run(connection, SEARCH.replace("search", "search_spare", 1).rstrip() + ";")
        for part in ("config", "data", "docsize", "idx"):
            connection.execute(f"DROP TABLE IF EXISTS search_{part}")
            (definition,) = connection.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (f"search_spare_{part}",)
            ).fetchone()
            connection.execute(definition.replace("search_spare_", "search_"))
            connection.execute(f"INSERT INTO search_{part} SELECT * FROM search_spare_{part}")
        connection.execute("DROP TABLE search_spare")
        connection.execute("DROP TABLE search")


def _definition(connection: sqlite3.Connection, name: str) -> list[str]:
    """Return the words of the statement that made the table *name*; [] if there is none."""
    row: tuple[str] | None = connection.execute(
        "SELECT sql || ';' FROM sqlite_master WHERE name = ?", (name,)
    ).fetchone()
    return row[0].split() if row else []


def _drop_triggers(connection: sqlite3.Connection, table: str) -> None:
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    for (name,) in connection.execute(query, (table,)).fetchall():
        connection.execute('DROP TRIGGER "{}"'.format(name.replace('"', '""')))


def _drop(connection: sqlite3.Connection, name: str) -> None:
    row = connection.execute(
        "SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE", (name,)
    ).fetchone()
    if row is not None:
        connection.execute(f"DROP {row[0]} {name}")


def run(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of *script* in the open transaction."""
    # executescript() would commit first; complete_statement() keeps a trigger's body in one piece.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
