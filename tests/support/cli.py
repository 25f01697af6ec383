"""Run the command in a test: in this process, in a new process, or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte
from click.testing import CliRunner, Result

import openai2
from openai2 import Chat
from openai2.cli import cli
from openai2.offline import OfflineServer

TIMEOUT = 60.0  # seconds; generous, because the machine may be busy
KEY = "sk-T92mZYXHLWKt1234gtPKT3BlbkFJ"  # used by the fixture `server`
LONG = "请慢慢地说" * 60  # the offline server needs many seconds to echo it
UP, CTRL_C, CTRL_D = "\x1b[A", "\x03", "\x04"
NOTICE = "（离线应答，不是语言模型）你说的是："

assert openai2.__file__
#: The folder from which openai2 was imported, for PYTHONPATH of new processes.
FOUND_IN = str(Path(openai2.__file__).resolve().parent.parent)
COMMAND = [sys.executable, "-m", "openai2"]


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a new process."""
    return {**os.environ, "PYTHONPATH": FOUND_IN, "PYTHONIOENCODING": "utf-8", **more}


def run(*args: str, input: bytes | str = b"", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process; *input* comes through a pipe."""
    raw = input.encode() if isinstance(input, str) else input
    done = subprocess.run(
        [*COMMAND, *args],
        input=raw,
        env=environment(**more),
        capture_output=True,
        start_new_session=True,  # without a terminal
        timeout=TIMEOUT,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def started(*args: str, **more: str) -> Generator[subprocess.Popen[str], None, None]:
    """Start the command in a new process, with pipes for its output; kill it at the end or after TIMEOUT."""
    process = subprocess.Popen(
        [*COMMAND, *args],
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    guard = threading.Timer(TIMEOUT, process.kill)
    guard.start()
    try:
        yield process
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def invoke(*args: str, input: str | bytes | None = None) -> Result:
    """Run the command in this process, which is faster, for tests without a terminal or signals."""
    return CliRunner().invoke(cli, list(args), input=input)


def ok(*args: str, input: str | bytes | None = None) -> str:
    """Run the command in this process; return its standard output, and assert that it succeeds."""
    result = invoke(*args, input=input)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args: str, status: int = 1, input: str | bytes | None = None) -> str:
    """Run the command in this process; return its error line, and assert that it fails with *status*."""
    result = invoke(*args, input=input)
    assert result.exit_code == status, result.output
    lines = result.stderr.strip().split("\n")
    assert lines[-1].startswith("openai2: "), result.output
    assert "Traceback" not in result.output
    return lines[-1].removeprefix("openai2: ")


class Screen(pyte.HistoryScreen):
    """A terminal's screen with its scrollback, which answers the queries of programs."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows, history=2000, ratio=0.001)
        self.answer: Callable[[str], object] = len

    def write_process_input(self, data: str) -> None:
        self.answer(data)


class Terminal:
    """The command running on a pseudo-terminal, and the screen that a person would see."""

    def __init__(
        self, *args: str, columns: int = 80, rows: int = 60, status: bool = False, **more: str
    ) -> None:
        self.screen = Screen(columns, rows)
        no_queries = "0" if status else "1"  # a status line needs queries of the cursor's position
        self._stream = pyte.Stream(self.screen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about fork() in a process with threads
            self.child: pexpect.spawn[str] = pexpect.spawn(
                COMMAND[0],
                [*COMMAND[1:], *args],
                env=environment(**{"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": no_queries, **more}),
                dimensions=(rows, columns),
                encoding="utf-8",
                timeout=TIMEOUT,
            )
        self.screen.answer = self.child.send

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        self.child.close(force=True)

    @property
    def above_status(self) -> list[str]:
        """The lines on the screen without the status line, which is shown in reverse."""
        rows = range(self.screen.lines)
        shown = [
            "" if self.screen.buffer[row][0].reverse else self.screen.display[row].rstrip() for row in rows
        ]
        return [line for line in shown if line]

    @property
    def everything(self) -> list[str]:
        """The lines of the scrollback, then those on the screen."""
        above = [
            "".join(row[place].data for place in range(self.screen.columns))
            for row in self.screen.history.top
        ]
        return [*map(str.rstrip, above), *self.lines]

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, without empty ones at the end."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def until(self, seen: Callable[[list[str]], bool], what: str) -> Terminal:
        """Read the output until *seen* accepts the lines on the screen; *what* describes it in errors."""
        end = time.monotonic() + TIMEOUT
        while not seen(self.lines):
            assert time.monotonic() < end, f"no {what} on the screen:\n" + "\n".join(self.lines)
            try:
                self._stream.feed(self.child.read_nonblocking(4096, timeout=1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert seen(self.lines), f"the command ended with no {what} on the screen:\n" + "\n".join(
                    self.lines
                )
        return self

    def shows(self, text: str) -> Terminal:
        """Wait until the screen shows *text*, which may be wrapped."""
        return self.until(lambda lines: text in "\n".join(lines) or text in "".join(lines), repr(text))

    def says(self, line: str) -> Terminal:
        """Wait until the screen has exactly this line."""
        return self.until(lambda lines: line in lines, f"line {line!r}")

    def ready(self) -> Terminal:
        """Wait for an empty prompt."""
        return self.until(lambda _lines: self.above_status[-1:] == [">"], "prompt")

    def resize(self, columns: int, rows: int) -> Terminal:
        """Resize the terminal, as xterm does: lines that no longer fit are cut off."""
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)  # pyright: ignore[reportUnknownMemberType]
        return self

    def types(self, text: str) -> Terminal:
        """Type *text* without Enter."""
        self.child.send(text)
        return self

    def enters(self, text: str) -> Terminal:
        """Type a line at an empty prompt; press Enter when the screen shows it."""
        self.ready()
        self.child.send(text)
        shown = re.sub(r"\s+", "", text)
        self.until(lambda lines: shown in re.sub(r"\s+", "", "".join(lines)), f"echo of {text!r}")
        self.child.send("\r")
        return self

    def leaves(self) -> None:
        """Press Ctrl-D at an empty prompt; assert that the command ends with status 0."""
        self.ready().types("\x04")
        assert self.ends() == 0

    def ends(self) -> int:
        """Wait for the end of the command; return the exit status."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                self._stream.feed(self.child.read_nonblocking(4096, timeout=1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        return int(self.child.wait() or 0)


def contents(messages: Sequence[dict[str, str]]) -> list[str]:
    """Return the contents of messages."""
    return [message["content"] for message in messages]


def shown(db: str | None = None, *args: str) -> list[str]:
    """Return the texts of the messages that `show` prints."""
    return contents(json.loads(ok("show", "--json", *_in(db), *args)))


def logged(db: str | None = None, *args: str) -> list[dict[str, Any]]:
    """Return the events that `log` prints."""
    return [json.loads(line) for line in ok("log", "--json", *_in(db), *args).splitlines()]


def _in(db: str | None) -> tuple[str, ...]:
    return () if db is None else ("--db", db)


def logged_answers() -> list[dict[str, Any]]:
    """Return the facts of the answers in the current conversation."""
    return [event["data"]["answer"] for event in logged() if "answer" in event["data"]]


QUESTIONS = ("自然数50的后面是几?", "再往后是几?", "再往后呢?")
ANSWERS = ("51", "52", "53")


def counting_database(path: Path, fork: str | None = None) -> str:
    """Create a database with a conversation of three rounds, 数数, and optionally a fork at version 7."""
    db = str(path / "talk.db")
    with (
        OfflineServer() as server,
        Chat("k" * 20, "m", db=db, conversation="数数", base_url=server.base_url) as chat,
    ):
        for question in QUESTIONS:
            chat.request(question)
        if fork is not None:
            chat.fork(fork, at=7)
    return db


def kill_in_an_answer(terminal: Terminal) -> None:
    """Ask a question with a slow answer; kill the session when the first part is on disk."""
    terminal.enters(LONG).shows(NOTICE + "请慢")
    end = time.monotonic() + TIMEOUT
    while not _is_on_disk("请慢"):
        assert time.monotonic() < end
        time.sleep(0.05)
    terminal.child.kill(signal.SIGKILL)
    terminal.child.wait()


def _is_on_disk(begun: str) -> bool:
    with contextlib.closing(sqlite3.connect(Path(os.environ["OPENAI2_HOME"]) / "openai2.db")) as database:
        found = database.execute("SELECT 1 FROM drafts WHERE partial LIKE ?", (f"%{begun}%",))
        return found.fetchone() is not None
