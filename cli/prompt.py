"""Where lines are typed: prompt_toolkit in a terminal, plain lines elsewhere.

Rule: what was typed is never lost: it is in the history file (which nobody else may read), also when it
was given up with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from openai2.cli import home
from openai2.cli.render import is_terminal

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

MARK = "> "


class Lines(Protocol):
    """A place where lines are typed."""

    def read(self, mark: str = MARK) -> str:
        """The next line, or lines. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...


def lines() -> Lines:
    """The best that there is."""
    able = os.environ.get("TERM", "") not in ("", "dumb") or os.name == "nt"
    if able and is_terminal(sys.stdin) and is_terminal(sys.stdout):
        return _Edited()
    return _Plain()


class _Plain:
    """Lines as they come, with nothing to edit them by."""

    def read(self, mark: str = MARK) -> str:
        sys.stdout.flush()
        sys.stderr.write(mark)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


class _Edited:
    """Lines that can be edited, several at a time, with a history."""

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession(
            history=_history(home.typed()),
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: " " * width,
        )
        self._question: PromptSession[str] = PromptSession()

    def read(self, mark: str = MARK) -> str:
        session = self._session if mark == MARK else self._question
        return session.prompt(mark)


def _history(path: Path) -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        home.make_folder(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.name == "posix":
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError:  # a read-only home: the session has its own history, at least
        return InMemoryHistory()
    return FileHistory(os.fspath(path))


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    def another_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    def give_up(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not buffer.text:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")
            return
        buffer.append_to_history()
        buffer.reset()

    keys.add("enter")(send)
    keys.add("escape", "enter")(another_line)
    keys.add("c-c")(give_up)
    keys.add("<sigint>")(give_up)
    return keys
