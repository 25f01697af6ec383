"""Import a file: detect its kind and import it, all or nothing.

An archive goes to `importer`. A JSON list of messages, or a Markdown transcript, becomes a new conversation
in one batch, so one undo takes it back. Anything else raises ArchiveError.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

import msgspec

from openai2.archive import importer, markdown
from openai2.archive import reader as archive_reader
from openai2.archive.atomic_file import File, is_database
from openai2.archive.format import Progress
from openai2.archive.importer import Arrived, Imported
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.ids import new_id
from openai2.errors import ArchiveError, BadInput, NotAMessage
from openai2.readmodels import rebuild
from openai2.store import Store, Transaction

#: Bytes. A file of messages is read into memory; an archive is not.
MAX_SIZE = 1 << 30


def import_(store: Store, file: File, progress: Progress | None = None) -> Imported:
    """Import *file*, a path or a binary file, into the store. Raises ArchiveError, BadInput."""
    report = progress or _noop
    with _open_seekable(file) as source:
        start = source.read(4096)
        archive_reader.refuse_foreign(start)
        if start.lstrip()[:1] == b"{":
            return importer.import_archive(store, source, report)
        source.seek(0)
        raw = source.read(MAX_SIZE + 1)
    if len(raw) > MAX_SIZE:
        raise ArchiveError("the file is not an openai2 archive, and it is too large for a list of messages")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError("the file is not an openai2 archive: it is not UTF-8 text") from None
    messages, pins = (_read_list(raw), []) if text.lstrip()[:1] == "[" else markdown.read(text)
    if not messages:
        raise ArchiveError(archive_reader.IS_EMPTY)
    imported = store.transact(lambda tx: _add_conversation(tx, messages, pins))
    report(imported.events, imported.events)
    return imported


def _noop(done: int, total: int) -> None:
    pass


@contextmanager
def _open_seekable(file: File) -> Generator[IO[bytes], None, None]:
    """Yield the file at its beginning; a pipe is copied to a temporary file first."""
    if isinstance(file, (str, os.PathLike)):
        path = os.path.expanduser(file)
        if is_database(path):
            raise ArchiveError(archive_reader.IS_DATABASE)
        try:
            source = open(path, "rb")  # noqa: SIM115 - closed below; only errors of open become BadInput
        except OSError as error:
            raise BadInput(
                "{path} cannot be read: {reason}", path=path, reason=error.strerror or str(error)
            ) from error
        with source, _open_seekable(source) as seekable:
            yield seekable
    elif file.seekable():
        file.seek(0)
        yield file
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _read_list(raw: bytes) -> list[bytes]:
    try:
        return msg.encode_all(msgspec.json.decode(raw, type=list[Any]))
    except (msgspec.DecodeError, RecursionError, NotAMessage) as error:
        raise ArchiveError("the file is not a list of messages: {reason}", reason=str(error)) from None


def _add_conversation(tx: Transaction, messages: list[bytes], pins: list[int]) -> Imported:
    """Append a new conversation with these messages; *pins* are indexes of messages."""
    conversation = new_id()
    tx.append(conversation, 0, [ev.Created()])
    events = decisions.add(messages)
    if pins:
        events.append(ev.Pinned(messages=[index + 2 for index in pins]))
    if events:
        tx.append(conversation, 1, events)
        rebuild.save_snapshots(tx, conversation)
    arrived = Arrived(id=conversation, name=None, state="new", events=1 + len(events))
    return Imported(conversations=[arrived], events=arrived.events)
