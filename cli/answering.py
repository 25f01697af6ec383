"""One answer, as it arrives, and how it is stopped.

Rule: Ctrl-C never strikes in the middle of writing to the log. The answer is awaited in an event loop;
the signal cancels the task, at a point where it waits, and the engine then puts on record what came. A
second Ctrl-C while it does so changes nothing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from openai2.cli.render import answer_text, note, out
from openai2.cli.words import _

if TYPE_CHECKING:
    from typing_extensions import Self


class Screen:
    """Where an answer is shown: standard output, each piece as it arrives."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, piece: str) -> None:
        """The next piece."""
        if piece:
            self._last = piece
            out(answer_text(piece), end="")
            sys.stdout.flush()

    def end(self, *, stopped: bool = False) -> None:
        """The answer is over: what follows begins on a line of its own."""
        if self._last and not self._last.endswith("\n"):
            out()
        sys.stdout.flush()
        if stopped and self._last:
            note(_("(stopped; what had come is kept)"))
        elif stopped:
            note(_("(stopped before anything came; the conversation is as it was)"))


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
    try:
        async for piece in pieces:
            screen.show(piece)
    finally:
        if isinstance(pieces, AsyncGenerator):  # which puts on record that it was left
            await pieces.aclose()
