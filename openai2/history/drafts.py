"""Drafts: what has come of an answer that is still coming, kept on disk once a second.

Rules: a draft is not in the log, since it is no fact yet. It carries a lease, which its writer renews;
so a request in flight elsewhere is not taken for dead, and one whose process was killed is found out at
once on the same machine, within the lease elsewhere. One thread a store writes them all, in one
transaction, so that neither a stream nor an event loop waits for the disk.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from openai2.errors import Openai2Error
from openai2.store import Draft, Store

if TYPE_CHECKING:
    from openai2.store import Transaction

#: Seconds for which a draft counts as alive without word from its writer.
LEASE = 15.0
#: Seconds between two writings; what has come is on disk at most this much later.
INTERVAL = 0.5

Partial = Callable[[], "bytes | None"]


def _started(pid: int) -> str:
    """When a process of this machine started, in the system's own ticks; '' where nobody says."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _host() -> str:
    from socket import gethostname  # late: whoever only reads a store needs no network

    return gethostname()


@cache
def _writer(pid: int) -> str:
    return f"{_host()} {pid} {_started(pid)}"


def writer() -> str:
    """Who we are: host, process, and when it started, since numbers of processes come again."""
    return _writer(os.getpid())


def fresh(conversation: str, request: int) -> Draft:
    """The draft of a request that begins now."""
    return Draft(conversation, request, writer(), time.time() + LEASE, None)


def alive(draft: Draft) -> bool:
    """Whether somebody is still at work on it."""
    host, _, process = draft.writer.partition(" ")
    pid, _, ticks = process.partition(" ")
    if host == _host() and pid.isdigit() and sys.platform != "win32":
        if not _exists(int(pid)):
            return False
        now = _started(int(pid))
        if now and ticks and now != ticks:
            return False
    return draft.lease > time.time()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class DraftWriter:
    """Writes the drafts of one store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._watched: dict[tuple[str, int], tuple[Partial, bytes | None, float]] = {}
        # Reentrant: the garbage collector may close a dropped stream in the middle of our lines.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, conversation: str, request: int, partial: Partial) -> None:
        """Keep what *partial* gives, until `forget`."""
        with self._lock:
            self._watched[conversation, request] = (partial, None, time.time() + LEASE)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="openai2-drafts", daemon=True)
                self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def forget(self, conversation: str, request: int) -> None:
        """The request is closed; its draft is not written again."""
        with self._lock:
            self._watched.pop((conversation, request), None)

    def _run(self) -> None:
        idle = 0
        while True:
            self._wake.clear()
            time.sleep(INTERVAL)
            with self._lock:
                idle = 0 if self._watched else idle + 1
                if idle > 20:
                    self._thread = None
                    return
                changed = self._changed()
            if changed:
                self._write(changed)
            elif not self._watched:
                self._wake.wait(INTERVAL * 20)

    def _changed(self) -> list[Draft]:
        now = time.time()
        me = writer()
        changed: list[Draft] = []
        for (conversation, request), (partial, written, lease) in list(self._watched.items()):
            current = partial()
            if current != written or lease - now < LEASE / 2:
                lease = now + LEASE
                changed.append(Draft(conversation, request, me, lease, current))
                if (conversation, request) in self._watched:
                    self._watched[conversation, request] = (partial, current, lease)
        return changed

    def _write(self, changed: list[Draft]) -> None:
        store = self._store()
        if store is None:
            return

        def job(tx: Transaction) -> None:
            for draft in changed:
                if (draft.conversation, draft.request) in self._watched:
                    tx.renew_draft(draft)

        try:
            store.transact(job)
        except Openai2Error:  # a full disk: the answer itself still comes, and says so at its end
            pass


_keepers: weakref.WeakKeyDictionary[Store, DraftWriter] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def keeper(store: Store) -> DraftWriter:
    """The keeper of that store."""
    known = _keepers.get(store)
    if known is None:
        with _lock:
            known = _keepers.setdefault(store, DraftWriter(store))
    return known
