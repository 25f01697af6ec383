"""What the benchmark programs share: pyperf, a folder for stores, and a server in another process.

pyperf starts a process for each benchmark. `benchmarks.run` runs every program several times, so that floor
and ours take turns, process by process.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pyperf

from benchmarks import server

#: Environment variables that hand folder and server down to the processes that measure.
FOLDER, URL = "OPENAI2_BENCH_FOLDER", "OPENAI2_BENCH_URL"
KEY = "sk-benchmark-0000000000"
#: Values that a process measures for one benchmark, after one to warm up.
VALUES = 3

Work = Callable[[], object]


class Bench:
    """The benchmarks of one program: `time` and `cpu` take a function that prepares and returns the work.

    It is called in the measuring process, before the clock starts.
    """

    def __init__(self, program: str) -> None:
        self._stack = ExitStack()
        if FOLDER not in os.environ:
            os.environ[FOLDER] = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="openai2-"))
        if URL not in os.environ:
            os.environ[URL] = self._stack.enter_context(server.running())
        self.runner = pyperf.Runner(
            processes=1,
            values=VALUES,
            warmups=1,
            loops=1,
            program_args=("-m", f"benchmarks.{program}"),
        )
        self.runner.argparser.set_defaults(copy_env=True)
        self.runner.parse_args()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def time(self, name: str, prepare: Callable[[], Work], times: int = 1) -> None:
        """Measure the wall seconds of one run of the work, of *times* in a row."""
        self._measure(name, prepare, times, time.perf_counter)

    def cpu(self, name: str, prepare: Callable[[], Work], times: int = 1) -> None:
        """Measure the CPU seconds of one run, of all threads and of the kernel."""
        self._measure(name, prepare, times, time.process_time)

    def once(self, name: str, prepare: Callable[[], Work]) -> None:
        """Measure the wall seconds of the first run in a process, in VALUES processes."""
        self._set(values=1, warmups=0)
        self.runner.args.processes = VALUES
        self._measure(name, prepare, 1, time.perf_counter)
        self.runner.args.processes = 1
        self._set(values=VALUES, warmups=1)

    def _set(self, values: int, warmups: int) -> None:
        self.runner.args.values, self.runner.args.warmups = values, warmups

    def _measure(
        self, name: str, prepare: Callable[[], Work], times: int, clock: Callable[[], float]
    ) -> None:
        prepared = cache(prepare)

        def measured(loops: int) -> float:
            work = prepared()
            started = clock()
            for _ in range(loops * times):
                work()
            return clock() - started

        self.runner.bench_time_func(name, measured, inner_loops=times)

    def amount(self, name: str, measure: Callable[[], float], unit: str) -> None:
        """Record what *measure* returns, once a process, in *unit*: `byte` or `second`."""
        self._set(values=1, warmups=0)
        self.runner.bench_time_func(name, lambda loops: measure() * loops, metadata={"unit": unit})
        self._set(values=VALUES, warmups=1)

    def command(self, name: str, command: list[str]) -> None:
        """Measure a process from its start to its end."""
        self._set(values=2 * VALUES, warmups=1)  # it is short, so that other processes disturb it most
        self.runner.bench_command(name, command)
        self._set(values=VALUES, warmups=1)


def folder() -> Path:
    """Return the folder for stores."""
    return Path(os.environ[FOLDER])


def url() -> str:
    """Return the server's address."""
    return os.environ[URL]


def fresh(name: str) -> Path:
    """Return an unused path in the folder."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder())) / "store.db"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the file that *make* makes; the first process that needs it makes it."""
    path = folder() / name
    if not path.exists():
        started = time.perf_counter()
        half = folder() / f"half-{name}"
        half.unlink(missing_ok=True)
        make(half)
        half.rename(path)
        sys.stderr.write(f"  made {name} in {time.perf_counter() - started:.1f} s\n")
    return path


def copied(path: Path) -> Path:
    """Return the path of a copy of a store, to be written to."""
    copy = fresh(path.stem)
    shutil.copyfile(path, copy)
    return copy


WORDS = (
    "log event view fold round fork store page disk sync chain hash guard answer question model token key"
    " server client thread task stream chunk draft lease reader writer commit version"
).split()


def message(number: int) -> dict[str, Any]:
    """Return message *number*: questions of about 100 characters and answers of about 400, by turns."""
    words = random.Random(number).choices(WORDS, k=70 if number % 2 else 17)
    return {"role": "assistant" if number % 2 else "user", "content": f"{number} {' '.join(words)}"}


def messages(count: int) -> list[dict[str, Any]]:
    """Return the first *count* messages."""
    return [message(number) for number in range(count)]
