"""Write a file whole or not at all, and never onto a database.

Every file that openai2 writes at a path given by the caller passes through here: `atomic_write`, or
`refuse_database` before it is opened otherwise.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

from openai2.errors import BadInput
from openai2.store.sqlite import BESIDE, is_open_here

File = str | os.PathLike[str] | BinaryIO

# How the files of an SQLite database begin: the database, its write-ahead log, the index of that log.
_BEGINNINGS = (
    b"SQLite format 3\0",
    b"\x37\x7f\x06\x82",
    b"\x37\x7f\x06\x83",
    (3007000).to_bytes(4, sys.byteorder) + bytes(4),
)


@contextmanager
def atomic_write(file: File) -> Generator[IO[bytes], None, None]:
    """Yield a binary file to write to. A file at a path is replaced once the block ends without an exception.

    A link is followed. A pipe or a device is written to directly, and so is an open *file*. Raises BadInput
    if the path cannot be written, or is a file of a database.
    """
    refuse_database(file)
    if not isinstance(file, (str, os.PathLike)):
        yield file
        return
    path = os.path.abspath(os.path.expanduser(file))
    try:
        is_special = os.path.exists(path) and not os.path.isfile(path)
        with open(path, "wb") if is_special else _replacing(os.path.realpath(path)) as out:
            yield out
    except OSError as error:
        raise BadInput(
            "{path} cannot be written: {reason}", path=path, reason=error.strerror or str(error)
        ) from error


def refuse_database(file: File) -> None:
    """Raise BadInput if *file*, a path or an open file, is a database, its log, or the index of its log.

    The content decides, so that no other name or link of the file gets past. A name beside a database, such
    as `chats.db-wal`, is refused too if there is no such file at the moment.
    """
    if isinstance(file, (str, os.PathLike)):
        path = os.path.realpath(os.path.expanduser(file))
        name = os.fspath(file)
    else:
        try:
            path = name = f"/dev/fd/{file.fileno()}"  # as in `openai2 export >> FILE`
        except (AttributeError, OSError, ValueError):
            return
    if is_database(path) or any(path.endswith(end) and is_database(path.removesuffix(end)) for end in BESIDE):
        raise BadInput("{path} belongs to a database: write to another file", path=name)


def is_database(path: str) -> bool:
    """Return True if the file at *path* is a database of SQLite, its log, or the index of its log."""
    try:
        found = os.stat(path)
        if is_open_here(found):  # it must not be opened: closing it again would drop SQLite's locks
            return True
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait
            return False
        with open(path, "rb") as file:
            return file.read(16).startswith(_BEGINNINGS)
    except OSError:
        return False


@contextmanager
def _replacing(path: str) -> Generator[IO[bytes], None, None]:
    handle, part = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".openai2-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        with suppress(FileNotFoundError):  # a new file keeps the mode 0600 of mkstemp
            shutil.copymode(path, part)
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise
