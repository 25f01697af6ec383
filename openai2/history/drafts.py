"""Write drafts: the partial answers of open requests, saved every half second.

Invariants:
- A draft is not in the log; it is deleted when its request ends.
- A draft carries a lease, which its process renews. A killed process is detected at once on the same
  machine, and when its lease expires on another.
- One background thread per store writes all its drafts in one transaction, so neither a stream nor an event
  loop waits for the disk.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from openai2.errors import Openai2Error
from openai2.store import Draft, Store
from openai2.store.group_commit import NoThread, start_thread

if TYPE_CHECKING:
    from openai2.store import Transaction

#: Seconds for which a draft counts as alive after its process last renewed it.
LEASE = 15.0
#: Seconds between two writes; a crash loses at most this much of an answer.
INTERVAL = 0.5
_IDLE_ROUNDS = 20  # intervals without an open request after which the thread ends

Partial = Callable[[], "bytes | None"]


def _start_ticks(pid: int) -> str:
    """Return when a local process started, in clock ticks since boot; '' where the system has no /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _host() -> str:
    from socket import gethostname  # late: reading a store needs no network module

    return gethostname()


@cache
def _writer(pid: int) -> str:
    return f"{_host()} {pid} {_start_ticks(pid)}"


def writer() -> str:
    """Return this process's name in a draft: host, pid, and start time, since pids are reused."""
    return _writer(os.getpid())


def fresh(conversation: str, request: int, is_durable: bool = True) -> Draft:
    """Return an empty draft of this process for a request that begins now.

    *is_durable* False: the store ends with this process, and the draft needs no lease.
    """
    lease = time.time() + LEASE if is_durable else math.inf
    return Draft(conversation, request, writer(), lease, None)


def is_alive(draft: Draft) -> bool:
    """Return True if the process that writes the draft is still running, as far as can be known."""
    host, _, process = draft.writer.partition(" ")
    pid, _, ticks = process.partition(" ")
    if host == _host() and pid.isdigit() and sys.platform != "win32":
        if not _exists(int(pid)):
            return False
        now = _start_ticks(int(pid))
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
    """The background thread that writes the drafts of one store.

    It ends with the store, or when no request has been open for `_IDLE_ROUNDS` intervals.
    """

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._is_needed = store.is_durable  # no other process can continue the requests of a store in memory
        self._watched: dict[tuple[str, int], tuple[Partial, bytes | None, float]] = {}
        # Reentrant: the garbage collector may close a dropped stream while this thread holds the lock.
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        store.on_close(self.close)

    def start(self) -> None:
        """Start the thread if it is needed and does not run. Raises NoThread, a StoreUnavailable."""
        if self._is_needed and not self._thread:
            with self._lock:
                if not self._thread and not self._closing.is_set():
                    self._thread = start_thread(self._run, "openai2-drafts")

    def watch(self, conversation: str, request: int, partial: Partial) -> None:
        """Save what *partial* returns, until `forget` is called for the request."""
        if self._is_needed:
            with self._lock:
                self._watched[conversation, request] = (partial, None, time.time() + LEASE)
                with suppress(NoThread):  # `start` found one that has ended meanwhile
                    self.start()

    def forget(self, conversation: str, request: int) -> None:
        """Stop writing the draft of a request that has ended."""
        if self._is_needed:
            with self._lock:
                self._watched.pop((conversation, request), None)

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closing.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        idle = 0
        while not self._closing.wait(INTERVAL):
            with self._lock:
                idle = 0 if self._watched else idle + 1
                if idle > _IDLE_ROUNDS:
                    self._thread = None
                    return
                changed = self._changed()
            if changed:
                self._write(changed)

    def _changed(self) -> list[Draft]:
        """Return the drafts whose text changed or whose lease is half over."""
        now = time.time()
        changed: list[Draft] = []
        for (conversation, request), (partial, written, lease) in list(self._watched.items()):
            current = partial()
            if current != written or lease - now < LEASE / 2:
                lease = now + LEASE
                changed.append(Draft(conversation, request, writer(), lease, current))
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
        except Openai2Error:  # a full disk: recording the answer itself will fail and report it
            pass


_writers: weakref.WeakKeyDictionary[Store, DraftWriter] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def draft_writer(store: Store) -> DraftWriter:
    """Return the draft writer of that store, one per store and process."""
    known = _writers.get(store)
    if known is None:
        with _lock:
            known = _writers.setdefault(store, DraftWriter(store))
    return known
