"""The loop of the session: read a line, run the command or ask the question, until the person leaves.

Invariant: after every line the prompt returns, also after a failure. Only Ctrl-D, `/exit`, or a second Ctrl-C
in a row at an empty prompt end the loop.
"""

from __future__ import annotations

from collections.abc import Callable

from openai2.chat import Chat
from openai2.cli.session import recovery, slash, slash_files, slash_navigation
from openai2.cli.session.completer import CompletionNames
from openai2.cli.session.line_input import LineInput, line_input
from openai2.cli.session.session import Session
from openai2.cli.session.streaming import AnswerLoop
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note
from openai2.cli.views import error_text

# Importing these modules fills the table of commands.
COMMAND_MODULES = (slash, slash_navigation, slash_files)


def run_session(chat: Chat, chosen_model: str | None = None) -> None:
    """Read and handle lines until the person leaves. *chosen_model*: see `Session`."""
    with AnswerLoop() as answers:
        session = Session(chat, answers, chosen_model)
        session.introduce()
        note(_("/help lists the commands, Ctrl-D leaves."))
        session.show_last_round()
        source = line_input(
            lambda columns: session.status.line(columns, len(session.attached)), _completion_names(session)
        )
        repl = Repl(session, source)
        repl.guard(lambda: recovery.offer_recovery(session, source))
        while repl.step():
            pass


def _completion_names(session: Session) -> CompletionNames:
    engine = session.chat.engine
    return CompletionNames(engine, [(f"/{row.name}", row.help) for row in slash.ROWS.values()])


class Repl:
    """Read lines and handle them, one by one."""

    def __init__(self, session: Session, source: LineInput) -> None:
        self._session = session
        self._source = source
        self._was_interrupted = False  # by Ctrl-C; a second Ctrl-C leaves

    def step(self) -> bool:
        """Read and handle one line. Return False if the person leaves."""
        session = self._session
        session.status.expire()
        draft, session.draft = session.draft, ""
        try:
            line = self._source.read(draft=draft)
        except EOFError:
            return False
        except KeyboardInterrupt:
            if self._was_interrupted:
                return False
            note(_("To leave, press Ctrl-C again or Ctrl-D, or enter /exit."))
            self._was_interrupted = True
            return True
        self._was_interrupted = False
        if not line.strip():
            return True
        try:
            if slash.is_command(line):
                self.guard(lambda: self._run_command(line))
            else:
                self.guard(lambda: self._ask(line[1:] if line.startswith("//") else line))
        except slash.Leave:
            return False
        return True

    def guard(self, action: Callable[[], None]) -> None:
        """Run *action*. Report a failure in one line instead of ending the session."""
        try:
            action()
        except (BrokenPipeError, slash.Leave):
            raise
        except KeyboardInterrupt:
            note(_("stopped"))
            self._was_interrupted = True
        except Exception as error:  # noqa: BLE001 - the session must survive every failure
            error_text.print_error(error)

    def _ask(self, text: str) -> None:
        self._was_interrupted = not self._session.ask(text)

    def _run_command(self, line: str) -> None:
        self._session.report_changes()
        try:
            slash.run(self._session, line)
        finally:
            self._session.mark_seen()
