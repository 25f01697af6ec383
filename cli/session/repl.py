"""The session's loop: a line in, an answer out, until the person leaves.

Rule: whatever a line leads to, the prompt comes back, unless leaving was asked for: by Ctrl-D, by `/exit`, or
by Ctrl-C where there is nothing to stop and nothing typed, a second time.
"""

from __future__ import annotations

from collections.abc import Callable

from openai2.chat import Chat
from openai2.cli.session import recovery, slash, slash_files, slash_navigation
from openai2.cli.session.completer import Known
from openai2.cli.session.line_input import Lines, lines
from openai2.cli.session.session import Session
from openai2.cli.session.streaming import Answers
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note
from openai2.cli.views import error_text

# The modules that fill the table of commands.
TABLES = (slash, slash_navigation, slash_files)


def converse(chat: Chat) -> None:
    """Talk until the person leaves."""
    with Answers() as answers:
        session = Session(chat, answers)
        session.introduce()
        note(_("/help tells what can be done here, Ctrl-D leaves."))
        session.say_where()
        typed = lines(lambda columns: session.status.line(columns, len(session.attached)), _known(session))
        loop = Loop(session, typed)
        loop.carefully(lambda: recovery.offer(session, typed))
        while loop.turn():
            pass


def _known(session: Session) -> Known:
    engine = session.chat.engine
    return Known(engine, [(f"/{row.name}", row.help) for row in slash.ROWS.values()])


class Loop:
    """Lines, and what they lead to."""

    def __init__(self, session: Session, typed: Lines) -> None:
        self._session = session
        self._typed = typed
        self._stopped = False  # by Ctrl-C; the next one leaves

    def turn(self) -> bool:
        """One line and what it leads to; False where the person leaves."""
        session = self._session
        session.status.forget()
        draft, session.draft = session.draft, ""
        try:
            line = self._typed.read(draft=draft)
        except EOFError:
            return False
        except KeyboardInterrupt:
            if self._stopped:
                return False
            note(_("Ctrl-C again, Ctrl-D or /exit leaves."))
            self._stopped = True
            return True
        self._stopped = False
        if not line.strip():
            return True
        try:
            if slash.is_command(line):
                self.carefully(lambda: self._command(line))
            else:
                self.carefully(lambda: self._question(line[1:] if line.startswith("//") else line))
        except slash.Leave:
            return False
        return True

    def carefully(self, act: Callable[[], None]) -> None:
        """Do it; what goes wrong is one line, and the session goes on."""
        try:
            act()
        except (BrokenPipeError, slash.Leave):
            raise
        except KeyboardInterrupt:
            note(_("stopped"))
            self._stopped = True
        except Exception as error:  # noqa: BLE001 - a session outlives every failure
            error_text.print_error(error)

    def _question(self, text: str) -> None:
        self._stopped = not self._session.ask(text)

    def _command(self, line: str) -> None:
        self._session.tell_news()
        try:
            slash.run(self._session, line)
        finally:
            self._session.acted()
