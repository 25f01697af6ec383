"""Writing a file that is named: it appears whole, or not at all.

Rules: what is written goes to a file beside the one that it is to be, under a name of ours, and takes its
place when all of it is on the disk. Its writer holds a lock on it for so long. A writer that was killed holds
none: what it left is cleared away by the next one that writes into that folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

from openai2.errors import BadInput

File = str | os.PathLike[str] | BinaryIO

_PREFIX, _SUFFIX = ".openai2-", ".part"


@contextmanager
def written(file: File) -> Generator[IO[bytes], None, None]:
    """A file to write to; one that is named by its path appears when all of it is there.

    What is there already and is no plain file, as a pipe or a device, is written to as it is. Raises BadInput
    where it cannot be written.
    """
    if not isinstance(file, (str, os.PathLike)):
        yield file
        return
    path = os.path.abspath(os.path.expanduser(file))
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as out:
                yield out
            return
        with _replacing(os.path.realpath(path)) as out:
            yield out
    except OSError as fault:
        raise BadInput(
            "{path} cannot be written: {reason}", path=path, reason=fault.strerror or str(fault)
        ) from fault


@contextmanager
def _replacing(path: str) -> Generator[IO[bytes], None, None]:
    folder = os.path.dirname(path)
    _clear(folder)
    handle, name = _part(folder)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
            if sys.platform != "win32":
                os.replace(name, path)  # under the lock
        if sys.platform == "win32":
            os.replace(name, path)  # only a closed file can be renamed there
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _clear(folder: str) -> None:
    """Take away what killed writers have left in a folder."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _clear_one(entry.path)


if sys.platform == "win32":
    _LONG = 3600.0  # seconds; between its closing and its renaming a living writer's file is open to nobody

    def _part(folder: str) -> tuple[int, str]:
        return tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=_SUFFIX)

    def _clear_one(path: str) -> None:
        if os.stat(path).st_mtime < time.time() - _LONG:
            os.unlink(path)  # which fails where somebody has it open

else:
    import fcntl

    def _part(folder: str) -> tuple[int, str]:
        """A file of one's own, open and locked, and its name."""
        while True:
            handle, name = tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=_SUFFIX)
            with suppress(OSError):  # some file systems have no locks: nothing is cleared away there
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return handle, name
            os.close(handle)  # somebody cleared it away before it was locked

    def _clear_one(path: str) -> None:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(handle)
