"""Show an answer while it streams, and stop it on Ctrl-C.

Invariant: Ctrl-C never interrupts a write to the log. SIGINT cancels the task of the answer while it waits.
The engine then records the text received so far. A second Ctrl-C meanwhile changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import answer_text, is_terminal, note, out, paint

if TYPE_CHECKING:
    from typing_extensions import Self

#: Pause between two drawings: at least so many seconds, and so many times the duration of the last drawing.
_MIN_PAUSE, _PAUSE_FACTOR = 0.05, 5


class AnswerOutput:
    """Write an answer to standard output, each piece when it arrives."""

    def __init__(self) -> None:
        self._last_piece = ""
        self._last_reasoning = ""

    @property
    def is_empty(self) -> bool:
        """True if no piece of the answer has arrived."""
        return not self._last_piece

    def show_reasoning(self, piece: str) -> None:
        """Show a piece of the model's reasoning, dimmed, if standard output is a terminal."""
        if piece and is_terminal(sys.stdout):
            self._settle()
            self._last_reasoning = piece
            out(paint(answer_text(piece), "dim"), end="")
            sys.stdout.flush()

    def show(self, piece: str) -> None:
        """Show a piece of the answer."""
        if piece:
            self._end_reasoning()
            self._last_piece = piece
            self._write(piece)

    def draw(self) -> None:
        """Update the display with the pieces so far."""

    def end(self, *, stopped: bool = False) -> None:
        """Finish the answer with a line end, and a note if it was stopped."""
        self._settle()
        self._end_reasoning()
        sys.stdout.flush()
        if stopped and self._last_piece:
            note(_("(stopped; the text so far is kept)"))
        elif stopped:
            note(_("(stopped before any text arrived; the conversation is unchanged)"))

    def _end_reasoning(self) -> None:
        """Separate the reasoning from the answer by an empty line."""
        if self._last_reasoning:
            out("" if self._last_reasoning.endswith("\n") else "\n")
            self._last_reasoning = ""

    def _write(self, piece: str) -> None:
        out(answer_text(piece), end="")
        sys.stdout.flush()

    def _settle(self) -> None:
        """Complete the answer so far, so that the next output begins on a new line."""
        if self._last_piece and not self._last_piece.endswith("\n"):
            out()
            self._last_piece = "\n"


class MarkdownOutput(AnswerOutput):
    """Render an answer as Markdown on a terminal."""

    def __init__(self) -> None:
        from openai2.cli.terminal.live_region import Region
        from openai2.cli.terminal.markdown import Stream

        super().__init__()
        self._size = shutil.get_terminal_size((80, 24))
        self._stream = Stream(self._size.columns, self._size.lines, colours=not os.environ.get("NO_COLOR"))
        self._region = Region(sys.stdout)
        self._is_outdated = False

    def draw(self) -> None:
        """Render the pieces that arrived since the last call, or all live lines after a resize."""
        size = shutil.get_terminal_size((80, 24))
        if size != self._size:
            self._size, self._is_outdated = size, True
            self._stream.resize(size.columns, size.lines)
        if self._is_outdated:
            self._is_outdated = False
            finished, live = self._stream.lines()
            self._region.put(finished, live, size.columns)

    def _write(self, piece: str) -> None:
        self._stream.feed(piece)
        self._is_outdated = True

    def _settle(self) -> None:
        self.draw()
        finished, live = self._stream.lines(over=True)
        self._region.put(finished, live, self._size.columns)


def answer_output() -> AnswerOutput:
    """Return the best output that standard output supports."""
    if is_terminal(sys.stdout) and os.environ.get("TERM", "") not in ("", "dumb"):
        return MarkdownOutput()
    return AnswerOutput()


class AnswerLoop:
    """An event loop for all answers of a session, so that connections are reused."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def receive(self, pieces: AsyncIterator[str], output: AnswerOutput) -> bool:
        """Show the pieces as they arrive. Return False if Ctrl-C stopped the answer.

        Raises the error of a failed request.
        """
        complete = False
        try:
            with _echo_disabled():
                complete = self._run(self._loop.create_task(_show_all(pieces, output)))
        except BrokenPipeError:
            raise
        except Exception:
            output.end()
            raise
        output.end(stopped=not complete)
        return complete

    def _run(self, task: asyncio.Task[None]) -> bool:
        try:
            self._loop.add_signal_handler(signal.SIGINT, task.cancel)
        except (NotImplementedError, ValueError, RuntimeError):
            return self._run_without_handler(task)
        try:
            self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            return False
        finally:
            self._loop.remove_signal_handler(signal.SIGINT)
        return True

    def _run_without_handler(self, task: asyncio.Task[None]) -> bool:
        """Run *task* in a loop without signal handlers: after KeyboardInterrupt, cancel it and run on."""
        try:
            self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
            return False
        return True


async def _show_all(pieces: AsyncIterator[str], output: AnswerOutput) -> None:
    drawing = asyncio.create_task(_draw_repeatedly(output))
    try:
        async for piece in pieces:
            output.show(piece)
    finally:
        drawing.cancel()
        if isinstance(pieces, AsyncGenerator):  # closing it records the text so far
            await pieces.aclose()
        with suppress(asyncio.CancelledError):
            await drawing


async def _draw_repeatedly(output: AnswerOutput) -> None:
    """Draw at intervals, not for each piece; the slower a drawing (a long block), the longer the pause."""
    while True:
        start = time.monotonic()
        output.draw()
        await asyncio.sleep(max(_MIN_PAUSE, _PAUSE_FACTOR * (time.monotonic() - start)))


@contextmanager
def _echo_disabled() -> Generator[None, None, None]:
    """Disable the terminal's echo during an answer. Keys pressed meanwhile wait for the next prompt."""
    try:
        import termios
    except ImportError:  # not POSIX
        yield
        return
    if not is_terminal(sys.stdin):
        yield
        return
    descriptor = sys.stdin.fileno()
    original = termios.tcgetattr(descriptor)
    quiet = [*original]
    quiet[3] = original[3] & ~termios.ECHO | termios.NOFLSH  # without NOFLSH, Ctrl-C discards the queued keys
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, original)
