"""The key file: one key a line, readable by its owner alone.

Rules: a file that others can read is refused, before a key of it is used, with the command that mends
it; it is never rewritten in place but replaced whole (a new file, synced, renamed over the old), by one
process at a time (a lock file). Nothing here puts a key into an error.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from openai2.cli.home import make_folder
from openai2.errors import BadInput, Openai2Error
from openai2.keys import check_key

_HEAD = "# API keys of openai2, one a line. Nobody but you may read this file.\n"
_MOST_BYTES = 1_000_000


class UnsafeKeyFile(Openai2Error):
    """The key file cannot be used as it is; the sentence says what mends it."""


class KeyFile:
    """The keys in the file at *path*, in the order in which they were added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[str]:
        """The keys; none where there is no file. Raises UnsafeKeyFile."""
        try:
            with open(self.path, "rb") as file:
                self._check(os.fstat(file.fileno()))
                raw = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return []
        lines = raw.decode("utf-8", "replace").splitlines()
        return [self._checked(line) for line in lines if line.strip() and not line.startswith("#")]

    def add(self, key: str) -> bool:
        """Add *key*, checked; whether it is new. Raises BadInput, UnsafeKeyFile."""
        check_key(key)
        if key.startswith("#"):
            raise BadInput("an API key does not begin with #")
        with self._locked():
            keys = self.read()
            if key in keys:
                return False
            self._replace([*keys, key])
            return True

    def clear(self) -> bool:
        """Remove the file, whatever is in it; whether there was one."""
        with self._locked():
            try:
                self.path.unlink()
            except FileNotFoundError:
                return False
            return True

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeKeyFile("the key file {path} is no file", path=str(self.path))
        if os.name == "posix" and status.st_mode & 0o077:
            raise UnsafeKeyFile(
                "others can read or change the key file {path}, so no key of it is used; mend it: {command}",
                path=str(self.path),
                command=f"chmod 600 {shlex.quote(str(self.path))}",
            )

    def _checked(self, line: str) -> str:
        try:
            return check_key(line.strip())
        except BadInput:
            raise UnsafeKeyFile(
                "the key file {path} holds something that is no API key: mend it, or start anew with "
                "`openai2 clear_apikey`",
                path=str(self.path),
            ) from None

    def _replace(self, keys: list[str]) -> None:
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)  # of a process with our number that was killed
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "w", encoding="ascii", newline="\n") as file:
                if os.name == "posix":
                    os.fchmod(file.fileno(), 0o600)  # an odd umask takes rights away, too
                file.write(_HEAD + "".join(f"{key}\n" for key in keys))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _sync_folder(self.path.parent)

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """Alone with the file. The lock is the system's, so that a process that dies leaves none behind."""
        make_folder(self.path)
        handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
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
