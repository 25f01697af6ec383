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
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from openai2.apart import ALIVE, BEGIN, GO, Unsound, read_verdict
from openai2.chaincheck import Found
from openai2.errors import DamagedStore, NotAStore
from openai2.store import SqliteStore, Store

if TYPE_CHECKING:
    from typing_extensions import Self

    from openai2.store import Reader

#: Fewer events are read before another process has begun.
WORTH = 20_000
#: Seconds that the other process may be silent, which speaks every second.
PATIENCE = 15.0

_TRIES = 5
_START = "import sys; sys.path += sys.argv[1:]; from openai2.apart import main; main()"


class Beside:
    """Begins with the `with` block, where a *store* is long enough to repay it, and has ended after it.

    Once `agrees` has said that both see the same, `found` gives what came of it.
    """

    def __init__(self, store: Store, heads: set[bytes]) -> None:
        self._store = store
        self._heads = heads
        #: The other process, once it was started.
        self.process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._words: SimpleQueue[bytes] = SimpleQueue()  # an empty one: it speaks no more
        self._last = ALIVE  # what it said last, which can be its verdict

    def __enter__(self) -> Self:
        store = self._store
        if isinstance(store, SqliteStore) and store.path is not None and _is_python() and self._pays():
            with contextlib.suppress(OSError, RuntimeError):  # then there is none
                self.begin(store.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def agrees(self, reader: Reader) -> bool:
        """Whether the other process sees the very events that *reader* sees, whose transaction has begun
        and read nothing yet; it may be begun anew."""
        if self._thread is None or self.word() != ALIVE:
            return False
        assert isinstance(self._store, SqliteStore)
        if self._store.is_orphan():  # what it has opened is another file
            return False
        with self._store.reading() as witness:
            for _ in range(_TRIES):
                before = _commits(witness)
                reader.last_position()  # from here on the log stands still for us
                if not self._tell(BEGIN) or self.word() != ALIVE:
                    return False
                if _commits(witness) == before:  # nobody has committed from before both began until after
                    return self._tell(GO)
                reader.sql.execute("ROLLBACK")
                reader.sql.execute("BEGIN")
        return False

    def watch(self) -> None:
        """Raises Unsound once the other process has said so, or has ended without a word."""
        while self._last == ALIVE and not self._words.empty():
            self._last = self._words.get()
        if self._last != ALIVE and read_verdict(self._last, self._heads) is None:
            raise Unsound

    def found(self, events: int) -> Found:
        """Where the heads stand, in a chain of so many *events* that all fit. Raises Unsound where nobody
        says so."""
        while self._last == ALIVE:
            self._last = self.word()
        verdict = read_verdict(self._last, self._heads)
        if verdict is None or verdict[0] != events:
            raise Unsound
        return verdict[1]

    def _pays(self) -> bool:
        try:
            with self._store.reading() as reader:
                return reader.last_position() > WORTH
        except (NotAStore, DamagedStore):
            return False  # whoever reads on will say so

    def begin(self, path: str) -> None:
        """Start the other process. Raises OSError or RuntimeError where there can be none."""
        folders = [os.path.dirname(os.path.dirname(os.path.abspath(file))) for file in _FILES]
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
            self._words.put(line.strip())
        self._words.put(b"")

    def word(self) -> bytes:
        """The next that it says; nothing where it has ended, or is silent for too long."""
        try:
            return self._words.get(timeout=PATIENCE)
        except Empty:
            return b""


_FILES = (__file__, str(msgspec.__file__))


def _is_python() -> bool:
    """Whether the interpreter runs by itself: a program that has it inside would begin anew."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def _commits(witness: Reader) -> int:
    """A number that is another one after each commit of somebody else's."""
    (number,) = witness.sql.execute("PRAGMA data_version").fetchone()
    return int(number)
