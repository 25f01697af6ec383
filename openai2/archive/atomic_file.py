"""Write a file whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

from openai2.errors import BadInput

File = str | os.PathLike[str] | BinaryIO


@contextmanager
def atomic_write(file: File) -> Generator[IO[bytes], None, None]:
    """Yield a binary file to write to. A file at a path is replaced once the block ends without an exception.

    A link is followed. A pipe or a device is written to directly, and so is an open *file*. Raises BadInput
    if the path cannot be written.
    """
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
