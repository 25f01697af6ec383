"""Files of ours that nobody else may read: replaced whole, by one process at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from openai2.cli.settings.paths import make_folder


def replace(path: Path, text: str) -> None:
    """Let the file hold *text*: a new file, synced, renamed over the old; mode 0600."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)  # of a process with our number that was killed
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            if os.name == "posix":
                os.fchmod(file.fileno(), 0o600)  # an odd umask takes rights away, too
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Alone with the file. The lock is the system's, so that a process that dies leaves none behind."""
    make_folder(path)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)  # which lets go of the lock


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)

    def _sync_folder(folder: Path) -> None:
        """Folders are not synced there."""

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _sync_folder(folder: Path) -> None:
        """Make the rename survive a power loss."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError:  # some file systems cannot sync a folder; the file itself is safe
            pass
        finally:
            os.close(handle)
