"""One answer, as it arrives, and how it is stopped.

Rule: Ctrl-C never strikes in the middle of writing to the log. The answer is awaited in an event loop;
the signal cancels the task, at a point where it waits, and the engine then puts on record what came. A
second Ctrl-C while it does so changes nothing.
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

#: Seconds between two drawings of what has come; and how many times as long as a drawing takes.
_PAUSE, _REST = 0.05, 5


class Screen:
    """Where an answer is shown: standard output, each piece as it arrives."""

    def __init__(self) -> None:
        self._last = ""
        self._thought = ""

    @property
    def empty(self) -> bool:
        """Whether nothing of the answer has come."""
        return not self._last

    def think(self, piece: str) -> None:
        """The next piece of what the model thinks: for people only, and paler than the answer."""
        if piece and is_terminal(sys.stdout):
            self._settle()
            self._thought = piece
            out(paint(answer_text(piece), "dim"), end="")
            sys.stdout.flush()

    def show(self, piece: str) -> None:
        """The next piece."""
        if piece:
            self._end_of_thought()
            self._last = piece
            self._write(piece)

    def draw(self) -> None:
        """Bring the screen up to what has come."""

    def end(self, *, stopped: bool = False) -> None:
        """The answer is over: what follows begins on a line of its own."""
        self._settle()
        self._end_of_thought()
        sys.stdout.flush()
        if stopped and self._last:
            note(_("(stopped; what had come is kept)"))
        elif stopped:
            note(_("(stopped before anything came; the conversation is as it was)"))

    def _end_of_thought(self) -> None:
        """An empty line between what was thought and what is said."""
        if self._thought:
            out("" if self._thought.endswith("\n") else "\n")
            self._thought = ""

    def _write(self, piece: str) -> None:
        out(answer_text(piece), end="")
        sys.stdout.flush()

    def _settle(self) -> None:
        """What has come is finished: what follows stands on a line of its own."""
        if self._last and not self._last.endswith("\n"):
            out()
            self._last = "\n"


class Rendered(Screen):
    """A terminal that shows Markdown as what it means."""

    def __init__(self) -> None:
        from openai2.cli.terminal.live_region import Region
        from openai2.cli.terminal.markdown import Stream

        super().__init__()
        self._size = shutil.get_terminal_size((80, 24))
        self._stream = Stream(self._size.columns, self._size.lines, colours=not os.environ.get("NO_COLOR"))
        self._region = Region(sys.stdout)
        self._news = False

    def draw(self) -> None:
        """Show what has come since the last drawing."""
        size = shutil.get_terminal_size((80, 24))
        if size != self._size:
            self._size, self._news = size, True
            self._stream.resize(size.columns, size.lines)
        if self._news:
            self._news = False
            finished, live = self._stream.lines()
            self._region.put(finished, live, size.columns)

    def _write(self, piece: str) -> None:
        self._stream.feed(piece)
        self._news = True

    def _settle(self) -> None:
        self.draw()
        finished, live = self._stream.lines(over=True)
        self._region.put(finished, live, self._size.columns)


def screen() -> Screen:
    """The best that standard output can show."""
    if is_terminal(sys.stdout) and os.environ.get("TERM", "") not in ("", "dumb"):
        return Rendered()
    return Screen()


class Answers:
    """An event loop that outlives a single answer, so that the connections are used again."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def receive(self, pieces: AsyncIterator[str], screen: Screen) -> bool:
        """Show the pieces as they arrive; whether the answer came to its end (else it was stopped).

        Raises what a failed request raises.
        """
        complete = False
        try:
            with _keys_unseen():
                complete = self._receive(self._loop.create_task(_pump(pieces, screen)))
        except BrokenPipeError:
            raise
        except Exception:
            screen.end()
            raise
        screen.end(stopped=not complete)
        return complete

    def _receive(self, task: asyncio.Task[None]) -> bool:
        try:
            self._loop.add_signal_handler(signal.SIGINT, task.cancel)
        except (NotImplementedError, ValueError, RuntimeError):
            return self._receive_plainly(task)
        try:
            self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            return False
        finally:
            self._loop.remove_signal_handler(signal.SIGINT)
        return True

    def _receive_plainly(self, task: asyncio.Task[None]) -> bool:
        """The same where loops know no signals: Ctrl-C leaves the loop, which is then gone back to."""
        try:
            self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            try:
                self._loop.run_until_complete(task)
            except asyncio.CancelledError:
                pass
            return False
        return True


async def _pump(pieces: AsyncIterator[str], screen: Screen) -> None:
    drawing = asyncio.create_task(_draw(screen))
    try:
        async for piece in pieces:
            screen.show(piece)
    finally:
        drawing.cancel()
        if isinstance(pieces, AsyncGenerator):  # which puts on record that it was left
            await pieces.aclose()
        with suppress(asyncio.CancelledError):
            await drawing


async def _draw(screen: Screen) -> None:
    """Draw now and then, rather than for each piece; a long block, which takes its time, less often."""
    while True:
        start = time.monotonic()
        screen.draw()
        await asyncio.sleep(max(_PAUSE, _REST * (time.monotonic() - start)))


@contextmanager
def _keys_unseen() -> Generator[None, None, None]:
    """What is typed during an answer is not mixed into it; the next prompt has it."""
    try:
        import termios
    except ImportError:  # another system's terminals
        yield
        return
    if not is_terminal(sys.stdin):
        yield
        return
    descriptor = sys.stdin.fileno()
    held = termios.tcgetattr(descriptor)
    quiet = [*held]
    quiet[3] = held[3] & ~termios.ECHO | termios.NOFLSH  # Ctrl-C is to throw nothing away
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, held)
