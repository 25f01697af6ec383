"""What the second process of verify promises: it is asked only while it is there, and is never in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openai2 import Engine, user_msg
from openai2.audit import worker
from openai2.audit.chain import Found
from openai2.audit.verify import Report
from openai2.audit.worker import Beside
from openai2.audit.worker_process import Unsound
from tests.support.stores import busy, long, plain

Process = subprocess.Popen[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine(path) as engine:
        yield engine


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WORTH", -1)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the other process has found the chain sound, each time that it was waited for."""
    told: list[bool] = []
    found = Beside.found

    def listening(self: Beside, events: int) -> Found:
        try:
            places = found(self, events)
        except Unsound:
            told.append(False)
            raise
        told.append(True)
        return places

    monkeypatch.setattr(Beside, "found", listening)
    return told


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that were started."""
    all_: list[Process] = []
    begin = Beside.begin

    def noting(self: Beside, path: str) -> None:
        begin(self, path)
        assert self.process is not None
        all_.append(self.process)

    monkeypatch.setattr(Beside, "begin", noting)
    return all_


def _at(monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[[Beside], None]) -> None:
    """Do something before that method of Beside."""
    method = getattr(Beside, name)

    def doing(self: Beside, *values: object) -> object:
        do(self)
        return method(self, *values)

    monkeypatch.setattr(Beside, name, doing)


def _nothing(self: Beside) -> None:
    pass


def _changed(path: Path) -> None:
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, 'one', 'uno') WHERE version = 3")


def test_a_sound_store_is_found_sound_beside(
    engine: Engine, verdicts: list[bool], started: list[Process]
) -> None:
    busy(engine)
    heads = engine.heads()
    report = engine.verify(heads=heads)
    assert report.ok and report.conversations == 6
    assert verdicts == [True]
    assert [process.poll() is not None for process in started] == [True], "it has ended"


def test_a_head_that_is_missing_is_told_though_the_chain_is_sound(
    engine: Engine, verdicts: list[bool]
) -> None:
    busy(engine)
    problems = engine.verify(heads=["ab" * 32]).problems
    assert ["the tail was cut off" in problem.what for problem in problems] == [True]
    assert verdicts == [True]


def test_what_is_told_is_the_same_in_both_ways(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(engine)
    engine.conversations()
    _changed(path)
    with plain(path) as sql:
        sql.execute("UPDATE conversations SET messages = 77")
    both: list[Report] = []
    for worth in (-1, 1_000_000):
        monkeypatch.setattr(worker, "WORTH", worth)
        both.append(engine.verify(heads=["cd" * 32]))
    assert both[0] == both[1] and len(both[0].problems) > 3


def test_progress_only_grows_where_the_store_is_unsound(engine: Engine, path: Path) -> None:
    long(engine, size=10_000)
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, '7', '8') WHERE version = 9001")
    told: list[int] = []
    assert not engine.verify(progress=lambda done, _: told.append(done)).ok
    assert told == sorted(told) and len(told) > 3


@pytest.mark.parametrize("moment", ["hold", "watch", "found"])
@pytest.mark.parametrize("sound", [True, False])
def test_one_that_is_killed_is_done_without(
    engine: Engine,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Process],
    verdicts: list[bool],
    moment: str,
    sound: bool,
) -> None:
    def kill(self: Beside) -> None:
        started[-1].kill()
        started[-1].wait()
        while self.word():
            pass  # what it had said already, it has not said
        monkeypatch.setattr(worker, "PATIENCE", 0.01)

    busy(engine)
    if not sound:
        _changed(path)
    if moment == "found":  # nobody has heard of it before
        monkeypatch.setattr(Beside, "watch", _nothing)
    _at(monkeypatch, moment, kill)
    assert engine.verify().ok == sound
    assert True not in verdicts


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped here")
def test_one_that_says_nothing_is_done_without(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, started: list[Process]
) -> None:
    busy(engine)
    monkeypatch.setattr(worker, "PATIENCE", 0.2)
    _at(monkeypatch, "hold", lambda _: started[-1].send_signal(signal.SIGSTOP))
    assert engine.verify().ok
    assert [process.poll() is not None for process in started] == [True]


_BREAKS_OFF = """
import sys
ask = iter(sys.stdin)
next(ask), next(ask)
print("alive", flush=True)
for word in ask:
    if word == "go\\n":
        break
    print("alive", flush=True)
