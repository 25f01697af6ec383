"""Write files that only the user may read: replaced as a whole, by one process at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from openai2.cli.settings.paths import make_folder


def replace(path: Path, text: str) -> None:
    """Write *text* to a temporary file with mode 0600, sync it, and rename it over *path*."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)  # left by a killed process with the same id
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            if os.name == "posix":
                os.fchmod(file.fileno(), 0o600)  # an unusual umask may have removed the user's own rights
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Lock *path* against other processes, with a system lock that a killed process does not keep."""
    make_folder(path)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)  # releases the lock


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)

    def _sync_folder(folder: Path) -> None:
        """Do nothing: Windows cannot sync a folder."""

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _sync_folder(folder: Path) -> None:
        """Make the rename survive a power loss."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError:  # some file systems cannot sync a folder; the file itself is synced
            pass
        finally:
            os.close(handle)
