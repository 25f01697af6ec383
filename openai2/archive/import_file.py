"""Importing a file: which kind is it, and who takes it in?

An archive goes to `intake`. A JSON list of messages, or a transcript in Markdown, becomes a new conversation,
in one batch, so that one undo takes it back. What is none of these is an ArchiveError, with one
sentence; nothing is half done.
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
from openai2.archive.atomic_file import File
from openai2.archive.format import Progress
from openai2.archive.importer import Arrived, Imported
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.ids import new_id
from openai2.errors import ArchiveError, BadInput, NotAMessage
from openai2.readmodels import rebuild
from openai2.store import Store, Transaction

#: Files of messages are read whole; archives are not.
MOST = 1 << 30


def import_(store: Store, file: File, progress: Progress | None = None) -> Imported:
    """Take *file*, a path or a binary file, into the store. Raises ArchiveError, BadInput."""
    told = progress or _nobody
    with _opened(file) as source:
        start = source.read(4096)
        archive_reader.refuse_foreign(start)
        if start.lstrip()[:1] == b"{":
            return importer.take_in(store, source, told)
        source.seek(0)
        raw = source.read(MOST + 1)
    if len(raw) > MOST:
        raise ArchiveError("the file is no archive of openai2, and too large for anything else")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError("the file is no archive of openai2: it is not UTF-8 text") from None
    messages, pins = _list(raw) if text.lstrip()[:1] == "[" else markdown.read(text)
    done = store.transact(lambda tx: _added(tx, messages, pins))
    told(done.events, done.events)
    return done


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


@contextmanager
def _opened(file: File) -> Generator[IO[bytes], None, None]:
    """The file, at its start, and such that it can be read more than once."""
    if isinstance(file, (str, os.PathLike)):
        path = os.path.expanduser(file)
        try:
            source = open(path, "rb")  # noqa: SIM115 - closed below, apart from what goes wrong here
        except OSError as fault:
            raise BadInput(
                "{path} cannot be read: {reason}", path=path, reason=fault.strerror or str(fault)
            ) from fault
        with source:
            if os.path.isdir(path) or not source.seekable():
                with tempfile.TemporaryFile() as copy:
                    shutil.copyfileobj(source, copy)
                    copy.seek(0)
                    yield copy
                return
            yield source
    elif file.seekable():
        file.seek(0)
        yield file
    else:
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _list(raw: bytes) -> tuple[list[bytes], list[int]]:
    try:
        found: list[Any] = msgspec.json.decode(raw, type=list[Any])
    except (msgspec.DecodeError, RecursionError) as fault:
        raise ArchiveError("the file is no list of messages: {reason}", reason=str(fault)) from None
    return _encoded(found), []


def _encoded(found: list[Any]) -> list[bytes]:
    try:
        return msg.encode_all(found)
    except NotAMessage as fault:
        raise ArchiveError("the file is no list of messages: {reason}", reason=str(fault)) from None


def _added(tx: Transaction, messages: list[bytes], pins: list[int]) -> Imported:
    """A new conversation that holds these messages."""
    conversation = new_id()
    events: list[ev.Event] = [ev.Created()]
    tx.append(conversation, 0, events)
    added = decisions.add(messages)
    if pins:
        added.append(ev.Pinned(messages=[index + 2 for index in pins]))
    if added:
        tx.append(conversation, 1, added)
        rebuild.save_snapshots(tx, conversation)
    arrived = Arrived(id=conversation, name=None, state="new", events=1 + len(added))
    return Imported(conversations=[arrived], events=arrived.events)
