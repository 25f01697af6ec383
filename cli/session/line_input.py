"""Input lines of the session: prompt_toolkit on a terminal, plain lines elsewhere.

Invariants:
- Every typed line goes to the history file, also if Ctrl-C cancelled it or its request failed.
- Only its owner can read the history file.
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

    from openai2.cli.session.completer import CompletionNames

PROMPT = "> "
#: Seconds between refreshes of the status line while no key is pressed.
_REFRESH_INTERVAL = 2.0

FormatStatus = Callable[[int], str]


class LineInput(Protocol):
    """A source of input lines."""

    def read(self, prompt: str = PROMPT, draft: str = "") -> str:
        """Return the next input, one line or several; *draft* is the text to start editing from.

        Raises EOFError at the end of the input, KeyboardInterrupt for Ctrl-C.
        """
        ...


def line_input(format_status: FormatStatus, names: CompletionNames) -> LineInput:
    """Return the best input available. *format_status* returns the status line for a width in columns."""
    has_editing = os.environ.get("TERM", "") not in ("", "dumb") or os.name == "nt"
    if has_editing and is_terminal(sys.stdin) and is_terminal(sys.stdout):
        return _EditedInput(format_status, names)
    return _PlainInput()


class _PlainInput:
    """Read lines from standard input without editing."""

    def read(self, prompt: str = PROMPT, draft: str = "") -> str:
        sys.stdout.flush()
        sys.stderr.write("".join(f"| {line}\n" for line in draft.split("\n")) if draft else "")
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


class _EditedInput:
    """Edit one or several lines, with history, completion and a status line."""

    def __init__(self, format_status: FormatStatus, names: CompletionNames) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition

        from openai2.cli.session.completer import SlashCompleter

        completer: Completer = SlashCompleter(names)
        self._session: PromptSession[str] = PromptSession(
            history=_history(paths.input_history()),
            key_bindings=_key_bindings(completer),
            multiline=True,
            prompt_continuation=lambda width, number, wrapped: " " * width,
            bottom_toolbar=lambda: " " + format_status(self._columns() - 1),
            refresh_interval=_REFRESH_INTERVAL,
            completer=completer,
            complete_in_thread=True,
            complete_while_typing=Condition(self._is_command),
            reserve_space_for_menu=5,
            tempfile_suffix=".md",
        )
        self._question: PromptSession[str] = PromptSession()

    def read(self, prompt: str = PROMPT, draft: str = "") -> str:
        if prompt != PROMPT:
            return self._question.prompt(prompt)
        return self._session.prompt(prompt, default=draft)

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
    except OSError:  # the home folder is read-only: keep the history of this session in memory
        return InMemoryHistory()
    return FileHistory(os.fspath(path))


def _key_bindings(completer: Completer) -> KeyBindings:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    def submit(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    def insert_newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    def cancel(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not buffer.text:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")
            return
        buffer.append_to_history()
        buffer.reset()

    def open_editor(event: KeyPressEvent) -> None:
        # The edited text returns to the prompt and is not sent before Enter.
        event.current_buffer.open_in_editor(validate_and_handle=False)

    def complete(event: KeyPressEvent) -> None:
        # Computed here, because Tab is often pressed before the menu has been computed in its thread.
        buffer = event.current_buffer
        found = list(completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif buffer.complete_state is not None and buffer.complete_state.completions:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    bindings.add("tab")(complete)
    bindings.add("enter")(submit)
    bindings.add("escape", "enter")(insert_newline)
    bindings.add("c-c")(cancel)
    bindings.add("<sigint>")(cancel)
    bindings.add("c-x", "c-e")(open_editor)
    return bindings
