"""Where lines are typed: prompt_toolkit in a terminal, plain lines elsewhere.

Rule: what was typed is never lost: it is in the history file (which nobody else may read), also when it
was given up with Ctrl-C, or when its question failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from openai2.cli.settings import paths
from openai2.cli.terminal.text import is_terminal

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from openai2.cli.session.completer import Known

MARK = "> "
#: Seconds between two looks at what others do, while nothing is typed.
_LOOK = 2.0

Status = Callable[[int], str]


class Lines(Protocol):
    """A place where lines are typed."""

    def read(self, mark: str = MARK, draft: str = "") -> str:
        """The next line, or lines; *draft* stands there to begin with.

        Raises EOFError at the end, KeyboardInterrupt for Ctrl-C.
        """
        ...


def lines(status: Status, known: Known) -> Lines:
    """The best that there is. *status* gives the status line for so many columns."""
    able = os.environ.get("TERM", "") not in ("", "dumb") or os.name == "nt"
    if able and is_terminal(sys.stdin) and is_terminal(sys.stdout):
        return _Edited(status, known)
    return _Plain()


class _Plain:
    """Lines as they come, with nothing to edit them by."""

    def read(self, mark: str = MARK, draft: str = "") -> str:
        sys.stdout.flush()
        sys.stderr.write("".join(f"| {line}\n" for line in draft.split("\n")) if draft else "")
        sys.stderr.write(mark)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


class _Edited:
    """Lines that can be edited, several at a time, with a history."""

    def __init__(self, status: Status, known: Known) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition

        from openai2.cli.session.completer import Words

        completer: Completer = Words(known)
        self._session: PromptSession[str] = PromptSession(
            history=_history(paths.input_history()),
            key_bindings=_keys(completer),
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: " " * width,
            bottom_toolbar=lambda: " " + status(self._columns() - 1),
            refresh_interval=_LOOK,
            completer=completer,
            complete_in_thread=True,
            complete_while_typing=Condition(self._is_command),
            reserve_space_for_menu=5,
            tempfile_suffix=".md",
        )
        self._question: PromptSession[str] = PromptSession()

    def read(self, mark: str = MARK, draft: str = "") -> str:
        if mark != MARK:
            return self._question.prompt(mark)
        return self._session.prompt(mark, default=draft)

    def _columns(self) -> int:
        return self._session.output.get_size().columns

    def _is_command(self) -> bool:
        text = self._session.default_buffer.text
        return text.startswith("/") and "\n" not in text


def _history(path: Path) -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        paths.make_folder(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.name == "posix":
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError:  # a read-only home: the session has its own history, at least
        return InMemoryHistory()
    return FileHistory(os.fspath(path))


def _keys(completer: Completer) -> KeyBindings:
    from prompt_toolkit.completion import CompleteEvent
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

    def edit_outside(event: KeyPressEvent) -> None:
        # What the editor leaves stands at the prompt again: Enter sends it, as always.
        event.current_buffer.open_in_editor(validate_and_handle=False)

    def complete(event: KeyPressEvent) -> None:
        # At once, though the menu may still be on its way: Tab is often pressed before it is there.
        buffer = event.current_buffer
        found = list(completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif buffer.complete_state is not None and buffer.complete_state.completions:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    keys.add("tab")(complete)
    keys.add("enter")(send)
    keys.add("escape", "enter")(another_line)
    keys.add("c-c")(give_up)
    keys.add("<sigint>")(give_up)
    keys.add("c-x", "c-e")(edit_outside)
    return keys
