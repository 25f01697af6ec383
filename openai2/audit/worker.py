"""The first half of an audit, the chain, in a second process, while this one does the second half.

Python runs one thread at a time, so two processors need two processes. Rules:

- The other process (`apart`) does what this one would, by the same functions, over the same moment of the
  file, and says one thing: that all fits, and where the heads stand that were looked for. Where anything
  does not, or it says nothing (it was killed, it could not be started), whoever asked reads the chain
  himself: no problem is told by it, and no store is sound because nobody objected.
- It is a Python of its own that sees the standard library and the folders of openai2 and msgspec: not the
  program's `__main__`, working directory or PYTHONPATH. What it is to do comes by its stdin.
- It is in nobody's way: it gets no Ctrl-C of a terminal's, writes nothing to one, and ends with this one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from openai2.audit.chain import Found
from openai2.audit.worker_process import ALIVE, BEGIN, GO, Unsound, begin_anew, read_verdict
from openai2.errors import Openai2Error
from openai2.store import SqliteStore, Store

if TYPE_CHECKING:
    from typing_extensions import Self

    from openai2.store import Reader

#: Fewer events are read before another process has begun.
WORTH = 20_000
#: Seconds that the other process may be silent, which speaks every second.
PATIENCE = 15.0

_TRIES = 5
_START = "import sys; sys.path += sys.argv[1:]; from openai2.audit.worker_process import main; main()"


class Moved(Exception):
    """Somebody has committed between the moments at which the two began to read."""


class Beside:
    """Begins with the `with` block, where a *store* is long enough to repay it, and has ended after it.

    `hold` says what it is to agree with; it begins as soon as it has started, and is heard of by `watch`
    meanwhile, and by `found` in the end.
    """

    def __init__(self, store: Store, heads: set[bytes]) -> None:
        self._store = store
        self._heads = heads
        #: The other process, once it was started.
        self.process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        #: Whether it reads the chain now, or has read it.
        self.agreed = False
        self._words: SimpleQueue[bytes] = SimpleQueue()  # an empty one: it speaks no more
        self._last = ALIVE  # what it said last, which can be its verdict
        self._up = False  # whether it has said anything
        self._stack = contextlib.ExitStack()
        self._witness: Reader | None = None
        self._commits = 0  # when we began

    def __enter__(self) -> Self:
        store = self._store
        if isinstance(store, SqliteStore) and store.path is not None and _is_python() and self._pays():
            with contextlib.suppress(OSError, RuntimeError):  # then there is none
                self._witness = self._stack.enter_context(store.reading())
                self.begin(store.path)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        process = self.process
        if process is None:
            return
        process.kill()  # it has only read
        process.wait()
        if self._thread is not None:
            self._thread.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what it has not read cannot be flushed
                pipe.close()

    def hold(self, reader: Reader) -> bool:
        """*reader*, whose transaction has begun and read nothing yet, is what the other process is to agree
        with; it may be begun anew. False where there is no other, or they cannot agree."""
        for _ in range(_TRIES if self._thread is not None else 0):
            self._commits = self._committed()
            reader.reaches_past(WORTH)  # from here on the log stands still for us
            try:
                if not self._up or self._agrees():
                    return True
            except Unsound:
                return False
            begin_anew(reader)
        return False

    def watch(self) -> None:
        """Look whether the other process has said something. Raises Unsound once it has found something, or
        has ended without a word; Moved where it began to read after somebody else had committed."""
        while self._last == ALIVE and not self._words.empty():
            self._hear()
        if self._last != ALIVE and read_verdict(self._last, self._heads) is None:
            raise Unsound

    def _hear(self) -> None:
        self._last = self.word()
        if self._last == ALIVE and not self._up:
            self._up = True
            if not self._agrees():
                raise Moved

    def _agrees(self) -> bool:
        """Have it begin to read, at this moment; whether it sees the very events that are held here."""
        assert isinstance(self._store, SqliteStore)
        if self._store.is_orphan():  # what it has opened is another file
            raise Unsound
        if not self._tell(BEGIN) or self.word() != ALIVE:
            raise Unsound
        if self._committed() != self._commits:
            return False
        self.agreed = self._tell(GO)
        return self.agreed

    def found(self, events: int) -> Found:
        """Where the heads stand, in a chain of so many *events* that all fit. Raises Unsound where nobody
        says so."""
        while self._last == ALIVE:
            self._hear()
        verdict = read_verdict(self._last, self._heads)
        if verdict is None or verdict[0] != events:
            raise Unsound
        return verdict[1]

    def _committed(self) -> int:
        """A number that is another one after each commit of somebody else's."""
        assert self._witness is not None
        (number,) = self._witness.sql.execute("PRAGMA data_version").fetchone()
        return int(number)

    def _pays(self) -> bool:
        try:
            with self._store.reading() as reader:
                return reader.reaches_past(WORTH)
        except Openai2Error:
            return False  # whoever reads on will say so

    def begin(self, path: str) -> None:
        """Start the other process. Raises OSError or RuntimeError where there can be none."""
        folders = [os.path.dirname(os.path.dirname(folder)) for folder in _PACKAGES]
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-I", "-S", "-B", "-c", _START, *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.process = process
        self._tell(os.fsencode(path).hex().encode())
        self._tell(b" ".join(head.hex().encode() for head in self._heads))
        thread = threading.Thread(target=self._listen, args=(process,), name="openai2-beside", daemon=True)
        thread.start()
        self._thread = thread

    def _tell(self, line: bytes) -> bool:
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith(b"\n"):  # else it ended in the middle of a word
                self._words.put(line.strip())
        self._words.put(b"")

    def word(self) -> bytes:
        """The next that it says; nothing where it has ended, or is silent for too long."""
        try:
            return self._words.get(timeout=PATIENCE)
        except Empty:
            return b""


_PACKAGES = (os.path.dirname(os.path.abspath(__file__)), os.path.abspath(str(msgspec.__file__)))


def _is_python() -> bool:
    """Whether the interpreter runs by itself: a program that has it inside would begin anew."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
