"""SQLite's own check of a file, in a thread beside whoever reads the log meanwhile.

It takes no turn of the interpreter's, so where there are two processors it costs no time.
"""

from __future__ import annotations

import sqlite3
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from openai2.errors import DamagedStore, NotAStore, Openai2Error
from openai2.store import SqliteStore, Store
from openai2.store.audit_reader import Scan

if TYPE_CHECKING:
    from typing_extensions import Self


class FileCheck:
    """Begins with the `with` block; whoever leaves that by an exception breaks it off."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reasons: list[str] = []
        self._fault: Exception | None = None
        self._lock = threading.Lock()
        self._sql: sqlite3.Connection | None = None  # while it checks
        self._stopped = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if isinstance(self._store, SqliteStore) and self._store.path is not None:
            self._thread = threading.Thread(target=self._run, name="openai2-filecheck", daemon=True)
            self._thread.start()
        else:  # one in memory has one connection, which whoever reads it holds
            self._run()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        self._stopped = kind is not None
        while self._stopped and self._thread.is_alive():  # what has not begun cannot be interrupted yet
            with self._lock:
                if self._sql is not None:
                    self._sql.interrupt()
            self._thread.join(0.01)
        self._thread.join()

    def reasons(self) -> list[str]:
        """What is wrong with the file. Raises StoreUnavailable where it cannot be read."""
        if self._thread is not None:
            self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._reasons

    def _run(self) -> None:
        try:
            with self._store.reading() as reader:
                try:
                    with self._lock:
                        self._sql = reader.sql
                    if not self._stopped:
                        self._reasons += Scan(reader).damage()
                finally:
                    with self._lock:  # whoever borrows the connection next is not to be interrupted
                        self._sql = None
        except (NotAStore, DamagedStore) as damage:
            self._reasons.append(reason_of(damage))
        except Exception as fault:  # noqa: BLE001 - whoever asks for the reasons gets it
            self._fault = fault


def reason_of(damage: Openai2Error) -> str:
    """What SQLite said."""
    return str(damage.facts.get("reason") or damage)
