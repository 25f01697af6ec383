"""SQLite's own check of the file, in a thread. SQLite releases the GIL, so the check runs in parallel."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from openai2.errors import DamagedStore, NotAStore, Openai2Error
from openai2.store import SqliteStore, Store
from openai2.store.audit_reader import Scan

if TYPE_CHECKING:
    from typing_extensions import Self

_STOP_INTERVAL = 100_000  # instructions of SQLite's machine between two looks at the stop flag


class SqliteCheck:
    """Runs while its `with` block runs. An exception that leaves the block stops it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reasons: list[str] = []
        self._error: Exception | None = None
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="openai2-sqlite-check", daemon=True)

    def __enter__(self) -> Self:
        if isinstance(self._store, SqliteStore) and self._store.path is not None:
            self._thread.start()
        else:  # a store in memory has one connection, which the caller needs next
            self._run()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_stopped = kind is not None
        self._wait()

    def reasons(self) -> list[str]:
        """Wait for the check and return what is wrong. Raises StoreUnavailable if the file cannot be read."""
        self._wait()
        if self._error is not None:
            raise self._error
        return self._reasons

    def _wait(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._store.reading() as reader:
                reader.sql.set_progress_handler(lambda: self._is_stopped, _STOP_INTERVAL)
                try:
                    self._reasons += Scan(reader).damage()
                finally:
                    reader.sql.set_progress_handler(None, 0)
        except (NotAStore, DamagedStore) as damage:
            self._reasons.append(damage_reason(damage))
        except Exception as error:  # noqa: BLE001 - `reasons` raises it in the caller's thread
            self._error = error


def damage_reason(damage: Openai2Error) -> str:
    """Return what SQLite reported."""
    return str(damage.facts.get("reason") or damage)