print({last!r}, end="", flush=True)
"""


@pytest.mark.parametrize(
    ("last", "whole"), [("sound {n}", False), ("sound {n}\n", True), ("sound 7\n", False)]
)
def test_half_a_word_is_none(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool], last: str, whole: bool
) -> None:
    busy(engine)
    with engine.store.reading() as reader:
        said = last.format(n=reader.last_position())
    monkeypatch.setattr(worker, "_START", _BREAKS_OFF.format(last=said))
    assert engine.verify().ok
    assert (True in verdicts) == whole


def test_where_none_can_be_started_it_is_done_here(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(engine)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-that-is-not-there"))
    assert engine.verify().ok


def test_a_program_with_python_inside_is_not_started_anew(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Process]
) -> None:
    busy(engine)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "their-program"))
    assert engine.verify().ok and not started


def test_neither_memory_nor_a_short_store_starts_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, started: list[Process]
) -> None:
    with Engine() as memory:
        busy(memory)
        assert memory.verify().ok
    monkeypatch.setattr(worker, "WORTH", 20_000)
    busy(engine)
    assert engine.verify().ok
    assert not started


def test_what_is_appended_meanwhile_is_not_looked_at(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool]
) -> None:
    busy(engine)
    with plain(path) as sql:
        (events,) = sql.execute("SELECT count(*) FROM events").fetchone()

    with Engine(path, synchronous="NORMAL") as other:

        def append(self: Beside) -> None:
            while not self.agreed:
                self.watch()
                time.sleep(0.01)
            other.open("main").add([user_msg("meanwhile")])

        _at(monkeypatch, "found", append)
        report = engine.verify()
        assert report.ok and report.events == events
    assert verdicts == [True]


def test_both_begin_at_the_same_moment(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool]
) -> None:
    """Somebody appends just after one of them began: they begin anew, or one does it all."""
    busy(engine)
    appended: list[int] = []
    word = Beside.word

    with Engine(path, synchronous="NORMAL") as other:
        for most in (1, 3, 1000):
            appended.clear()

            def late(self: Beside, most: int = most) -> bytes:
                if len(appended) < most:
                    other.open("main").add([user_msg("meanwhile")])
                    appended.append(most)
                return word(self)

            monkeypatch.setattr(Beside, "word", late)
            report = engine.verify()
            assert report.ok
    with plain(path) as sql:
        (events,) = sql.execute("SELECT count(*) FROM events").fetchone()
    assert report.events <= events
    assert verdicts == [True, True], "with a thousand, they never agree"


def test_another_file_at_the_same_path_is_not_taken_for_this_one(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool]
) -> None:
    busy(engine)
    with Engine(path.with_name("other.db")) as other:
        other.create("of another store")
    path.with_name("other.db").replace(path)
    for more in ("-wal", "-shm"):
        path.with_name(f"store.db{more}").unlink(missing_ok=True)
    engine.verify()
    assert True not in verdicts


def test_a_folder_that_is_read_only(
    tmp_path: Path, verdicts: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with Engine(folder / "store.db") as engine:
        busy(engine)
    with plain(folder / "store.db") as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    try:
        with Engine(folder / "store.db") as engine:
            assert engine.verify().ok
    finally:
        folder.chmod(0o700)
    assert verdicts == [True]


def test_it_sees_nothing_of_where_the_program_stands(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool]
) -> None:
    """Modules that go by names of the standard library's, in the working directory and on PYTHONPATH."""
    busy(engine)
    for name in ("sqlite3", "hashlib", "openai2", "re"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "re.py"))
    assert engine.verify().ok
    assert verdicts == [True]


_PROGRAM = """
import sys, os, signal, threading
from openai2 import Engine
from openai2.audit import worker as beside
beside.WORTH = -1
begin = beside.Beside.begin
def told(self, path):
    begin(self, path)
    print(self.process.pid, flush=True)
beside.Beside.begin = told
def wait(self):
    print("in the middle", flush=True)
    threading.Event().wait(60)
beside.Beside.watch = wait
with Engine(sys.argv[1]) as engine:
    engine.verify()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_program(engine: Engine, path: Path, by: signal.Signals) -> None:
    busy(engine)
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None and program.stderr is not None
    pid = int(program.stdout.readline())
    assert program.stdout.readline() == "in the middle\n"
    os.killpg(program.pid, by)  # as a terminal's Ctrl-C reaches all of its processes
    _, errors = program.communicate(timeout=60)
    assert errors.count("Traceback") == (by == signal.SIGINT), errors
    _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    for _ in range(6000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        try:
            state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except OSError:
            state = ""
        if state == "Z":  # ended, and nobody has asked for how
            return
        time.sleep(0.01)
    raise AssertionError("it lives on")


def test_nothing_it_is_started_with_is_secret(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Process]
) -> None:
    busy(engine)
    assert engine.verify(heads=engine.heads()).ok
    (process,) = started
    words = " ".join(map(str, process.args)) if isinstance(process.args, list) else str(process.args)
    assert str(path) not in words and not any(head in words for head in engine.heads().values())
